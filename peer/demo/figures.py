"""The demo's summary: figures from what the peers themselves say, and the centralised run beside them.

Neighbours: ``run`` collects, ``cluster`` asks; keys as in the README's table.
Invariants: nothing is estimated: a figure comes from the peers' histories, counters and models, or from evaluating
their models on records no peer has trained on.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from peer.demo.cluster import Cluster
from peer.learning.centralised import train_centralised
from peer.learning.datasets import Dataset
from peer.learning.trainer import evaluate_records
from peer.options import DemoOptions
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint

Rows = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class History:
    """Rounds of all roots."""

    rounds: list[dict[str, Any]]

    def of(self, kind: RoundKind, published: bool) -> list[dict[str, Any]]:
        """Rounds of a kind that were published, or not."""
        return [r for r in self.rounds if r["kind"] == kind.name.lower() and bool(r["published"]) is published]

    @property
    def published(self) -> list[dict[str, Any]]:
        """Everything published."""
        return [r for r in self.rounds if r["published"]]

    @property
    def seconds(self) -> float:
        """First round's start to last publication."""
        if not self.published:
            return 0.0
        return float(max(r["finished"] for r in self.published) - min(r["started"] for r in self.rounds))


async def history(cluster: Cluster) -> History:
    """Everything that the peers remember of the rounds they started."""
    found: dict[str, dict[str, Any]] = {}
    for member in cluster.members:
        answer = await cluster.get(member, "/rounds?limit=10000")
        for row in json.loads(answer) if answer is not None else []:
            found[row["round"]] = row
    return History(sorted(found.values(), key=lambda row: float(row["started"])))


def steps_published(cluster: Cluster, told: History) -> int:
    """Gradient rounds published, all walks together.

    A root that is killed may forget its last rounds: history need not be durable.  A single walk's newest model tells
    of them all the same: its age counts the rounds that made it.
    """
    task = cluster.task
    known = len(told.of(RoundKind.GRADIENT, True))
    if task.walks > 1:
        return known
    newest = max((int(m.status.get("age") or 0) for m in cluster.members), default=0)
    return max(known, newest - task.statistics_rounds)


async def accuracies(cluster: Cluster, task: Task, data: Dataset, test: Rows) -> list[float]:
    """Test accuracy of every peer's own newest model."""
    found: dict[tuple[int, bytes], float] = {}
    scores = []
    for member in cluster.members:
        age = int(member.status.get("age") or 0)
        content = await cluster.get(member, "/model")
        if content is None:
            continue
        key = (age, content)
        if key not in found:
            found[key] = _accuracy(task, Checkpoint(task.id, age, content), data, test)
        scores.append(found[key])
    return scores


def _accuracy(task: Task, checkpoint: Checkpoint, data: Dataset, test: Rows) -> float:
    parameters = state.parameters(task, checkpoint)
    return evaluate_records(task, parameters, state.statistics(task, checkpoint), data.X[test], data.y[test])[1]


def centralised_accuracy(
    task: Task, data: Dataset, train: Rows, test: Rows, steps: int, peers: int, seed: int
) -> float:
    """Plain mini-batch SGD on the pooled records: same model, clipping, steps and total batch."""
    checkpoint = train_centralised(task, data.X[train], data.y[train], steps=steps, peers=peers, seed=seed)
    return _accuracy(task, checkpoint, data, test)


def summary(
    options: DemoOptions,
    cluster: Cluster,
    told: History,
    scores: list[float],
    centralised: float,
    *,
    startup_seconds: float,
    killed: int,
    cpu_before: float,
    seed: int,
) -> dict[str, Any]:
    """The flat document of ``susurrus demo --json``."""
    task, members = cluster.task, cluster.members
    published, seconds = told.published, told.seconds
    steps = steps_published(cluster, told)
    contributions = sum(int(r["cohort"]) for r in published)
    partials = sum(m.total("partials_sent") for m in members)
    partial_bytes = sum(m.total("partial_bytes_sent") for m in members)
    total_bytes = sum(m.total("bytes_out") for m in members)
    return {
        "dataset": options.dataset,
        "peers": options.peers,
        "collusion_threshold": task.collusion_threshold,
        "branching": task.branching,
        "modulus_bits": task.modulus_bits,
        "walks": task.walks,
        "steps": steps,
        "statistics_rounds": len(told.of(RoundKind.STATISTICS, True)),
        "rounds_failed": len(told.rounds) - len(published),
        "contributions_per_round_mean": contributions / len(published) if published else None,
        "test_accuracy": float(np.mean(scores)) if scores else None,
        "test_accuracy_min": min(scores, default=None),
        "centralised_accuracy": centralised,
        "seconds": round(seconds, 3),
        "startup_seconds": round(startup_seconds, 3),
        "steps_per_second": steps / seconds if seconds else None,
        "bytes_sent_per_contribution": partial_bytes / partials if partials else None,
        "plain_bytes_per_contribution": 4 * task.dimension,
        "total_bytes_per_contribution": total_bytes / contributions if contributions else None,
        "cpu_seconds": round(sum(m.total("cpu_seconds") for m in members) - cpu_before, 3),
        "peak_rss_mb_per_peer": round(max((m.peak_rss_mb for m in members), default=0.0), 1),
        "min_mask_neighbours": min((int(r["min_mask_neighbours"]) for r in published), default=None),
        "killed": killed,
        "models_evaluated": len(scores),
        "tracebacks": cluster.tracebacks(),
        "seed": seed,
    }
