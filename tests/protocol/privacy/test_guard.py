"""The guard against its definition, and its edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.privacy.guard import mask_neighbours, may_contribute, may_publish


@pytest.mark.parametrize(
    ("depth", "threshold", "children", "seeds", "expected"),
    [
        (0, 3, 0, 0, False),  # a root alone
        (0, 3, 2, 0, False),
        (0, 3, 2, 1, True),
        (0, 2, 2, 0, True),
        (1, 3, 1, 0, False),
        (1, 3, 1, 1, True),
        (2, 3, 0, 0, False),  # a leaf too near to the root
        (3, 3, 0, 0, True),
        (9, 3, 0, 0, True),
    ],
)
def test_rule(depth: int, threshold: int, children: int, seeds: int, expected: bool) -> None:
    assert may_contribute(depth, threshold, children, seeds) is expected


@given(st.integers(0, 40), st.integers(2, 16), st.integers(1, 40), st.integers(0, 40))
def test_neighbours_count_near_ancestors_children_and_seeds(depth: int, s: int, children: int, seeds: int) -> None:
    ancestors_near = len([d for d in range(1, depth + 1) if d <= s])
    assert mask_neighbours(depth, s, children, seeds) == ancestors_near + children + seeds
    assert may_contribute(depth, s, children, seeds) == (ancestors_near + children + seeds >= s)


@pytest.mark.parametrize("counts", [(-1, 3, 0, 0), (0, 3, -1, 0), (0, 3, 1, -1), (0, 1, 1, 1), (4, 3, 0, 1)])
def test_impossible_counts_are_errors(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        mask_neighbours(*counts)


def test_a_root_publishes_only_with_its_own_contribution_and_a_full_cohort() -> None:
    assert may_publish(True, 4, 4)
    assert may_publish(True, 5, 4)
    assert not may_publish(True, 3, 4)
    assert not may_publish(False, 9, 4)
