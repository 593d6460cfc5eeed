"""Fixed point: unbiased, never wrapping, the same in chunks, refusing what is no number."""

import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError
from protocol.masking import prg, ring
from protocol.masking.ring import Encoding, Section, clip_l2

BITS = (16, 32, 64)
CHUNK = ring._CHUNK
SEED = b"rounding".ljust(32, b".")


def signed(out: prg.RingArray) -> NDArray[Any]:
    return out.view(f"<i{out.itemsize}")


def one_section(bits: int, cap: int, length: int, bound: float = 1.0) -> Encoding:
    return Encoding(bits, cap, (Section(length, bound),))


def unchunked(encoding: Encoding, values: list[Any], seed: bytes) -> NDArray[np.int64]:
    """The rounding in plain whole-array numpy: another way to the same integers."""
    lap = ring._LAP
    laps = -(-encoding.dimension // lap)
    words = prg.expand(seed, lap + laps, 32)
    own = np.concatenate([words[:lap], *(words[:lap] ^ words[lap + q - 1] for q in range(1, laps))])
    dither = (own[: encoding.dimension] | np.uint32(1)).view("<i4").astype(np.float64)
    scaled = [
        np.clip(v.astype(np.float64), -s.bound, s.bound) * (encoding.levels / s.bound * 2.0**32)
        for v, s in zip(values, encoding.sections, strict=True)
    ]
    rounded: NDArray[np.int64] = np.rint((np.concatenate(scaled) + dither) / 2.0**32).astype(np.int64)
    return rounded


# --- headroom -------------------------------------------------------------------------------------------------


@given(bits=st.sampled_from(BITS), cap=st.integers(1, 2**40))
@settings(deadline=None, max_examples=300)
def test_headroom_covers_the_cohort_and_every_rounding_up(bits: int, cap: int) -> None:
    top = 2 ** (bits - 1) - 1
    if top // cap < 2:
        with pytest.raises(ConfigurationError, match="leave no level"):
            one_section(bits, cap, 1)
        return
    levels = one_section(bits, cap, 1).levels
    assert 1 <= levels <= 2**44
    assert cap * (levels + 1) <= top
    if bits == 16:
        assert cap * (levels + 2) > top
    else:
        assert levels & (levels - 1) == 0
        assert levels == 2**44 or cap * (2 * levels + 1) > top


extreme = st.sampled_from([1.0, -1.0, 1e25, -1e25, math.nextafter(1.0, 0), -math.nextafter(1.0, 0), 0.0, -0.0, 1e-300])
number = extreme | st.floats(-1.5, 1.5)


@given(
    bits=st.sampled_from(BITS),
    cap=st.integers(1, 24),
    bound=st.sampled_from([1.0, 0.1, 32.0, 1e-6, 3e10]),
    rows=st.lists(st.lists(number, min_size=3, max_size=3), min_size=1, max_size=24),
    single=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_a_full_cohort_never_wraps(bits: int, cap: int, bound: float, rows: list[list[float]], single: bool) -> None:
    encoding = one_section(bits, cap, 3, bound)
    total = encoding.zeros()
    exact = [Fraction(0)] * 3
    for i in range(cap):
        row = np.array(rows[i % len(rows)]) * bound
        array = row.astype(np.float32) if single else row
        encoding.add_encoded([array], total, i.to_bytes(32, "little"))
        clipped = [max(-Fraction(bound), min(Fraction(bound), Fraction(float(x)))) for x in array]
        exact = [e + x for e, x in zip(exact, clipped, strict=True)]
    for got, want in zip(encoding.decode(total)[0], exact, strict=True):
        # Each contribution is off by less than one level, plus what float64 itself rounds.
        assert abs(Fraction(float(got)) - want) <= cap * Fraction(bound) / encoding.levels * (1 + Fraction(1, 100))


@pytest.mark.parametrize(("bits", "cap"), [(16, 1), (16, 3), (16, 900), (16, 16383), (32, 1), (32, 5000), (64, 7)])
def test_a_cohort_of_extremes_never_wraps(bits: int, cap: int) -> None:
    """Everybody at the bound, on one side, with small and with no levels to spare."""
    encoding = one_section(bits, cap, 2)
    total = encoding.zeros()
    once = np.array([1.0, -1.0])
    for i in range(cap):
        encoding.add_encoded([once], total, i.to_bytes(32, "little"))
    high, low = (int(word) for word in signed(total))
    assert cap * encoding.levels <= high <= cap * (encoding.levels + 1) < 2 ** (bits - 1)
    assert -cap * encoding.levels >= low >= -cap * (encoding.levels + 1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("cap", [1, 3, 12, 1000])
def test_one_contribution_never_exceeds_the_levels_by_more_than_one(bits: int, cap: int) -> None:
    for bound in (1.0, 0.1, 1 / 3, 7e-5, 123.456):
        encoding = one_section(bits, cap, 4096, bound)
        for sign in (1.0, -1.0):
            out = encoding.zeros()
            encoding.add_encoded([np.full(4096, sign * bound)], out, SEED)
            assert np.abs(signed(out)).max() <= encoding.levels + 1
            assert (signed(out) * sign).min() >= encoding.levels - 1


# --- rounding -------------------------------------------------------------------------------------------------


class OneWord:
    """In place of a keystream: always the same word."""

    def __init__(self, word: int) -> None:
        self.word = word

    def read_into(self, room: memoryview, count: int) -> None:
        room[:count] = self.word.to_bytes(4, "little") * (count // 4)


@given(
    bits=st.sampled_from(BITS),
    level=st.integers(-(2**44), 2**44),
    fraction=st.floats(0, 1),
    scale=st.sampled_from([2.0**32, 2.0**-60, 2.0**150, 3.0 * 2.0**31, None]),
)
@settings(deadline=None, max_examples=400)
def test_the_mean_over_every_dither_is_the_value(bits: int, level: int, fraction: float, scale: float | None) -> None:
    """Exact: the result grows with the dither, so bisection counts how many of all 2^31 dithers reach it."""
    bound = {16: 2.0**14, 32: 2.0**30, 64: 2.0**44}[bits]
    v = math.fmod(level, bound) + fraction
    out = np.zeros(1, dtype=prg.word(bits))
    levels = one_section(bits, 1, 1).levels
    encoding = one_section(bits, 1, 1, float(levels))  # of scale 1

    def rounded(dither: int) -> int:
        word: Any = OneWord(dither % 2**32)
        if scale is None:  # as short vectors are encoded
            encoding._write_short([np.array([v])], out, word, fresh=True)
        else:
            rounder = ring._Rounder(word, 1, out.dtype, fresh=True)
            rounder.scale(scale)
            rounder.write(np.array([v * 2.0**32 / scale]), out, None)
        return int(signed(out)[0])

    def share_reaching(result: int) -> Fraction:
        low, high = 0, 2**31  # dithers are 2 * i - 2^31 + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if rounded(2 * middle - 2**31 + 1) >= result else (middle + 1, high)
        return Fraction(2**31 - low, 2**31)

    least, most = rounded(-(2**31) + 1), rounded(2**31 - 1)
    # A large odd integer may, once in 2^22 draws or fewer, become either of its neighbours: the halves go to even.
    assert most - least <= (2 if v == math.floor(v) and abs(v) > 2**20 else 1)
    mean = least + sum((share_reaching(result) for result in range(least + 1, most + 1)), Fraction(0))
    assert abs(mean - Fraction(v)) <= Fraction(1, 2**32) + Fraction(1, 2**52) * abs(Fraction(v))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("word", [0, 1, 2, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1])
def test_integers_come_out_as_they_are(bits: int, word: int) -> None:
    """Whatever the dither, its two extremes included: it is never a whole half."""
    out = np.zeros(9, dtype=prg.word(bits))
    v = np.array([0, 1, -1, 2, -2, 3, 8191, -8191, 8192])
    rounder = ring._Rounder(OneWord(word), 9, out.dtype, fresh=False)  # type: ignore[arg-type]
    rounder.scale(2.0**32)
    rounder.write(v.astype(np.float64), out, None)
    assert np.array_equal(signed(out), v)


@pytest.mark.parametrize("bits", BITS)
def test_roundings_are_unbiased_and_independent(bits: int) -> None:
    """Statistics over the real stream: mean within five standard errors for many fractions, neighbours uncorrelated."""
    encoding = one_section(bits, 5, 1_000_000)
    rng = np.random.default_rng(11)
    unit = 1.0 / encoding.levels
    fractions = rng.random(20)
    v = np.repeat(rng.integers(-3000, 3000, size=20) + fractions, 50_000)
    out = encoding.zeros()
    encoding.add_encoded([v * unit], out, SEED)
    errors = (signed(out) - v).reshape(20, 50_000)
    assert np.abs(errors).max() < 1.0 + 1e-6
    deviation = np.sqrt(fractions * (1 - fractions) / 50_000)
    assert (np.abs(errors.mean(axis=1)) < 5 * deviation + 1e-6).all()
    assert abs(errors.mean()) < 5 * 0.5 / 1000
    flat = errors.ravel()
    assert abs(float(np.mean(flat[1:] * flat[:-1]))) < 5 * 0.25 / 1000


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9])
def test_the_variance_of_a_sum_is_that_of_independent_roundings(fraction: float) -> None:
    """Over many seeds, for the direction that would suffer most if laps shared their roundings: the sum of all."""
    laps, size, seeds = 64, 16, 1000
    encoding = one_section(32, 5, laps * size)
    v = np.full(laps * size, 40 + fraction)
    sums = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_LAP", size)
        for k in range(seeds):
            out = encoding.zeros()
            encoding.add_encoded([v / encoding.levels], out, k.to_bytes(32, "little"))
            sums.append(float((signed(out) - v).sum()))
    ratio = np.square(sums).mean() / (laps * size * fraction * (1 - fraction))
    assert 0.6 < ratio < 1.6  # laps that rounded alike would make it 64
    assert abs(np.mean(sums)) < 5 * math.sqrt(laps * size * 0.25 / seeds)


def test_any_two_dithers_are_independent() -> None:
    """A lap's key is uniform like a word, so what two laps make of one word is any pair, equally often.

    Counted for the two highest bits of the words, which decide how 0.25, 0.5 and 0.75 are rounded.
    """

    class Words:
        def __init__(self, *words: int) -> None:
            self.rest = b"".join(word.to_bytes(4, "little") for word in words)

        def read_into(self, room: memoryview, count: int) -> None:
            room[:count], self.rest = self.rest[:count], self.rest[count:]

    def rounded(word: int, key: int, v: float) -> tuple[int, int]:
        out = np.zeros(2, dtype="<u4")
        rounder = ring._Rounder(Words(word, key), 2, out.dtype, fresh=True)  # type: ignore[arg-type]
        rounder.scale(2.0**32)
        rounder.write(np.full(2, v), out, None)
        return int(out[0]), int(out[1])

    quarters = [q << 30 | 12_345 for q in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_LAP", 1)
        for v in (0.25, 0.5, 0.75):
            pairs = [rounded(word, key, v) for word in quarters for key in quarters]
            for first in (0, 1):
                for second in (0, 1):
                    share = (v if first else 1 - v) * (v if second else 1 - v)
                    assert pairs.count((first, second)) == 16 * share


def test_another_seed_rounds_otherwise_and_the_same_seed_alike() -> None:
    encoding = one_section(16, 100, 1000)
    values = [np.full(1000, 0.12345)]
    outs = []
    for seed in (SEED, SEED, b"x" * 32):
        out = encoding.zeros()
        encoding.add_encoded(values, out, seed)
        outs.append(out)
    assert np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])


@pytest.mark.parametrize("bits", BITS)
def test_zero_stays_zero(bits: int) -> None:
    encoding = one_section(bits, 12, 100_000)
    out = encoding.zeros()
    encoding.add_encoded([np.zeros(100_000, dtype=np.float32)], out, SEED)
    assert not out.any()


# --- chunks, types, memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [(1,), (CHUNK - 1, 2), (CHUNK, 1, 3), (CHUNK + 1, 2 * CHUNK), (7, 6 * CHUNK, 5)])
def test_chunks_and_sections(bits: int, kind: type[Any], lengths: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    encoding = Encoding(bits, 9, tuple(Section(n, b) for n, b in zip(lengths, (1.0, 0.3, 50.0), strict=False)))
    values = [(rng.normal(size=s.length) * s.bound).astype(kind) for s in encoding.sections]
    kept = [v.copy() for v in values]
    out = prg.expand(b"o" * 32, encoding.dimension, bits)
    before = out.copy()
    encoding.add_encoded(values, out, SEED)
    expected = unchunked(encoding, values, SEED)
    assert np.array_equal(out - before, expected.astype(encoding.dtype))
    encoding.put_encoded(values, before, SEED)
    assert np.array_equal(before, expected.astype(encoding.dtype))
    assert all(np.array_equal(a, b) for a, b in zip(values, kept, strict=True))


@given(
    chunk=st.integers(1, 40),
    lap=st.sampled_from([8, 16, 64]),
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    bits=st.sampled_from(BITS),
)
@settings(deadline=None, max_examples=60)
def test_the_size_of_a_chunk_changes_nothing(chunk: int, lap: int, lengths: list[int], bits: int) -> None:
    encoding = Encoding(bits, 4, tuple(Section(n, 1.0) for n in lengths))
    values = [np.linspace(-1.2, 1.2, n) for n in lengths]
    whole, pieces = encoding.zeros(), encoding.zeros()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_SHORT", 0)
        patch.setattr(ring, "_LAP", lap)
        encoding.add_encoded(values, whole, SEED)
        decoded = encoding.decode(whole)
        assert np.array_equal(signed(whole), unchunked(encoding, values, SEED))
        patch.setattr(ring, "_CHUNK", chunk)
        encoding.add_encoded(values, pieces, SEED)
        again = encoding.decode(pieces)
    assert np.array_equal(whole, pieces)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, again, strict=True))


