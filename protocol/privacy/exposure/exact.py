"""Small trees exactly: every coalition, by the linear algebra of ``leakage``, over what may become of the partials.

Neighbours: ``study``; the definitions stand in the package's docstring.  It knows neither the theorem nor the other
engines: rounds are played out with the guard, and what a coalition learns is whatever follows from its equations.
So it also tells what a protocol gives away that breaks a clause: see ``Conduct``.

Invariants: one seed gives one result; every pattern of fates is looked at where there are few, else a sample.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from protocol.privacy.exposure.tree import ACCOUNTS, Account, Faults, Shape, Tree, check_corrupt
from protocol.privacy.guard import may_contribute
from protocol.privacy.leakage import DescribedRound, Leakage, RoundNode

DEFAULT_VIEWS = 1 << 17
"""Views (one coalition in one round) that are looked at by default: a few seconds."""
FEWEST_PATTERNS = 32
"""A sample of fewer patterns of fates would say too little."""


class Fate(Enum):
    """What becomes of the partial of a node."""

    LOST = auto()
    LATE = auto()
    ON_TIME = auto()


class Conduct(Enum):
    """What a node does when it starts to combine."""

    CONTRIBUTE = auto()
    """It adds its value, and forwards (the root: publishes)."""
    RELAY = auto()
    """It forwards (or publishes) its children's values without one of its own: forbidden by the protocol."""
    ABSTAIN = auto()


Rule = Callable[[int, int, int, int, int], Conduct]
"""(depth, S, children combined, seeds opened, contributors within S below whose values came late) -> conduct."""


def the_rule(depth: int, s: int, children: int, seeds: int, late: int) -> Conduct:
    """The protocol's own."""
    return Conduct.CONTRIBUTE if may_contribute(depth, s, children, seeds) else Conduct.ABSTAIN


@dataclass(frozen=True, slots=True)
class Played:
    """One round of a tree, and how likely it is."""

    weight: float
    described: DescribedRound
    published: int
    """Bits of the nodes whose values are in the published total."""
    arrived: int
    """Bits of the contributors whose vectors reached their parents."""


