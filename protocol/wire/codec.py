"""Messages to bytes and back: the one door for bytes from strangers.

    offset  bytes  what
    0       4      length n of the head, little-endian
    4       1      tag: the kind of message (append-only; see ``_KINDS``)
    5       3      zero
    8       n      head: msgpack array of the message's fields in order, without the bulk
    8 + n   ...    zero, up to a multiple of 16
    ...     rest   the bulk (a vector or a model state), for the kinds that carry one

Neighbours: ``messages`` are what goes in and comes out, ``envelope`` seals the result, ``identity.fields`` holds
the combinators.
Invariants: ``decode`` raises ``Refused`` and nothing else, allocates a small multiple of its input at most, and
never copies the bulk (which starts at a multiple of 16 bytes, so that an array can lie on it); after it, types,
lengths, counts and ranges are as ``_KINDS`` says and every float is finite.  ``encode`` holds our own messages to the
same table: what it lets out, every peer can read.
"""

import struct
from dataclasses import dataclass
from typing import Any

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import DIGEST_BYTES, ID_BYTES, LINEAGE_BYTES
from protocol.base.limits import (
    MAX_BODY,
    MAX_BRANCHING,
    MAX_BUDGET_S,
    MAX_COHORT,
    MAX_COLLUSION_THRESHOLD,
    MAX_CONTROL_BODY,
    MAX_DEPTH,
    MAX_DESCRIPTOR,
    MAX_GOSSIP_DESCRIPTORS,
    MAX_HEADS,
    MAX_INLINE_STATE,
    MAX_RUMOURS,
    MAX_SEALED_SEED,
    MAX_SEEDS_PER_HOP,
    MAX_TASK,
    MAX_TASKS,
    MAX_WALKS,
)
from protocol.identity import fields as f
from protocol.identity.keys import KEY_BYTES, SIGNATURE_BYTES, KemSuite
from protocol.identity.sealing import SEED_BYTES
from protocol.wire import messages as m
from protocol.wire.messages import Buffer, Message

ALIGNMENT = 16
"""The bulk starts at a multiple of this; so does the payload of a bytes object in memory."""

_PREFIX = struct.Struct("<IB3x")
_MAX_AGE = 2**53
_MAX_AGO_S = 1e9
_MAX_STATE = MAX_BODY
_WORD = 2
"""Bytes of the shortest ring word; the round machine knows the exact length, the codec does not."""
_FLOAT = 4
_LIVENESS = 3
"""``membership.Liveness``: alive, suspect, dead, left."""
_REASONS = 255
"""Room for reasons that a newer peer knows; they are told to people and decide nothing."""

_ID = f.fixed(ID_BYTES)
_DIGEST = f.fixed(DIGEST_BYTES)
_LINEAGE = f.fixed(LINEAGE_BYTES)
_NONCE = f.integer(0, f.U64)
_AGE = f.integer(0, _MAX_AGE)
_WALK = f.integer(0, MAX_WALKS)
_INCARNATION = f.integer(0, f.U63)
_POSITION = f.integer(0, 2**63)
_COUNT = f.integer(1, MAX_COHORT)
_DESCRIPTOR = f.blob(1, MAX_DESCRIPTOR)
_TASK_IDS = f.array(_ID, 0, MAX_TASKS)

