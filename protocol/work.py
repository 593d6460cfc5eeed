"""Work that is never done on the event loop, because it costs O(d): what it is, and what it was for.

Neighbours: the machines make it, ``effects.Work`` asks for it, ``events.WorkDone`` and ``WorkFailed`` bring it back.
Invariants: a job is pure given its fields; the purpose that comes back is the one that went out, and alone tells the
machine where to go on.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from protocol.base.ids import NO_LINEAGE, Digest, Lineage, RoundId, TaskId


class Job(Protocol):
    """Work of O(d) or more: pure given its fields, run in a thread by the driver or inline by a simulator."""

    @property
    def cost_bytes(self) -> int:
        """About how many bytes it touches: below a threshold a driver may run it inline."""
        ...

    def run(self) -> Any:
        """Do it; what it returns comes back in ``events.WorkDone``.  An exception becomes ``WorkFailed``."""
        ...


RoundStep = Literal["identify", "question", "contribute", "own", "absorb", "seal", "publish"]
WalkStep = Literal["received", "merged"]
ModelStep = Literal["introduced", "restored", "pulled"]


@dataclass(frozen=True, slots=True)
class RoundWork:
    """A step of a round; ``place`` is the index of the child it is about, -1 if it is about none."""

    round: RoundId
    step: RoundStep
    place: int = -1


@dataclass(frozen=True, slots=True)
class WalkWork:
    """A walk's model is identified (``received``) or merged with the one that stands here."""

    task: TaskId
    step: WalkStep
    walk: int
    lineage: Lineage
    retry: bool


@dataclass(frozen=True, slots=True)
class ModelWork:
    """A model that came without a walk is identified; ``step`` tells where from."""

    task: TaskId
    step: ModelStep
    walk: int = 0
    lineage: Lineage = NO_LINEAGE
    announced: Digest | None = None
    """What was asked for."""
    seen: float = 0.0
    """When its walk was last seen to make progress, as its head said."""


Purpose = RoundWork | WalkWork | ModelWork
