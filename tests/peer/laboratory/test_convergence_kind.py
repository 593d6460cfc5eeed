"""The kind ``convergence``: every algorithm learns, judged by records of nobody; one record answers a model once."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from peer.laboratory import convergence
from peer.laboratory.convergence import Convergence
from peer.laboratory.kinds import Row
from peer.laboratory.learning import Learning, Shards, records_of
from peer.learning.application import ContributionJob
from protocol.aggregation import combining
from protocol.application import Contribution, Freshness
from protocol.base.entropy import SeededEntropy
from protocol.simulation.scenario import plain_task

KIND = Convergence()
SMALL: dict[str, Any] = {
    "dataset": "digits",
    "steps": 25,
    "every": 5,
    "target": 0.8,
    "scenario": {"peers": 24, "seconds": 600, "warm_up_s": 20, "network": "wan", "settings": "lan"},
    "churn": {"kind": "sessions", "on_s": 120.0, "off_s": 30.0},
    "one_record": {"peers": 120, "cohort": 24},
    "gossip": {"steps": 600, "learning_rate": 0.2, "learning_rate_decay": 0.001},
}


def run(algorithm: str, seed: int = 1, **changes: Any) -> list[Row]:
    given = {**SMALL, "algorithm": algorithm, **changes}
    assert KIND.check(given, "f") == []
    return KIND.run(given, seed)


@pytest.mark.parametrize(
    ("algorithm", "least", "step", "batch"),
    [
        ("centralised", 0.9, 25, 128),
        ("susurrus", 0.9, 25, 128),
        ("churn", 0.9, 25, 128),
        ("one-record", 0.7, 25, 24),
        ("gossip", 0.85, 600, 1),
    ],
)
def test_it_reaches_what_it_should(algorithm: str, least: float, step: int, batch: int) -> None:
    rows = run(algorithm)
    accuracies, times = [row["accuracy"] for row in rows], [row["at_s"] for row in rows]
    assert rows[0]["step"] == 0
    assert (rows[-1]["step"], rows[-1]["records"]) == (step, step * batch)
    assert isinstance(accuracies[0], float)
    assert accuracies[0] < 0.3  # ten classes, and nothing learned yet
    last = rows[-1]["final_accuracy"]
    assert isinstance(last, float)
    assert last == accuracies[-1]
    assert last >= least, rows
    assert times == sorted(times, key=lambda at: at if isinstance(at, float) else -1.0)
    if last >= SMALL["target"]:
        reached = [row["step"] for row, a in zip(rows, accuracies, strict=True) if isinstance(a, float) and a >= 0.8]
        assert rows[-1]["reached_step"] == reached[0]
    assert all(row["final_accuracy"] is None for row in rows[:-1])


def test_time_is_what_tells_the_algorithms_apart() -> None:
    """A step of computing alone, a hop, a tree."""
    seconds = {}
    for algorithm in ("centralised", "gossip", "susurrus"):
        last = run(algorithm)[-1]
        assert isinstance(last["at_s"], float)
        assert isinstance(last["step"], int)
        seconds[algorithm] = last["at_s"] / last["step"]
    assert seconds["centralised"] < seconds["gossip"] < seconds["susurrus"]


def test_private_statistics_are_found_before_the_first_step() -> None:
    rows = run("susurrus", dataset="spambase", steps=5)
    assert isinstance(rows[0]["at_s"], float)
    assert (rows[0]["step"], rows[-1]["step"]) == (0, 5)
    assert rows[0]["at_s"] > 0.5  # five rounds


def test_one_record_never_answers_a_model_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under partials lost to churn too, when rounds fail and are tried again: what was computed and lost with its peer
    does not count, what leaves in a partial or enters a total does."""
    answered: Counter[tuple[bytes, bytes]] = Counter()
    freshness = set()
    really = ContributionJob.run

    def noted(job: ContributionJob) -> Contribution:
        freshness.add(job.learner.training_records)
        return really(job)

    def counted(leaving: Any) -> Any:
        def leave(ports: Any, round_: Any, *rest: Any) -> Any:
            answered[ports.peer, round_.digest] += 1
            return leaving(ports, round_, *rest)

        return leave

    monkeypatch.setattr(ContributionJob, "run", noted)
    monkeypatch.setattr(combining, "sealed", counted(combining.sealed))
    monkeypatch.setattr(combining, "published", counted(combining.published))
    scenario = {**SMALL["scenario"], "faults": [{"kind": "restart", "random": 8, "per_hour": 600, "down_s": 5.0}]}
    rows = run("one-record", scenario=scenario)
    assert freshness == {1}
    assert rows[-1]["step"] == 25
    assert len(answered) > 300
    assert set(answered.values()) == {1}


def test_no_peer_holds_a_test_record_and_none_is_held_twice() -> None:
    records = records_of("digits", 3)
    held = {row.tobytes() for row in records.X}
    assert len(held) == len(records.X) == 4496
    assert not held & {row.tobytes() for row in records.test_X}
    again, other = records_of("digits", 3), records_of("digits", 4)
    assert np.array_equal(records.test_X, again.test_X)
    assert not np.array_equal(records.test_X, other.test_X)


def test_what_a_peer_says_of_its_records() -> None:
    records, entropy = records_of("digits", 0), SeededEntropy("test")
    task = convergence.task_for_dataset("digits", cohort=8)
    one, many = (Shards(task, records, [np.arange(n)])(0, entropy) for n in (1, 9))
    assert one.freshness(task) is Freshness.DETERMINISTIC
    assert many.freshness(task) is Freshness.FRESH
    assert Learning(None, entropy).freshness(plain_task()) is Freshness.NONE


def test_all_mistakes_at_once() -> None:
    given = {
        "algorithm": "magic",
        "dataset": "moons",
        "every": 0,
        "partition": "dirichlet",
        "collusion_threshold": 1,
        "scenario": {"peers": 3, "seconds": 10, "task": {}, "network": "tin cans"},
        "churn": {"kind": "sometimes"},
        "one_record": {"peers": -1, "batch": 2},
        "speed": 9,
    }
    told = "\n".join(KIND.check(given, "f: parameters"))
    for part in (
        "algorithm is 'magic'",
        "dataset is 'moons'",
        "every must be at least 1",
        "needs steps",
        "'dirichlet'",
        "collusion_threshold: must be 2 to",
        "scenario.task has no place here",
        "'tin cans'",
        "'sometimes'",
        "one_record.peers must be",
        "one_record has no key 'batch'",
        "no key 'speed'",
    ):
        assert part in told, told
    crowd = KIND.check({**SMALL, "algorithm": "susurrus", "scenario": {"peers": 4000, "seconds": 1}}, "f")
    assert any("4496 records are too few for 4000 peers" in problem for problem in crowd)


def test_one_seed_gives_one_curve() -> None:
    first = run("churn", 5, steps=5)
    assert run("churn", 5, steps=5) == first
    assert run("churn", 6, steps=5) != first
