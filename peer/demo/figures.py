"""The demo's summary: figures from what the peers themselves say, and the centralised run beside them.

Neighbours: ``run`` collects, ``cluster`` asks; keys as in the README's table.
Invariants: nothing is estimated: a figure comes from the peers' histories, counters and models, or from evaluating
their models on records no peer has trained on.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peer.demo.cluster import Cluster
from peer.learning.centralised import train_centralised
from peer.learning.datasets import Dataset
from peer.learning.trainer import evaluate_records
from peer.options import DemoOptions
from peer.storage.history import MAX_ROUNDS
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint

Rows = np.ndarray[Any, Any]
GRADIENT, STATISTICS = (kind.name.lower() for kind in (RoundKind.GRADIENT, RoundKind.STATISTICS))


@dataclass(slots=True)
class History:
    """Rounds of all roots, added up while the demo runs: peers themselves remember no more than ``MAX_ROUNDS``."""

    published: Counter[str] = field(default_factory=Counter)
    """By the name of their kind."""
    failed: int = 0
    contributions: int = 0
    """In what was published."""
    min_mask_neighbours: int | None = None
    _first: float = math.inf
    _last: float = -math.inf
    _newest: dict[int, str] = field(default_factory=dict)
    """The last round that was added up, by peer."""
    _ended: Counter[int] = field(default_factory=Counter)
    """How many had ended then, by peer."""

    @property
    def seconds(self) -> float:
        """First round's start to last publication."""
        return max(0.0, self._last - self._first)

    async def gather(self, cluster: Cluster, unread: int = 0) -> None:
        """Add what peers remember and was not added yet; those with fewer such rounds than ``unread`` are not asked."""
        for member in cluster.members:
            ended = sum(int(member.status.get(name) or 0) for name in ("rounds_published", "rounds_failed"))
            if unread and ended - self._ended[member.index] < unread:
                continue
            answer = await cluster.get(member, f"/rounds?limit={MAX_ROUNDS}")
            rows = json.loads(answer) if answer is not None else []  # the newest first
            for row in rows:
                if row["round"] == self._newest.get(member.index):
                    break
                self._add(row)
            if rows:
                self._newest[member.index], self._ended[member.index] = rows[0]["round"], ended

    def _add(self, row: dict[str, Any]) -> None:
        self._first = min(self._first, float(row["started"]))
        if not row["published"]:
            self.failed += 1
            return
        self.published[row["kind"]] += 1
        self.contributions += int(row["cohort"])
        self._last = max(self._last, float(row["finished"]))
        fewest = int(row["min_mask_neighbours"])
        if self.min_mask_neighbours is None or fewest < self.min_mask_neighbours:
            self.min_mask_neighbours = fewest


def steps_published(cluster: Cluster, told: History) -> int:
    """Gradient rounds published, all walks together.

    A root that is killed may forget its last rounds: history need not be durable.  A single walk's newest model tells
    of them all the same: its age counts the rounds that made it.
    """
    task = cluster.task
    known = told.published[GRADIENT]
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
    published, seconds = told.published.total(), told.seconds
    steps = steps_published(cluster, told)
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
        "statistics_rounds": told.published[STATISTICS],
        "rounds_failed": told.failed,
        "contributions_per_round_mean": told.contributions / published if published else None,
        "test_accuracy": float(np.mean(scores)) if scores else None,
        "test_accuracy_min": min(scores, default=None),
        "centralised_accuracy": centralised,
        "seconds": round(seconds, 3),
        "startup_seconds": round(startup_seconds, 3),
        "steps_per_second": steps / seconds if seconds else None,
        "bytes_sent_per_contribution": partial_bytes / partials if partials else None,
        "plain_bytes_per_contribution": 4 * task.dimension,
        "total_bytes_per_contribution": total_bytes / told.contributions if told.contributions else None,
        "cpu_seconds": round(sum(m.total("cpu_seconds") for m in members) - cpu_before, 3),
        "peak_rss_mb_per_peer": round(max((m.peak_rss_mb for m in members), default=0.0), 1),
        "min_mask_neighbours": told.min_mask_neighbours,
        "killed": killed,
        "models_evaluated": len(scores),
        "tracebacks": cluster.tracebacks(),
        "seed": seed,
    }
