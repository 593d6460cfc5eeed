"""The phases of a round at one node, and of one child's place, as tables; and the reasons for saying no.

Neighbours: ``machine`` moves through them with ``advance``; SPEC.md shows the same tables and a test compares.
Invariants: a move that is not in the table is a bug of ours and raises ``AssertionError``, never a peer's doing.
"""

from enum import Enum, IntEnum
from typing import TypeVar


class Phase(Enum):
    """Of a round at one node."""

    GATHERING = "gathering"
    """Inviting, computing the own contribution, absorbing partials."""
    COMBINING = "combining"
    """Frozen: the set of partials is fixed, the last work is under way."""
    SENT = "sent"
    PUBLISHED = "published"
    ABSTAINED = "abstained"
    """Ended with nothing sent (at the root: nothing published)."""


class Place(Enum):
    """Of one child's place under a node."""

    EMPTY = "empty"
    CALLING = "calling"
    """An offer is out."""
    JOINED = "joined"
    ABSORBING = "absorbing"
    """Its partial is here, seeds being opened."""
    DELIVERED = "delivered"
    GONE = "gone"


PHASES: dict[Phase, tuple[Phase, ...]] = {
    Phase.GATHERING: (Phase.COMBINING, Phase.ABSTAINED),
    Phase.COMBINING: (Phase.SENT, Phase.PUBLISHED, Phase.ABSTAINED),
    Phase.SENT: (),
    Phase.PUBLISHED: (),
    Phase.ABSTAINED: (),
}
PLACES: dict[Place, tuple[Place, ...]] = {
    Place.EMPTY: (Place.CALLING, Place.GONE),
    Place.CALLING: (Place.EMPTY, Place.JOINED, Place.GONE),
    Place.JOINED: (Place.ABSORBING, Place.GONE),
    Place.ABSORBING: (Place.DELIVERED, Place.GONE),
    Place.DELIVERED: (),
    Place.GONE: (),
}

P = TypeVar("P", Phase, Place)


def advance(now: P, then: P) -> P:
    """``then``, if the table allows the move."""
    allowed: tuple[Enum, ...] = PHASES[now] if isinstance(now, Phase) else PLACES[now]
    assert then in allowed, f"no move from {now.name} to {then.name}"
    return then


class DeclineReason(IntEnum):
    """Why an invitee does not take part."""

    ALREADY_IN_ROUND = 0
    BUSY = 1
    UNKNOWN_TASK = 2
    TASK_REFUSED = 3
    NO_RECORDS = 4
    NO_FRESH_RECORDS = 5
    BAD_ANCESTORS = 6
    BAD_SHAPE = 7
    TOO_LATE = 8
    GATE_CLOSED = 9
    LEAVING = 10

    @property
    def sentence(self) -> str:
        """The reason for people."""
        return _DECLINE[self]


class AbstainReason(IntEnum):
    """Why a node sends no partial, or a root publishes nothing."""

    TOO_FEW_NEIGHBOURS = 0
    NO_CONTRIBUTION = 1
    NO_PARAMETERS = 2
    PARENT_LOST = 3
    COHORT_TOO_SMALL = 4
    SUM_REJECTED = 5
    LEAVING = 6
    WORK_FAILED = 7

    @property
    def sentence(self) -> str:
        """The reason for people."""
        return _ABSTAIN[self]


_DECLINE = {
    DeclineReason.ALREADY_IN_ROUND: "already takes part in this round",
    DeclineReason.BUSY: "takes part in too many rounds at once",
    DeclineReason.UNKNOWN_TASK: "does not hold this task yet",
    DeclineReason.TASK_REFUSED: "its user does not agree to this task",
    DeclineReason.NO_RECORDS: "has no records for this task",
    DeclineReason.NO_FRESH_RECORDS: "has one distinct record, which has answered this model or serves another task",
    DeclineReason.BAD_ANCESTORS: "the ancestors in the offer are not distinct members with valid signatures",
    DeclineReason.BAD_SHAPE: "the offer contradicts its task",
    DeclineReason.TOO_LATE: "the time left is too short",
    DeclineReason.GATE_CLOSED: "does not take part at the moment (power, network or hours)",
    DeclineReason.LEAVING: "is leaving the network",
}
_ABSTAIN = {
    AbstainReason.TOO_FEW_NEIGHBOURS: "fewer mask neighbours than the collusion threshold asks for",
    AbstainReason.NO_CONTRIBUTION: "the own contribution was not ready in time",
    AbstainReason.NO_PARAMETERS: "the model did not arrive, or was not the one announced",
    AbstainReason.PARENT_LOST: "the parent could not be reached",
    AbstainReason.COHORT_TOO_SMALL: "fewer contributions than the minimum cohort",
    AbstainReason.SUM_REJECTED: "the sum lies outside what its contributions allow",
    AbstainReason.LEAVING: "the peer was leaving",
    AbstainReason.WORK_FAILED: "an error of its own stopped the peer",
}
