"""What a coalition learns from one round: exactly, in two independent ways.

Neighbours: ``peer.audit`` runs it over recorded rounds, the tests of the guard over every small tree, the user's
leakage command over shapes.  Source: the theorem of the protocol description.

- *By components* (the theorem): the honest contributors' mask graph has an edge between a contributor and an ancestor
  within distance S whose vector that left has the contributor's value inside.  A coalition learns the sum over every
  connected component that is not hidden, and nothing else.  A component is hidden when one of its values never got
  past an honest ancestor within S, or never reached anybody.
- *By algebra*: every vector the coalition holds is one equation over the honest values and the masks it has no seed
  of.  Gaussian elimination gives a basis of all that follows about the values alone.  It knows nothing of the
  theorem, so it also tells what happens when a clause of the protocol is broken (other trustees, pure relays).

Invariants: pure; no randomness.  A coalition holds: its members' values and seeds (drawn and addressed to them), the
vectors that reached them, those they sent, and the published total.  A seed addressed to a member counts as known
wherever its mask is seen, since value, mask and sealed seed travel in one message.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

PRIME = 2**61 - 1
"""Elimination is done modulo this prime.  Coefficients are 0 and 1 and matrices are small, so no minor vanishes by
accident; a multiple of a value counts as the value (in the ring it would tell all but a few of its bits)."""


@dataclass(frozen=True, slots=True)
class RoundNode:
    """One peer's part in a round, without values.  Peers are called by any distinct byte strings."""

    peer: bytes
    ancestors: tuple[bytes, ...]
    """Nearest first, up to S; empty at the root (and, for want of knowledge, at a peer that only received)."""
    contributed: bool
    """Its value and masks are inside its vector."""
    sent: bool
    """Its vector left it; at the root: was published."""
    combined: tuple[bytes, ...]
    """Children whose vectors are inside its vector."""
    received: tuple[bytes, ...]
    """Children whose vectors reached it, combined or not, late or not."""
    trustees: tuple[bytes, ...]
    """To whom it addressed a mask seed: by the protocol, ``ancestors[1:S]``."""


