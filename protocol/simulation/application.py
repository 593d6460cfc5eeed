"""The user's side of a simulated peer: contributes noise, agrees to every task.

Neighbours: ``world`` gives one to each node; ``peer.laboratory`` has one that learns from real records.
Invariants: a contribution is within the task's bounds and of weight exactly ``batch_per_peer``, as a real one.
"""

from dataclasses import dataclass

import numpy as np

from protocol.application import Contribution, Freshness, sections_of
from protocol.base.entropy import SeededEntropy
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint
from protocol.work import Job


@dataclass(frozen=True, slots=True)
class Noise:
    """The job: fresh random vectors, one for each section."""

    task: Task
    kind: RoundKind
    seed: bytes

    @property
    def cost_bytes(self) -> int:
        """As if every record of the batch were read once, in float32."""
        return 4 * self.task.dimension * self.task.batch_per_peer

    def run(self) -> Contribution:
        """Draw."""
        random = np.random.Generator(np.random.PCG64(int.from_bytes(self.seed, "little")))
        parts = []
        for section in sections_of(self.task, self.kind):
            part = random.uniform(-1, 1, section.length)
            parts.append(part * section.bound / max(1.0, float(np.linalg.norm(part))))
        if self.kind is RoundKind.STATISTICS:
            parts[1], parts[2] = np.square(parts[0]), np.ones_like(parts[0])
        parts[1 if self.kind is RoundKind.GRADIENT else 3][:] = self.task.batch_per_peer
        return Contribution(tuple(parts))


class NoiseApplication:
    """One peer's.  ``fresh``: what its records allow; ``closed``: why its gate is closed, or None."""

    def __init__(self, entropy: SeededEntropy, fresh: Freshness = Freshness.FRESH) -> None:
        self.fresh = fresh
        self.closed: str | None = None
        self.refusal: str | None = None
        self._entropy = entropy

    def freshness(self, task: Task) -> Freshness:
        """The same for every task."""
        return self.fresh

    def accepts(self, task: Task, submitter_key: bytes) -> str | None:
        """The same for every task."""
        return self.refusal

    def adopted(self, task: Task) -> None:
        """Nothing."""

    def gate(self) -> str | None:
        """Open unless ``closed`` says why not."""
        return self.closed

    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> Job:
        """Fresh noise."""
        return Noise(task, kind, self._entropy.token(16))
