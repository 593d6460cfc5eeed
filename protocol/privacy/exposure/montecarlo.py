"""Random trees by the batch: who contributes, who is exposed, and how large the components are.

Neighbours: ``study``; the definitions stand in the package's docstring.  It plays the rounds out, counting mask
neighbours as nodes do, and uses none of the shortcuts of ``theory``.

A contributor's component is that of its nearest honest ancestor within S whose vector has the value inside: one further
up that has it too has that ancestor's value inside as well, so it is in the same component; and if the nearest one has
not got it, or did not send it on, the component is hidden.  So sizes are summed on the way up these links and handed
down again, one node after the other, over a whole batch of trees at once.

Invariants: one seed gives one result; memory is bounded by ``CELLS`` whatever the number of trees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocol.privacy.exposure.tree import Faults, Shape, Tree, check_corrupt

Flags: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[np.unsignedinteger[Any]]

CELLS = 1 << 19
"""Nodes times trees of one batch: some 20 bytes each, so that a batch stays near the processor."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A batch of rounds before they are played.  Each (nodes, trees)."""

    corrupt: Flags
    arrives: Flags
    """A partial that the node sends reaches its parent.  The root's row is ignored."""
    on_time: Flags
    """And is combined there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A batch of rounds that have been played.  Each (nodes, trees)."""

    contributes: Flags
    published: Flags
    arrived: Flags
    component: Counts
    """Size of an honest contributor's component; of nobody else's."""
    hidden: Flags
    """That component is hidden."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of the published, or of the arrived, contributors of many rounds."""

    contributors: float
    """Mean number in one round, honest or not."""
    contributors_error: float
    """Its standard error."""
    honest: int
    """How many honest ones were looked at."""
    exposed: int
    """How many of them were exposed."""
    share_error: float
    """Standard error of the share, with contributors of one tree not taken to be independent."""
    hidden: int
    """How many honest ones are in hidden components."""
    sizes: tuple[int, ...]
    """How many honest ones are in a component of each size that is not hidden; ``sizes[0]`` is 0."""

    @property
    def share(self) -> float:
        """The share exposed; 0 where there was nobody honest."""
        return self.exposed / self.honest if self.honest else 0.0

    def z(self, expected: float) -> float:
        """How many standard errors the share lies above ``expected``.

        The error is at least that of as many independent contributors exposed with probability ``expected``: where
        exposure is so rare that none was seen, the sample's own error would be 0.
        """
        independent = math.sqrt(expected * (1 - expected) / self.honest) if self.honest else 0.0
        error = max(self.share_error, independent)
        return (self.share - expected) / error if error else 0.0


def quantile(sizes: Sequence[int], share: float) -> int | None:
    """Smallest size that at least ``share`` of those in visible components do not exceed; ``None`` without any.

    ``sizes``: of every size from 0 on, how many contributors are in a component of it.
    """
    wanted, total = share * sum(sizes), 0
    for size, count in enumerate(sizes):
        total += count
        if count and total >= wanted:
            return size
    return None


@dataclass(frozen=True, slots=True)
class MonteCarlo:
    """What random rounds showed."""

    trees: int
    published: Sample
    arrived: Sample


