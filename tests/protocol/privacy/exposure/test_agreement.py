"""Closed form, Monte Carlo and linear algebra agree over S, branching, trunk, depth, faults and corrupt shares.

Every cell has seeds of its own.  Complete results of linear algebra must equal the closed form to nine digits.  Of the
sampled ones, m in all, each is allowed three standard errors; by chance 0.27 % of them would go beyond, so what is
demanded is: no more beyond 3 than such chance explains (binomial, 99.9 %), none beyond the bound for m comparisons
(Bonferroni: 0.1 % for all together), and a mean square of z within what m scores allow.  The scores are printed.
"""

from itertools import product
from statistics import NormalDist

import pytest

from protocol.privacy.exposure import Exact, Faults, Shape, by_algebra, closed_form, monte_carlo
from protocol.privacy.exposure.tree import ACCOUNTS

SHAPES = [
    *(Shape(b, s + extra, 0, s) for s, b, extra in product((2, 3, 4), (1, 2), (0, 1))),
    *(Shape(b, s, s - 1, s) for s, b in product((2, 3, 4), (2, 3, 4))),
    *(Shape(b, s + 1, s - 1, s) for s, b in product((2, 3), (2, 3))),
    *(Shape(b, s, 0, s) for s, b in product((2, 3, 4), (3, 4))),
]
FAULTS = [Faults(), Faults(0.1), Faults(0.0, 0.2), Faults(0.3, 0.2)]
CORRUPT = (0.1, 0.4, 0.7)
TREES = 8000
EXPOSED = 100
"""Fewer expected in all trees, and a score would not be near normal."""


@pytest.fixture(scope="module")
def scores() -> dict[str, list[float]]:
    """All z-scores, by what is compared with the closed form."""
    found: dict[str, list[float]] = {"shares": [], "contributors": [], "sampled patterns": []}
    for number, (shape, faults) in enumerate(product(SHAPES, FAULTS)):
        for place, q in enumerate(CORRUPT):
            theory = closed_form(shape, faults, q)
            seen = monte_carlo(shape, faults, q, trees=TREES, seed=len(CORRUPT) * number + place)
            for account in ACCOUNTS:
                expected, sample = getattr(theory, account), getattr(seen, account)
                if expected.exposed * TREES * (1 - q) >= EXPOSED:
                    found["shares"].append(sample.z(expected.share))
                if sample.contributors_error:
                    found["contributors"].append(
                        (sample.contributors - expected.contributors) / sample.contributors_error
                    )
        theory = closed_form(shape, faults, 0.4)
        for place in range(4 if shape.nodes <= 8 else 0):
            exact = by_algebra(shape, faults, seed=4 * number + place, views=100 << shape.nodes)
            if exact is not None and not exact.complete:
                found["sampled patterns"] += [
                    (exact.share(account, 0.4) - getattr(theory, account).share) / exact.share_error(account, 0.4)
                    for account in ACCOUNTS
                ]
    return found


@pytest.mark.parametrize("compared", ["shares", "contributors", "sampled patterns"])
def test_samples_agree_with_the_closed_form(scores: dict[str, list[float]], compared: str) -> None:
    mine = scores[compared]
    count = len(mine)
    beyond = sum(abs(z) > 3 for z in mine)
    bound = NormalDist().inv_cdf(1 - 0.001 / (2 * count))
    square = sum(z * z for z in mine) / count
    largest = max(map(abs, mine))
    print(f"{compared}: {count} scores, {beyond} beyond 3 ({allowed_beyond(count)} allowed),", end=" ")
    print(f"largest {largest:.2f} (bound {bound:.2f}), mean square {square:.3f}")
    assert count >= 40
    assert beyond <= allowed_beyond(count)
    assert largest < bound
    # the two accounts of a cell go together, so that count / 2 scores are independent; the variance of z * z is 2
    assert abs(square - 1) < 3.3 * (2 / (count / 2)) ** 0.5


def test_every_pattern_and_every_coalition_give_the_closed_form() -> None:
    """To nine digits, wherever they are few enough; and no coalition below S learns a value."""
    complete = 0
    for shape, faults in product(SHAPES, FAULTS):
        exact: Exact | None = by_algebra(shape, faults, views=1 << 16) if shape.nodes <= 10 else None
        if exact is None or not exact.complete:
            continue
        complete += 1
        assert exact.smallest == shape.collusion_threshold
        for q, account in product(CORRUPT, ACCOUNTS):
            expected = getattr(closed_form(shape, faults, q), account)
            assert exact.share(account, q) == pytest.approx(expected.share, rel=1e-9)
            assert exact.contributors(account) == pytest.approx(expected.contributors, rel=1e-9)
    print(f"{complete} shapes with faults, compared at {len(CORRUPT)} shares of corrupt peers")
    assert complete > 50


def allowed_beyond(count: int) -> int:
    """How many of ``count`` normal scores exceed 3 at most, but for one time in a thousand."""
    chance, k, total = 2 * (1 - NormalDist().cdf(3)), 0, 0.0
    term = (1 - chance) ** count
    while (total := total + term) < 0.999:
        term *= (count - k) / (k + 1) * chance / (1 - chance)
        k += 1
    return k


def test_allowed_beyond() -> None:
    assert (allowed_beyond(1), allowed_beyond(370), allowed_beyond(10_000)) == (1, 5, 44)
