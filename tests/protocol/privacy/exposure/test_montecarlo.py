"""Monte Carlo: every drawn round against linear algebra and the theorem, its errors, its repeatability."""

import math
from collections import Counter

import numpy as np
import pytest

from protocol.privacy.exposure import Faults, Shape, Tree, closed_form, monte_carlo, montecarlo
from protocol.privacy.exposure.exact import Fate, play_round
from protocol.privacy.exposure.montecarlo import Sample, draw_rounds, play, quantile
from protocol.privacy.leakage import Leakage


def random_tree(s: int, nodes: int, rng: np.random.Generator) -> Tree:
    """Deep enough that somebody contributes: a parent is one of the last three nodes."""
    return Tree(s, (-1, *(int(rng.integers(max(0, v - 3), v)) for v in range(1, nodes))))


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_every_round_is_what_linear_algebra_and_the_theorem_say(s: int, seed: int) -> None:
    """Node by node: published, arrived, exposed, size of the component, hidden."""
    rng = np.random.Generator(np.random.PCG64([s, seed]))
    faults = Faults(0.15, 0.2)
    seen: Counter[str] = Counter()
    for nodes in (4, 7, 12, 16):
        tree = random_tree(s, nodes, rng)
        draw = draw_rounds(tree, faults, 0.5, 60, rng)
        outcome = play(tree, draw)
        for column in range(60):
            fates = [
                Fate.ON_TIME if on_time else Fate.LATE if arrives else Fate.LOST
                for on_time, arrives in zip(draw.on_time[:, column], draw.arrives[:, column], strict=True)
            ]
            one = play_round(tree, fates)
            engine = Leakage(one.described)
            node = {peer: v for v, peer in enumerate(engine.peers)}
            coalition = [peer for peer, v in node.items() if draw.corrupt[v, column]]
            published, arrived = outcome.published[:, column], outcome.arrived[:, column]
            assert {node[p] for p in engine.published} == set(np.flatnonzero(published).tolist())
            assert {node[p] for p in engine.arrived} == set(np.flatnonzero(arrived).tolist())
            assert one.published == sum(1 << v for v in np.flatnonzero(published).tolist())
            assert one.arrived == sum(1 << v for v in np.flatnonzero(arrived).tolist())
            exposed = arrived & (outcome.component[:, column] == 1) & ~outcome.hidden[:, column]
            exposed &= ~draw.corrupt[:, column]
            assert {node[p] for p in engine.by_algebra(coalition).values} == set(np.flatnonzero(exposed).tolist())
            for component in engine.components(coalition):
                members = [node[peer] for peer in component.peers]
                assert (outcome.component[members, column] == len(members)).all()
                assert (outcome.hidden[members, column] == component.hidden).all()
                seen["hidden" if component.hidden else "visible"] += 1
            seen["exposed"] += int(exposed.sum())
            seen["late"] += int((arrived & ~published).sum())
    assert min(seen[k] for k in ("hidden", "visible", "exposed", "late")) > 10, seen


