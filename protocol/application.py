"""The port to the user's side: what the protocol asks of whoever holds the records.

Neighbours: ``peer.learning`` implements it in the daemon, tests and the simulator implement it with toys;
``aggregation`` and ``training`` call it.
Invariants: nothing here reveals a record; a contribution leaves only through the round machine, encoded and masked.
"""

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol

from numpy.typing import NDArray

from protocol.masking.ring import Section
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint
from protocol.work import Job


class Freshness(Enum):
    """What the records bound to a task allow."""

    NONE = "no records are bound to this task's schema"
    FRESH = "every contribution is computed from a newly drawn sample"
    DETERMINISTIC = "there is one distinct record: one task may be served, and each of its models answered once"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One peer's share of a round before encoding: one float array per section of the round's encoding."""

    values: tuple[NDArray[Any], ...] = field(repr=False)


class Application(Protocol):
    """The records, the model and the will of this peer's user."""

    def freshness(self, task: Task) -> Freshness:
        """Whether this peer can contribute to ``task``."""
        ...

    def accepts(self, task: Task, submitter_key: bytes) -> str | None:
        """None if the user agrees to take part, else one human sentence why not."""
        ...

    def adopted(self, task: Task) -> None:
        """An accepted task is held from now on."""
        ...

    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> Job:
        """A job whose result is a ``Contribution`` with sections as ``sections_of(task, kind)``."""
        ...

    def gate(self) -> str | None:
        """None while this peer may take part, else one human sentence (power, network, hours)."""
        ...


@lru_cache(maxsize=16)
def sections_of(task: Task, kind: RoundKind) -> tuple[Section, ...]:
    """The sections of a round's vector, each with its own bound.

    Gradient rounds: the clipped mean gradient (``dimension``), weight, loss, hits.  Statistics rounds: first and second
    moments of the scaled features, each feature's times a random factor, and the factors (``len(features)`` each),
    weight.
    """
    weight = Section(1, float(task.batch_per_peer))
    if kind is RoundKind.STATISTICS:
        column_wise = Section(len(task.features), 1.0)
        return (column_wise, column_wise, column_wise, weight)
    loss = Section(1, task.loss_bound * task.batch_per_peer)
    return (Section(task.dimension, task.clip), weight, loss, weight)


def modulus_of(task: Task, kind: RoundKind) -> int:
    """Ring width of a round: the task's, but at least 32 bits for statistics (variances need the digits)."""
    return max(task.modulus_bits, 32) if kind is RoundKind.STATISTICS else task.modulus_bits
