"""What a deterministic contribution (of a peer with one record) uses up: the same value never leaves twice.

Neighbours: ``machine`` asks before it enters a round and before it contributes, ``combining`` has the keys persisted
before anything is seen outside; ``training.state`` says on what a gradient depends.
Invariants: keys name what fixes the value, not the task: a model under another task's name, or a column in another
task's list of features, is still the same question.
"""

from dataclasses import dataclass

from protocol.base.ids import Digest
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint


def keys_of(task: Task, kind: RoundKind, model: Digest) -> tuple[bytes, ...]:
    """What is known from the offer alone: the model's digest, or every column whose moments are summed."""
    if kind is RoundKind.GRADIENT:
        return (b"model" + model,)
    schema = task.schema.encode() + b"\0"
    return tuple(b"statistics" + schema + column.encode() for column in task.features)


@dataclass(frozen=True, slots=True)
class Question:
    """Works out the key of a gradient at these very parameters, under whatever task.  Result: the key."""

    task: Task
    checkpoint: Checkpoint

    @property
    def cost_bytes(self) -> int:
        """One state."""
        return len(self.checkpoint.state)

    def run(self) -> bytes:
        """Hash."""
        return b"parameters" + state.fingerprint(self.task, self.checkpoint)
