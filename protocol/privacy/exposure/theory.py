"""Expected exposure in closed form, of any tree, under failures and the contribution rule.

Neighbours: ``study``; the other engines must agree with it.  Definitions stand in the package's docstring.

Three observations make it a short recursion.

1. *The rule, seen from below.*  A node at depth S or more always contributes: its ancestors are S mask neighbours.  One
   at depth d < S contributes if and only if it combines at least one child's partial.  For without one it has only d
   mask neighbours; and if every contributor at depth d + 1 heads a chain of contributors down to depth S (true for
   d + 1 = S; then, by going up, for every d), a node that combines one of them has d ancestors and, on that chain,
   S - d descendants.
2. *What is published.*  By the first, a contributor whose partial and whose ancestors' partials are all on time is
   published: none of those ancestors has reason to abstain.  So a contributor at depth d is published with probability
   p**d, where p is the probability of being on time.
3. *What is exposed.*  An honest contributor that has arrived is exposed if and only if all its ancestors within S and
   all descendants within S whose values are in its vector are corrupt.  An honest ancestor with its value inside is a
   neighbour in its component; one that has not got it, or got it and never sent it on, hides it.  So its probability is
   q**k, where k counts ancestors and descendants within S, whatever becomes of its vector further up.

So all that is wanted is, for each node, the generating function of the number of descendants in its vector, at q:

    A(v, j) = E[q ** (descendants of v at distance 1..j inside its vector); v contributes]
            = product over children c of (1 - p * P(c contributes) + p * q * A(c, j - 1)),
              at depth < S less the term in which no child is combined,

with A(v, 0) = P(v contributes).  Invariants: pure; differences are taken term by term, so that small probabilities keep
their digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.privacy.exposure.tree import Faults, Kind, Shape, Tree, check_corrupt


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected numbers in one round."""

    contributors: float
    """Honest or not."""
    exposed: float
    """Sum over the contributors of the probability that one is exposed, given that it is honest."""

    @property
    def share(self) -> float:
        """The share exposed; 0 where there are no contributors."""
        return self.exposed / self.contributors if self.contributors else 0.0


@dataclass(frozen=True, slots=True)
class Theory:
    """What the closed form says."""

    published: Expected
    arrived: Expected


def closed_form(tree: Shape | Tree, faults: Faults, corrupt: float) -> Theory:
    """Expected contributors and exposure; ``corrupt``: the probability q, in [0, 1).

    Raises ``ConfigurationError`` for another q.
    """
    check_corrupt(corrupt)
    kinds, s, p = tree.kinds(), tree.collusion_threshold, faults.on_time
    descendants = _generating(kinds, s, p, corrupt)
    published = [0.0, 0.0]
    arrived = [0.0, 0.0]
    for kind, below in zip(kinds, descendants, strict=True):
        contributes, exposed = below[0], corrupt ** min(kind.depth, s) * below[s]
        for account, chance in ((published, p**kind.depth), (arrived, faults.arrives if kind.depth else 1.0)):
            account[0] += kind.count * chance * contributes
            account[1] += kind.count * chance * exposed
    return Theory(Expected(*published), Expected(*arrived))


def _generating(kinds: Sequence[Kind], s: int, p: float, q: float) -> list[list[float]]:
    """``A(kind, j)`` for j = 0..S, by kind."""
    found: list[list[float]] = [[] for _ in kinds]
    for index in reversed(range(len(kinds))):
        kind = kinds[index]
        for j in range(s + 1):
            none, some = 1.0, 0.0  # no child combined so far; at least one
            for child, many in kind.children:
                missing = 1 - p * found[child][0]
                taken = p * (q * found[child][j - 1] if j else found[child][0])
                for _ in range(many):
                    none, some = none * missing, some * (missing + taken) + none * taken
            found[index].append(some if kind.depth < s else some + none)
    return found