@given(
    bits=st.sampled_from(BITS),
    cap=st.integers(1, 1000),
    rows=st.lists(st.lists(number | st.floats(-1e300, 1e300), min_size=1, max_size=9), min_size=1, max_size=4),
    bounds=st.lists(st.sampled_from([1.0, 0.1, 32.0, 1e-6, 3e10, 1 / 3]), min_size=4, max_size=4),
    single=st.booleans(),
    masks=st.integers(0, 2),
)
@settings(deadline=None, max_examples=300)
def test_short_vectors_are_written_as_long_ones(
    bits: int, cap: int, rows: list[list[float]], bounds: list[float], single: bool, masks: int
) -> None:
    """Number by number or in chunks: the same words, to the last bit."""
    sections = tuple(Section(len(row), bound) for row, bound in zip(rows, bounds, strict=False))
    encoding, seeds = Encoding(bits, cap, sections), [bytes([i]) * 32 for i in range(masks)]
    with np.errstate(over="ignore"):
        values = [np.array(row, np.float32 if single else np.float64) for row in rows]
    start = prg.expand(b"o" * 32, encoding.dimension, bits)
    found: list[list[bytes]] = []
    for short in (2**5, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ring, "_SHORT", short)
            put, added = encoding.empty(), start.copy()
            try:
                encoding.put_encoded(values, put, SEED, seeds)
                encoding.add_encoded(values, added, SEED, seeds)
            except ValueError:
                assert single  # too large for a float32
                assert np.array_equal(added, start)
                found.append([])
            else:
                found.append([put.tobytes(), added.tobytes()])
    assert found[0] == found[1]


