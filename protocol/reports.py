"""What a node tells people: items of ``effects.Report``, for logs, metrics, history and recordings.

Neighbours: every machine makes them, ``peer.driver`` hands them to ``peer.observe``, ``peer.storage`` and
``peer.audit``.
Invariants: no secret and no record's value in any of them, but ``Recorded``, which exists for public data alone.
"""

from dataclasses import dataclass

from protocol.base.errors import Refusal
from protocol.base.ids import Lineage, PeerId, RoundId, TaskId
from protocol.privacy.record import RoundRecord
from protocol.training.task import RoundKind, Task


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round that this peer started as root has ended."""

    round: RoundId
    task: TaskId
    kind: RoundKind
    age: int
    """Of the model that the round started from."""
    walk: int
    started: float
    finished: float
    planned: int
    cohort: int
    published: bool
    reason: str
    """Why nothing was published; empty otherwise."""
    loss: float | None
    accuracy: float | None
    min_mask_neighbours: int


@dataclass(frozen=True, slots=True)
class Contributed:
    """This peer's contribution left in a partial to its parent."""

    round: RoundId
    task: TaskId
    cohort: int
    neighbours: int


@dataclass(frozen=True, slots=True)
class Abstained:
    """This peer took part in a round and sends nothing."""

    round: RoundId
    task: TaskId
    reason: str


@dataclass(frozen=True, slots=True)
class Declined:
    """This peer declined an offer."""

    round: RoundId
    by: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line for the audit recording (public data only)."""

    record: RoundRecord


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """An authentic message was refused by the machine it was meant for."""

    sender: PeerId
    kind: str
    reason: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class ModelAdvanced:
    """The newest model this peer holds is a newer one now."""

    task: TaskId
    age: int


@dataclass(frozen=True, slots=True)
class TaskDropped:
    """A task of which nothing more was to come has made room for another."""

    task: Task


@dataclass(frozen=True, slots=True)
class TaskAdopted:
    """This peer holds a task that it did not hold before; ``refused``: why it will not take part, or None."""

    task: Task
    refused: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A walk waits here because too few peers are alive."""

    task: TaskId
    missing: int


@dataclass(frozen=True, slots=True)
class WalkStarted:
    """A walk was started or revived here."""

    task: TaskId
    walk: int
    lineage: Lineage
    revived: bool


Item = (
    RoundEnded
    | Contributed
    | Abstained
    | Declined
    | Recorded
    | MessageRefused
    | ModelAdvanced
    | TaskAdopted
    | TaskDropped
    | Waiting
    | WalkStarted
)
