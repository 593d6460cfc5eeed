"""What a deterministic contribution (of a peer with one distinct record) uses up: the same value never leaves twice.

Neighbours: ``machine`` asks before it enters a round and before it contributes, ``combining`` has the keys persisted
before anything is seen outside; ``training.state`` says on what a gradient depends.
Invariants: the first task that a record answers has it, alone among the tasks of its schema: another one may ask the
same under other names, in another order, or in ways that no key can tell.  Homes hold keys of earlier versions: their
form stays.
"""

from dataclasses import dataclass

from protocol.base.ids import Digest
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint


def binding(task: Task) -> tuple[bytes, bytes]:
    """That a schema's record serves some task, and that it serves this one: the first without the second means another.

    Both are used up together.  Nothing but these keys has to be looked up, however many others there are.
    """
    return b"schema" + task.schema.encode(), b"task" + task.id


def keys_of(task: Task, kind: RoundKind, model: Digest) -> tuple[bytes, ...]:
    """What is known from the offer alone: the model's digest, or every column whose moments are summed."""
    if kind is RoundKind.GRADIENT:
        return (b"model" + model,)
    schema = task.schema.encode() + b"\0"
    return tuple(b"statistics" + schema + column.encode() for column in task.features)


@dataclass(frozen=True, slots=True)
class Question:
    """Works out the key of a gradient at these very parameters, at whatever age.  Result: the key."""

    task: Task
    checkpoint: Checkpoint

    @property
    def cost_bytes(self) -> int:
        """One state."""
        return len(self.checkpoint.state)

    def run(self) -> bytes:
        """Hash."""
        return b"parameters" + state.fingerprint(self.task, self.checkpoint)
