"""``susurrus simulate``: what may stand together on the line, experiments, single scenarios, the evaluation, worlds."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peer.cli import app
from peer.laboratory import extras, kinds
from peer.laboratory.kinds import Row
from peer.laboratory.study import evaluation

EXPERIMENT = """
[experiment]
name = "try"
kind = "availability"
[parameters]
peers = 5
hours = 2
[sweep]
peers = [3, 4]
[scale.small]
sweep = { peers = [2] }
"""


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    return tmp_path / "e.toml"


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, args)])


def mistakes(*args: object) -> list[str]:
    result = invoke(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    return [line.removeprefix("susurrus: ") for line in result.stderr.splitlines()]


def test_an_experiment(file: Path, tmp_path: Path) -> None:
    result = invoke("e.toml", "--workers", 1, "--format", "csv")
    out = tmp_path / "try-results"
    assert result.exit_code == 0, result.stderr
    seed = json.loads((out / "journal.jsonl").read_text().splitlines()[0])["seed"]
    assert result.stdout == f"2 runs, seed {seed}: {out / 'report.html'}\n"
    assert f"try: 2 runs, seed {seed}, on 1 process of this machine\n" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "journal.jsonl", "report.html", "results.csv", "run-info.json", "summary.csv",
    ]  # fmt: skip
    # Without a seed the same command goes on with the one that it began with.
    result = invoke("e.toml", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["seed"], document["runs"], document["resumed"], document["failed"]) == (seed, 2, 2, 0)
    assert document["experiments"][0]["summary"][0] == {
        "peers": 3, "hour": 0, "rows": 1, "online": 1.0, "online_error": None, "begun": 0.0, "begun_error": None,
    }  # fmt: skip
    assert (out / "results.parquet").exists()


def test_a_scale_and_a_place(file: Path, tmp_path: Path) -> None:
    assert invoke(file, "--scale", "small", "--out", tmp_path / "o", "--seed", 3, "--workers", 1).exit_code == 0
    assert (tmp_path / "o" / "results.csv").read_text().splitlines()[1].startswith("2,0,")
    (sentence,) = mistakes(file, "--out", tmp_path / "o", "--seed", 4)
    assert "belongs to another experiment: scale small instead of full, seed 3 instead of 4" in sentence


def test_mistakes_of_the_line_and_of_the_file_together(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    file.write_text(EXPERIMENT.replace("hours = 2", 'hours = "x"'))
    assert mistakes(file, "--trace", "t", "--format", "parquet", "--scheduler", "tcp://127.0.0.1:1") == [
        "--trace is for a single scenario",
        f"{file}: parameters.hours must be a whole number, not 'x'",
        "--format parquet needs pyarrow: pip install 'susurrus[data]'",
        "--scheduler needs distributed: pip install 'susurrus[cluster]'",
    ]
    assert not (tmp_path / "try-results").exists()
    assert mistakes(file, "--scale", "huge") == [f"--scale huge: {file} has the scales full, small"]


@pytest.mark.parametrize(
    ("args", "sentences"),
    [
        ("", ["give one of FILE, --paper and --worlds"]),
        ("x.toml --paper small", ["give one of FILE, --paper and --worlds"]),
        ("--paper tiny", ["--paper must be small or full, not 'tiny'"]),
        ("x.toml --format xls", ["--format must be csv or parquet, not 'xls'"]),
        ("x.toml --workers 2 --scheduler a", ["give --workers or --scheduler: a cluster has its own workers"]),
        ("--paper small --scale small", ["--paper names the scale itself; leave out --scale"]),
        ("--paper small --until-step 3", ["--until-step is for a single scenario"]),
        ("x.toml --seed -1 --workers 0 --until-step 0 --format xls", [
            f"--seed must be from 0 to {2**63 - 1}, not -1", "--workers must be a number from 1 on, not 0",
            "--until-step must be a number from 1 on, not 0", "--format must be csv or parquet, not 'xls'",
        ]),
        ("--worlds 0 --scale x", ["--worlds must be a number from 1 on, not 0", "--scale is for experiments"]),
        ("--worlds 3 --out x --scheduler y", ["--out is for experiments", "--scheduler is for experiments"]),
        ("x.toml", ["cannot read the file x.toml: no such file or directory"]),
    ],
)  # fmt: skip
def test_what_may_not_stand_together(args: str, sentences: list[str]) -> None:
    assert mistakes(*args.split()) == sentences


def test_a_recording_is_not_overwritten_by_the_run_that_is_compared_with_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("a trace\n")
    (tmp_path / "link").symlink_to("old")
    for other in ("old", "./old", "link"):
        assert mistakes("x.toml", "--replay", "old", "--trace", other) == [
            "--trace and --replay name the same file: it would be overwritten before it is compared"
        ]
        assert mistakes(other, "--trace", "old") == ["--trace names the scenario itself: it would be overwritten"]
    assert (tmp_path / "old").read_text() == "a trace\n"


def test_the_evaluation_at_a_small_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The files themselves are tested where they are read; here one of them stands for all.
    chosen = [experiment for experiment in evaluation("small") if experiment.name == "availability"]
    monkeypatch.setattr("peer.laboratory.study.evaluation", lambda scale: chosen if scale == "small" else [])
    result = invoke("--paper", "small", "--seed", 1, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["title"] == "Evaluation"
    assert (tmp_path / "paper-results" / "availability" / "results.csv").exists()
    html = (tmp_path / "paper-results" / "report.html").read_text()
    assert "<h1>Evaluation</h1>" in html
    assert html.count("<svg") == 1


@dataclass
class Scenario:
    """A kind for single runs that remembers how it was called."""

    name = "network"
    axes = ()

    def __post_init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        return [] if "peers" in parameters else [f"{place} needs peers"]

    def run(self, parameters: Mapping[str, Any], seed: int) -> list[Row]:
        raise AssertionError

    def run_traced(
        self, parameters: Mapping[str, Any], seed: int, *, progress: Callable[[float], None], **flags: Any
    ) -> list[Row]:
        self.calls.append({"peers": parameters["peers"], "seed": seed, **flags})
        progress(1.0)
        return [{"published": 3, "share": 0.123456, "lost": float("nan")}]


def test_a_single_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Scenario()
    monkeypatch.setattr(kinds, "SCENARIO", kind)
    path = tmp_path / "s.toml"
    path.write_text("peers = 3\n")
    result = invoke(path, "--seed", 5)
    assert (result.exit_code, result.stdout) == (0, "published  3\nshare      0.1235\nlost       -\n")
    assert "s: one scenario, seed 5" in result.stderr
    result = invoke(path, "--seed", 5, "--json", "--trace", "t", "--replay", "r", "--until-step", 9)
    assert json.loads(result.stdout) == {
        "scenario": str(path), "seed": 5, "rows": [{"published": 3, "share": 0.123456, "lost": None}],
    }  # fmt: skip
    nothing = {"trace": None, "replay": None, "until_step": None}
    assert kind.calls == [
        {"peers": 3, "seed": 5, **nothing},
        {"peers": 3, "seed": 5, "trace": Path("t"), "replay": Path("r"), "until_step": 9},
    ]
    path.write_text("pears = 3\n")
    assert mistakes(path, "--out", "x", "--workers", 2) == [
        "--out is for experiments: a file with a table [experiment]",
        "--workers is for experiments: a file with a table [experiment]",
        f"{path}: scenario needs peers",
    ]


@dataclass
class Worlds:
    """What became of some."""

    worlds: int
    failed_seeds: tuple[int, ...]

    def lines(self) -> list[str]:
        return [f"{self.worlds} worlds", "of which some failed"]


def test_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    def run_worlds(count: int, first_seed: int, processes: int, progress: Callable[[int, int], None]) -> Worlds:
        asked.append((count, first_seed, processes))
        progress(count, count)
        return Worlds(count, () if first_seed == 1 else (2, 4))

    monkeypatch.setitem(sys.modules, "peer.laboratory.worlds", SimpleNamespace(run_worlds=run_worlds))
    result = invoke("--worlds", 4, "--seed", 1, "--workers", 2)
    assert (result.exit_code, result.stdout) == (0, "4 worlds\nof which some failed\n")
    result = invoke("--worlds", 4, "--seed", 2, "--workers", 2, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, {"worlds": 4, "failed_seeds": [2, 4]})
    assert asked == [(4, 1, 2), (4, 2, 2)]