@dataclass(frozen=True, slots=True)
class DescribedRound:
    """One round as far as leakage goes."""

    collusion_threshold: int
    nodes: tuple[RoundNode, ...]

    @property
    def follows_protocol(self) -> bool:
        """Whether the theorem applies: the right trustees everywhere, and nobody forwards without contributing."""
        s = self.collusion_threshold
        return all(not n.sent or (n.contributed and sorted(n.trustees) == sorted(n.ancestors[1:s])) for n in self.nodes)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that a coalition can tell about honest values: a basis in reduced echelon form."""

    sums: tuple[tuple[tuple[bytes, int], ...], ...]
    """Each a linear combination that it knows, as (peer, coefficient modulo ``PRIME``), in order of the nodes."""

    @property
    def values(self) -> tuple[bytes, ...]:
        """The peers whose single value it knows."""
        return tuple(combination[0][0] for combination in self.sums if len(combination) == 1)


@dataclass(frozen=True, slots=True)
class Component:
    """A connected component of the mask graph on the honest contributors, in order of the nodes."""

    peers: tuple[bytes, ...]
    hidden: bool
    """The coalition does not even learn its sum."""


class Leakage:
    """The engine for one round; made once, asked for many coalitions.

    Raises ``ValueError`` when the description is not a tree: a peer described twice or combined twice, a combined
    child that never arrived, never sent or names another parent, a received one that is not described, a cycle, a peer
    that stands above itself or twice above another.
    """

    def __init__(self, described: DescribedRound) -> None:
        self.described = described
        self._nodes = described.nodes
        self._index = {node.peer: i for i, node in enumerate(self._nodes)}
        if len(self._index) != len(self._nodes):
            raise ValueError("a peer is described twice")
        self._check_children()
        pairs = [(i, t) for i, node in enumerate(self._nodes) if node.contributed for t in node.trustees]
        count = len(self._nodes)
        self._mask_bit = {pair: count + k for k, pair in enumerate(pairs)}
        self._held_by: dict[bytes, int] = {node.peer: 1 << i for i, node in enumerate(self._nodes)}
        """Unknowns (as bits) that cease to be unknown once the peer is in the coalition."""
        self._addressed: dict[bytes, int] = {}
        for (i, trustee), bit in self._mask_bit.items():
            self._held_by[self._nodes[i].peer] |= 1 << bit
            self._held_by[trustee] = self._held_by.get(trustee, 0) | 1 << bit
            self._addressed[trustee] = self._addressed.get(trustee, 0) | 1 << bit
        self._vectors = self._all_vectors()
        self._inside = [v & ((1 << count) - 1) for v in self._vectors]
        """Bits of the values inside each node's vector."""
        self._check_ancestors()
        self._published = [self._vectors[i] for i, n in enumerate(self._nodes) if n.sent and not n.ancestors]

    @property
    def peers(self) -> tuple[bytes, ...]:
        """Everybody who took part, in order of the nodes."""
        return tuple(self._index)

    @property
    def published(self) -> tuple[bytes, ...]:
        """Contributors whose values are in the published total, in order of the nodes."""
        inside = 0
        for i, node in enumerate(self._nodes):
            if node.sent and not node.ancestors:
                inside |= self._inside[i]
        return tuple(node.peer for i, node in enumerate(self._nodes) if inside >> i & 1)

    @property
    def arrived(self) -> tuple[bytes, ...]:
        """Contributors whose vectors reached their parents (the root: published), in order of the nodes."""
        return tuple(n.peer for i, n in enumerate(self._nodes) if n.contributed and n.sent and self._arrived(i))

    def neighbours(self, peer: bytes) -> tuple[bytes, ...]:
        """The mask neighbours of a contributor that count under the rule: ancestors within S, and descendants within
        S whose values are inside its vector.  In order of the nodes."""
        s = self.described.collusion_threshold
        own = self._index[peer]
        up = self._nodes[own].ancestors[:s]
        return tuple(
            n.peer
            for i, n in enumerate(self._nodes)
            if n.peer in up or (i != own and self._inside[own] >> i & 1 and peer in n.ancestors[:s])
        )

    def neighbour_counts(self) -> dict[bytes, int]:
        """How many mask neighbours every contributor that sent (or published) has; ancestors count as far as they are
        named, described or not."""
        s = self.described.collusion_threshold
        counts = {n.peer: len(n.ancestors[:s]) for n in self._nodes if n.contributed and n.sent}
        for i, node in enumerate(self._nodes):
            for ancestor in node.ancestors[:s]:
                if ancestor in counts and self._inside[self._index[ancestor]] >> i & 1:
                    counts[ancestor] += 1
        return counts

    def by_algebra(self, coalition: Iterable[bytes]) -> Knowledge:
        """What follows from the coalition's equations.  Cost: elimination of one row per vector it holds."""
        basis = _value_basis(self._view(coalition), len(self._nodes))
        return Knowledge(tuple(tuple((self._nodes[i].peer, c) for i, c in row) for row in basis))

    def by_components(self, coalition: Iterable[bytes]) -> Knowledge:
        """What the theorem says it learns.  Raises ``ValueError`` when the round does not follow the protocol."""
        visible = [c for c in self.components(coalition) if not c.hidden]
        sums = [tuple((p, 1) for p in c.peers) for c in visible]
        return Knowledge(tuple(sorted(sums, key=lambda combination: self._index[combination[-1][0]])))

    def components(self, coalition: Iterable[bytes]) -> tuple[Component, ...]:
        """Components of the mask graph on the honest contributors, in order of their first node."""
        if not self.described.follows_protocol:
            raise ValueError("the theorem says nothing of a round that breaks the protocol")
        corrupt = frozenset(coalition)
        leader = list(range(len(self._nodes)))

        def find(i: int) -> int:
            while leader[i] != i:
                leader[i] = leader[leader[i]]
                i = leader[i]
            return i

        stopped = [False] * len(self._nodes)
        honest = [i for i, n in enumerate(self._nodes) if n.contributed and n.sent and n.peer not in corrupt]
        for i in honest:
            node = self._nodes[i]
            stopped[i] = not self._arrived(i)
            for ancestor in node.ancestors[: self.described.collusion_threshold]:
                if ancestor in corrupt:
                    continue
                t = self._index.get(ancestor)
                if t is not None and self._nodes[t].sent and self._inside[t] >> i & 1:
                    leader[find(i)] = find(t)
                else:
                    stopped[i] = True
        groups: dict[int, list[int]] = {}
        for i in honest:
            groups.setdefault(find(i), []).append(i)
        return tuple(
            Component(tuple(self._nodes[i].peer for i in group), any(stopped[i] for i in group))
            for group in groups.values()
        )

    def _arrived(self, i: int) -> bool:
        """Whether the node's vector got anywhere: to its parent, or, from the root, to the public."""
        node = self._nodes[i]
        if not node.ancestors:
            return node.sent
        parent = self._index.get(node.ancestors[0])
        return parent is not None and node.peer in self._nodes[parent].received

    def _view(self, coalition: Iterable[bytes]) -> tuple[int, ...]:
        """The distinct equations of the coalition over what it does not hold, as bit sets, sorted."""
        known = 0
        seen = list(self._published)
        for peer in coalition:
            known |= self._held_by.get(peer, 0)
            i = self._index.get(peer)
            if i is None:
                continue
            seen += [self._vectors[self._index[child]] for child in self._nodes[i].received]
            if self._nodes[i].sent:
                seen.append(self._vectors[i])
        return tuple(sorted({row & ~known for row in seen} - {0}))

    def _check_children(self) -> None:
        taken: set[bytes] = set()
        for node in self._nodes:
            for child in node.received:
                i = self._index.get(child)
                if i is None or not self._nodes[i].sent:
                    raise ValueError("a vector was received that nobody is described to have sent")
            for child in node.combined:
                if child not in node.received or child in taken:
                    raise ValueError("a vector was combined twice, or without having been received")
                if self._nodes[self._index[child]].ancestors[:1] != (node.peer,):
                    raise ValueError("a vector was combined by another than its sender's parent")
                taken.add(child)

    def _check_ancestors(self) -> None:
        for i, node in enumerate(self._nodes):
            above = {*node.ancestors}
            inside = (self._inside[i] >> self._index[ancestor] & 1 for ancestor in above & self._index.keys())
            if len(above) < len(node.ancestors) or node.peer in above or any(inside):
                raise ValueError("a peer stands above itself, or twice above another")

    def _all_vectors(self) -> list[int]:
        """The symbolic vector of every node: bits of the values and of the masks still on when it leaves."""
        vectors: dict[int, int] = {}
        waiting: set[int] = set()

        def vector(i: int) -> int:
            if i in vectors:
                return vectors[i]
            if i in waiting:
                raise ValueError("a vector contains itself")
            waiting.add(i)
            node = self._nodes[i]
            total = 0
            for child in node.combined:
                total |= vector(self._index[child])
            total &= ~self._addressed.get(node.peer, 0)
            if node.contributed:
                total |= 1 << i
                for trustee in node.trustees:
                    total |= 1 << self._mask_bit[i, trustee]
            vectors[i] = total
            return total

        return [vector(i) for i in range(len(self._nodes))]


