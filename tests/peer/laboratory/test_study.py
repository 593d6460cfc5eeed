"""Whole studies in processes of their own: the same bytes every time, interruptions, several experiments at once."""

import csv
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from typer.testing import CliRunner

from peer.cli import app
from peer.laboratory import extras, study
from peer.laboratory.experiment import load, parse
from peer.laboratory.journal import FILE
from peer.laboratory.local import LocalWorkers
from peer.laboratory.study import Study, carry_out_study, evaluation
from peer.laboratory.table import formats
from tests.peer.laboratory.conftest import contents
from tests.peer.laboratory.trial import begun, experiment_text, wait_for

Outcome = Callable[..., tuple[int, str, str]]
TABLES = ["report.html", "results.csv", "results.parquet", "summary.csv"]


def test_the_same_bytes_whatever_the_number_of_processes_and_the_hash_seed(tmp_path: Path, outcome: Outcome) -> None:
    file = tmp_path / "e.toml"
    file.write_text(experiment_text(tmp_path / "log"))
    found = []
    for place, workers, hash_seed in (("a", 1, 0), ("b", 2, 1)):
        code, out, err = outcome(file, "--out", tmp_path / place, "--workers", workers, hash_seed=hash_seed)
        assert (code, out) == (0, f"12 runs, seed 7: {tmp_path / place / 'report.html'}\n"), err
        found.append(contents(tmp_path / place))
    assert list(found[0]) == TABLES
    assert found[0] == found[1]
    # Nothing in it is the same by being empty.
    assert found[0]["report.html"].count(b"<svg") == 2
    assert len(found[0]["results.csv"].splitlines()) == 1 + 12 * 6
    shutil.rmtree(tmp_path / "log")  # what is finished is not done again: it would fail
    assert outcome(file, "--out", tmp_path / "b")[0] == 0
    assert contents(tmp_path / "b") == found[0]


