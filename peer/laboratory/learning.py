"""Simulated peers that learn from real records, and a curve of how good their newest model is.

Neighbours: ``convergence`` makes worlds with both; ``peer.learning`` does the arithmetic, as in the daemon;
``protocol.simulation`` has the worlds.
Invariants: the records on which a curve is measured are in no peer's shard; one seed gives one split, one partition
and one set of contributions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.learning.application import ContributionJob
from peer.learning.centralised import train_test_split
from peer.learning.datasets import load_dataset
from peer.learning.models import Model, model_for
from peer.learning.preprocess import standardise
from peer.learning.trainer import Learner, prepare
from protocol import reports
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.streams import generator
from protocol.simulation.world import World
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint, Message


@dataclass(frozen=True, slots=True)
class Records:
    """A data set in two parts.  ``X``: (n, f) in the features' own units; ``y``: (n,) class numbers."""

    name: str
    X: NDArray[np.float64] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    test_X: NDArray[np.float64] = field(repr=False)
    test_y: NDArray[Any] = field(repr=False)


def records_of(dataset: str, seed: int) -> Records:
    """A packaged data set, a random fifth of it set aside for tests.  Raises ``ConfigurationError``."""
    data = load_dataset(dataset)
    train, test = train_test_split(len(data.X), generator(seed, "test split", dataset))
    return Records(dataset, data.X[train], data.y[train], data.X[test], data.y[test])


class Learning:
    """One peer's application: the port over a ``Learner``, or over nothing."""

    def __init__(self, learner: Learner | None, entropy: SeededEntropy) -> None:
        self.learner = learner
        self._entropy = entropy

    def freshness(self, task: Task) -> Freshness:
        """As a daemon with these records answers."""
        if self.learner is None:
            return Freshness.NONE
        return Freshness.DETERMINISTIC if self.learner.deterministic else Freshness.FRESH

    def accepts(self, task: Task, submitter_key: bytes) -> str | None:
        """Every task."""
        return None

    def adopted(self, task: Task) -> None:
        """Nothing."""

    def gate(self) -> str | None:
        """Always open."""
        return None

    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> ContributionJob:
        """The daemon's own job."""
        assert self.learner is not None, "a peer without records is not asked"
        return ContributionJob(self.learner, kind, checkpoint, SeededEntropy(self._entropy.token(32)))


class Shards:
    """Makes the applications of a world whose peer ``i`` holds the records ``shards[i]``."""

    def __init__(self, task: Task, records: Records, shards: Sequence[NDArray[np.int64]]) -> None:
        self._task, self._records, self._shards = task, records, shards
        self._model = model_for(task)

    def __call__(self, index: int, entropy: SeededEntropy) -> Learning:
        rows = self._shards[index]
        x, y = self._records.X[rows], self._records.y[rows]
        learner = Learner(self._task, self._model, x, y, entropy=entropy.fork("held out"))
        return Learning(learner, entropy)


@dataclass(frozen=True, slots=True)
class Point:
    """A model on the curve."""

    step: int
    """Gradient steps so far."""
    seconds: float
    accuracy: float
    loss: float


class Judge:
    """Measures models of one task on the records that nobody trains with."""

    def __init__(self, task: Task, records: Records) -> None:
        self.task = task
        self.model: Model = model_for(task)
        self._z, self._y = prepare(task, records.test_X, records.test_y)

    def point(self, checkpoint: Checkpoint, seconds: float) -> Point:
        """How good a model is, rounded to what a table shows."""
        params = state.parameters(self.task, checkpoint)
        z = standardise(self._z, state.statistics(self.task, checkpoint))
        loss, accuracy = self.model.evaluate(params, z, self._y)
        step = max(0, checkpoint.age - self.task.statistics_rounds)
        return Point(step, round(seconds, 6), round(float(accuracy), 6), round(float(loss), 6))


class Curve:
    """Observes a world: the newest model of the whole network whenever its age is a multiple of ``every`` steps."""

    def __init__(self, judge: Judge, every: int, begin: float) -> None:
        self.points: list[Point] = []
        self.age = -1
        """Of the newest model so far."""
        self._judge, self._every, self._begin = judge, every, begin

    def sent(self, world: World, sender: SimulatedPeer, to: PeerId, message: Message, nbytes: int) -> None:
        """Not looked at."""

    def reported(self, world: World, peer: SimulatedPeer, item: reports.Item) -> None:
        """Judge the first model of an age that any peer holds."""
        if not isinstance(item, reports.ModelAdvanced) or item.age <= self.age or peer.node is None:
            return
        task = self._judge.task
        entry = peer.node.tasks.get(item.task)
        newest = entry.walks.newest if entry is not None else None
        assert newest is not None, "it has just advanced"
        self.age = newest.checkpoint.age
        step = self.age - task.statistics_rounds
        if step >= 0 and (step % self._every == 0 or self.age >= task.last_age):
            self.points.append(self._judge.point(newest.checkpoint, world.now - self._begin))