@pytest.mark.parametrize("length", [1, 31, 32, 33, 34])
def test_where_short_ends(length: int) -> None:
    encoding = Encoding(32, 5, (Section(length, 1.0), Section(1, 8.0)))
    values = [np.linspace(-1.2, 1.1, length), np.array([8.0])]
    out = encoding.zeros()
    encoding.put_encoded(values, out, SEED)
    assert np.array_equal(signed(out), unchunked(encoding, values, SEED))


def test_strided_values_are_taken() -> None:
    encoding = one_section(32, 4, 50)
    wide = np.linspace(-1, 1, 100, dtype=np.float32)
    one, two = encoding.zeros(), encoding.zeros()
    encoding.add_encoded([wide[::2]], one, SEED)
    encoding.add_encoded([wide[::2].copy()], two, SEED)
    assert np.array_equal(one, two)


def peak_of(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_working_memory_is_small(bits: int, kind: type[Any]) -> None:
    d = 1_000_000
    encoding = one_section(bits, 12, d)
    values = np.linspace(-1.5, 1.5, d).astype(kind)
    out = encoding.zeros()
    assert peak_of(lambda: encoding.add_encoded([values], out, SEED)) <= 2**20
    assert peak_of(lambda: encoding.add_encoded([values], out, SEED, [b"m" * 32] * 2)) <= 2**20 + 2**18
    assert peak_of(lambda: encoding.decode(out, np.float32)) <= 4 * d + 2**20
    assert peak_of(lambda: encoding.decode(out)) <= 8 * d + 2**20
    assert peak_of(lambda: clip_l2(values, 1.0)) <= 2**20
    assert peak_of(lambda: clip_l2(values[::2], 0.5)) <= 2**20


def test_threads_do_not_disturb_each_other() -> None:
    encoding = one_section(32, 12, 200_000)
    values = np.linspace(-1, 1, 200_000, dtype=np.float32)

    def work(i: int) -> prg.RingArray:
        out = encoding.zeros()
        encoding.add_encoded([values], out, bytes([i]) * 32)
        return out

    with ThreadPoolExecutor(4) as pool:
        for i, out in enumerate(pool.map(work, range(8))):
            assert np.array_equal(out, work(i))


# --- decoding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
def test_decode_reads_signed_words(bits: int) -> None:
    encoding = Encoding(bits, 3, (Section(2, 1.0), Section(2, 8.0)))
    levels = encoding.levels
    total = np.array([levels, -3 * levels, 0, -levels], dtype=np.int64).astype(encoding.dtype)
    first, second = encoding.decode(total)
    assert first.dtype == np.float64
    assert first == pytest.approx([1.0, -3.0], rel=1e-15)
    assert second == pytest.approx([0.0, -8.0], rel=1e-15)
    assert [part.dtype for part in encoding.decode(total, np.float32)] == [np.float32, np.float32]
    assert encoding.decode(total, np.float32)[0] == pytest.approx([1.0, -3.0], rel=1e-7)


def test_sizes() -> None:
    encoding = Encoding(16, 3, (Section(5, 1.0), Section(2, 8.0)))
    assert (encoding.dimension, encoding.nbytes, encoding.dtype) == (7, 14, np.dtype("<u2"))
    assert encoding.zeros().nbytes == 14
    assert encoding == Encoding(16, 3, (Section(5, 1.0), Section(2, 8.0)))


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_no_number_changes_nothing(bad: float, kind: type[Any]) -> None:
    encoding = Encoding(32, 4, (Section(100_000, 1.0), Section(70_000, 1.0)))
    values = [np.zeros(100_000, dtype=kind), np.zeros(70_000, dtype=kind)]
    values[1][69_999] = bad
    out = prg.expand(SEED, 170_000, 32)
    with pytest.raises(ValueError, match="finite"):
        encoding.add_encoded(values, out, SEED)
    assert np.array_equal(out, prg.expand(SEED, 170_000, 32))


def test_wrong_shapes_and_types() -> None:
    encoding = Encoding(32, 4, (Section(3, 1.0), Section(2, 1.0)))
    good = [np.zeros(3), np.zeros(2)]
    for values in (good[:1], good[::-1], [np.zeros((3, 1)), good[1]], [np.zeros(3, int), good[1]], [*good, good[0]]):
        with pytest.raises(ValueError, match="section"):
            encoding.add_encoded(values, encoding.zeros(), SEED)
    for out in (np.zeros(4, "<u4"), np.zeros(5, "<u8"), np.zeros(10, "<u4")[::2], np.zeros(5, "<i4")):
        with pytest.raises(ValueError, match="ring vector"):
            encoding.add_encoded(good, out, SEED)
    with pytest.raises(ValueError, match="32 bytes"):
        encoding.add_encoded(good, encoding.zeros(), b"short")
    for total in (np.zeros(4, "<u4"), np.zeros(5, "<i4"), np.zeros((5, 1), "<u4")):
        with pytest.raises(ValueError, match="ring vector"):
            encoding.decode(total)


@pytest.mark.parametrize(
    ("bits", "cap", "sections", "count"),
    [
        (8, 4, (Section(1, 1.0),), 1),
        (16, 0, (Section(1, 1.0),), 1),
        (16, 20_000, (Section(1, 1.0),), 1),
        (32, 4, (), 1),
        (32, 4, (Section(0, 1.0),), 1),
        (32, 4, (Section(20_000_000, 1.0),), 1),
        (32, 4, (Section(1, 0.0),), 1),
        (32, 4, (Section(1, math.nan),), 1),
        (32, 4, (Section(1, math.inf), Section(1, -1.0)), 1),
        (8, -1, (Section(0, 0.0),), 3),
    ],
)
def test_impossible_encodings(bits: int, cap: int, sections: tuple[Section, ...], count: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Encoding(bits, cap, sections)
    assert len(caught.value.problems) == count


# --- clipping -------------------------------------------------------------------------------------------------


def norm_of(vector: NDArray[Any]) -> float:
    largest = float(np.abs(vector).max(initial=0.0))
    if not largest:
        return 0.0
    squares = np.square(vector.astype(np.float64) / largest)
    return largest * math.sqrt(math.fsum(squares) if vector.size < 10_000 else float(squares.sum()))


@given(
    size=st.integers(0, 1500),
    exponent=st.integers(-30, 37),
    bound=st.sampled_from([1e-6, 0.1, 1.0, 1 / 3, 10.0, 1e10]),
    single=st.booleans(),
    seed=st.integers(0, 99),
)
@example(size=1, exponent=35, bound=1e-6, single=True, seed=0)
@example(size=20, exponent=37, bound=1e-6, single=True, seed=1)
@settings(deadline=None, max_examples=150)
def test_clip_l2(size: int, exponent: int, bound: float, single: bool, seed: int) -> None:
    vector = np.random.default_rng(seed).uniform(-1, 1, size=size) * 10.0**exponent
    if single:
        vector = vector.astype(np.float32)
    before = vector.copy()
    norm = norm_of(before)
    assert clip_l2(vector, bound) == pytest.approx(norm, rel=2.0**-17, abs=1e-40)
    assert norm_of(vector) <= bound
    if norm <= bound * (1 - 2.0**-16):
        assert np.array_equal(vector, before)
    else:
        assert norm_of(vector) >= bound * (1 - 2.0**-14)
        np.testing.assert_allclose(vector / bound, before / norm, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-20, 3e-4, 1.0, 1e19])
def test_clip_l2_of_large_vectors(scale: float) -> None:
    """No bias from adding up in float32, no overflow of its squares, and just at the bound."""
    vector = (np.random.default_rng(2).normal(size=1_000_003) * scale).astype(np.float32)
    norm = norm_of(vector)
    assert clip_l2(vector.copy(), 1e30) == pytest.approx(norm, rel=2.0**-17)
    for bound in (norm * 1.0001, norm, norm * 0.9999, norm / 3):
        clipped = vector.copy()
        clip_l2(clipped, bound)
        assert norm_of(clipped) <= bound
        assert norm_of(clipped) == pytest.approx(min(bound, norm), rel=1e-4)


def test_clip_l2_of_a_strided_view() -> None:
    base = np.ones(1000, dtype=np.float32)
    assert clip_l2(base[::2], 1.0) == pytest.approx(math.sqrt(500))
    assert norm_of(base[::2]) <= 1.0
    assert (base[1::2] == 1.0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 500, 9_999])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_clip_l2_refuses_what_is_no_number(bad: float, where: int, kind: type[Any]) -> None:
    vector = np.ones(10_000, dtype=kind)
    vector[where] = bad
    with pytest.raises(ValueError, match="finite"):
        clip_l2(vector, 1.0)
    assert (np.delete(vector, where) == 1.0).all()


