"""The state of one round at one node, and of its children's places; how a round has ended at its root.

Neighbours: ``machine`` is the only one to change it.
Invariants: ``accumulator`` is touched by one job at a time (``busy``); after ``Phase.GATHERING`` the set of delivered
children never changes; ``offer`` and ``parent`` are None exactly at the root.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from protocol.aggregation.jobs import Accumulator
from protocol.aggregation.phases import Phase, Place
from protocol.aggregation.seeds import Groups
from protocol.base.ids import Digest, Lineage, PeerId, RoundId, TaskId
from protocol.identity.descriptor import Descriptor
from protocol.masking.ring import Encoding
from protocol.privacy.guard import mask_neighbours, may_contribute
from protocol.privacy.record import RoundRecord
from protocol.training.state import Model
from protocol.training.task import RoundKind, Task
from protocol.training.update import Published
from protocol.wire.messages import Buffer, Checkpoint, Offer
from protocol.work import Job, RoundStep, RoundWork


@dataclass(slots=True)
class Child:
    """One child's place: how large its subtree may be, from which slice it is invited, who sits there."""

    cap: int
    low: int
    high: int
    place: Place = Place.EMPTY
    peer: Descriptor | None = None
    answer_by: float = 0.0
    attempts: int = 0
    cohort: int = 0
    min_neighbours: int = 0
    seeds: Groups = ()
    opened: int = 0

    @property
    def settled(self) -> bool:
        """Nothing more will come from this place."""
        return self.place in (Place.DELIVERED, Place.GONE)


@dataclass(slots=True)
class Recording:
    """What an audit line needs beyond the round's own state; filled only for public data."""

    value: Buffer | None = None
    masks: dict[PeerId, Buffer] = field(default_factory=dict)
    opened: dict[PeerId, Buffer] = field(default_factory=dict)
    received: dict[PeerId, Buffer] = field(default_factory=dict)


@dataclass(slots=True)
class Round:
    """One round at one node."""

    id: RoundId
    task: Task
    kind: RoundKind
    age: int
    digest: Digest
    walk: int
    lineage: Lineage
    depth: int
    cap: int
    cohort_cap: int
    encoding: Encoding
    started: float
    deadline: float
    """When this node freezes, whatever has come by then."""
    offer: Offer | None = None
    parent: Descriptor | None = None
    ancestors: tuple[Descriptor, ...] = ()
    checkpoint: Checkpoint | None = None
    children: list[Child] = field(default_factory=list)
    wanting: list[Descriptor] = field(default_factory=list)
    """Children that asked for the model before it was here."""
    accumulator: Accumulator | None = None
    jobs: deque[tuple[RoundStep, int, Job]] = field(default_factory=deque)
    busy: bool = False
    outstanding: set[RoundWork] = field(default_factory=set)
    """Jobs that have been asked for and are not back."""
    own_added: bool = False
    masks: tuple[bytes, ...] = field(default=(), repr=False)
    """The seeds of the masks that the own contribution is added under: one for each of ``trustees``."""
    closing: bool = False
    """The deadline has passed: only work under way is waited for."""
    uses: tuple[bytes, ...] = ()
    """What the own contribution uses up for ever (``uses``); empty where it comes from a fresh sample."""
    phase: Phase = Phase.GATHERING
    recording: Recording | None = None
    tried: set[PeerId] = field(default_factory=set)
    positions: dict[PeerId, int] = field(default_factory=dict)
    """Where members stand in this round's ring, as far as that was asked for."""

    @property
    def threshold(self) -> int:
        """S."""
        return self.task.collusion_threshold

    @property
    def trustees(self) -> tuple[Descriptor, ...]:
        """Whom the own contribution's masks are for: the ancestors 2..S, nearest first."""
        return self.ancestors[1 : self.threshold]

    @property
    def delivered(self) -> list[Child]:
        """Children whose partials are inside the accumulator."""
        return [child for child in self.children if child.place is Place.DELIVERED]

    @property
    def cohort(self) -> int:
        """Contributions that combining now would hold, the own one included."""
        return 1 + sum(child.cohort for child in self.delivered)

    @property
    def neighbours(self) -> int:
        """Mask neighbours of the own contribution, counted from what is delivered."""
        down = self.delivered
        return mask_neighbours(self.depth, self.threshold, len(down), sum(child.opened for child in down))

    @property
    def allowed(self) -> bool:
        """The contribution rule, for what is delivered."""
        down = self.delivered
        return may_contribute(self.depth, self.threshold, len(down), sum(child.opened for child in down))

    @property
    def min_neighbours(self) -> int:
        """Fewest mask neighbours of any contribution inside."""
        return min([self.neighbours, *(child.min_neighbours for child in self.delivered)])

    @property
    def model(self) -> Model:
        """The model that the round starts from, where it is held (always at the root)."""
        assert self.checkpoint is not None, "whoever asks has the model"
        return Model(self.checkpoint, self.digest, self.walk, self.lineage)

    def next_deadline(self) -> tuple[float, str]:
        """When time alone will change something here, and what; infinity if never."""
        best, why = float("inf"), "no deadline"
        if self.phase is not Phase.GATHERING:
            return best, why
        if not self.closing:
            best, why = self.deadline, "round deadline"
        for child in self.children:
            if child.place is Place.CALLING and child.answer_by < best:
                best, why = child.answer_by, "answer to an offer"
        return best, why

    def sum(self) -> Accumulator:
        """The accumulator, made at its first use."""
        if self.accumulator is None:
            self.accumulator = Accumulator(self.encoding)
        return self.accumulator

    def vector(self) -> NDArray[Any]:
        """What has been added up."""
        total = self.sum()
        assert not total.empty, "a node adds its own contribution before it looks at the sum"
        return total.vector

    def child_of(self, peer: PeerId) -> Child | None:
        """The place in which ``peer`` sits."""
        for child in self.children:
            if child.peer is not None and child.peer.peer == peer:
                return child
        return None

    def elsewhere(self, own: PeerId, child: Child) -> set[PeerId]:
        """Whoever is known to take part in this round (``own``: this peer) outside of ``child``'s subtree."""
        found = {own, *(ancestor.peer for ancestor in self.ancestors)}
        for other in self.children:
            if other is not child and other.place in (Place.JOINED, Place.ABSORBING, Place.DELIVERED):
                found |= {other.peer.peer} if other.peer is not None else set()
                found |= {seed.contributor for group in other.seeds for seed in group}
        return found

    def record(self, own: PeerId, *, sent: bytes | None, total: bytes | None, published: bool) -> RoundRecord:
        """What this node held and saw of this round, as an auditor reads it."""
        recording = self.recording or Recording()
        combined = sent is not None or total is not None
        return RoundRecord(
            round=self.id,
            peer=own,
            parent=self.parent.peer if self.parent is not None else None,
            ancestors=tuple(a.peer for a in self.ancestors),
            collusion_threshold=self.threshold,
            modulus_bits=self.encoding.modulus_bits,
            contributed=combined,
            sent=sent is not None,
            children=tuple(c.peer.peer for c in self.delivered if c.peer is not None) if combined else (),
            value=recording.value,
            masks=recording.masks,
            opened=recording.opened,
            received=recording.received,
            sent_vector=sent,
            cohort=self.cohort if combined else 0,
            total=total,
            published=published,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round that this peer started as root has ended; ``published`` is None if nothing was."""

    task: TaskId
    model: Model
    """The model that the round started from."""
    published: Published | None
