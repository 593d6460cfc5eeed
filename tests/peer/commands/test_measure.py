"""``susurrus demo``, ``bench`` and ``audit``: flags in, exit codes out."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peer.cli import app
from peer.options import DemoOptions


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def stand_in(given: Any) -> int:
        calls.append(given)
        return 3

    monkeypatch.setitem(sys.modules, "peer.demo", SimpleNamespace(run_demo=stand_in))
    monkeypatch.setitem(sys.modules, "peer.bench", SimpleNamespace(run_bench=stand_in))
    return calls


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_defaults(called: list[Any]) -> None:
    assert invoke("demo").exit_code == 3
    assert called == [DemoOptions()]


def test_every_flag(called: list[Any], tmp_path: Path) -> None:
    args = "demo --peers 15 --dataset spambase --partition dirichlet:0.3 --target-accuracy 0.9 --collusion-threshold 2"
    args += " --branching 3 --cohort 10 --walks 2 --modulus-bits 16 --kill 30 --seed 1 --keep --json"
    assert invoke(*args.split(), "--audit", tmp_path / "a").exit_code == 3
    expected = DemoOptions(
        15, "spambase", "dirichlet:0.3", None, 0.9, None, 2, 3, 10, 2, 16, 30.0, 1, tmp_path / "a", keep=True, json=True
    )
    assert called == [expected]
    invoke("demo", "--steps", 7)
    invoke("demo", "--seconds", 7)
    assert [(o.steps, o.seconds) for o in called[1:]] == [(7, None), (None, 7.0)]


@pytest.mark.parametrize(
    ("args", "mistakes"),
    [
        ("--partition x --modulus-bits 8 --steps 3 --seconds 4", 3),
        ("--partition dirichlet:0", 1),
        ("--partition dirichlet:inf", 1),
        ("--kill inf --seconds nan --modulus-bits 33", 3),
        ("--branching 0 --walks 0 --kill -1 --seed -1 --target-accuracy 2", 5),
        ("--collusion-threshold 1 --cohort 2 --peers 2000", 3),
        ("--partition dirichlet:1e-9 --peers 2 --cohort 3", 3),
    ],
)
def test_mistakes_are_told_at_once(called: list[Any], args: str, mistakes: int) -> None:
    result = invoke("demo", *args.split())
    assert (result.exit_code, result.stderr.count("susurrus: ")) == (2, mistakes)
    assert called == []


def test_mistakes_of_every_kind_are_told_in_one_style(called: list[Any]) -> None:
    args = "--peers 0 --steps 0 --partition foo --modulus-bits 8 --seconds 0.5"
    result = invoke("demo", *args.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "susurrus: --steps must be from 1 to 100000000, not 0",
        "susurrus: --seconds must be a number from 1 on, not 0.5",
        "susurrus: --peers must be from 1 to 1000, not 0",
        "susurrus: --partition must be iid, or dirichlet:ALPHA with ALPHA from 0.001 to 1000000, not 'foo'",
        "susurrus: --modulus-bits must be 16, 32 or 64, not 8",
        "susurrus: give one of --steps, --target-accuracy and --seconds",
    ]
    assert called == []


def test_peers_and_cohorts_that_could_never_make_a_round(called: list[Any]) -> None:
    result = invoke("demo", "--peers", 3, "--cohort", 3)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "susurrus: --peers 3: a round with collusion threshold 3 needs 4 contributions; "
        "these peers would be waiting for 1 more peers",
        "susurrus: --cohort 3 must be at least collusion threshold + 1 = 4",
    ]
    assert invoke("demo", "--peers", 3, "--cohort", 3, "--collusion-threshold", 2).exit_code == 3
    assert [(options.peers, options.cohort) for options in called] == [(3, 3)]


@pytest.mark.parametrize(
    "args",
    [
        "--peers 0",
        "--collusion-threshold 1",
        "--branching 0",
        "--steps 0",
        "--peers x",
        "--seed -1",
        "--seed 9223372036854775808",
        "--cohort 1000001",
    ],
)
def test_impossible_numbers_are_wrong_usage(called: list[Any], args: str) -> None:
    assert invoke("demo", *args.split()).exit_code == 2
    assert called == []


def test_bench(called: list[Any]) -> None:
    assert invoke("bench", "--json").exit_code == 3
    assert invoke("bench").exit_code == 3
    assert called == [True, False]


@pytest.mark.parametrize("clean", [True, False])
def test_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean: bool) -> None:
    asked: dict[str, Any] = {}

    def check(directory: Path, *, max_coalitions: int, seed: int) -> Any:
        asked.update(directory=directory, max_coalitions=max_coalitions, seed=seed)
        return SimpleNamespace(clean=clean, as_json=lambda: {"clean": clean}, sentences=lambda: ["a", "b"])

    monkeypatch.setattr("peer.audit.audit", check)
    result = invoke("audit", tmp_path, "--max-coalitions", 9, "--seed", 4, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0 if clean else 3, {"clean": clean})
    assert asked == {"directory": tmp_path, "max_coalitions": 9, "seed": 4}
    result = invoke("audit", tmp_path)
    assert (result.exit_code, result.stdout) == (0 if clean else 3, "a\nb\n")
    assert asked["max_coalitions"] == 2000


def test_nothing_to_audit(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        result = invoke("audit", directory)
        assert result.exit_code == 1
        assert result.stderr.startswith("susurrus: ")
        assert result.stderr.count("\n") == 1