def test_one_seed_gives_one_result() -> None:
    shape, faults = Shape(2, 3), Faults(0.1, 0.1)
    one, two, other = (monte_carlo(shape, faults, 0.3, trees=500, seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_a_tree_node_by_node_is_the_same_tree() -> None:
    shape = Shape(2, 3)
    assert monte_carlo(shape, Faults(), 0.3, trees=100, seed=0) == monte_carlo(
        shape.tree(), Faults(), 0.3, trees=100, seed=0
    )


def test_batches_are_bounded_and_all_trees_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 trees of 15 nodes in batches of 20: without faults every node of every tree is published."""
    widths = []

    def noting(tree: Tree, faults: Faults, q: float, trees: int, rng: np.random.Generator) -> montecarlo.Draw:
        widths.append(trees)
        return draw_rounds(tree, faults, q, trees, rng)

    monkeypatch.setattr(montecarlo, "CELLS", 300)
    monkeypatch.setattr(montecarlo, "draw_rounds", noting)
    result = monte_carlo(Shape(2, 3), Faults(), 0.2, trees=1010, seed=0)
    assert widths == [20] * 50 + [10]
    assert result.published.contributors == 15
    assert result.published.contributors_error == 0
    assert abs(result.published.honest / (15 * 1010) - 0.8) < 0.02


def test_sizes_account_for_everybody_honest() -> None:
    result = monte_carlo(Shape(2, 3), Faults(0.2, 0.2), 0.3, trees=2000, seed=3)
    for sample in (result.published, result.arrived):
        assert sum(sample.sizes) + sample.hidden == sample.honest
        assert sample.sizes[0] == 0
        assert sample.sizes[1] == sample.exposed > 0
        assert len(sample.sizes) <= 16
    assert result.published.hidden == 0, "whoever is published is in no hidden component"
    assert result.arrived.hidden > 0


def test_nobody_corrupt_means_one_component() -> None:
    result = monte_carlo(Shape(2, 3), Faults(), 0.0, trees=10, seed=0)
    assert result.published.sizes == (*[0] * 15, 150)
    assert quantile(result.published.sizes, 0.5) == 15
    assert result.published.exposed == 0


def test_quantiles() -> None:
    sizes = (0, 10, 0, 80, 10)
    assert [quantile(sizes, share) for share in (0.0, 0.1, 0.11, 0.5, 0.9, 1.0)] == [1, 1, 3, 3, 3, 4]
    assert quantile((), 0.5) is None


def test_standard_errors_are_right() -> None:
    """200 seeds: z-scores have mean 0 and spread 1, so the errors are neither too small nor too large.

    The mean of 200 lies within 3.3 / sqrt(200) = 0.23, their spread within 1 +- 3.3 / sqrt(400) = 0.165, each but for
    one seed range in a thousand.  Errors that took contributors of one tree to be independent would be too small.
    """
    shape, faults, q = Shape(3, 3, 1), Faults(0.15, 0.1), 0.4
    expected = closed_form(shape, faults, q)
    for account in ("published", "arrived"):
        samples = [getattr(monte_carlo(shape, faults, q, trees=400, seed=seed), account) for seed in range(200)]
        share, contributors = getattr(expected, account).share, getattr(expected, account).contributors
        for scores in (
            [(s.share - share) / s.share_error for s in samples],
            [(s.contributors - contributors) / s.contributors_error for s in samples],
        ):
            assert abs(np.mean(scores)) < 0.23
            assert abs(np.std(scores) - 1) < 0.165


def test_the_error_of_what_was_never_seen_is_not_zero() -> None:
    """Nobody exposed among 1,000: 3 in 10,000 expected is no surprise, 3 in 100 is."""
    sample = Sample(0, 0, 1000, 0, 0.0, 0, ())
    assert -1 < sample.z(3e-4) < 0
    assert sample.z(0.03) < -5
    assert sample.z(0.0) == 0
    assert Sample(0, 0, 0, 0, 0.0, 0, ()).z(0.1) == 0


@pytest.mark.parametrize(("trees", "seed"), [(0, 0), (1, -1)])
def test_what_cannot_be_sampled(trees: int, seed: int) -> None:
    with pytest.raises(ValueError, match="tree"):
        monte_carlo(Shape(2, 3), Faults(), 0.1, trees=trees, seed=seed)


def test_counts_beyond_sixteen_bits() -> None:
    """70,000 nodes below one trunk: a count that wrapped would make the trunk abstain or the component small."""
    tree = Tree(2, (-1, 0, *[1] * 69_998))
    result = monte_carlo(tree, Faults(), 0.0, trees=1, seed=0)
    assert math.isclose(result.published.contributors, 70_000)
    assert quantile(result.published.sizes, 0.5) == 70_000
