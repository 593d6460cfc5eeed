"""Sealed seeds of a partial: what honest trees send passes, whatever is missing, doubled or misplaced does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.aggregation.seeds import Groups, check_groups, forwarded
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import PeerId, RoundId
from protocol.wire.messages import Partial, SealedSeed


class Tree:
    """A random tree of honest nodes, and the partial that each of them sends."""

    def __init__(self, parents: list[int], threshold: int) -> None:
        self.threshold = threshold
        self.parents = [-1, *(p % (i + 1) for i, p in enumerate(parents))]
        self.depth: list[int] = []
        for parent in self.parents:
            self.depth.append(0 if parent < 0 else self.depth[parent] + 1)

    def name(self, i: int) -> PeerId:
        return PeerId(bytes([i]) * 16)

    def children(self, i: int) -> list[int]:
        return [c for c, parent in enumerate(self.parents) if parent == i]

    def partial(self, i: int) -> Partial:
        children = [self.partial(c) for c in self.children(i)]
        own = [self.seed(i, hop) for hop in range(2, min(self.depth[i], self.threshold) + 1)]
        groups = forwarded([c.seeds for c in children], own, min(self.depth[i], self.threshold))
        return Partial(RoundId(bytes(16)), 1 + sum(c.cohort for c in children), self.threshold, groups, b"")

    def seed(self, i: int, hop: int) -> SealedSeed:
        """Names contributor and trustee in the clear, so that a test can see where it arrives."""
        trustee = i
        for _ in range(hop):
            trustee = self.parents[trustee]
        return SealedSeed(self.name(i), bytes([i, trustee]) * 40)

    def check(self, i: int, partial: Partial) -> None:
        check_groups(self.name(i), self.depth[i], self.threshold, partial)


TREES = st.builds(Tree, st.lists(st.integers(0, 99), min_size=1, max_size=14), st.integers(2, 5))


@given(TREES)
def test_what_an_honest_tree_sends_is_taken_and_reaches_its_trustees(tree: Tree) -> None:
    for i in range(1, len(tree.parents)):
        partial = tree.partial(i)
        tree.check(i, partial)
        parent = tree.parents[i]
        assert all(seed.sealed[1] == parent for seed in partial.seeds[0])
        below = [j for j in range(len(tree.parents)) if j != i and 1 <= distance(tree, j, i) <= tree.threshold - 1]
        assert sorted(seed.sealed[0] for seed in partial.seeds[0]) == below


def distance(tree: Tree, lower: int, upper: int) -> int:
    """Edges from ``lower`` up to ``upper``; 0 if that is no ancestor."""
    steps = 0
    while lower != upper and lower >= 0:
        lower, steps = tree.parents[lower], steps + 1
    return steps if lower >= 0 else 0


@given(TREES, st.data())
def test_no_mask_is_left_at_the_root(tree: Tree, data: st.DataObject) -> None:
    """Every seed drawn is opened exactly once, by its trustee."""
    opened = [
        seed.sealed[:2]
        for i in range(len(tree.parents))
        for c in tree.children(i)
        for seed in tree.partial(c).seeds[0]
        if seed.sealed[1] == i
    ]
    drawn = [
        tree.seed(i, hop).sealed[:2] for i, d in enumerate(tree.depth) for hop in range(2, min(d, tree.threshold) + 1)
    ]
    assert sorted(opened) == sorted(drawn)


def bent(groups: Groups, hop: int, seeds: tuple[SealedSeed, ...]) -> Groups:
    return (*groups[:hop], seeds, *groups[hop + 1 :])


@given(TREES, st.data())
def test_a_seed_added_doubled_or_taken_away_is_refused(tree: Tree, data: st.DataObject) -> None:
    i = data.draw(st.integers(1, len(tree.parents) - 1))
    partial = tree.partial(i)
    hop = data.draw(st.integers(0, len(partial.seeds) - 1))
    group = partial.seeds[hop]
    stranger = SealedSeed(PeerId(bytes([99]) * 16), bytes(80))
    faults = [partial.seeds[:-1], (*partial.seeds, ()), bent(partial.seeds, hop, (*group, stranger))]
    if hop == 0:
        faults.append(bent(partial.seeds, 0, (*group, SealedSeed(tree.name(i), bytes(80)))))
        # the first group is checked against the cohort alone: one seed more than contributors below the sender
        crowd = tuple(SealedSeed(PeerId(bytes([100 + k]) * 16), bytes(80)) for k in range(partial.cohort))
        faults = [f for f in faults if f[:1] != ((*group, stranger),)] + [bent(partial.seeds, 0, crowd)]
    else:
        faults.append(bent(partial.seeds, hop, tuple(s for s in group if s.contributor != tree.name(i))))
    if group:
        faults.append(bent(partial.seeds, hop, (*group, group[0])))
    for groups in faults:
        with pytest.raises(Refused) as refused:
            tree.check(i, replace(partial, seeds=groups))
        assert refused.value.reason is Refusal.BAD_SEEDS


def test_a_seed_beyond_its_reach() -> None:
    """A grandchild's seed at hop S of its grandparent's parent would be S + 1 hops long."""
    tree = Tree([0, 1, 2, 3, 4], 2)
    partial = tree.partial(4)
    assert [len(group) for group in partial.seeds] == [1, 1]
    child = partial.seeds[0][0]
    with pytest.raises(Refused, match="reach"):
        tree.check(4, replace(partial, seeds=bent(partial.seeds, 1, (*partial.seeds[1], child))))


def test_a_contributor_must_be_there_at_every_hop_up_to_its_last() -> None:
    tree = Tree([0, 1, 2, 3, 4, 5], 4)
    partial = tree.partial(4)
    own = tree.name(4)
    later = {s.contributor for s in partial.seeds[1]} - {own}
    assert later
    kept = tuple(s for s in partial.seeds[0] if s.contributor not in later)
    with pytest.raises(Refused, match="missing"):
        tree.check(4, replace(partial, seeds=bent(partial.seeds, 0, kept)))
