"""A shape of tree, any other tree, and what may happen to a partial on its way up.

Neighbours: all engines of this package.  Invariants: frozen values, checked when they are made (all mistakes at once).
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_BRANCHING, MAX_COHORT, MAX_COLLUSION_THRESHOLD, MAX_DEPTH

Account: TypeAlias = Literal["published", "arrived"]
"""Which contributors are counted; the package's docstring defines both."""
ACCOUNTS: tuple[Account, ...] = ("published", "arrived")


@dataclass(frozen=True, slots=True)
class Kind:
    """Nodes of a tree that nothing tells apart: of one depth, with equal subtrees."""

    depth: int
    count: int
    """How many such nodes the tree has."""
    children: tuple[tuple[int, int], ...]
    """(index of a later kind, how many children of it each node has)."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Any rooted tree.  Node 0 is the root, and a parent stands before its children."""

    collusion_threshold: int
    parents: tuple[int, ...]
    """``parents[v]`` for every node ``v``; that of the root is -1."""

    def __post_init__(self) -> None:
        if self.collusion_threshold < 2:
            raise ValueError("the collusion threshold must be at least 2")
        if self.parents[:1] != (-1,) or any(not 0 <= p < v for v, p in enumerate(self.parents[1:], start=1)):
            raise ValueError("the parents are not those of a tree in which a parent stands before its children")

    @property
    def nodes(self) -> int:
        """How many there are, the root included."""
        return len(self.parents)

    def depths(self) -> list[int]:
        """Edges between every node and the root."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        return depths

    def ancestors(self, node: int) -> list[int]:
        """Those within S, nearest first."""
        chain: list[int] = []
        while node and len(chain) < self.collusion_threshold:
            node = self.parents[node]
            chain.append(node)
        return chain

    def children(self) -> list[list[int]]:
        """Children of every node."""
        children: list[list[int]] = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents[1:], start=1):
            children[parent].append(node)
        return children

    def kinds(self) -> tuple[Kind, ...]:
        """Its nodes by kind; the root is the first, and children's kinds come after their parents'."""
        below: list[dict[int, int]] = [{} for _ in self.parents]
        known: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        counts: list[int] = []
        depths = self.depths()
        for node in reversed(range(self.nodes)):
            key = depths[node], tuple(sorted(below[node].items()))
            kind = known.setdefault(key, len(known))
            if kind == len(counts):
                counts.append(0)
            counts[kind] += 1
            if node:
                siblings = below[self.parents[node]]
                siblings[kind] = siblings.get(kind, 0) + 1
        last = len(counts) - 1
        return tuple(
            Kind(depth, counts[kind], tuple(sorted((last - child, many) for child, many in children)))
            for (depth, children), kind in reversed(known.items())
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """A full tree: ``trunk`` levels of one child each under the root, then ``branching`` children everywhere.

    Raises ``ConfigurationError`` with everything that is wrong.
    """

    branching: int
    depth: int
    """Edges between the root and every leaf: at least S, or nobody may contribute."""
    trunk: int = 0
    """Leading levels whose nodes have a single child."""
    collusion_threshold: int = 3

    def __post_init__(self) -> None:
        problems = []
        for what, value, low, high in (
            ("branching", self.branching, 1, MAX_BRANCHING),
            ("depth", self.depth, 1, MAX_DEPTH),
            ("trunk", self.trunk, 0, MAX_DEPTH),
            ("collusion threshold", self.collusion_threshold, 2, MAX_COLLUSION_THRESHOLD),
        ):
            if not low <= value <= high:
                problems.append(f"{what} {value} is not from {low} to {high}")
        if not problems:
            if self.depth < self.collusion_threshold:
                problems.append(
                    f"leaves at depth {self.depth} have fewer ancestors than the collusion threshold"
                    f" {self.collusion_threshold} asks for, so nobody could contribute"
                )
            if self.trunk > self.depth:
                problems.append(f"a trunk of {self.trunk} levels is longer than the tree, whose depth is {self.depth}")
            if self.nodes > MAX_COHORT:
                problems.append(f"a tree of {self.nodes} nodes is larger than a round may be ({MAX_COHORT})")
        if problems:
            raise ConfigurationError(problems)

    @property
    def widths(self) -> tuple[int, ...]:
        """Nodes at every depth, the root's first."""
        widths = [1]
        for depth in range(self.depth):
            widths.append(widths[-1] * self._children(depth))
        return tuple(widths)

    @property
    def nodes(self) -> int:
        """How many there are, the root included."""
        return sum(self.widths)

    def kinds(self) -> tuple[Kind, ...]:
        """One kind for each depth."""
        return tuple(
            Kind(depth, width, ((depth + 1, self._children(depth)),) if depth < self.depth else ())
            for depth, width in enumerate(self.widths)
        )

    def tree(self) -> Tree:
        """Node by node, level after level."""
        parents = [-1]
        first = 0
        for depth, width in enumerate(self.widths[:-1]):
            for node in range(first, first + width):
                parents += [node] * self._children(depth)
            first += width
        return Tree(self.collusion_threshold, tuple(parents))

    def _children(self, depth: int) -> int:
        return 1 if depth < self.trunk else self.branching


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to a partial that a node other than the root sends, independently of all others.

    Raises ``ConfigurationError`` with everything that is wrong.
    """

    lost: float = 0.0
    """Probability that it reaches nobody."""
    late: float = 0.0
    """Probability, where it is not lost, that its parent receives it and does not combine it."""

    def __post_init__(self) -> None:
        problems = [
            f"the probability of {what} partials must be from 0 to 1, not {value}"
            for what, value in (("lost", self.lost), ("late", self.late))
            if not 0 <= value <= 1
        ]
        if problems:
            raise ConfigurationError(problems)

    @property
    def arrives(self) -> float:
        """Probability that it reaches its parent, on time or not."""
        return 1 - self.lost

    @property
    def on_time(self) -> float:
        """Probability that its parent combines it."""
        return (1 - self.lost) * (1 - self.late)


def check_corrupt(share: float) -> None:
    """Raises ``ConfigurationError`` where ``share`` is no share of corrupt peers that leaves an honest one."""
    if not 0 <= share < 1:
        raise ConfigurationError([f"the share of corrupt peers must be at least 0 and below 1, not {share}"])