@dataclass(frozen=True, slots=True)
class Exact:
    """What linear algebra says of a tree, for every share of corrupt peers.

    Rows stand for patterns of fates, columns for sizes of coalition; entries are sums over the coalitions.
    """

    nodes: int
    complete: bool
    """Every pattern was looked at; else they are a sample."""
    patterns: int
    """How many were looked at (of a sample: drawn)."""
    smallest: int | None
    """Members of the smallest coalition that learns a value in any of the patterns; ``None``: none does."""
    _weights: NDArray[np.float64] = field(repr=False)
    _exposed: dict[Account, NDArray[np.float64]] = field(repr=False)
    _honest: dict[Account, NDArray[np.float64]] = field(repr=False)

    @property
    def views(self) -> int:
        """Coalitions times patterns."""
        return self.patterns << self.nodes

    def share(self, account: Account, corrupt: float) -> float:
        """The share exposed; 0 where there are no contributors."""
        exposed, honest = self._means(account, corrupt)
        expected = float(self._weights @ honest)
        return float(self._weights @ exposed) / expected if expected else 0.0

    def contributors(self, account: Account) -> float:
        """Expected number in one round, honest or not."""
        return float(self._weights @ self._honest[account][:, 0])

    def share_error(self, account: Account, corrupt: float) -> float:
        """Standard error of the share: 0 where every pattern was looked at."""
        exposed, honest = self._means(account, corrupt)
        expected = float(self._weights @ honest)
        if self.complete or not expected:
            return 0.0
        residual = exposed - self.share(account, corrupt) * honest
        return math.sqrt(float(self._weights @ residual**2) / self.patterns) / expected

    def _means(self, account: Account, corrupt: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected exposed, and honest, contributors over the coalitions, by pattern."""
        check_corrupt(corrupt)
        size = np.arange(self.nodes + 1)
        chance = corrupt**size * (1 - corrupt) ** (self.nodes - size)
        return self._exposed[account] @ chance, self._honest[account] @ chance


def by_algebra(
    tree: Shape | Tree,
    faults: Faults,
    *,
    seed: int = 0,
    views: int = DEFAULT_VIEWS,
    rule: Rule = the_rule,
) -> Exact | None:
    """Look at every coalition of a tree, for all patterns of fates or a sample of them, by linear algebra.

    ``views``: how many views to look at, at most; of a sample of patterns, equal ones count once.  ``None`` where the
    tree is too large for that.
    """
    nodes = tree.nodes
    room = views >> nodes
    if room < 1:
        return None
    tree = tree.tree() if isinstance(tree, Shape) else tree
    played: list[Played] = []
    complete = True
    for one in every_round(tree, faults, rule):
        played.append(one)
        if len(played) > room:
            complete = False
            break
    drawn = len(played)
    if not complete:
        if room < FEWEST_PATTERNS:
            return None
        drawn = room
        played = _sampled_rounds(tree, faults, rule, room, np.random.Generator(np.random.PCG64(seed)))
    return _examine(nodes, played, complete, drawn)


def every_round(tree: Tree, faults: Faults, rule: Rule = the_rule) -> Iterator[Played]:
    """Every round that can happen on a tree, with its probability.  What a silent node's fate would be is not asked."""
    chances = {
        Fate.LOST: faults.lost,
        Fate.LATE: faults.arrives - faults.on_time,
        Fate.ON_TIME: faults.on_time,
    }
    fates: list[Fate] = [Fate.LOST] * tree.nodes
    play = _Play(tree, rule)

    def settle(node: int, weight: float) -> Iterator[Played]:
        """Nodes are decided from the last to the first: children before parents."""
        conduct = play.decide(node, fates)
        if node == 0:
            yield play.played(fates, weight)
        elif conduct is Conduct.ABSTAIN:
            yield from settle(node - 1, weight)
        else:
            for fate, chance in chances.items():
                if chance > 0:
                    fates[node] = fate
                    yield from settle(node - 1, weight * chance)

    return settle(tree.nodes - 1, 1.0)


def play_round(tree: Tree, fates: Sequence[Fate], rule: Rule = the_rule) -> Played:
    """The round with these fates (that of the root is ignored)."""
    play = _Play(tree, rule)
    for node in reversed(range(tree.nodes)):
        play.decide(node, fates)
    return play.played(fates, 1.0)


def _sampled_rounds(tree: Tree, faults: Faults, rule: Rule, count: int, rng: np.random.Generator) -> list[Played]:
    """``count`` rounds at random, equal ones together; the weights add up to 1."""
    drawn: dict[DescribedRound, list[Played]] = {}
    for row in rng.random((count, tree.nodes)):
        fates = [
            Fate.ON_TIME if x < faults.on_time else Fate.LATE if x < faults.arrives else Fate.LOST for x in row.tolist()
        ]
        one = play_round(tree, fates, rule)
        drawn.setdefault(one.described, []).append(one)
    return [Played(len(equal) / count, d, equal[0].published, equal[0].arrived) for d, equal in drawn.items()]


class _Play:
    """A round in the making: who contributed, and whose values are in whose vectors."""

    def __init__(self, tree: Tree, rule: Rule) -> None:
        self._tree, self._rule = tree, rule
        self._names = [v.to_bytes(4, "big") for v in range(tree.nodes)]
        self._children = tree.children()
        self._depths = tree.depths()
        self._above = [tree.ancestors(v) for v in range(tree.nodes)]
        self._conduct = [Conduct.ABSTAIN] * tree.nodes
        self._inside = [0] * tree.nodes
        """Bits of the nodes whose values are in each node's vector."""

    def decide(self, node: int, fates: Sequence[Fate]) -> Conduct:
        """What the node does; its children must have been decided."""
        sent = [c for c in self._children[node] if self._conduct[c] is not Conduct.ABSTAIN]
        taken = [c for c in sent if fates[c] is Fate.ON_TIME]
        inside = sum(self._inside[c] for c in taken)
        late = sum(self._inside[c] for c in sent if fates[c] is Fate.LATE)
        conduct = self._rule(
            self._depths[node],
            self._tree.collusion_threshold,
            len(taken),
            self._near(node, inside, 2),
            self._near(node, late, 1),
        )
        self._conduct[node] = conduct
        self._inside[node] = inside | (1 << node if conduct is Conduct.CONTRIBUTE else 0)
        return conduct

    def played(self, fates: Sequence[Fate], weight: float) -> Played:
        """The round, when every node has been decided."""
        nodes = []
        arrived = 0
        for v, name in enumerate(self._names):
            sent = [c for c in self._children[v] if self._conduct[c] is not Conduct.ABSTAIN]
            up = tuple(self._names[a] for a in self._above[v])
            contributed = self._conduct[v] is Conduct.CONTRIBUTE
            if contributed and (v == 0 or fates[v] is not Fate.LOST):
                arrived |= 1 << v
            nodes.append(
                RoundNode(
                    peer=name,
                    ancestors=up,
                    contributed=contributed,
                    sent=self._conduct[v] is not Conduct.ABSTAIN,
                    combined=tuple(self._names[c] for c in sent if fates[c] is Fate.ON_TIME),
                    received=tuple(self._names[c] for c in sent if fates[c] is not Fate.LOST),
                    trustees=up[1 : self._tree.collusion_threshold] if contributed else (),
                )
            )
        published = 0 if self._conduct[0] is Conduct.ABSTAIN else self._inside[0]
        return Played(weight, DescribedRound(self._tree.collusion_threshold, tuple(nodes)), published, arrived)

    def _near(self, node: int, below: int, nearest: int) -> int:
        """How many of the nodes in ``below`` lie at distance ``nearest`` to S under the node."""
        return sum(1 for v in _bits(below) if node in self._above[v][nearest - 1 :])


def _examine(nodes: int, played: Sequence[Played], complete: bool, drawn: int) -> Exact:
    """Ask the engine for every coalition of every round."""
    shape = len(played), nodes + 1
    exposed: dict[Account, NDArray[np.float64]] = {account: np.zeros(shape) for account in ACCOUNTS}
    honest: dict[Account, NDArray[np.float64]] = {account: np.zeros(shape) for account in ACCOUNTS}
    smallest: int | None = None
    for row, one in enumerate(played):
        engine = Leakage(one.described)
        accounts: dict[Account, int] = {"published": one.published, "arrived": one.arrived}
        for coalition in range(1 << nodes):
            size = coalition.bit_count()
            values = 0
            for peer in engine.by_algebra([engine.peers[v] for v in _bits(coalition)]).values:
                values |= 1 << int.from_bytes(peer, "big")
            if values and (smallest is None or size < smallest):
                smallest = size
            for account, members in accounts.items():
                exposed[account][row, size] += (values & members).bit_count()
                honest[account][row, size] += (members & ~coalition).bit_count()
    weights = np.array([one.weight for one in played])
    return Exact(nodes, complete, drawn, smallest, weights, exposed, honest)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1
