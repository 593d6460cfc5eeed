"""``susurrus model``: what the running peer holds, exported and used."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from peer.cli import app
from protocol.training.task import Task
from tests.peer.admin import Stub, running_peer

TASK = Task(
    "toy", True, "logistic", (), "toy", ("a", "b"), "kind", ("no", "yes"), ((-1.0, 1.0), (-1.0, 1.0)), (0.0, 0.0), 2, 3,
    0.5, 0.0, 0.0, 0.0, 8, 10, 3, 4, 2, 8, 32, 1.0, 5.0, 1, 0,
)  # fmt: skip
ID = TASK.id.hex()
PARAMETERS = np.array([1.0, 0.0, 0.0], dtype="<f4")
MOMENTS = np.array([0.0, 0.0, 1.0, 1.0], dtype="<f4")
STATE = PARAMETERS.tobytes() + MOMENTS.tobytes()
ABOUT = {"task": ID, "name": "toy", "age": 7, "accuracy": 0.9}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with running_peer(tmp_path / "home") as running:
        running.answer("/model", STATE, X_Susurrus_Model=json.dumps(ABOUT))
        running.answer(f"/model?task={ID}", STATE, X_Susurrus_Model=json.dumps(ABOUT))
        running.answer(f"/task?task={ID}", TASK.encode())
        yield running


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["model", *(str(arg) for arg in args)])


def test_show(stub: Stub) -> None:
    document = json.loads(invoke("show", "--home", stub.home, "--json").stdout)
    assert document == ABOUT | {"parameters_bytes": len(STATE)}
    assert "accuracy          0.9\n" in invoke("show", "--home", stub.home, "--task", ID).stdout
    missing = invoke("show", "--home", stub.home, "--task", "ff")
    assert (missing.exit_code, missing.stderr) == (1, "susurrus: there is nothing here\n")


def test_export(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    result = invoke("export", file, "--home", stub.home, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"file": str(file), "task": ID, "age": 7}
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["parameters"].tolist() == [1.0, 0.0, 0.0]
        assert (arrays["mean"].tolist(), arrays["variance"].tolist()) == ([0.0, 0.0], [1.0, 1.0])
        assert (arrays["classes"].tolist(), arrays["features"].tolist()) == (["no", "yes"], ["a", "b"])
        assert int(arrays["age"]) == 7
    again = invoke("export", file, "--home", stub.home)
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


def test_predict(stub: Stub, tmp_path: Path) -> None:
    data = tmp_path / "new.csv"
    data.write_text("b,a\n0.3,0.9\n0.3,-0.9\n")
    result = invoke("predict", "--home", stub.home, "--data", data)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "kind\nyes\nno\n", "")
    document = json.loads(invoke("predict", "--home", stub.home, "--data", data, "--json").stdout)
    assert document == {"task": ID, "age": 7, "predictions": ["yes", "no"]}


def test_records_are_read_as_the_peer_reads_its_own(stub: Stub, tmp_path: Path) -> None:
    data = tmp_path / "new.dat"
    data.write_text("y,x\n0.3,0.9\n0.3,-0.9\n")
    bound = '[data.toy]\npath = "own.dat"\nformat = "csv"\nfeatures = ["x", "y"]\n'
    (stub.home / "config.toml").write_text(bound)
    result = invoke("predict", "--home", stub.home, "--data", data)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "kind\nyes\nno\n", "")
    (stub.home / "config.toml").write_text(bound.replace('["x", "y"]', '["x"]'))
    result = invoke("predict", "--home", stub.home, "--data", data)
    assert result.exit_code == 2
    assert result.stderr == "susurrus: data.toy.features names 1 columns, the task has 2\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("b\n1\n", "no column called 'a'"),
        ("a,b\n1,x\n", "row 2, column 'b'"),
        ("a,b\n", "no records"),
        ("", "is empty"),
    ],
)
def test_records_that_cannot_be_used(stub: Stub, tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    result = invoke("predict", "--home", stub.home, "--data", tmp_path / "bad.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert "bad.csv" in result.stderr


@pytest.mark.parametrize("wrong", ["header", "state", "task"])
def test_answers_that_do_not_fit(stub: Stub, tmp_path: Path, wrong: str) -> None:
    match wrong:
        case "header":
            stub.answer("/model", STATE)
        case "state":
            stub.answer("/model", STATE[:-4], X_Susurrus_Model=json.dumps(ABOUT))
        case _:
            stub.answer(f"/task?task={ID}", b"\xc1")
    (tmp_path / "new.csv").write_text("a,b\n1,1\n")
    result = invoke("predict", "--home", stub.home, "--data", tmp_path / "new.csv")
    assert result.exit_code == 1
    assert "the peer's answer can" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "content"), [("x.svm", "no 1:1\n"), ("x.svm", "1:1\n"), ("x.csv", "a,b\n1,0\n")])
def test_records_to_predict_need_no_label(stub: Stub, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    result = invoke("predict", "--home", stub.home, "--data", tmp_path / name, "--json")
    assert (result.exit_code, json.loads(result.stdout)["predictions"]) == (0, ["yes"])


def test_a_link_that_leads_nowhere_is_not_replaced(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    result = invoke("export", tmp_path / "link", "--home", stub.home)
    assert (result.exit_code, (tmp_path / "link").is_symlink()) == (2, True)
