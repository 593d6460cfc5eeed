"""All that can happen to a node.  Past tense; the counterpart of ``effects`` (what a node may ask for).

Neighbours: ``peer.driver`` and the simulator make them, ``node.Node.handle`` takes them.
Invariants: frozen; a ``MessageReceived`` has passed the envelope and the codec, so its types are trusted and its
sender is an authenticated member.
"""

from dataclasses import dataclass
from typing import Any

from protocol.base.ids import PeerId
from protocol.identity.descriptor import Descriptor
from protocol.training.task import SignedTask
from protocol.wire.messages import Message
from protocol.work import Purpose


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A sealed, authentic message of a member arrived."""

    sender: Descriptor
    message: Message


@dataclass(frozen=True, slots=True)
class SendFailed:
    """A message could not be delivered (refused connection, time-out, refused by the recipient)."""

    to: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class WorkDone:
    """A ``Work`` effect finished."""

    purpose: Purpose
    result: Any


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """A ``Work`` effect raised."""

    purpose: Purpose
    error: Exception


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline that ``next_deadline`` named has come."""


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A seed answered with its descriptor."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class TaskIntroduced:
    """The user of this peer introduces a task: its first model is ``state``, its walks start here."""

    task: SignedTask
    state: bytes


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """This peer can now be reached at these addresses (``host:port``)."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopping:
    """This peer is about to leave: hand over what it holds."""


Event = (
    MessageReceived
    | SendFailed
    | WorkDone
    | WorkFailed
    | TimePassed
    | PeerFound
    | TaskIntroduced
    | AddressesChanged
    | Stopping
)
