"""The codec: round trips of every kind (hypothesis), strictness in every place, limits both ways."""

from dataclasses import fields, is_dataclass, replace
from typing import get_args

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings

from protocol.base import limits
from protocol.base.errors import Refusal
from protocol.wire import codec
from protocol.wire.messages import (
    Accept,
    Gossip,
    Head,
    Message,
    ModelReply,
    Partial,
    Ping,
    Pong,
    Rumour,
    SealedSeed,
    TaskReply,
    TaskRequest,
    WalkAck,
)
from tests.protocol.wire.samples import (
    BY_KIND,
    EXAMPLES,
    I8,
    I16,
    I32,
    OFFER,
    PARTIAL,
    POINT,
    SEED,
    assert_same,
    join,
    reframe,
    refused,
    split,
)


def test_every_kind_is_tested():
    assert set(BY_KIND) == set(get_args(Message)) == {type(m) for m in EXAMPLES}


def test_tags_are_as_published():
    """Append-only: a tag once given stays; a new kind is added here."""
    assert codec.tags() == {
        "gossip": 1,
        "gossip_reply": 2,
        "probe_request": 3,
        "ping": 4,
        "pong": 5,
        "leave": 6,
        "task_request": 16,
        "task_reply": 17,
        "model_request": 18,
        "model_reply": 19,
        "offer": 32,
        "accept": 33,
        "decline": 34,
        "parameters": 35,
        "partial": 36,
        "abstain": 37,
        "walk": 48,
        "walk_ack": 49,
    }
    assert codec.kind_name(Ping(1)) == "ping"
    assert codec.kind_name(WalkAck(1, True)) == "walk_ack"


@pytest.mark.parametrize("kind", list(BY_KIND), ids=lambda c: c.__name__)
def test_round_trip(kind):
    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(BY_KIND[kind])
    def check(message):
        head, tail = codec.encode(message)
        assert len(head) % 16 == 0
        assert_same(codec.decode(head + bytes(tail)), message)

    check()


def test_known_bytes():
    assert join(Ping(1)).hex() == "02000000040000009101" + "00" * 6
    assert join(Accept(I16, False)).hex() == "140000002100000092c410" + "11" * 16 + "c2" + "00" * 4


def test_bulk_is_not_copied():
    vector = np.arange(1000, dtype="<u4")
    head, tail = codec.encode(replace(PARTIAL, vector=vector.data))
    assert np.shares_memory(np.frombuffer(tail, "<u4"), vector)
    assert memoryview(tail).nbytes == len(tail) == 4000
    plaintext = head + bytes(tail)
    message = codec.decode(plaintext)
    assert isinstance(message, Partial)
    whole = np.frombuffer(plaintext, np.uint8)
    view = np.frombuffer(message.vector, "<u4")
    assert np.shares_memory(view, whole)
    assert view.ctypes.data % 16 == whole.ctypes.data % 16
    assert (view == vector).all()


def test_a_bytearray_may_be_decoded_but_not_written_through():
    message = codec.decode(bytearray(join(PARTIAL)))
    assert isinstance(message, Partial)
    assert memoryview(message.vector).readonly


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_cut_extended_or_padded_wrongly(message):
    whole = join(message)
    tag, head, tail = split(whole)
    bulk = len(tail)
    for length in range(len(whole) - bulk):
        assert refused(whole[:length]) is Refusal.MALFORMED, length
    if not bulk:
        for extra in (1, 2, 3, 5):  # an offer without a state reads 4 more bytes as one
            assert refused(whole + bytes(extra)) is Refusal.MALFORMED
    else:
        assert refused(whole[:-1]) is Refusal.MALFORMED
    assert refused(reframe(tag, head + b"\0", tail)) is Refusal.MALFORMED
    assert refused(reframe(tag, head + head, tail)) is Refusal.MALFORMED
    for place in (5, 6, 7):
        assert refused(whole[:place] + b"\1" + whole[place + 1 :]) is Refusal.MALFORMED
    padding = len(whole) - bulk - 8 - len(head)
    if padding:
        touched = bytearray(whole)
        touched[8 + len(head)] = 1
        assert refused(bytes(touched)) is Refusal.MALFORMED


