"""Draws: every value as likely as any other, repeatable from a seed, streams apart from each other."""

import hashlib
import math
from collections import Counter
from itertools import permutations

import pytest

from protocol.base.entropy import Entropy, SeededEntropy


class Given(Entropy):
    """Gives these bytes and no others."""

    def __init__(self, *tokens: bytes) -> None:
        self.tokens = list(tokens)

    def token(self, length: int) -> bytes:
        token = self.tokens.pop(0)
        assert len(token) == length
        return token


class Piped(Entropy):
    """Another's bytes, drawn from as ``Entropy`` says."""

    def __init__(self, source: Entropy) -> None:
        self.source = source

    def token(self, length: int) -> bytes:
        return self.source.token(length)


def test_the_same_seed_gives_the_same_bytes_however_they_are_taken() -> None:
    whole, pieces = SeededEntropy(5).token(4096), SeededEntropy(5)
    assert b"".join(pieces.token(100) for _ in range(41))[:4096] == whole
    sizes = (1, 0, 31, 5000, 10_000)
    one, two = SeededEntropy(5), SeededEntropy(5)
    assert [one.token(size) for size in sizes] == [two.token(size) for size in sizes]
    assert [len(one.token(size)) for size in sizes] == list(sizes)


@pytest.mark.parametrize("first", [1, 300, 512, 513, 4096])
def test_the_stream_is_block_after_block_of_shake(first: int) -> None:
    """Though few bytes are made at first: every simulation's figures hang on this stream."""
    stream = b"".join(hashlib.shake_256(b"i5|%d" % block).digest(4096) for block in range(4))
    sizes = [first, 0, 200, 12, 1, 3000, 800, 4000, 7, 250]
    entropy = SeededEntropy(5)
    assert b"".join(entropy.token(size) for size in sizes) == stream[: sum(sizes)]


def test_small_bounds_take_the_bytes_that_they_always_took() -> None:
    bounds = [1, 2, 3, 200, 255, 256, 257, 70_000, 5] * 300
    stream = SeededEntropy(7)
    plain = Piped(SeededEntropy(7))
    assert [stream.below(bound) for bound in bounds] == [plain.below(bound) for bound in bounds]
    assert stream.token(8) == plain.token(8)


def test_seeds_of_different_types_and_forks_are_different_streams() -> None:
    root = SeededEntropy(1)
    streams = [SeededEntropy(seed) for seed in (1, "1", b"1", 2)] + [
        root.fork("a"),
        root.fork("b"),
        root.fork("a").fork("a"),
    ]
    first = [stream.token(32) for stream in streams]
    assert len(set(first)) == len(first)
    root.token(1000)
    assert root.fork("a").token(32) == first[4]  # whatever was drawn before
    assert root.fork(7).token(8) == root.fork("7").token(8)


def test_a_draw_above_the_bound_is_drawn_again() -> None:
    assert Given(b"\x07", b"\x05", b"\x04").below(5) == 4
    assert Given(b"\xff\x00", b"\xff\xff", b"\x01\x01").below(258) == 255
    assert Given(b"\xff").below(8) == 7  # the bits that are too many are cut off
    assert Given().below(1) == 0  # nothing to choose, nothing drawn
    with pytest.raises(ValueError, match="at least 1"):
        SeededEntropy(0).below(0)


def test_below_is_uniform() -> None:
    entropy, draws = SeededEntropy("below"), 60_000
    counts = Counter(entropy.below(6) for _ in range(draws))
    assert sorted(counts) == list(range(6))
    expected = draws / 6
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 20.5  # chi-square, 5 degrees: p > 0.001


def test_uniform_is_below_one_even_for_the_largest_bytes() -> None:
    assert Given(bytes(7)).uniform() == 0.0
    assert Given(b"\xff" * 7).uniform() == 1 - 2.0**-53
    assert math.isfinite(Given(b"\xff" * 7).exponential(1.0))
    assert Given(bytes(7)).exponential(1.0) == 0.0


def test_waiting_times_have_their_mean() -> None:
    entropy = SeededEntropy("waiting")
    assert sum(entropy.exponential(3.0) for _ in range(20_000)) / 20_000 == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize("how", ["shuffle", "sample"])
def test_every_order_is_as_likely(how: str) -> None:
    entropy, draws, counts = SeededEntropy(how), 12_000, Counter[tuple[int, ...]]()
    for _ in range(draws):
        items = [0, 1, 2, 3]
        if how == "shuffle":
            entropy.shuffle(items)
        else:
            items = entropy.sample(items, 4)
        counts[tuple(items)] += 1
    assert set(counts) == set(permutations(range(4)))
    expected = draws / 24
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 49.7  # 23 degrees: p > 0.001


def test_a_sample_is_of_distinct_positions_and_no_larger_than_what_there_is() -> None:
    entropy, items = SeededEntropy(3), ["a", "b", "b", "c"]
    assert sorted(entropy.sample(items, 9)) == items
    assert len(entropy.sample(items, 2)) == 2
    assert entropy.sample([], 2) == entropy.sample(items, 0) == []
    assert items == ["a", "b", "b", "c"]
