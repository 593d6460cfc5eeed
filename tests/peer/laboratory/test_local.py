"""Runs by processes of this machine: order, failures, and workers that die."""

import os
from pathlib import Path

import psutil
import pytest

from peer.laboratory import work
from peer.laboratory.kinds import KINDS
from peer.laboratory.local import LocalWorkers
from peer.laboratory.work import KILLED, Outcome, Task, execute, plain
from tests.peer.laboratory.trial import Trial, begun


def task(log: Path, seed: int, **more: object) -> Task:
    log.mkdir(exist_ok=True)
    return Task(f"run {seed}", Trial(), {"log": str(log), "value": seed, **more}, seed, work.package_version())


def by_id(outcomes: list[Outcome]) -> dict[str, Outcome]:
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)
    return {outcome.id: outcome for outcome in outcomes}


def test_workers_that_die_lose_no_finished_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = [
        task(log, 0),
        task(log, 1, trouble="die"),
        task(log, 2, trouble="die once"),
        task(log, 3, trouble="raise"),
        *(task(log, seed) for seed in range(4, 8)),
    ]
    found = by_id(list(LocalWorkers(2).outcomes(tasks)))
    assert found.keys() == {each.id for each in tasks}
    assert found["run 1"] == Outcome("run 1", [], KILLED)
    assert found["run 3"] == Outcome("run 3", [], "ValueError: the trial was asked to fail")
    for seed in (0, 2, 4, 5, 6, 7):
        assert found[f"run {seed}"] == execute(task(tmp_path / "here", seed))
    tries = {seed: len(processes) for seed, processes in begun(log).items()}
    assert tries == {"1": 2, "2": 2} | {str(seed): 1 for seed in (0, 3, 4, 5, 6, 7)}
    assert os.getpid() not in [pid for processes in begun(log).values() for pid in processes]
    assert workers() == []


def workers() -> list[psutil.Process]:
    """What this process has started, without multiprocessing's own helper, which stays until it ends."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    outcomes = LocalWorkers(2).outcomes([task(log, 0), task(log, 1, gate=str(gate), gated=1)])
    assert next(outcomes).id == "run 0"
    assert len(workers()) == 2
    outcomes.close()
    assert workers() == []


def test_a_worker_of_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = task(tmp_path / "log", 0)
    monkeypatch.setattr(work, "package_version", lambda: "9")
    outcome = execute(asked)
    assert outcome.problem == f"its worker has version 9 of susurrus, not {asked.version}; install the same"


def test_rows_are_plain() -> None:
    import numpy as np

    row = plain({"a": np.float64(1.5), "b": np.int64(2), "c": np.bool_(True), "d": float("inf"), "e": None, "f": "x"})
    assert row == {"a": 1.5, "b": 2, "c": True, "d": None, "e": None, "f": "x"}
    assert [type(value) for value in row.values()][:3] == [float, int, bool]
    with pytest.raises(TypeError, match="the column a holds a list"):
        plain({"a": [1]})


def test_kinds_survive_the_way_to_a_worker() -> None:
    import pickle  # what the standard library and Dask send with

    for kind in KINDS.values():
        assert type(pickle.loads(pickle.dumps(kind))) is type(kind)  # noqa: S301 (our own bytes)
