"""Messages of every kind, and ways to build and compare their bytes: shared by the codec's tests."""

import struct
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st

from protocol.base import limits
from protocol.base.errors import Refusal, Refused
from protocol.wire import codec
from protocol.wire.messages import (
    Abstain,
    Accept,
    Ancestor,
    Checkpoint,
    Decline,
    Gossip,
    GossipReply,
    Head,
    Leave,
    Message,
    ModelReply,
    ModelRequest,
    Offer,
    Parameters,
    Partial,
    Ping,
    Pong,
    ProbeRequest,
    Rumour,
    SealedSeed,
    TaskReply,
    TaskRequest,
    Walk,
    WalkAck,
)

IDS = st.binary(min_size=16, max_size=16)
DIGESTS = st.binary(min_size=32, max_size=32)
LINEAGES = st.binary(min_size=8, max_size=8)
SIGNATURES = st.binary(min_size=64, max_size=64)
NONCES = st.integers(0, 2**64 - 1)
AGES = st.integers(0, 2**53)
WALKS = st.integers(0, limits.MAX_WALKS)
COUNTS = st.integers(1, limits.MAX_COHORT)
DESCRIPTORS = st.one_of(st.binary(min_size=1, max_size=200), st.just(b"d" * limits.MAX_DESCRIPTOR))
STATES = st.integers(1, 40).map(lambda n: bytes(range(n)) * 4)
VECTORS = st.integers(1, 100).map(lambda n: bytes(n % 251 for n in range(2 * n)))
CHECKPOINTS = st.builds(Checkpoint, IDS, AGES, STATES)


def tuples(item: st.SearchStrategy, most: int, least: int = 0) -> st.SearchStrategy:
    return st.lists(item, min_size=least, max_size=most).map(tuple)


def exchange(cls: type) -> st.SearchStrategy:
    rumour = st.builds(Rumour, IDS, st.integers(0, 2**63 - 1), st.integers(0, 3))
    head = st.builds(Head, IDS, AGES, DIGESTS, WALKS, LINEAGES, st.floats(0, 1e9))
    return st.builds(cls, NONCES, tuples(DESCRIPTORS, 4), tuples(rumour, 5), tuples(head, 5), tuples(IDS, 5))


OFFERS = st.builds(
    Offer,
    IDS,
    IDS,
    st.integers(0, 1),
    AGES,
    DIGESTS,
    st.integers(2, 16),
    COUNTS,
    st.integers(1, 64),
    st.integers(1, 64),
    COUNTS,
    COUNTS,
    st.floats(0, limits.MAX_BUDGET_S),
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    WALKS,
    LINEAGES,
    tuples(st.builds(Ancestor, DESCRIPTORS, SIGNATURES), 4, 1),
    st.one_of(st.just(b""), STATES),
)
SEALED = st.builds(SealedSeed, IDS, st.integers(80, limits.MAX_SEALED_SEED).map(bytes))
PARTIALS = st.builds(Partial, IDS, COUNTS, st.integers(0, limits.MAX_COHORT), tuples(tuples(SEALED, 3), 4), VECTORS)
BY_KIND: dict[type, st.SearchStrategy] = {
    Gossip: exchange(Gossip),
    GossipReply: exchange(GossipReply),
    ProbeRequest: st.builds(ProbeRequest, NONCES, IDS, DESCRIPTORS),
    Ping: st.builds(Ping, NONCES),
    Pong: st.builds(Pong, NONCES, IDS),
    Leave: st.builds(Leave, st.integers(0, 2**63 - 1)),
    TaskRequest: st.builds(TaskRequest, tuples(IDS, 5, 1)),
    TaskReply: st.builds(TaskReply, st.binary(min_size=1, max_size=300), DIGESTS, SIGNATURES),
    ModelRequest: st.builds(ModelRequest, IDS, st.integers(-1, 2**53)),
    ModelReply: st.builds(ModelReply, CHECKPOINTS),
    Offer: OFFERS,
    Accept: st.builds(Accept, IDS, st.booleans()),
    Decline: st.builds(Decline, IDS, st.integers(0, 255)),
    Parameters: st.builds(Parameters, IDS, CHECKPOINTS),
    Partial: PARTIALS,
    Abstain: st.builds(Abstain, IDS, st.integers(0, 255)),
    Walk: st.builds(Walk, NONCES, WALKS, LINEAGES, st.booleans(), CHECKPOINTS),
    WalkAck: st.builds(WalkAck, NONCES, st.booleans()),
}

