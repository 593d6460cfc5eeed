"""How many bytes a message takes on the wire, worked out without sealing it.

Neighbours: ``world`` charges the network with it; ``wire.codec`` and ``wire.envelope`` say how messages are laid out.
Invariants: equal to the length of the real envelope (X25519, no descriptor sent along); a test compares the two.
"""

from dataclasses import fields
from typing import Final

from protocol.identity.keys import SIGNATURE_BYTES, KemSuite
from protocol.wire import codec
from protocol.wire.envelope import HEADER_BYTES
from protocol.wire.messages import Gossip, GossipReply, Message, Ping, Pong

_GOSSIP_FIELDS: Final = len(fields(Gossip))
ENVELOPE_BYTES: Final = HEADER_BYTES + SIGNATURE_BYTES + KemSuite.X25519.overhead


def envelope_bytes(message: Message) -> int:
    """Bytes of the HTTP body that carries ``message``."""
    if isinstance(message, (Gossip, GossipReply)):  # a union would be made anew every time
        return ENVELOPE_BYTES + _gossip_bytes(message)
    if isinstance(message, Ping):
        return ENVELOPE_BYTES + codec.padded(_array(1) + _integer(message.nonce))
    if isinstance(message, Pong):
        return ENVELOPE_BYTES + codec.padded(_array(2) + _integer(message.nonce) + _blob(len(message.subject)))
    head, tail = codec.encode(message)
    return ENVELOPE_BYTES + len(head) + memoryview(tail).nbytes


def _gossip_bytes(message: Gossip | GossipReply) -> int:
    """Of the messages by far the most are these; the codec would take longer over one than its recipient does."""
    size = _array(_GOSSIP_FIELDS) + _integer(message.nonce)
    size += _array(len(message.descriptors))
    size += sum(map(_blob, map(len, message.descriptors)))
    size += _array(len(message.rumours))
    for rumour in message.rumours:
        size += 1 + _blob(len(rumour.peer)) + _integer(rumour.incarnation) + 1
    size += _array(len(message.heads))
    for head in message.heads:
        size += 1 + _blob(len(head.task)) + _integer(head.age) + _blob(len(head.digest)) + _integer(head.walk)
        size += _blob(len(head.lineage)) + 9
    size += _array(len(message.tasks))
    for task in message.tasks:
        size += _blob(len(task))
    return codec.padded(size)


def _integer(value: int) -> int:
    """Bytes of a non-negative msgpack integer."""
    if value < 2**7:
        return 1
    if value < 2**8:
        return 2
    if value < 2**16:
        return 3
    return 5 if value < 2**32 else 9


def _blob(length: int) -> int:
    """Bytes of a msgpack binary of this length, its header included."""
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


def _array(length: int) -> int:
    """Bytes of the header of a msgpack array."""
    return 1 if length < 16 else 3
