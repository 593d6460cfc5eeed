"""What a published sum does to a model, and how two models become one.

Neighbours: ``aggregation.combining`` makes ``Publish`` the root's last job; ``walks`` and ``catalogue`` ask for the
others.
Invariants: a sum is applied only if it can be the sum of its cohort's contributions (weight exactly; norm within
cohort x clip, or moments within their factors, plus rounding); otherwise the model stays as it was.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.base.ids import Digest
from protocol.masking.prg import expand
from protocol.masking.ring import Encoding
from protocol.training import state
from protocol.training.task import LEAST_FACTOR, RoundKind, Task
from protocol.wire.messages import Checkpoint


@dataclass(frozen=True, slots=True)
class Published:
    """A round's outcome: the next model, and the cohort's own training figures (None in statistics rounds)."""

    checkpoint: Checkpoint
    digest: Digest
    loss: float | None
    accuracy: float | None


def merge(task: Task, first: Checkpoint, second: Checkpoint) -> Checkpoint:
    """Age-weighted average of two states; its age is the larger one.  Two models of age 0 count alike."""
    share = 0.5 if first.age + second.age == 0 else second.age / (first.age + second.age)
    one, two = state.view(task, first), state.view(task, second)
    mixed = one + np.float32(share) * (two - one)
    return Checkpoint(task.id, max(first.age, second.age), mixed.astype(state.F32).tobytes())


def learning_rate(task: Task, age: int) -> float:
    """Step size of the update made from a model of this age."""
    return task.learning_rate / (1.0 + task.learning_rate_decay * max(0, age - task.statistics_rounds))


def apply_gradient(task: Task, checkpoint: Checkpoint, mean_gradient: NDArray[Any]) -> Checkpoint:
    """One step of (momentum) gradient descent from the cohort's mean gradient ``[d]``."""
    new = state.view(task, checkpoint).copy()
    weights = new[: task.dimension]
    step = mean_gradient.astype(np.float32)
    if task.weight_decay:
        step += np.float32(task.weight_decay) * weights
    if task.momentum:
        velocity = new[task.dimension : 2 * task.dimension]
        velocity *= np.float32(task.momentum)
        velocity += step
        step = velocity
    weights -= np.float32(learning_rate(task, checkpoint.age)) * step
    return Checkpoint(checkpoint.task, checkpoint.age + 1, new.tobytes())


def apply_statistics(task: Task, checkpoint: Checkpoint, first: NDArray[Any], second: NDArray[Any]) -> Checkpoint:
    """Take one more round's means of first and second moments ``[f]`` into the running averages."""
    new = state.view(task, checkpoint).copy()
    tail = new[-2 * len(task.features) :]
    tail += (np.concatenate([first, second]) - tail) / np.float32(checkpoint.age + 1)
    return Checkpoint(checkpoint.task, checkpoint.age + 1, new.tobytes())


@dataclass(frozen=True, slots=True)
class Publish:
    """The root's last job: decode the total, check it, update the model.  Result: ``Published``, or None."""

    task: Task
    kind: RoundKind
    checkpoint: Checkpoint
    encoding: Encoding
    total: NDArray[Any]
    cohort: int

    @property
    def cost_bytes(self) -> int:
        """The vector, several times over."""
        return int(self.total.nbytes * 6)

    def run(self) -> Published | None:
        """Decode, check, update."""
        parts = self.encoding.decode(self.total)
        weight = parts[3 if self.kind is RoundKind.STATISTICS else 1]
        # every weight is its section's bound, which encodes without rounding: the sum must be exact
        if abs(float(weight[0]) - self.cohort * self.task.batch_per_peer) > 1e-6 * self.task.batch_per_peer:
            return None
        if self.kind is RoundKind.STATISTICS:
            return self._statistics(parts[0], parts[1], parts[2])
        return self._gradient(parts[0], float(parts[2][0]), float(parts[3][0]))

    def _statistics(self, first: NDArray[Any], second: NDArray[Any], factors: NDArray[Any]) -> Published | None:
        slack = self.cohort * 2.0 / self.encoding.levels  # a moment and its factor round apart
        possible = (
            (LEAST_FACTOR * self.cohort - slack <= factors)
            & (factors <= self.cohort + slack)
            & (np.abs(first) <= factors + slack)
            & (-slack <= second)
            & (second <= factors + slack)
        )
        if not possible.all():
            return None
        checkpoint = apply_statistics(self.task, self.checkpoint, first / factors, second / factors)
        return Published(checkpoint, state.digest(checkpoint), None, None)

    def _gradient(self, gradient: NDArray[Any], losses: float, hits: float) -> Published | None:
        rounding = math.sqrt(self.task.dimension) / self.encoding.levels
        norm = math.sqrt(float(np.dot(gradient, gradient)))
        if not norm <= self.cohort * self.task.clip * (1.0 + rounding) * (1.0 + 1e-6):
            return None
        checkpoint = apply_gradient(self.task, self.checkpoint, gradient / self.cohort)
        if not bool(np.isfinite(state.view(self.task, checkpoint)).all()):
            return None
        weights = self.cohort * self.task.batch_per_peer
        return Published(checkpoint, state.digest(checkpoint), losses / weights, hits / weights)


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge two models of one task.  Result: (checkpoint, digest)."""

    task: Task
    first: Checkpoint
    second: Checkpoint

    @property
    def cost_bytes(self) -> int:
        """Three states."""
        return 3 * len(self.first.state)

    def run(self) -> tuple[Checkpoint, Digest]:
        """Average and hash."""
        mixed = merge(self.task, self.first, self.second)
        return mixed, state.digest(mixed)


@dataclass(frozen=True, slots=True)
class Sidestep:
    """Another model of the same age: one step of usual length in a random direction.  Result: (checkpoint, digest).

    Where every peer has one record, the contributions to a round that died cannot be given again to the same model;
    at the beginning of a training there is no other one.  The step is as long as one whose mean gradient has the full
    norm ``clip``, so that the answers to the two models differ as those to two successive models do.
    """

    task: Task
    checkpoint: Checkpoint
    seed: bytes

    @property
    def cost_bytes(self) -> int:
        """The state, several times over."""
        return 4 * len(self.checkpoint.state)

    def run(self) -> tuple[Checkpoint, Digest]:
        """Draw, step and hash."""
        new = state.view(self.task, self.checkpoint).copy()
        words = expand(self.seed, self.task.dimension, 32).view("<i4")
        direction = words.astype(np.float32) + np.float32(0.5)  # never all zero
        direction /= np.sqrt(np.sum(np.square(direction, dtype=np.float64)))
        length = learning_rate(self.task, self.checkpoint.age) * self.task.clip
        new[: self.task.dimension] -= np.float32(length) * direction
        checkpoint = Checkpoint(self.checkpoint.task, self.checkpoint.age, new.tobytes())
        return checkpoint, state.digest(checkpoint)


@dataclass(frozen=True, slots=True)
class Identify:
    """Check a received model's length and finiteness and hash it.  Result: (checkpoint, digest)."""

    task: Task
    checkpoint: Checkpoint

    @property
    def cost_bytes(self) -> int:
        """One state."""
        return 2 * len(self.checkpoint.state)

    def run(self) -> tuple[Checkpoint, Digest]:
        """Raises ``Refused(WRONG_LENGTH)`` or ``ValueError`` for a model that cannot be one of the task."""
        if not bool(np.isfinite(state.view(self.task, self.checkpoint)).all()):
            raise ValueError("the model holds numbers that are not finite")
        return self.checkpoint, state.digest(self.checkpoint)