I16, I32, I8 = b"\x11" * 16, b"\x22" * 32, b"\x33" * 8
STATE = np.arange(6, dtype="<f4").tobytes()
POINT = Checkpoint(I16, 5, STATE)
OFFER = Offer(
    round=I16,
    task=I16,
    kind=1,
    age=3,
    digest=I32,
    collusion_threshold=3,
    minimum_cohort=4,
    branching=2,
    depth=2,
    cap=7,
    cohort_cap=31,
    budget_s=4.5,
    slice_low=0,
    slice_high=2**63,
    walk=0,
    lineage=I8,
    ancestors=(Ancestor(b"d" * 300, b"s" * 64), Ancestor(b"e" * 300, b"s" * 64)),
    state=STATE,
)
SEED = SealedSeed(I16, b"x" * 80)
PARTIAL = Partial(I16, 3, 4, ((SEED, SEED), (SEED,)), np.arange(9, dtype="<u4").tobytes())
GOSSIP = (
    7,
    (b"d" * 400, b"e" * 90),
    (Rumour(I16, 1, 0), Rumour(I16, 2**40, 3)),
    (Head(I16, 9, I32, 1, I8, 0.25),),
    (I16,),
)
EXAMPLES: tuple[Message, ...] = (
    Gossip(*GOSSIP),
    GossipReply(*GOSSIP),
    Gossip(0, (), (), (), ()),
    ProbeRequest(1, I16, b"d" * 300),
    Ping(2**64 - 1),
    Pong(3, I16),
    Leave(1),
    TaskRequest((I16, I16)),
    TaskReply(b"t" * 500, I32, b"s" * 64),
    ModelRequest(I16, -1),
    ModelReply(POINT),
    OFFER,
    replace(OFFER, state=b""),
    Accept(I16, True),
    Decline(I16, 4),
    Parameters(I16, POINT),
    PARTIAL,
    replace(PARTIAL, seeds=()),
    Abstain(I16, 0),
    Walk(8, 1, I8, False, POINT),
    WalkAck(8, True),
)


def join(message: Message) -> bytes:
    return b"".join(codec.encode(message))


def refused(plaintext: bytes) -> Refusal:
    with pytest.raises(Refused) as caught:
        codec.decode(plaintext)
    return caught.value.reason


def reframe(tag: int, head: bytes, tail: bytes = b"") -> bytes:
    """A frame that is right around whatever ``head`` is."""
    return struct.pack("<IB3x", len(head), tag) + head + bytes(-(8 + len(head)) % 16) + tail


def split(plaintext: bytes) -> tuple[int, bytes, bytes]:
    length, tag = struct.unpack_from("<IB3x", plaintext)
    return tag, plaintext[8 : 8 + length], plaintext[8 + length + -(8 + length) % 16 :]


def assert_same(decoded: object, original: object) -> None:
    """Equal, and of exactly the same types all the way down (a bulk comes back as a view)."""
    if is_dataclass(original):
        assert type(decoded) is type(original)
        for f in fields(original):
            assert_same(getattr(decoded, f.name), getattr(original, f.name))
    elif isinstance(original, tuple):
        assert type(decoded) is tuple
        assert len(decoded) == len(original)
        for a, b in zip(decoded, original, strict=True):
            assert_same(a, b)
    elif isinstance(decoded, memoryview):
        assert decoded.readonly
        assert bytes(decoded) == bytes(original)
    else:
        assert type(decoded) is type(original)
        assert decoded == original
