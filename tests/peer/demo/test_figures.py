"""The summary: every figure from what the peers say, over all lives; nothing made up where nobody answered."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.demo import figures
from peer.demo.cluster import COUNTERS, Cluster, Member
from peer.demo.figures import History
from peer.learning.datasets import Dataset, load_dataset
from peer.learning.models import model_for
from peer.learning.taskfile import task_for_dataset
from peer.options import DemoOptions
from protocol.training.state import initial_state
from protocol.training.task import Task


class Answers(Cluster):
    """A cluster whose peers' answers are given, by index and path, or made of the rounds that each of them ended."""

    def __init__(self, root: Path, task: Task, size: int) -> None:
        super().__init__(root, task, None)
        self.members = [Member(i, root / f"peer-{i}") for i in range(size)]
        self.answers: dict[tuple[int, str], bytes] = {}
        self.rounds: dict[int, list[dict[str, Any]]] = {}
        self.asked = 0

    async def get(self, member: Member, path: str) -> bytes | None:
        if path.startswith("/rounds?limit=") and member.index in self.rounds:
            self.asked += 1
            limit = int(path.removeprefix("/rounds?limit="))
            return json.dumps(self.rounds[member.index][::-1][:limit]).encode()
        return self.answers.get((member.index, path))

    def end(self, index: int, *rows: dict[str, Any]) -> None:
        """Rounds end at a peer, and its status tells of it."""
        ended = self.rounds.setdefault(index, [])
        ended += rows
        self.members[index].status = {
            "rounds_published": sum(r["published"] for r in ended),
            "rounds_failed": sum(not r["published"] for r in ended),
        }


def told_of(*rows: dict[str, Any]) -> History:
    """A history of these rounds."""
    told = History()
    for row in rows:
        told._add(row)
    return told


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def task(data: Dataset) -> Task:
    return task_for_dataset(data, collusion_threshold=2, branching=2, cohort=4, modulus_bits=32, steps=10)


def row(
    name: str, started: float, *, kind: str = "gradient", published: bool = True, cohort: int = 4
) -> dict[str, Any]:
    return {
        "round": name, "kind": kind, "published": published, "cohort": cohort, "started": started,
        "finished": started + 1.0, "min_mask_neighbours": 3 if published else None,
    }  # fmt: skip


async def test_the_history_is_everybodys_each_round_once(tmp_path: Path, task: Task) -> None:
    cluster, told = Answers(tmp_path, task, 3), History()
    cluster.end(0, row("a", 1.0, kind="statistics"), row("c", 3.0))
    cluster.end(1, row("b", 2.0, published=False))
    for _ in range(2):
        await told.gather(cluster)  # the third one does not answer
    assert (told.published, told.failed, told.contributions) == ({"statistics": 1, "gradient": 1}, 1, 8)
    assert (told.seconds, told.min_mask_neighbours) == (3.0, 3)
    cluster.end(0, row("d", 5.0, cohort=3))
    cluster.members[0].status = {}  # killed: it has not been asked since
    await told.gather(cluster)
    assert (told.published["gradient"], told.contributions, told.seconds) == (2, 11, 5.0)


async def test_a_history_that_is_longer_than_peers_remember_is_whole(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_ROUNDS", 20)
    cluster, told = Answers(tmp_path, task, 2), History()
    for i in range(100):
        cluster.end(0, row(f"{i}", float(i), published=i % 4 > 0, cohort=3 + i % 2))
        await told.gather(cluster, unread=10)
    assert cluster.asked == 10
    await told.gather(cluster)
    assert (told.published["gradient"], told.failed) == (75, 25)
    assert told.contributions == 25 * 3 + 50 * 4
    assert told.seconds == 100.0


async def test_accuracy_is_of_every_peer_that_has_a_model(tmp_path: Path, data: Dataset, task: Task) -> None:
    cluster = Answers(tmp_path, task, 3)
    model = model_for(task, {})
    parameters = model.initial(task.initial_seed)
    for i in (0, 2):
        cluster.answers[i, "/model"] = initial_state(task, parameters)
        cluster.members[i].status = {"age": 0}
    scores = await figures.accuracies(cluster, task, data, np.arange(200))
    assert len(scores) == 2
    assert scores[0] == scores[1]
    assert 0.0 <= scores[0] < 0.5  # it has learnt nothing


def summed(tmp_path: Path, task: Task, told: History, scores: list[float], **status: float) -> dict[str, Any]:
    cluster = Answers(tmp_path, task, 2)
    first, second = cluster.members
    first.status = dict(status)
    first.before = dict.fromkeys(COUNTERS, 0.0) | {
        "partials_sent": 3.0,
        "partial_bytes_sent": 300.0,
        "bytes_out": 500.0,
    }
    second.peak_rss_mb = 77.04
    second.log.write_text(
        "INFO fine\nTraceback (most recent call last):\nINFO fine\nTraceback (most recent call last):\n"
    )
    return figures.summary(
        DemoOptions(peers=2), cluster, told, scores, 0.95,
        startup_seconds=1.23456, killed=1, cpu_before=2.0, seed=7,
    )  # fmt: skip


def test_the_summary_adds_up_all_lives(tmp_path: Path, task: Task) -> None:
    told = told_of(row("a", 10.0, kind="statistics"), row("b", 11.0, cohort=2), row("c", 12.0, published=False))
    status = {"partials_sent": 1, "partial_bytes_sent": 200, "bytes_out": 700, "cpu_seconds": 5.0}
    found = summed(tmp_path, task, told, [0.9, 0.8], **status)
    assert (found["steps"], found["statistics_rounds"], found["rounds_failed"]) == (1, 1, 1)
    assert found["contributions_per_round_mean"] == 3.0
    assert found["bytes_sent_per_contribution"] == 500 / 4
    assert found["total_bytes_per_contribution"] == 1200 / 6
    assert found["plain_bytes_per_contribution"] == 4 * task.dimension
    assert (found["seconds"], found["steps_per_second"], found["startup_seconds"]) == (2.0, 0.5, 1.235)
    assert (found["test_accuracy"], found["test_accuracy_min"]) == (pytest.approx(0.85), 0.8)
    assert (found["cpu_seconds"], found["peak_rss_mb_per_peer"], found["min_mask_neighbours"]) == (3.0, 77.0, 3)
    assert (found["killed"], found["tracebacks"], found["models_evaluated"], found["seed"]) == (1, 2, 2, 7)


def test_a_step_that_its_killed_root_forgot_counts_by_the_model_that_it_made(tmp_path: Path, task: Task) -> None:
    told = told_of(row("a", 10.0), row("b", 11.0))
    assert summed(tmp_path, task, told, [], age=3 + task.statistics_rounds)["steps"] == 3
    assert summed(tmp_path, task, told, [], age=1 + task.statistics_rounds)["steps"] == 2  # revived: an age came twice
    assert summed(tmp_path, replace(task, walks=2), told, [], age=3 + task.statistics_rounds)["steps"] == 2


def test_nothing_is_claimed_where_nothing_was_published(tmp_path: Path, task: Task) -> None:
    found = summed(tmp_path, task, History(), [])
    for name in ("contributions_per_round_mean", "test_accuracy", "test_accuracy_min", "steps_per_second",
                 "total_bytes_per_contribution", "min_mask_neighbours"):  # fmt: skip
        assert found[name] is None, name
    assert found["steps"] == found["rounds_failed"] == found["models_evaluated"] == 0
    json.dumps(found)