def test_an_interrupted_sweep_goes_on_where_it_stopped(
    tmp_path: Path, start: Callable[..., "subprocess.Popen[str]"], outcome: Outcome
) -> None:
    file, log, gate = tmp_path / "e.toml", tmp_path / "log", tmp_path / "gate"
    file.write_text(experiment_text(log, values=range(5), repeats=1, more=f"gate = '{gate}'\ngated = 2"))
    journal = tmp_path / "out" / FILE

    def tries() -> list[int]:
        return sorted(len(processes) for processes in begun(log).values())

    def interrupted(number: signal.Signals, wanted: list[int]) -> "tuple[int, str]":
        """Stop it as soon as four runs are finished and two, which wait for the gate, have begun."""
        process = start(file, "--out", tmp_path / "out", "--workers", 2)
        wait_for(lambda: tries() == wanted and journal.read_bytes().count(b"\n") == 1 + 4)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive  # though in the middle of a run
        return process.returncode, err

    assert interrupted(signal.SIGKILL, [1] * 6)[0] == -signal.SIGKILL
    with journal.open("ab") as stream:
        stream.write(b'{"run":"half-wri')
    code, err = interrupted(signal.SIGINT, [1] * 4 + [2] * 2)
    assert code == 130
    assert f"what is finished is in {tmp_path / 'out'}; the same command goes on from there" in err
    assert "Traceback" not in err
    gate.touch()
    assert outcome(file, "--out", tmp_path / "out", "--workers", 1)[0] == 0
    assert tries() == [1] * 8 + [3] * 2
    assert json.loads((tmp_path / "out" / "run-info.json").read_text())["resumed"] == 4
    assert outcome(file, "--out", tmp_path / "whole", "--workers", 2)[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


class _Page(HTMLParser):
    """What a page would load, and whether its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.kinds: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made(directory: Path, text: str, scale: str = "full", wanted: str | None = None) -> dict[str, bytes]:
    """What a study of this experiment leaves."""
    experiment = parse(load_text(directory, text), directory / "e.toml", scale)
    carry_out_study(
        Study("try", "A <title>", (experiment,), directory / "out", 7, formats(wanted)), LocalWorkers(2), print
    )
    return contents(directory / "out")


def load_text(directory: Path, text: str) -> dict[str, Any]:
    (directory / "e.toml").write_text(text)
    return load(directory / "e.toml")


def test_the_report_is_one_page_with_everything_escaped(tmp_path: Path) -> None:
    html = made(tmp_path, experiment_text(tmp_path / "log"))["report.html"].decode()
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.kinds
    assert "b" not in page.kinds
    assert "url(" not in html.replace("url(#", "")
    for text in (
        "<h1>A &lt;title&gt;</h1>",
        "Trials, &lt;b&gt;not&lt;/b&gt; errors &amp; &#x27;others&#x27;.",
        "&lt;script&gt;alert(1)&lt;/script&gt; $x",
        "<figcaption>Found &lt;by&gt; step, at $5 a piece</figcaption>",
        "<dt>Claimed</dt><dd>More &amp; more.</dd>",
    ):
        assert text in html
    drawings = [html[at : html.index("</svg>", at) + 6] for at in _places(html, "<svg")]
    assert len(drawings) == 2
    labels = ["".join(element.itertext()) for element in ElementTree.fromstring(drawings[0]).iter()]  # noqa: S314
    assert "value = 3, method = practice" in labels
    names = [set(_names(drawing)) for drawing in drawings]
    assert not {name for name in names[0] & names[1] if not name.endswith("_1")}


def _places(text: str, what: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(what, at)]


def _names(drawing: str) -> list[str]:
    tree = ElementTree.fromstring(drawing)  # noqa: S314 (our own)
    return [
        element.attrib["id"]
        for element in tree.iter()
        if element.tag.endswith(("clipPath", "path", "defs")) and "id" in element.attrib
    ]


def test_figures_of_tables_and_sentences(tmp_path: Path) -> None:
    found = made(tmp_path, experiment_text(tmp_path / "log", values=[1, 2]))
    rows = list(csv.DictReader(found["results.csv"].decode().splitlines()))
    assert list(rows[0]) == ["value", "deep.factor", "repeat", "seed", "step", "found", "method", "nothing"]
    assert {row["nothing"] for row in rows} == {""}
    one = [
        row
        for row in rows
        if (row["value"], row["deep.factor"], row["step"], row["method"]) == ("2", "2.0", "2", "theory")
    ]
    values = [float(row["found"]) for row in one]
    assert [row["repeat"] for row in one] == ["0", "1"]
    assert values == [8 + int(row["seed"]) % 1000 / 1000 for row in one]
    summary = list(csv.DictReader(found["summary.csv"].decode().splitlines()))
    (line,) = [
        row
        for row in summary
        if (row["value"], row["deep.factor"], row["step"], row["method"]) == ("2", "2.0", "2", "theory")
    ]
    assert float(line["found"]) == sum(values) / 2
    assert float(line["found_error"]) == pytest.approx(abs(values[0] - values[1]) / 2)
    least = [float(row["found"]) for row in rows if row["value"] == "1"]
    assert f"<dd>From {sum(least) / len(least):.4g} to ".encode() in found["report.html"]


def test_columns_that_are_not_there_are_told_in_the_report(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log", values=[1], repeats=1)
    text = text.replace('y = "found"', 'y = "lost"').replace('show = ["found"]', 'show = ["gone"]')
    html = made(tmp_path, text)["report.html"].decode()
    assert "The plot “Bars” is missing: the results have no column lost." in html
    assert "The table “By value” is missing: the results have no column gone." in html
    assert html.count("<svg") == 1


def test_failed_runs_are_told_and_tried_again(tmp_path: Path) -> None:
    def outcome(*args: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["simulate", "--seed", "7", *map(str, args)])
        return result.exit_code, result.stdout, result.stderr

    file, log = tmp_path / "e.toml", tmp_path / "log"
    text = experiment_text(log, values=[1], repeats=1).replace("[sweep]", '[sweep]\ntrouble = ["none", "raise", "die"]')
    file.write_text(text)
    code, out, err = outcome(file, "--out", tmp_path / "out", "--json", "--workers", 2)
    assert code == 1
    document = json.loads(out)
    assert (document["runs"], document["failed"], document["resumed"]) == (2, 4, 0)
    (told,) = document["experiments"]
    assert [(failure["trouble"], failure["run"]) for failure in told["failures"]] == [
        ("raise", 2), ("raise", 3), ("die", 4), ("die", 5),
    ]  # fmt: skip
    assert "4 runs failed, as the report says; the same command tries them again" in err
    html = (tmp_path / "out" / "report.html").read_text()
    assert "4 of 6 runs failed and are missing in what follows." in html
    assert "trouble = raise, value = 1, deep.factor = 0.5: ValueError: the trial was asked to fail" in html
    first = contents(tmp_path / "out")
    code, out, err = outcome(file, "--out", tmp_path / "out", "--json")
    assert (code, json.loads(out)["resumed"]) == (1, 2)
    assert contents(tmp_path / "out") == first


def test_without_the_libraries_of_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    found = made(tmp_path, experiment_text(tmp_path / "log", values=[1]))
    assert sorted(found) == ["report.html", "results.csv", "summary.csv"]
    html = found["report.html"].decode()
    sentence = "A report with plots needs matplotlib: pip install &#x27;susurrus[plot]&#x27;. "
    assert html.count(sentence) == 1
    assert "<svg" not in html
    assert "By value" in html


def test_several_experiments_in_one_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    for name in ("b", "a"):
        text = experiment_text(tmp_path / "log", repeats=1).replace('name = "try"', f'name = "{name}"')
        (folder / f"{name}.toml").write_text(text)
    monkeypatch.setattr(study, "files", lambda _: tmp_path)
    experiments = tuple(evaluation("small"))
    assert [experiment.name for experiment in experiments] == ["a", "b"]
    carry_out_study(Study("both", "Both", experiments, tmp_path / "out", 7, ("csv",)), LocalWorkers(2), print)
    assert list(contents(tmp_path / "out")) == [
        "a/results.csv", "a/summary.csv", "b/results.csv", "b/summary.csv", "report.html",
    ]  # fmt: skip
    html = (tmp_path / "out" / "report.html").read_text()
    assert '<li><a href="#a">a</a></li><li><a href="#b">b</a></li>' in html
    assert '<h2 id="b">b</h2>' in html
    assert html.count("<svg") == 4
