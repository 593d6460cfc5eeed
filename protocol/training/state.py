"""The state of a model: how parameters, velocity and feature statistics lie in one float32 vector; its digest.

Neighbours: ``update`` changes it, ``peer.learning`` reads parameters and statistics from it.
Invariants: layout is ``parameters [d]``, then ``velocity [d]`` if the task has momentum, then running means of the
first and second moments of the scaled features ``[2f]`` if the task has statistics rounds; little-endian float32.
"""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import Digest, Lineage
from protocol.training.task import Task
from protocol.wire.messages import Checkpoint

Floats = NDArray[np.float32]
F32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint with its digest and the walk it came from."""

    checkpoint: Checkpoint
    digest: Digest
    walk: int
    lineage: Lineage


def state_length(task: Task) -> int:
    """Floats in a state of this task."""
    statistics = 2 * len(task.features) if task.statistics_rounds else 0
    return task.dimension * (2 if task.momentum else 1) + statistics


def state_bytes(task: Task) -> int:
    """Bytes in a state of this task."""
    return 4 * state_length(task)


def initial_state(task: Task, parameters: Floats) -> bytes:
    """State at age 0 from the model's initial parameters ``[d]``."""
    state = np.zeros(state_length(task), dtype=F32)
    state[: task.dimension] = parameters
    return state.tobytes()


def view(task: Task, checkpoint: Checkpoint) -> Floats:
    """The whole state, uncopied and read-only if the buffer is.  Raises ``Refused(WRONG_LENGTH)``."""
    if len(checkpoint.state) != state_bytes(task):
        raise Refused(Refusal.WRONG_LENGTH, "model state")
    return np.frombuffer(checkpoint.state, dtype=F32)


def parameters(task: Task, checkpoint: Checkpoint) -> Floats:
    """The parameters ``[d]``, uncopied."""
    return view(task, checkpoint)[: task.dimension]


def statistics(task: Task, checkpoint: Checkpoint) -> tuple[Floats, Floats] | None:
    """(mean, variance) of the scaled features, ``[f]`` each; None where the task has none or they are not done."""
    if not task.statistics_rounds or checkpoint.age < task.statistics_rounds:
        return None
    width = len(task.features)
    tail = view(task, checkpoint)[-2 * width :]
    mean = tail[:width]
    # moments travel in float64 and rest in float32: a negative variance here is rounding, nothing more
    variance = np.maximum(tail[width:].astype(np.float64) - np.square(mean.astype(np.float64)), 0.0)
    return mean, variance.astype(np.float32)


def fingerprint(task: Task, checkpoint: Checkpoint) -> bytes:
    """32 bytes that are equal where one record's gradient is: same columns, parameters and standardisation.

    Unlike ``digest`` it does not know the age: parameters stand still where a learning rate has become too small.
    """
    columns = "\0".join((task.schema, *task.features, task.target))
    hasher = hashlib.sha256(b"susurrus gradient v1\0" + hashlib.sha256(columns.encode()).digest())
    hasher.update(parameters(task, checkpoint).data)
    for moments in statistics(task, checkpoint) or ():
        hasher.update(np.ascontiguousarray(moments).data)
    return hasher.digest()


def digest(checkpoint: Checkpoint) -> Digest:
    """SHA-256 over task, age and state."""
    hasher = hashlib.sha256(b"susurrus model v1\0" + checkpoint.task + struct.pack("<Q", checkpoint.age))
    hasher.update(checkpoint.state)
    return Digest(hasher.digest())