def test_clip_l2_refuses_wrong_arguments() -> None:
    for vector in (np.ones((2, 2)), np.ones(3, dtype=int)):
        with pytest.raises(ValueError, match="one-dimensional"):
            clip_l2(vector, 1.0)
    for bound in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="positive"):
            clip_l2(np.ones(3), bound)


def test_clip_l2_leaves_the_zero_vector() -> None:
    vector = np.zeros(5000, dtype=np.float32)
    assert clip_l2(vector, 1.0) == 0.0
    assert not vector.any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_masks_are_added_along_with_the_value(bits: int, fresh: bool, count: int) -> None:
    """Over sections that end inside chunks, laps and blocks, what comes out is the value and then the masks."""
    sections = tuple(Section(length, 1.0) for length in (1, 3, CHUNK - 5, 2 * CHUNK + 7, 1, 5000))
    encoding = Encoding(bits, 8, sections)
    values = [np.linspace(-1.0, 1.0, section.length) for section in sections]
    drawn = [bytes([i]) * 32 for i in range(40, 40 + count)]
    expected = prg.expand(b"o" * 32, encoding.dimension, bits)
    out = expected.copy()
    if fresh:
        encoding.put_encoded(values, expected, SEED)
        encoding.put_encoded(values, out, SEED, drawn)
    else:
        encoding.add_encoded(values, expected, SEED)
        encoding.add_encoded(values, out, SEED, drawn)
    prg.add_masks(expected, drawn)
    assert np.array_equal(out, expected)


def test_a_mask_that_cannot_be_leaves_everything_as_it_was() -> None:
    encoding = Encoding(32, 8, (Section(4, 1.0),))
    out = encoding.zeros()
    with pytest.raises(ValueError, match="a seed has 32 bytes"):
        encoding.add_encoded([np.ones(4)], out, SEED, [bytes(32), bytes(31)])
    assert not out.any()
