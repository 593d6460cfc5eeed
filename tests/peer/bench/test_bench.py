"""The bench measures what it says: the real round of the planner's tree, exact at the root, with every key."""

import time

import numpy as np
import pytest

from peer.bench.run import measure_row
from peer.bench.stages import Hop, floor
from peer.bench.tree import Tree
from peer.memory import keep_freed_memory
from protocol.aggregation.jobs import Mask

KEYS = {
    "dimension", "collusion_threshold", "branching", "modulus_bits", "encode_ms", "mask_ms", "seal_ms", "open_ms",
    "combine_ms", "unmask_ms", "total_ms", "plain_ms", "floor_ms", "ratio_to_floor", "ratio_to_plain", "with_http_ms",
    "plain_with_http_ms", "ratio_to_plain_with_http", "bytes_per_contribution", "plain_bytes",
}  # fmt: skip


def make(threshold: int = 3, bits: int = 32) -> Tree:
    return Tree(1000, 16, threshold, 2, bits, time.time())


async def test_a_row_has_every_key_and_plausible_figures() -> None:
    row = await measure_row(650, 3, 32, 0.05)
    assert set(row) >= KEYS
    assert all(row[key] > 0 for key in KEYS)
    assert row["plain_bytes"] == 2600
    assert 2600 < row["bytes_per_contribution"] <= 1.6 * 2600


@pytest.mark.parametrize(("bits", "share"), [(16, 0.52), (32, 1.02)])
async def test_bytes_at_a_hundred_thousand_coordinates(bits: int, share: float) -> None:
    tree = Tree(100_000, 16, 3, 2, bits, time.time())
    await tree.secure_round(tree.direct)
    assert tree.envelope_bytes / 15 <= share * 400_000


@pytest.mark.parametrize("threshold", [2, 3, 4])
@pytest.mark.parametrize("bits", [16, 32, 64])
async def test_the_tree_is_whole_and_its_round_exact(threshold: int, bits: int) -> None:
    tree = make(threshold, bits)
    assert len(tree.places) == 16
    assert all(p.children or p.depth >= threshold for p in tree.places)
    await tree.secure_round(tree.direct)  # raises unless the sum at the root is right


async def test_the_same_round_over_the_real_transport() -> None:
    tree = make()
    async with Hop(tree) as hop:
        await tree.secure_round(hop.carry)
        await tree.plain_round(hop.carry)


async def test_a_mask_left_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make()
    honest = Mask.run

    def twice(self: Mask) -> object:
        honest(self)
        return honest(self)

    monkeypatch.setattr(Mask, "run", twice)
    with pytest.raises(ArithmeticError):
        await tree.secure_round(tree.direct)


def test_the_floor_does_its_work() -> None:
    tree = make()
    before = tree.gradient.copy()
    floor(tree)
    assert np.array_equal(tree.gradient, before)


def test_keeping_memory_is_harmless_wherever_it_runs() -> None:
    assert keep_freed_memory() in (True, False)
