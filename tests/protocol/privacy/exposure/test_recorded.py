"""One described round: the formulas against every coalition, the samples against the formulas."""

from dataclasses import replace
from itertools import combinations, product

import pytest

from protocol.base.errors import ConfigurationError
from protocol.privacy.exposure import Faults, Shape, Tree, closed_form, round_exposure
from protocol.privacy.exposure.exact import Fate, every_round, play_round
from protocol.privacy.leakage import DescribedRound, Leakage

LATE_AND_LOST = play_round(
    Tree(2, (-1, 0, 0, 1, 1, 2, 3)),
    [Fate.ON_TIME, Fate.ON_TIME, Fate.LATE, Fate.ON_TIME, Fate.LOST, Fate.ON_TIME, Fate.LATE],
).described


@pytest.mark.parametrize(
    "described", [LATE_AND_LOST, play_round(Shape(2, 2, 0, 2).tree(), [Fate.ON_TIME] * 7).described]
)
def test_formulas_against_every_coalition(described: DescribedRound) -> None:
    engine = Leakage(described)
    n, q = len(engine.peers), 0.3
    found = round_exposure(described, corrupt=[q], sizes=range(n), samples=1)
    assert (found.peers, found.follows_protocol) == (7, True)
    accounts = {"published": engine.published, "arrived": engine.arrived}
    assert found.published == len(engine.published)
    assert found.arrived == len(engine.arrived)
    for account, size in product(accounts, range(n)):
        exposed = honest = 0
        for coalition in combinations(engine.peers, size):
            exposed += len(set(engine.by_algebra(coalition).values) & set(accounts[account]))
            honest += len(set(accounts[account]) - set(coalition))
        expected = getattr(found.by_size[size][1], account)
        assert found.by_size[size][0] == size
        assert expected.share == pytest.approx(exposed / honest if honest else 0, abs=1e-12)
        assert expected.share == 0 or size >= described.collusion_threshold
    by_q = found.by_corrupt[0][1]
    for account, who in accounts.items():
        chances = sum(
            q ** len(c) * (1 - q) ** (n - len(c)) * len(set(engine.by_algebra(c).values) & set(who))
            for size in range(n + 1)
            for c in combinations(engine.peers, size)
        )
        assert getattr(by_q, account).exposed * (1 - q) == pytest.approx(chances, rel=1e-9)


def test_fewest_neighbours() -> None:
    found = round_exposure(LATE_AND_LOST)
    assert found.fewest_neighbours == 2
    assert found.by_corrupt == found.by_size == ()


def test_many_rounds_average_to_the_closed_form() -> None:
    """Exposure of the rounds of a tree, each with its probability: what simulated rounds are summed up to."""
    tree, faults, q = Shape(2, 2, 0, 2).tree(), Faults(0.2, 0.3), 0.3
    totals = dict.fromkeys(("published", "arrived"), (0.0, 0.0))
    for one in every_round(tree, faults):
        found = round_exposure(one.described, corrupt=[q], samples=1).by_corrupt[0][1]
        for account, (contributors, exposed) in totals.items():
            mine = getattr(found, account)
            totals[account] = contributors + one.weight * mine.contributors, exposed + one.weight * mine.exposed
    theory = closed_form(tree, faults, q)
    for account, (contributors, exposed) in totals.items():
        assert contributors == pytest.approx(getattr(theory, account).contributors)
        assert exposed == pytest.approx(getattr(theory, account).exposed)


def test_samples_are_near_the_formulas_and_repeatable() -> None:
    one, two = (round_exposure(LATE_AND_LOST, corrupt=[0.5], sizes=[3], samples=2000, seed=seed) for seed in (3, 3))
    assert one == two != round_exposure(LATE_AND_LOST, corrupt=[0.5], sizes=[3], samples=2000, seed=4)
    for _, exposure in (*one.by_corrupt, *one.by_size):
        assert exposure.arrived is not None
        assert 0 < abs(exposure.sampled - exposure.arrived.share) < 3 * exposure.sampled_error
        assert exposure.hidden > 0
        assert exposure.sizes[0] == 0
        assert exposure.sizes[1] / (sum(exposure.sizes) + exposure.hidden) == pytest.approx(exposure.sampled)


def test_a_round_that_breaks_the_protocol_has_samples_only() -> None:
    """Without masks, a star's root and one more peer give everybody else away."""
    star = play_round(Tree(2, (-1, 0, 1, 1)), [Fate.ON_TIME] * 4).described
    bare = replace(star, nodes=tuple(replace(n, trustees=()) for n in star.nodes))
    found = round_exposure(bare, sizes=[1], samples=400)
    assert not found.follows_protocol
    exposure = found.by_size[0][1]
    assert exposure.arrived is None
    assert exposure.published is None
    assert exposure.sizes == ()
    assert exposure.sampled > 0


def test_a_round_of_nobody() -> None:
    silent = play_round(Tree(3, (-1, 0)), [Fate.ON_TIME] * 2).described
    found = round_exposure(silent, corrupt=[0.1], sizes=[1, 5])
    assert (found.published, found.arrived, found.fewest_neighbours) == (0, 0, None)
    assert found.by_corrupt[0][1].sampled == 0


def test_bad_arguments() -> None:
    with pytest.raises(ConfigurationError):
        round_exposure(LATE_AND_LOST, corrupt=[1.0])
    for bad in ({"samples": 0}, {"sizes": [-1]}):
        with pytest.raises(ValueError, match="sample"):
            round_exposure(LATE_AND_LOST, **bad)  # type: ignore[arg-type]
