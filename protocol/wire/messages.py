"""Every message one peer can send another.  Tags are append-only: a tag is never reused for another meaning.

Neighbours: ``codec`` turns them into bytes and back; the machines in ``membership``, ``aggregation`` and
``training`` produce and consume them.
Invariants: frozen; at most one bulk field per message (a vector or a model state), which the codec carries as an
uncopied tail; descriptors travel as the exact bytes that their peer signed.
"""

from dataclasses import dataclass, field

from protocol.base.ids import Digest, Lineage, PeerId, RoundId, TaskId

Buffer = bytes | bytearray | memoryview
"""Bulk content: little-endian ring words (vectors) or little-endian float32 (model state)."""


# --- membership ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rumour:
    """What is said of a peer: ``state`` is ``membership.Liveness`` as a number (alive, suspect, dead, left)."""

    peer: PeerId
    incarnation: int
    state: int


@dataclass(frozen=True, slots=True)
class Head:
    """The newest model of a task that the sender holds, and the walk that it came from."""

    task: TaskId
    age: int
    digest: Digest
    walk: int
    lineage: Lineage
    heard_ago_s: float
    """Seconds since the sender last saw this walk make progress."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """One half of a push-pull exchange; a request asks for one ``GossipReply`` with the same nonce."""

    nonce: int
    descriptors: tuple[bytes, ...]
    rumours: tuple[Rumour, ...]
    heads: tuple[Head, ...]
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class GossipReply:
    """The other half; it also proves that the replier is alive."""

    nonce: int
    descriptors: tuple[bytes, ...]
    rumours: tuple[Rumour, ...]
    heads: tuple[Head, ...]
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Please ping ``target`` for me (indirect probe): ``descriptor`` is the target's."""

    nonce: int
    target: PeerId
    descriptor: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you alive?  Answered by ``Pong`` with the same nonce and the pinged peer as subject."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    """``subject`` is alive: sent by itself to a pinger, or relayed by a prober to who asked."""

    nonce: int
    subject: PeerId


@dataclass(frozen=True, slots=True)
class Leave:
    """The sender leaves cleanly, as of this incarnation."""

    incarnation: int


# --- tasks and models ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Please send these tasks."""

    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class TaskReply:
    """One task: its canonical encoding, who submitted it and that peer's signature over the encoding."""

    encoding: bytes
    submitter_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model of a task at an age: ``state`` is float32, little-endian, laid out as ``training.state`` says."""

    task: TaskId
    age: int
    state: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Please send your newest model of this task, if its age is at least ``at_least``."""

    task: TaskId
    at_least: int


@dataclass(frozen=True, slots=True)
class ModelReply:
    """The newest model the sender holds."""

    checkpoint: Checkpoint


# --- rounds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One ancestor of an invitee: its descriptor, and its signature over the hop to the next lower node.

    ``hop_signature`` is by this ancestor over ``aggregation.lineage.hop_bytes``.
    """

    descriptor: bytes
    hop_signature: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """Take part in this round as my child.  ``ancestors``: nearest (the sender) first, up to S of them."""

    round: RoundId
    task: TaskId
    kind: int
    """``training.task.RoundKind`` as a number: feature statistics, or a gradient."""
    age: int
    digest: Digest
    collusion_threshold: int
    minimum_cohort: int
    branching: int
    depth: int
    """Of the invitee; the root is at 0."""
    cap: int
    """Most contributions that the invitee's subtree may hold."""
    cohort_cap: int
    """Most contributions that the whole round may hold: fixes the fixed-point scale."""
    budget_s: float
    """Seconds, from receipt, within which the invitee's partial must be at the sender."""
    slice_low: int
    slice_high: int
    """The half-open interval of ring positions from which the invitee draws its own children."""
    walk: int
    lineage: Lineage
    ancestors: tuple[Ancestor, ...]
    state: Buffer = field(default=b"", repr=False)
    """The model itself when it is small, else empty."""


@dataclass(frozen=True, slots=True)
class Accept:
    """I take part; ``need_state``: send me the model (I do not hold its digest)."""

    round: RoundId
    need_state: bool


@dataclass(frozen=True, slots=True)
class Decline:
    """I do not take part; ``reason`` is ``aggregation.phases.DeclineReason`` as a number."""

    round: RoundId
    reason: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """The model that an accepted invitee asked for."""

    round: RoundId
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class SealedSeed:
    """A mask seed of ``contributor``, sealed to the trustee that its hop group names."""

    contributor: PeerId
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Partial:
    """A subtree's masked sum.  ``seeds[h]`` are addressed to the ancestor ``h + 1`` hops above the sender."""

    round: RoundId
    cohort: int
    """Contributions inside ``vector``."""
    min_neighbours: int
    """Fewest mask neighbours of any contribution inside."""
    seeds: tuple[tuple[SealedSeed, ...], ...]
    vector: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class Abstain:
    """My subtree sends nothing in this round; ``reason`` is ``aggregation.phases.AbstainReason``."""

    round: RoundId
    reason: int


# --- walks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Walk:
    """You are the next root: continue this walk from this model.  ``retry``: its last round published nothing."""

    nonce: int
    walk: int
    lineage: Lineage
    retry: bool
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class WalkAck:
    """I carry the walk on (``accepted``) or cannot."""

    nonce: int
    accepted: bool


Message = (
    Gossip
    | GossipReply
    | ProbeRequest
    | Ping
    | Pong
    | Leave
    | TaskRequest
    | TaskReply
    | ModelRequest
    | ModelReply
    | Offer
    | Accept
    | Decline
    | Parameters
    | Partial
    | Abstain
    | Walk
    | WalkAck
)
