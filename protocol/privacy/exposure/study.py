"""The three engines side by side, for one shape, one kind of faults, and several shares of corrupt peers.

Neighbours: the leakage command prints a ``Study``; experiments sweep over it.  Invariants: plain data; a row does not
depend on which other shares were asked for; one seed gives one result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.base.errors import ConfigurationError
from protocol.privacy.exposure.exact import DEFAULT_VIEWS, Exact, by_algebra
from protocol.privacy.exposure.montecarlo import MonteCarlo, monte_carlo
from protocol.privacy.exposure.theory import Theory, closed_form
from protocol.privacy.exposure.tree import ACCOUNTS, Account, Faults, Shape, Tree, check_corrupt


@dataclass(frozen=True, slots=True)
class Row:
    """One share of corrupt peers."""

    corrupt: float
    theory: Theory
    monte_carlo: MonteCarlo | None
    """``None`` where no trees were asked for."""


@dataclass(frozen=True, slots=True)
class Study:
    """What the engines say."""

    tree: Shape | Tree
    faults: Faults
    seed: int
    rows: tuple[Row, ...]
    exact: Exact | None
    """``None`` where the tree is too large for it."""

    def z_scores(self, row: Row, account: Account) -> tuple[float | None, float | None]:
        """How many standard errors Monte Carlo, and the exact engine, lie above theory.

        A complete exact result has no error: there any difference beyond rounding is infinitely many.
        """
        expected = getattr(row.theory, account).share
        sampled = None if row.monte_carlo is None else getattr(row.monte_carlo, account).z(expected)
        if self.exact is None:
            return sampled, None
        share, error = self.exact.share(account, row.corrupt), self.exact.share_error(account, row.corrupt)
        if math.isclose(share, expected, rel_tol=1e-9, abs_tol=1e-15):
            return sampled, 0.0
        return sampled, (share - expected) / error if error else math.copysign(math.inf, share - expected)

    @property
    def largest_z(self) -> float:
        """The largest of all z-scores, in absolute value; 0 where there is nothing to compare."""
        scores = (z for row in self.rows for account in ACCOUNTS for z in self.z_scores(row, account))
        return max((abs(z) for z in scores if z is not None), default=0.0)


def study(
    tree: Shape | Tree,
    corrupt: Sequence[float],
    faults: Faults | None = None,
    *,
    trees: int = 100_000,
    seed: int = 0,
    views: int = DEFAULT_VIEWS,
) -> Study:
    """Closed form, Monte Carlo over ``trees`` rounds (0: none), and linear algebra where ``views`` are enough.

    ``corrupt``: the shares of corrupt peers, each in [0, 1).  Raises ``ConfigurationError`` with all that is wrong.
    """
    faults = Faults() if faults is None else faults
    problems: list[str] = []
    for q in corrupt:
        try:
            check_corrupt(q)
        except ConfigurationError as error:
            problems += error.problems
    if trees < 0 or seed < 0:
        problems.append(f"the number of trees and the seed must not be negative, not {trees} and {seed}")
    if problems:
        raise ConfigurationError(problems)
    rows = tuple(
        Row(
            q,
            closed_form(tree, faults, q),
            monte_carlo(tree, faults, q, trees=trees, seed=seed) if trees else None,
        )
        for q in corrupt
    )
    return Study(tree, faults, seed, rows, by_algebra(tree, faults, seed=seed, views=views) if views else None)
