"""One described round: who would be exposed to a share of corrupt peers, and to coalitions of a size.

Neighbours: ``description`` makes the round from what nodes recorded; the leakage command and simulations read the
result.  Definitions stand in the package's docstring: here the tree and the fates of its partials are known, so that
only who is corrupt is left to chance.

Invariants: one seed gives one sample; where a round breaks the protocol the formulas, which rest on the theorem, are
left out, and linear algebra over sampled coalitions is all there is.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.privacy.exposure.theory import Expected
from protocol.privacy.exposure.tree import check_corrupt
from protocol.privacy.leakage import DescribedRound, Leakage


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure of one round to one kind of coalition, by formula and by sampled coalitions."""

    published: Expected | None
    """By formula; ``None`` where the round breaks the protocol."""
    arrived: Expected | None
    sampled: float
    """Share exposed among the arrived, by linear algebra over sampled coalitions."""
    sampled_error: float
    sizes: tuple[int, ...]
    """Over the samples: honest arrived contributors in a visible component of each size; empty where unknown."""
    hidden: int
    """And those in hidden components."""


@dataclass(frozen=True, slots=True)
class RoundExposure:
    """What coalitions could learn of one round."""

    collusion_threshold: int
    peers: int
    """Everybody who took part, or is named as an ancestor."""
    published: int
    """Contributors in the published total; 0: nothing was published."""
    arrived: int
    follows_protocol: bool
    """Right trustees, no relays, and a record of everybody whose vector went anywhere."""
    fewest_neighbours: int | None
    """Of an arrived contributor; ``None`` without any."""
    by_corrupt: tuple[tuple[float, Exposure], ...]
    """By the probability that a peer is corrupt."""
    by_size: tuple[tuple[int, Exposure], ...]
    """By the size of a coalition, drawn uniformly."""


def round_exposure(
    described: DescribedRound,
    *,
    corrupt: Sequence[float] = (),
    sizes: Sequence[int] = (),
    samples: int = 200,
    seed: int = 0,
) -> RoundExposure:
    """Exposure of a round for each probability in ``corrupt`` and each size of coalition in ``sizes``.

    ``samples``: coalitions drawn for each of them.  Raises ``ConfigurationError`` for a probability outside [0, 1) and
    ``ValueError`` for a description that is no tree, a negative size or less than one sample.
    """
    for q in corrupt:
        check_corrupt(q)
    if samples < 1 or min(sizes, default=0) < 0:
        raise ValueError("at least one sample is needed, and sizes that are not negative")
    return _Round(described).exposure(corrupt, sizes, samples, seed)


class _Round:
    def __init__(self, described: DescribedRound) -> None:
        self._engine = Leakage(described)
        self._described = described
        self._published = self._engine.published
        self._arrived = self._engine.arrived
        named = {ancestor for node in described.nodes for ancestor in node.ancestors}
        self._peers = (*self._engine.peers, *sorted(named - set(self._engine.peers)))
        s = described.collusion_threshold
        up = {node.peer: node.ancestors[:s] for node in described.nodes}
        self._neighbours = {p: len({*up[p], *self._engine.neighbours(p)}) for p in self._arrived}

    def exposure(self, corrupt: Sequence[float], sizes: Sequence[int], samples: int, seed: int) -> RoundExposure:
        by_corrupt, by_size = [], []
        count = len(self._peers)
        for q in corrupt:
            rng = np.random.Generator(np.random.PCG64(seed))
            members = [rng.random(count) < q for _ in range(samples)]
            by_corrupt.append((q, self._one([q**k for k in range(count)], members)))
        for size in sizes:
            rng = np.random.Generator(np.random.PCG64(seed))
            members = [rng.permutation(count) < min(size, count) for _ in range(samples)]
            by_size.append((size, self._one([_all_inside(k, count - 1, size) for k in range(count)], members)))
        return RoundExposure(
            collusion_threshold=self._described.collusion_threshold,
            peers=count,
            published=len(self._published),
            arrived=len(self._arrived),
            follows_protocol=self._described.follows_protocol,
            fewest_neighbours=min(self._neighbours.values(), default=None),
            by_corrupt=tuple(by_corrupt),
            by_size=tuple(by_size),
        )

    def _one(self, chance: Sequence[float], members: Sequence[NDArray[np.bool_]]) -> Exposure:
        """``chance[k]``: that k neighbours of an honest contributor are all in the coalition."""
        lawful = self._described.follows_protocol
        pairs: list[tuple[int, int]] = []
        sizes: Counter[int] = Counter()
        hidden = 0
        arrived = set(self._arrived)
        for inside in members:
            coalition = frozenset(peer for peer, bad in zip(self._peers, inside.tolist(), strict=True) if bad)
            exposed = sum(1 for peer in self._engine.by_algebra(sorted(coalition)).values if peer in arrived)
            pairs.append((exposed, len(arrived - coalition)))
            for component in self._engine.components(sorted(coalition)) if lawful else ():
                count = sum(1 for peer in component.peers if peer in arrived)
                if component.hidden:
                    hidden += count
                else:
                    sizes[len(component.peers)] += count
        exposed, honest = (sum(column) for column in zip(*pairs, strict=True))
        share = exposed / honest if honest else 0.0
        residual = math.sqrt(sum((e - share * h) ** 2 for e, h in pairs))
        return Exposure(
            published=self._expected(self._published, chance) if lawful else None,
            arrived=self._expected(self._arrived, chance) if lawful else None,
            sampled=share,
            sampled_error=residual / honest if honest else 0.0,
            sizes=tuple(sizes[k] for k in range(max(sizes, default=-1) + 1)),
            hidden=hidden,
        )

    def _expected(self, contributors: Sequence[bytes], chance: Sequence[float]) -> Expected:
        return Expected(float(len(contributors)), math.fsum(chance[self._neighbours[p]] for p in contributors))


def _all_inside(k: int, others: int, size: int) -> float:
    """Probability that ``size`` of ``others`` peers, drawn uniformly, include ``k`` given ones."""
    if not k <= size:
        return 0.0
    return 1.0 if size >= others else math.comb(others - k, size - k) / math.comb(others, size)