_RUMOUR = f.record(m.Rumour, _ID, _INCARNATION, f.integer(0, _LIVENESS))
_HEAD = f.record(m.Head, _ID, _AGE, _DIGEST, _WALK, _LINEAGE, f.number(0.0, _MAX_AGO_S))
_EXCHANGE = (
    _NONCE,
    f.array(_DESCRIPTOR, 0, MAX_GOSSIP_DESCRIPTORS),
    f.array(_RUMOUR, 0, MAX_RUMOURS),
    f.array(_HEAD, 0, MAX_HEADS),
    _TASK_IDS,
)
_CHECKPOINT = f.record(m.Checkpoint, _ID, _AGE, f.bulk(_FLOAT, _FLOAT, _MAX_STATE))
_ANCESTOR = f.record(m.Ancestor, _DESCRIPTOR, f.fixed(SIGNATURE_BYTES))
_SEALED_SEED = f.record(m.SealedSeed, _ID, f.blob(SEED_BYTES + KemSuite.X25519.overhead, MAX_SEALED_SEED))
_OFFER = f.record(
    m.Offer,
    _ID,
    _ID,
    f.integer(0, 1),
    _AGE,
    _DIGEST,
    f.integer(2, MAX_COLLUSION_THRESHOLD),
    _COUNT,
    f.integer(1, MAX_BRANCHING),
    f.integer(1, MAX_DEPTH),
    _COUNT,
    _COUNT,
    f.number(0.0, MAX_BUDGET_S),
    _POSITION,
    _POSITION,
    _WALK,
    _LINEAGE,
    f.array(_ANCESTOR, 1, MAX_COLLUSION_THRESHOLD),
    f.bulk(_FLOAT, 0, MAX_INLINE_STATE),
)
_PARTIAL = f.record(
    m.Partial,
    _ID,
    _COUNT,
    f.integer(0, MAX_COHORT),
    f.array(f.array(_SEALED_SEED, 0, MAX_SEEDS_PER_HOP), 0, MAX_COLLUSION_THRESHOLD),
    f.bulk(_WORD, _WORD, MAX_BODY),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One row of the table: ``limit`` is the most bytes of a plaintext of this kind."""

    tag: int
    cls: type
    field: f.Field[Any]
    limit: int


_KINDS = (
    _Kind(1, m.Gossip, f.record(m.Gossip, *_EXCHANGE), MAX_CONTROL_BODY),
    _Kind(2, m.GossipReply, f.record(m.GossipReply, *_EXCHANGE), MAX_CONTROL_BODY),
    _Kind(3, m.ProbeRequest, f.record(m.ProbeRequest, _NONCE, _ID, _DESCRIPTOR), MAX_CONTROL_BODY),
    _Kind(4, m.Ping, f.record(m.Ping, _NONCE), MAX_CONTROL_BODY),
    _Kind(5, m.Pong, f.record(m.Pong, _NONCE, _ID), MAX_CONTROL_BODY),
    _Kind(6, m.Leave, f.record(m.Leave, _INCARNATION), MAX_CONTROL_BODY),
    _Kind(16, m.TaskRequest, f.record(m.TaskRequest, f.array(_ID, 1, MAX_TASKS)), MAX_CONTROL_BODY),
    _Kind(
        17,
        m.TaskReply,
        f.record(m.TaskReply, f.blob(1, MAX_TASK), f.fixed(KEY_BYTES), f.fixed(SIGNATURE_BYTES)),
        MAX_CONTROL_BODY,
    ),
    _Kind(18, m.ModelRequest, f.record(m.ModelRequest, _ID, f.integer(-1, _MAX_AGE)), MAX_CONTROL_BODY),
    _Kind(19, m.ModelReply, f.record(m.ModelReply, _CHECKPOINT), MAX_BODY),
    _Kind(32, m.Offer, _OFFER, MAX_CONTROL_BODY),
    _Kind(33, m.Accept, f.record(m.Accept, _ID, f.FLAG), MAX_CONTROL_BODY),
    _Kind(34, m.Decline, f.record(m.Decline, _ID, f.integer(0, _REASONS)), MAX_CONTROL_BODY),
    _Kind(35, m.Parameters, f.record(m.Parameters, _ID, _CHECKPOINT), MAX_BODY),
    _Kind(36, m.Partial, _PARTIAL, MAX_BODY),
    _Kind(37, m.Abstain, f.record(m.Abstain, _ID, f.integer(0, _REASONS)), MAX_CONTROL_BODY),
    _Kind(48, m.Walk, f.record(m.Walk, _NONCE, _WALK, _LINEAGE, f.FLAG, _CHECKPOINT), MAX_BODY),
    _Kind(49, m.WalkAck, f.record(m.WalkAck, _NONCE, f.FLAG), MAX_CONTROL_BODY),
)
_BY_TAG = {kind.tag: kind for kind in _KINDS}
_BY_CLASS = {kind.cls: kind for kind in _KINDS}


def tags() -> dict[str, int]:
    """Every kind's tag by name: for SPEC.md and the test that none is reused."""
    return {kind_name_of(kind.cls): kind.tag for kind in _KINDS}


def kind_name_of(cls: type) -> str:
    """``GossipReply`` -> ``gossip_reply``."""
    return "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")


_NAMES = {kind.cls: kind_name_of(kind.cls) for kind in _KINDS}


def kind_name(message: Message) -> str:
    """The message's kind in lower case, for logs and metrics (few, known values)."""
    return _NAMES[type(message)]


def padded(fields_bytes: int) -> int:
    """Bytes of an encoded message without bulk whose packed fields have so many bytes."""
    size = _PREFIX.size + fields_bytes
    return size + -size % ALIGNMENT


def encode(message: Message) -> tuple[bytes, Buffer]:
    """(head, bulk) whose concatenation is the plaintext; the bulk is the message's own buffer, uncopied, or ``b""``.

    ``len(head)`` is a multiple of 16.  Raises ``ValueError`` for a message that no peer would take: our own mistake.
    """
    kind = _BY_CLASS.get(type(message))
    if kind is None:
        raise ValueError(f"{type(message).__name__} is not a message")
    tails: list[Buffer] = []
    head = f.pack(kind.field.write(message, tails))
    whole = (_PREFIX.pack(len(head), kind.tag) + head).ljust(padded(len(head)), b"\0")
    tail = tails[0] if tails else b""
    if len(whole) + len(tail) > kind.limit:
        raise ValueError(f"{_NAMES[kind.cls]} of {len(whole) + len(tail)} bytes; at most {kind.limit} are allowed")
    return whole, tail


def decode(plaintext: Buffer) -> Message:
    """The message of ``head + bulk``; its bulk is a read-only view into ``plaintext``, which must not change.

    Raises ``Refused(MALFORMED)`` or ``Refused(OVERSIZED)``, whatever the bytes are.
    """
    view = memoryview(plaintext).toreadonly()
    size = view.nbytes
    if size < _PREFIX.size:
        raise Refused(Refusal.MALFORMED, "short")
    length, tag = _PREFIX.unpack_from(view)
    kind = _BY_TAG.get(tag)
    if kind is None:
        raise Refused(Refusal.MALFORMED, "kind")
    if size > kind.limit:
        raise Refused(Refusal.OVERSIZED, _NAMES[kind.cls])
    end = _PREFIX.size + length
    start = end + -end % ALIGNMENT
    if start > size or any(view[5:8]) or any(view[end:start]):
        raise Refused(Refusal.MALFORMED, _NAMES[kind.cls])
    # An empty bulk is still offered: an offer without a state takes it, and any other kind leaves it untouched.
    tail = view[start:]
    message: Message = f.unpack(kind.field, view[_PREFIX.size : end], tail)
    return message
