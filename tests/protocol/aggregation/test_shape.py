"""Shapes: leaves deep enough, caps that add up, slices that part their parent's."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.aggregation.shape import child_caps, height, minimum_subtree, planned_cohort, split
from protocol.base.limits import MAX_COLLUSION_THRESHOLD, MAX_DEPTH
from protocol.privacy.guard import may_contribute


def leaves(depth: int, cap: int, b: int, s: int) -> list[int]:
    caps = child_caps(depth, cap, b, s)
    return [d for c in caps for d in leaves(depth + 1, c, b, s)] or [depth]


def nodes(depth: int, cap: int, b: int, s: int) -> int:
    return 1 + sum(nodes(depth + 1, c, b, s) for c in child_caps(depth, cap, b, s))


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 120))
def test_every_leaf_lies_deep_enough_and_every_place_is_used(s: int, b: int, more: int) -> None:
    cohort = min(s + 1 + more, MAX_DEPTH + 1 if b == 1 else 1000)
    depths = leaves(0, cohort, b, s)
    assert min(depths) >= s
    assert max(depths) == height(0, cohort, b, s)
    assert nodes(0, cohort, b, s) == cohort


@given(st.integers(2, 6), st.integers(1, 5), st.integers(1, 60), st.integers(0, 8))
def test_caps_share_the_rest_evenly(s: int, b: int, cap: int, depth: int) -> None:
    caps = child_caps(depth, cap, b, s)
    if caps:
        assert sum(caps) == cap - 1
        assert max(caps) - min(caps) <= 1
        assert min(caps) >= minimum_subtree(depth + 1, s)


@given(st.integers(2, MAX_COLLUSION_THRESHOLD), st.integers(0, MAX_DEPTH - 1), st.integers(1, 5))
def test_the_smallest_subtree_is_the_smallest_that_can_satisfy_the_contribution_rule(
    s: int, depth: int, b: int
) -> None:
    smallest = minimum_subtree(depth, s)

    def can(cap: int) -> bool:
        """With everybody below it within distance S: in one chain nobody is farther away."""
        below = min(cap - 1, s)
        return may_contribute(depth, s, min(below, 1), max(below - 1, 0))

    assert can(smallest)
    assert smallest == 1 or not can(smallest - 1)
    assert bool(child_caps(depth, smallest, b, s)) is (smallest > 1)


@given(st.lists(st.integers(0, 999), unique=True).map(sorted), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_slices_part_the_whole_in_proportion(positions: list[int], caps: list[int]) -> None:
    slices = split(0, 1000, positions, caps)
    assert slices[0][0] == 0
    assert slices[-1][1] == 1000
    assert all(before[1] == after[0] for before, after in pairwise(slices))
    for (low, high), cap in zip(slices, caps, strict=True):
        inside = sum(low <= p < high for p in positions)
        assert abs(inside - len(positions) * cap / sum(caps)) <= 1.0


def test_planned_cohort() -> None:
    assert planned_cohort(12, 1000, 4) == 12
    assert planned_cohort(32, 1000, 4) == 30
    assert planned_cohort(100, 16, 4) == 16
    assert planned_cohort(4, 1000, 4) == 4
