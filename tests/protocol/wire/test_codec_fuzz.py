"""The codec under random and mutated bytes: only ``Refused`` ever escapes, and memory stays bounded.

``SUSURRUS_FUZZ=1000000`` runs it that long; the ordinary run takes 20,000 inputs.
"""

import contextlib
import os
import random
import struct
import tracemalloc
from dataclasses import replace

from protocol.base.errors import Refusal, Refused
from protocol.wire import codec
from protocol.wire.messages import (
    Gossip,
    Head,
    Rumour,
)
from tests.protocol.wire.samples import (
    BY_KIND,
    EXAMPLES,
    I8,
    I16,
    I32,
    PARTIAL,
    SEED,
    join,
    reframe,
    split,
)

NASTY = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc1",
    b"\xc0",
    b"\x91" * 40,
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xcb\xff\xf0\0\0\0\0\0\0",
    b"\xcf" + b"\xff" * 8,
    b"\xd3" + b"\x80" + b"\0" * 7,
    b"\xa1\xff",
    b"\xd6\xff\0\0\0\0",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\x80",
    b"\x90",
    b"\xc2",
    b"\xc4\x00",
    b"\xdc\x10\x00",
    b"\xd9\x01\x00",
)


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        match rng.randrange(7):
            case 0 if out:
                out[at - 1] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at - 1] = rng.randrange(256)
            case 2:
                del out[at : at + rng.randint(1, 20)]
            case 3:
                out[at:at] = rng.choice(NASTY)
            case 4:
                nasty = rng.choice(NASTY)
                out[at : at + len(nasty)] = nasty
            case 5:
                other = rng.choice(others)
                start = rng.randint(0, len(other))
                out[at : at + rng.randint(0, 40)] = other[start : start + rng.randint(1, 60)]
            case 6:
                out[at:at] = rng.randbytes(rng.randint(1, 20))
    return bytes(out)


def hostile_inputs(count: int, seed: int):
    rng = random.Random(seed)
    wholes = [join(m) for m in EXAMPLES]
    parts = [split(w) for w in wholes]
    heads = [head for _, head, _ in parts]
    for i in range(count):
        tag, head, tail = parts[i % len(parts)]
        match rng.randrange(8):
            case 0:
                yield rng.randbytes(rng.randint(0, 200))
            case 1:
                yield reframe(tag, rng.randbytes(rng.randint(0, 100)), tail)
            case 2 | 3:
                yield mutate(rng, wholes[i % len(wholes)], wholes)
            case 4:
                yield reframe(tag, head, mutate(rng, tail, wholes))
            case _:
                yield reframe(tag, mutate(rng, head, heads), tail)


def test_fuzz():
    """Whatever the bytes: a message that can be sent on as it is, or ``Refused``; nothing else ever escapes."""
    count = int(os.environ.get("SUSURRUS_FUZZ", "20000"))
    taken = 0
    reasons: set[Refusal] = set()
    kinds: dict[type, int] = {}
    for data in hostile_inputs(count, seed=1):
        try:
            message = codec.decode(data)
        except Refused as refusal:
            reasons.add(refusal.reason)
            continue
        taken += 1
        kinds[type(message)] = kinds.get(type(message), 0) + 1
        head, tail = codec.encode(message)
        again = codec.decode(head + bytes(tail))
        assert again == message
    assert reasons == {Refusal.MALFORMED, Refusal.OVERSIZED}
    assert 0 < taken < count  # the mutations reach both sides of the line
    assert len(kinds) == len(BY_KIND)


def peak_of(data: bytes) -> int:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with contextlib.suppress(Refused):
        codec.decode(data)
    return tracemalloc.get_traced_memory()[1] - before


def amplifiers() -> list[bytes]:
    """Few bytes that ask for much."""
    nested = b"\xdc\x10\x00" * 80_000
    claims = [
        b"\xdd\xff\xff\xff\xff",
        b"\x95\x01\xdd\x00\x0f\xff\xff",
        b"\x95\x01\xdd\xff\xff\xff\xff",
        nested,
        b"\x91" * 200_000,
        b"\x95\x01" + nested,
        b"\x95\x01\x91" + nested,
        b"\x91\xc6\xff\xff\xff\xff",
        b"\x91\xdf\x0f\xff\xff\xff" + bytes(100_000),
        b"\x94\xc4\x10" + I16 + b"\x01\x01\x9f" + b"\x90" * 15,
    ]
    frames = [reframe(tag, claim, b"\0" * 16) for tag in codec.tags().values() for claim in claims]
    # The densest true content: many small objects.
    head = Head(I16, 1, I32, 1, I8, 0.0)
    frames += [
        join(Gossip(1, (b"d",) * 16, (Rumour(I16, 1, 1),) * 64, (head,) * 64, (I16,) * 64)),
        join(replace(PARTIAL, seeds=((SEED,) * 4096,) * 3)),
        join(replace(PARTIAL, vector=bytes(8 * 2**20))),
        struct.pack("<IB3x", 2**32 - 1, 36) + bytes(1000),
        bytes(100_000),
    ]
    return frames


def test_memory_is_a_small_multiple_of_the_input():
    """At most eight times the input beyond a constant (msgpack's own stack, 41 kB)."""
    inputs = [*amplifiers(), *hostile_inputs(500, seed=2)]
    tracemalloc.start()
    try:
        for data in inputs:
            peak = peak_of(data)
            assert peak <= 8 * len(data) + 64 * 1024, (peak, len(data), data[:40])
        big = join(replace(PARTIAL, vector=bytes(8 * 2**20)))
        assert peak_of(big) < 64 * 1024 + 2**16  # the bulk is not copied at all
    finally:
        tracemalloc.stop()
