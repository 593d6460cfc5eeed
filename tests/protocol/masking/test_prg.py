"""The mask stream: the same however it is cut, and gone without trace when taken off."""

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.masking import prg

BITS = (16, 32, 64)
SEEDS = [bytes([i]) * 32 for i in range(8)]


@pytest.fixture(
    scope="module",
    params=[(prg.Way.COUNTER, prg._LONG), (prg.Way.GALOIS, prg._LONG), (prg.Way.GALOIS, 1)],
    ids=["counter", "galois", "galois from the first byte"],
    autouse=True,
)
def way(request: pytest.FixtureRequest) -> Iterator[prg.Way]:
    """Every test here, in every way; with the last, also the streams that are too short for it to be worth while."""
    chosen: prg.Way = request.param[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prg, "_way", prg._way)  # so that it is put back
        patch.setattr(prg, "_LONG", request.param[1])
        prg.set_way(chosen)
        yield chosen


def reference(seed: bytes, dimension: int, bits: int) -> prg.RingArray:
    raw = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor().update(bytes(dimension * bits // 8))
    return np.frombuffer(raw, dtype=f"<u{bits // 8}")


def noise(dimension: int, bits: int) -> prg.RingArray:
    return reference(b"n" * 32, dimension, bits).copy()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("around", [0, 1, 2])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_chunk_boundaries(bits: int, around: int, off: int) -> None:
    dimension = max(around * prg.CHUNK_BYTES * 8 // bits + off, 1)
    expected = reference(SEEDS[1], dimension, bits)
    assert np.array_equal(prg.expand(SEEDS[1], dimension, bits), expected)
    out = noise(dimension, bits)
    prg.add_masks(out, [SEEDS[1]], [SEEDS[2]])
    assert np.array_equal(out, noise(dimension, bits) + expected - reference(SEEDS[2], dimension, bits))


@given(bits=st.sampled_from(BITS), dimension=st.integers(1, 70), chunk=st.integers(1, 9), plus=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_the_size_of_a_chunk_changes_nothing(bits: int, dimension: int, chunk: int, plus: int) -> None:
    expected = noise(dimension, bits)
    for seed in SEEDS[:plus]:
        expected += reference(seed, dimension, bits)
    out = noise(dimension, bits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prg, "CHUNK_BYTES", 8 * chunk)
        prg.add_masks(out, SEEDS[:plus])
        assert np.array_equal(prg.expand(SEEDS[0], dimension, bits), reference(SEEDS[0], dimension, bits))
    assert np.array_equal(out, expected)


@given(sizes=st.lists(st.integers(0, 80), max_size=6))
@settings(deadline=None, max_examples=100)
def test_a_stream_goes_on_where_it_stopped(sizes: list[int]) -> None:
    stream, read = prg.Keystream(SEEDS[3], 2**20), b""
    for size in sizes:
        room = prg.room_for(size)
        stream.read_into(room.data, size)
        read += room[:size].tobytes()
    assert read == reference(SEEDS[3], 480, 16).tobytes()[: len(read)]


def test_the_way_that_is_set_is_the_way_that_is_taken(way: prg.Way, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = prg.GCM
    monkeypatch.setattr(prg, "GCM", lambda nonce: made.append(nonce) or real(nonce))
    prg.add_masks(noise(2**16, 32), [SEEDS[1]], [SEEDS[2]])
    assert made == ([bytes(12)] * 2 if way is prg.Way.GALOIS else [])


def test_vectors_and_rooms_start_on_a_cache_line_unless_they_are_short() -> None:
    counts = [1, 3, 511, 512, 1000, 70_000, 5, 1001]
    kept = [prg.aligned(count, np.dtype("<u4")) for count in counts]
    assert all(array.ctypes.data % 64 == 0 for array in kept if array.nbytes >= 2048)
    assert [array.size for array in kept] == counts
    assert all(prg.room_for(count).ctypes.data % 64 == 0 for count in (2**11, 3001, 2**18))


@given(
    bits=st.sampled_from(BITS),
    dimension=st.integers(1, 40),
    order=st.permutations([(seed, sign) for seed in SEEDS[:4] for sign in (1, -1)]),
    cuts=st.lists(st.integers(0, 8), max_size=3),
)
@settings(deadline=None, max_examples=100)
def test_masks_cancel_exactly_in_any_order(
    bits: int, dimension: int, order: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    out = noise(dimension, bits)
    edges = [0, *sorted(cuts), len(order)]
    for low, high in pairwise(edges):
        step = order[low:high]
        prg.add_masks(out, [s for s, sign in step if sign > 0], [s for s, sign in step if sign < 0])
    assert np.array_equal(out, noise(dimension, bits))


def test_a_mask_hides_and_differs_by_seed() -> None:
    streams = [prg.expand(seed, 1000, 32) for seed in SEEDS]
    for i, a in enumerate(streams):
        assert abs(a.astype(float).mean() / 2**32 - 0.5) < 0.05
        for b in streams[:i]:
            assert np.count_nonzero(a == b) < 3


def test_works_inside_a_larger_buffer() -> None:
    whole = noise(100, 32)
    prg.add_masks(whole[10:20], [SEEDS[3]])
    changed = np.flatnonzero(whole != noise(100, 32))
    assert changed.min() >= 10
    assert changed.max() < 20
    assert np.array_equal(whole[10:20] - noise(100, 32)[10:20], reference(SEEDS[3], 10, 32))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dimension", [1, 1000, 140_000])
@pytest.mark.parametrize("minus", [0, 1, 2])
def test_a_vector_is_added_or_starts_the_sum(bits: int, dimension: int, minus: int) -> None:
    vector, taken = noise(dimension, bits), SEEDS[:minus]
    expected = vector.copy()
    for seed in taken:
        expected -= reference(seed, dimension, bits)
    out = reference(SEEDS[3], dimension, bits).copy()
    prg.add_masks(out, [], taken, vector=vector)
    assert np.array_equal(out, reference(SEEDS[3], dimension, bits) + expected)
    prg.add_masks(out, [], taken, vector=vector, fresh=True)
    assert np.array_equal(out, expected)
    assert np.array_equal(vector, noise(dimension, bits))


def test_a_vector_of_another_kind_or_none_changes_nothing() -> None:
    out = noise(10, 32)
    for vector in (noise(9, 32), noise(10, 16)):
        with pytest.raises(ValueError, match="size and type"):
            prg.add_masks(out, [SEEDS[0]], vector=vector)
    with pytest.raises(ValueError, match="afresh"):
        prg.add_masks(out, [SEEDS[0]], fresh=True)
    assert np.array_equal(out, noise(10, 32))


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_seed_of_another_length_changes_nothing(length: int) -> None:
    out = noise(10, 32)
    with pytest.raises(ValueError, match="32 bytes"):
        prg.add_masks(out, [SEEDS[0]], [bytes(length)])
    assert np.array_equal(out, noise(10, 32))
    with pytest.raises(ValueError, match="32 bytes"):
        prg.expand(bytes(length), 4, 32)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(8, dtype="<i4"),
        np.zeros(8, dtype=np.float32),
        np.zeros(8, dtype="u1"),
        np.zeros(8, dtype=">u4"),
        np.zeros((2, 4), dtype="<u4"),
        np.zeros(8, dtype="<u4")[::2],
        np.frombuffer(bytes(32), dtype="<u4"),
    ],
    ids=["signed", "float", "bytes", "big-endian", "matrix", "strided", "read-only"],
)
def test_only_ring_vectors_are_masked(array: prg.RingArray) -> None:
    with pytest.raises(ValueError, match="ring vector"):
        prg.add_masks(array, [SEEDS[0]])


def test_only_three_moduli() -> None:
    with pytest.raises(ValueError, match="16, 32 or 64"):
        prg.expand(SEEDS[0], 4, 8)


@pytest.mark.parametrize("bits", BITS)
def test_memory_is_one_chunk(bits: int) -> None:
    out = np.zeros(1_000_000, dtype=prg.word(bits))
    tracemalloc.start()
    try:
        prg.add_masks(out, SEEDS[:4], SEEDS[4:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2**20


def test_threads_do_not_disturb_each_other() -> None:
    def work(seed: bytes) -> prg.RingArray:
        out = np.zeros(300_000, dtype="<u4")
        prg.add_masks(out, [seed, SEEDS[0]], [SEEDS[0]])
        return out

    with ThreadPoolExecutor(4) as pool:
        for seed, out in zip(SEEDS, pool.map(work, SEEDS), strict=True):
            assert np.array_equal(out, reference(seed, 300_000, 32))
