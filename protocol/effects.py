"""All that a node may ask its driver for.  Imperative; the counterpart of ``events`` (what has happened).

Neighbours: the machines and ``node`` return them, ``peer.driver`` and the simulator carry them out.
Invariants: a list of effects is carried out in order; what stands after a ``Persist`` happens only once that is
durable (durable before visible).  ``Work`` is whatever costs O(d): never done on the event loop.
"""

from dataclasses import dataclass
from typing import Any

from protocol.base.ids import RoundId, TaskId
from protocol.identity.descriptor import Descriptor
from protocol.wire.messages import Checkpoint, Message
from protocol.work import Job, Purpose


@dataclass(frozen=True, slots=True)
class Send:
    """Seal ``message`` to ``to`` and send it.  A failure comes back as ``events.SendFailed``."""

    to: Descriptor
    message: Message
    ttl_s: float = 30.0


@dataclass(frozen=True, slots=True)
class PersistRound:
    """Remember durably that this peer has entered a round (until ``expires``, Unix seconds): it never does again."""

    round: RoundId
    expires: float


@dataclass(frozen=True, slots=True)
class PersistUse:
    """Remember durably, for ever and all at once, what a deterministic contribution has answered and for whom."""

    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PersistIdentity:
    """Remember durably that a descriptor with this incarnation and KEM epoch was signed: later ones lie above both."""

    incarnation: int
    kem_epoch: int


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """Keep this model as the newest; need not be durable at once, a later one replaces it."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class SaveTask:
    """Keep this task durably: canonical encoding, submitter's key and signature."""

    encoding: bytes
    submitter_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class DropTask:
    """Forget this task and its model, to make room for another; what contributions were made to it stays known."""

    task: TaskId
    encoding: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """Run ``job``; its result comes back as ``events.WorkDone`` with the same purpose."""

    purpose: Purpose
    job: Job


@dataclass(frozen=True, slots=True)
class Report:
    """Something worth telling people (logs, metrics, history): ``item`` is one of ``protocol.reports``."""

    item: Any


@dataclass(frozen=True, slots=True)
class Dial:
    """Ask the seeds for their descriptors: this node knows nobody who is alive."""


Effect = (
    Send | PersistRound | PersistUse | PersistIdentity | SaveCheckpoint | SaveTask | DropTask | Work | Report | Dial
)