def monte_carlo(tree: Shape | Tree, faults: Faults, corrupt: float, *, trees: int, seed: int) -> MonteCarlo:
    """Play ``trees`` rounds; ``corrupt``: the probability q, in [0, 1).

    Raises ``ConfigurationError`` for another q and ``ValueError`` for less than one tree or a negative seed.
    """
    check_corrupt(corrupt)
    if trees < 1 or seed < 0:
        raise ValueError("at least one tree is needed, and a seed that is not negative")
    tree = tree.tree() if isinstance(tree, Shape) else tree
    rng = np.random.Generator(np.random.PCG64(seed))
    published, arrived = _Tally(tree.nodes), _Tally(tree.nodes)
    width = max(1, CELLS // tree.nodes)
    for start in range(0, trees, width):
        draw = draw_rounds(tree, faults, corrupt, min(width, trees - start), rng)
        outcome = play(tree, draw)
        published.add(outcome.published, draw, outcome)
        arrived.add(outcome.arrived, draw, outcome)
    return MonteCarlo(trees, published.sample(trees), arrived.sample(trees))


def draw_rounds(tree: Tree, faults: Faults, corrupt: float, trees: int, rng: np.random.Generator) -> Draw:
    """Draw who is corrupt and what becomes of every partial, should it be sent."""
    shape = tree.nodes, trees
    bad = rng.random(shape) < corrupt
    if faults == Faults():
        whole = np.ones(shape, dtype=np.bool_)
        return Draw(bad, whole, whole)
    fate = rng.random(shape)
    return Draw(bad, fate < faults.arrives, fate < faults.on_time)


def play(tree: Tree, draw: Draw) -> Outcome:
    """Play a batch of rounds."""
    above = [tree.ancestors(v) for v in range(tree.nodes)]
    contributes, taken = _combine(tree, draw)
    arrived = contributes & draw.arrives
    arrived[0] = contributes[0]
    published = np.empty_like(taken)
    forwarded = np.empty_like(taken)  # inside the vector that the parent sent
    published[0] = contributes[0]
    for v, parent in enumerate(tree.parents[1:], start=1):
        np.logical_and(taken[v], published[parent], out=published[v])
        np.logical_and(taken[v], contributes[parent], out=forwarded[v])
    honest = contributes & ~draw.corrupt
    hidden = honest & ~arrived
    links = [_links(v, above[v], honest[v], hidden[v], draw.corrupt, forwarded) for v in range(tree.nodes)]
    component: Counts = honest.astype(_counting(tree.nodes))
    for v in reversed(range(tree.nodes)):
        for ancestor, link in zip(above[v], links[v], strict=True):
            component[ancestor] += component[v] * link
            hidden[ancestor] |= hidden[v] & link
    for v in range(tree.nodes):
        for ancestor, link in zip(above[v], links[v], strict=True):
            np.copyto(component[v], component[ancestor], where=link)
            np.copyto(hidden[v], hidden[ancestor], where=link)
    return Outcome(contributes, published, arrived, component, hidden)


def _combine(tree: Tree, draw: Draw) -> tuple[Flags, Flags]:
    """The rule, from the leaves up: who contributes, and whose partial is combined by its parent.

    Each node counts the contributors at distance 1..S below it whose values are in the partials it combines.
    """
    s, (nodes, trees) = tree.collusion_threshold, draw.corrupt.shape
    depths = tree.depths()
    contributes = np.empty((nodes, trees), dtype=np.bool_)
    taken = np.empty((nodes, trees), dtype=np.bool_)
    below = np.zeros((nodes, s, trees), dtype=_counting(nodes))
    for v in reversed(range(nodes)):
        np.greater_equal(below[v].sum(axis=0), s - min(depths[v], s), out=contributes[v])
        if v == 0:
            taken[v] = False
            break
        np.logical_and(contributes[v], draw.on_time[v], out=taken[v])
        parent = below[tree.parents[v]]
        parent[0] += taken[v]
        parent[1:] += below[v, :-1] * taken[v]
    return contributes, taken


def _links(v: int, above: list[int], honest: Flags, hidden: Flags, corrupt: Flags, forwarded: Flags) -> list[Flags]:
    """For each ancestor within S: where it is the nearest honest one of an honest contributor, with its value inside.

    Marks ``hidden`` where the nearest honest one has it not inside.
    """
    links = []
    searching, inside = honest.copy(), forwarded[v].copy()
    below = v
    for ancestor in above:
        if below != v:
            inside &= forwarded[below]
        found = searching & ~corrupt[ancestor]
        links.append(found & inside)
        hidden |= found & ~inside
        searching &= corrupt[ancestor]
        below = ancestor
    return links


def _counting(nodes: int) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if nodes < 1 << 16 else np.uint32


class _Tally:
    """Sums over trees, from which shares and their errors follow."""

    def __init__(self, nodes: int) -> None:
        self._word = _counting(nodes)
        self._members = [0, 0]
        """Sum and sum of squares of the number in one tree."""
        self._exposed = self._honest = self._exposed_squares = self._honest_squares = self._products = 0
        self._hidden = 0
        self._sizes: NDArray[np.int64] = np.zeros(nodes + 1, dtype=np.int64)

    def add(self, members: Flags, draw: Draw, outcome: Outcome) -> None:
        honest = members & ~draw.corrupt
        visible = honest & ~outcome.hidden
        in_tree, honest_in_tree, exposed_in_tree = (
            flags.sum(axis=0, dtype=self._word).astype(np.int64)
            for flags in (members, honest, visible & (outcome.component == 1))
        )
        self._members[0] += int(in_tree.sum())
        self._members[1] += int(in_tree @ in_tree)
        self._exposed += int(exposed_in_tree.sum())
        self._honest += int(honest_in_tree.sum())
        self._exposed_squares += int(exposed_in_tree @ exposed_in_tree)
        self._honest_squares += int(honest_in_tree @ honest_in_tree)
        self._products += int(exposed_in_tree @ honest_in_tree)
        sizes = np.bincount(outcome.component[visible], minlength=len(self._sizes))
        self._hidden += int(honest_in_tree.sum() - sizes.sum())
        self._sizes += sizes

    def sample(self, trees: int) -> Sample:
        mean = self._members[0] / trees
        variance = max(0.0, self._members[1] / trees - mean**2)
        share = self._exposed / self._honest if self._honest else 0.0
        residual = self._exposed_squares - 2 * share * self._products + share**2 * self._honest_squares
        largest = int(np.flatnonzero(self._sizes)[-1]) if self._sizes.any() else 0
        return Sample(
            contributors=mean,
            contributors_error=math.sqrt(variance / trees),
            honest=self._honest,
            exposed=self._exposed,
            share_error=math.sqrt(max(0.0, residual)) / self._honest if self._honest else 0.0,
            hidden=self._hidden,
            sizes=tuple(int(count) for count in self._sizes[: largest + 1]),
        )
