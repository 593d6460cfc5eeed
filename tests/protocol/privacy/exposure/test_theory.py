"""The closed form against mean q**k of a full tree, against enumeration, and where numbers are very small."""

from fractions import Fraction
from math import prod

import pytest

from protocol.privacy.exposure import Faults, Shape, Tree, closed_form
from protocol.privacy.exposure.exact import every_round
from protocol.privacy.leakage import Leakage


@pytest.mark.parametrize("s", [2, 3, 4, 5])
@pytest.mark.parametrize(("branching", "trunk"), [(1, 0), (2, 0), (3, 0), (4, 0), (2, 2), (4, 1)])
@pytest.mark.parametrize("q", [0.0, 0.01, 0.3, 0.9])
def test_without_faults_it_is_the_mean_of_q_to_the_neighbours(s: int, branching: int, trunk: int, q: float) -> None:
    tree = Shape(branching, s, trunk, s).tree()
    above = [tree.ancestors(v) for v in range(tree.nodes)]
    neighbours = [len(chain) for chain in above]
    for chain in above:
        for ancestor in chain:
            neighbours[ancestor] += 1
    theory = closed_form(tree, Faults(), q)
    assert theory.published == theory.arrived
    assert theory.published.contributors == pytest.approx(tree.nodes)
    assert theory.published.share == pytest.approx(sum(q**k for k in neighbours) / tree.nodes, rel=1e-12)
    assert min(neighbours) >= s


@pytest.mark.parametrize("s", [2, 3])
@pytest.mark.parametrize("faults", [Faults(), Faults(0.3), Faults(0.0, 0.4), Faults(0.2, 0.5), Faults(1.0)])
def test_every_small_tree_against_enumeration(
    small_trees: dict[int, list[tuple[int, ...]]], s: int, faults: Faults
) -> None:
    """Whatever happens, with its probability; nodes obey the guard, and k is counted in the round that came of it."""
    q, somebody = 0.37, 0
    for parents in (p for size in range(1, 6) for p in small_trees[size]):
        tree = Tree(s, parents)
        expected = {"published": [0.0, 0.0], "arrived": [0.0, 0.0]}
        total = 0.0
        for one in every_round(tree, faults):
            engine = Leakage(one.described)
            total += one.weight
            for account, who in (("published", engine.published), ("arrived", engine.arrived)):
                expected[account][0] += one.weight * len(who)
                expected[account][1] += one.weight * sum(q ** len(engine.neighbours(peer)) for peer in who)
        theory = closed_form(tree, faults, q)
        assert total == pytest.approx(1)
        for account, (contributors, exposed) in expected.items():
            assert getattr(theory, account).contributors == pytest.approx(contributors, abs=1e-12)
            assert getattr(theory, account).exposed == pytest.approx(exposed, abs=1e-12)
        somebody += theory.published.contributors > 0
    assert somebody or faults.lost == 1, "the enumeration must not be vacuous"


def test_small_probabilities_keep_their_digits() -> None:
    """A path with S = 4 at q = p = 1/1000, against exact fractions: differences of nearly equal numbers would be 0."""
    q = p = Fraction(1, 1000)
    published = [p**d for d in range(5)]
    contributes = [prod([p] * (4 - d), start=Fraction(1)) for d in range(5)]
    exposed = sum(published[d] * contributes[d] * q**4 for d in range(5))
    theory = closed_form(Shape(1, 4, 0, 4), Faults(lost=1 - 1e-3), 1e-3)
    assert theory.published.exposed == pytest.approx(float(exposed), rel=1e-9)
    assert theory.published.contributors == pytest.approx(float(5 * p**4), rel=1e-9)


def test_by_hand() -> None:
    """A path of three with S = 2: the root and the leaf need each other through the middle."""
    p, q = 0.8, 0.5
    theory = closed_form(Shape(1, 2, 0, 2), Faults(lost=1 - p), q)
    assert theory.published.contributors == pytest.approx(3 * p**2)
    assert theory.published.share == pytest.approx(q**2)
    # the leaf's vector arrives with p, the middle one's too if it contributes (p), and the root needs both
    assert theory.arrived.contributors == pytest.approx(p + p * p + p * p)
    assert closed_form(Shape(1, 2, 0, 2), Faults(lost=1.0), q).published.share == 0


def test_a_large_shape_is_quick() -> None:
    theory = closed_form(Shape(2, 18), Faults(0.1, 0.1), 0.1)
    assert 0 < theory.published.share < theory.arrived.share < 0.1**3