def wrong_values(value: object) -> list[object]:
    """What must not stand where ``value`` stands."""
    wrong: list[object] = [
        None,
        "text",
        [],
        {},
        [value],
        msgpack.ExtType(1, b"x"),
        2**64 - 1,
        -2,
        1.5,
        True,
        b"",
        b"x" * 15,
        float("nan"),
        float("inf"),
        -1.0,
    ]
    match value:
        case bool():
            return [w for w in wrong if type(w) is not bool] + [0, 1]
        case int():
            return [w for w in wrong if type(w) is not int] + [-2, 2**64]
        case float():
            return [w for w in wrong if type(w) is not float] + [float("nan"), float("inf"), -1.0, 1]
        case bytes():
            return [w for w in wrong if w != b"x" * 15] + [value.decode("latin-1")]
        case list():
            return [w for w in wrong if not isinstance(w, list)] + [[None], ["text"], [[[]]], [1]]
    raise AssertionError(type(value))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_wrong_types_counts_and_ranges_in_every_place(message):
    tag, head, tail = split(join(message))
    plain = msgpack.unpackb(head)

    def check(node: list, rebuild) -> None:
        for i, value in enumerate(node):
            for wrong in wrong_values(value):
                try:
                    packed = msgpack.packb(rebuild([*node[:i], wrong, *node[i + 1 :]]))
                except OverflowError:
                    continue
                assert refused(reframe(tag, packed, tail)) in (Refusal.MALFORMED, Refusal.OVERSIZED), (i, wrong)
            if isinstance(value, list):
                check(value, lambda inner, i=i, node=node: rebuild([*node[:i], inner, *node[i + 1 :]]))

    assert_same(codec.decode(reframe(tag, msgpack.packb(plain), tail)), message)
    check(plain, lambda whole: whole)
    for shape in (plain[:-1], [*plain, 0], [], {0: 1}, None, plain[0]):
        assert refused(reframe(tag, msgpack.packb(shape), tail)) is Refusal.MALFORMED


def test_limits_are_enforced_both_ways():
    over = [
        Gossip(1, (b"d",) * 17, (), (), ()),
        Gossip(1, (b"d" * 4097,), (), (), ()),
        Gossip(1, (), (Rumour(I16, 1, 1),) * 65, (), ()),
        Gossip(1, (), (), (Head(I16, 9, I32, 1, I8, 0.0),) * 65, ()),
        Gossip(1, (), (), (), (I16,) * 65),
        TaskRequest((I16,) * 65),
        TaskReply(b"t" * (limits.MAX_TASK + 1), I32, b"s" * 64),
        replace(OFFER, ancestors=OFFER.ancestors * 9),
        replace(PARTIAL, seeds=((),) * 17),
        replace(PARTIAL, seeds=((SEED,) * 4097,)),
        replace(PARTIAL, seeds=((SealedSeed(I16, bytes(1281)),),)),
    ]
    for message in over:
        with pytest.raises(ValueError, match=type(message).__name__):
            codec.encode(message)
        tag = codec.tags()[codec.kind_name(message)]

        def plain(value):
            if is_dataclass(value):
                return [plain(getattr(value, f.name)) for f in fields(value) if f.name not in ("state", "vector")]
            return [plain(v) for v in value] if isinstance(value, tuple) else value

        assert refused(reframe(tag, msgpack.packb(plain(message)), b"\0" * 8)) is Refusal.OVERSIZED
    assert refused(join(replace(OFFER, state=b"")) + bytes(limits.MAX_INLINE_STATE + 4)) is Refusal.OVERSIZED
    assert refused(join(Ping(1)) + bytes(limits.MAX_CONTROL_BODY)) is Refusal.OVERSIZED


@pytest.mark.parametrize(
    "bad",
    [
        Ping(-1),
        Ping(2**64),
        Ping(1.0),
        Ping(True),
        Pong(1, b"short"),
        Pong(1, "x" * 16),
        Accept(I16, 1),
        "no message",
        Gossip(1, None, (), (), ()),
        replace(OFFER, budget_s=float("nan")),
        replace(OFFER, ancestors=()),
        replace(OFFER, state=b"123"),
        replace(PARTIAL, vector=b""),
        replace(PARTIAL, vector=b"123"),
        ModelReply(None),
        replace(PARTIAL, vector="text"),
        ModelReply(replace(POINT, state=b"")),
        replace(PARTIAL, seeds=((I16,),)),
    ],
)
def test_our_own_mistakes_do_not_leave(bad):
    with pytest.raises(ValueError, match=r"is not|\."):
        codec.encode(bad)


def test_numbers_of_numpy_and_enums_are_written():
    message = Head(I16, np.int64(3), I32, 0, I8, np.float64(2))
    decoded = codec.decode(join(Gossip(1, (), (), (message,), ())))
    assert_same(decoded, Gossip(1, (), (), (Head(I16, 3, I32, 0, I8, 2.0),), ()))
    assert_same(codec.decode(join(replace(OFFER, budget_s=3))), replace(OFFER, budget_s=3.0))