def mask_graph_components(described: DescribedRound, coalition: Iterable[bytes]) -> tuple[Component, ...]:
    """Components of the mask graph of one round for one coalition; see ``Leakage.components``."""
    return Leakage(described).components(coalition)


def learned(described: DescribedRound, coalition: Iterable[bytes]) -> Knowledge:
    """What one coalition learns of one round, by linear algebra; see ``Leakage.by_algebra``."""
    return Leakage(described).by_algebra(coalition)


@lru_cache(maxsize=1 << 16)
def _value_basis(rows: tuple[int, ...], values: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Basis, in reduced echelon form, of the combinations of ``rows`` in which no mask is left.

    Columns below ``values`` are values, the others masks.  A pivot is a row's highest column, so that rows whose pivot
    is a value have no mask at all, and they span everything of that kind.  Sorted by pivot.
    """
    basis: dict[int, dict[int, int]] = {}
    for bits in rows:
        row = {c: 1 for c in range(bits.bit_length()) if bits >> c & 1}
        while row and (pivot := max(row)) in basis:
            _subtract(row, basis[pivot], row[pivot])
        if row:
            scale = pow(row[pivot], -1, PRIME)
            basis[pivot] = {c: a * scale % PRIME for c, a in row.items()}
    reduced: dict[int, dict[int, int]] = {}
    for pivot in sorted(p for p in basis if p < values):
        row = dict(basis[pivot])
        for lower in sorted(set(row) & set(reduced)):
            _subtract(row, reduced[lower], row[lower])
        reduced[pivot] = row
    return tuple(tuple(sorted(row.items())) for row in reduced.values())


def _subtract(row: dict[int, int], other: Mapping[int, int], factor: int) -> None:
    """``row -= factor * other`` modulo the prime, in place, without keeping zeros."""
    for column, coefficient in other.items():
        left = (row.get(column, 0) - factor * coefficient) % PRIME
        if left:
            row[column] = left
        else:
            row.pop(column, None)
