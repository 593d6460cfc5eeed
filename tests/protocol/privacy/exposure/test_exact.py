"""The exact engine: that it sees leaks where the protocol is loosened, and none below S where it is not."""

import pytest

from protocol.privacy.exposure import Faults, Shape, Tree, by_algebra, closed_form
from protocol.privacy.exposure.exact import Conduct, Fate, Rule, every_round, play_round, the_rule

Trees = dict[int, list[tuple[int, ...]]]
EVERYTHING = Faults(0.25, 0.25)
"""Every fate has a chance, so that every pattern is looked at."""


def guard_off_by_one(depth: int, s: int, children: int, seeds: int, late: int) -> Conduct:
    return Conduct.CONTRIBUTE if min(depth, s) + children + seeds >= s - 1 else Conduct.ABSTAIN


def late_ones_count(depth: int, s: int, children: int, seeds: int, late: int) -> Conduct:
    return Conduct.CONTRIBUTE if min(depth, s) + children + seeds + late >= s else Conduct.ABSTAIN


def root_only_publishes(depth: int, s: int, children: int, seeds: int, late: int) -> Conduct:
    return Conduct.RELAY if depth == 0 and children else the_rule(depth, s, children, seeds, late)


def relays_without_records(depth: int, s: int, children: int, seeds: int, late: int) -> Conduct:
    return Conduct.RELAY if depth == 1 and children else the_rule(depth, s, children, seeds, late)


@pytest.mark.parametrize(("s", "largest"), [(2, 5), (3, 6), (4, 6)])
def test_the_rule_protects_every_small_tree(small_trees: Trees, s: int, largest: int) -> None:
    """Every pattern, every coalition; coalitions of S do learn values, so the engine can see them."""
    learning = []
    for parents in (p for size in range(1, largest + 1) for p in small_trees[size]):
        found = by_algebra(Tree(s, parents), EVERYTHING, views=1 << 20)
        assert found is not None
        assert found.complete
        assert found.smallest is None or found.smallest >= s, parents
        learning.append(found.smallest)
    assert s in learning


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize(
    "rule",
    [guard_off_by_one, late_ones_count, root_only_publishes, relays_without_records],
)
def test_a_looser_rule_leaks(small_trees: Trees, s: int, rule: Rule) -> None:
    """Among the trees of at most S + 2 nodes there is one where fewer than S learn a value."""
    smallest = [
        found.smallest
        for size in range(2, min(s + 3, 7))
        for parents in small_trees[size]
        if (found := by_algebra(Tree(s, parents), EVERYTHING, views=1 << 20, rule=rule)) is not None
    ]
    assert any(k is not None and k < s for k in smallest)


def test_a_late_partial_is_in_the_view_of_who_received_it() -> None:
    """0 - 1 - 2 - 3, S = 2; the middle one's partial is late.  The root holds it, and with 2 and 3 it learns 1's value.

    Lost, it shows nobody anything: then nothing at all follows about 1.
    """
    tree = Tree(2, (-1, 0, 1, 2))
    on_time = [Fate.ON_TIME] * 4
    for fate, seen in ((Fate.LATE, 0b1110), (Fate.LOST, 0b1100)):
        one = play_round(tree, [Fate.ON_TIME, fate, *on_time[2:]])
        assert (one.published, one.arrived) == (0, seen)
    assert {len(n.received) for n in play_round(tree, [Fate.LATE] * 4).described.nodes} == {0, 1}
    late, lost = by_algebra(tree, Faults(0.0, 1.0)), by_algebra(tree, Faults(1.0))
    assert late is not None
    assert lost is not None
    # only 2 and 3 may contribute without a child's partial: both have two ancestors
    assert late.contributors("arrived") == 2
    assert late.share("arrived", 0.5) == pytest.approx(0.25)
    assert lost.contributors("arrived") == 0
    assert (late.smallest, lost.smallest) == (2, None)


def test_every_pattern_has_its_probability() -> None:
    tree = Shape(2, 2, 0, 2).tree()
    rounds = list(every_round(tree, Faults(0.1, 0.2)))
    assert sum(one.weight for one in rounds) == pytest.approx(1)
    assert len(rounds) == len({one.described for one in rounds})
    assert len(list(every_round(tree, Faults()))) == 1


def test_a_sample_of_patterns_is_near_all_of_them() -> None:
    shape, faults = Shape(2, 2, 0, 2), Faults(0.2, 0.2)
    whole = by_algebra(shape, faults, views=1 << 18)
    sample = by_algebra(shape, faults, views=200 << 7, seed=5)
    assert whole is not None
    assert sample is not None
    assert whole.complete
    assert not sample.complete
    assert sample.patterns == 200
    assert whole.share_error("published", 0.3) == 0
    for account in ("published", "arrived"):
        error = sample.share_error(account, 0.3)
        assert 0 < abs(sample.share(account, 0.3) - whole.share(account, 0.3)) < 3 * error
        assert whole.share(account, 0.3) == pytest.approx(getattr(closed_form(shape, faults, 0.3), account).share)
    again = by_algebra(shape, faults, views=200 << 7, seed=5)
    assert again is not None
    assert again.share("arrived", 0.3) == sample.share("arrived", 0.3)


def test_what_is_too_large_is_left() -> None:
    assert by_algebra(Shape(2, 4), Faults()) is None
    assert by_algebra(Shape(2, 3), Faults(0.1), views=1 << 19) is None  # 16 patterns would not do
    assert by_algebra(Shape(2, 3), Faults(), views=1 << 15) is not None
