"""Splitting a data set into the shards of several peers, for demonstrations and experiments.

Neighbours: the demo and the simulator; ``readers`` writes the shards to files.
Invariants: every record goes to exactly one peer; every peer gets at least ``minimum``; one generator state gives one
split.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError

_TARGET_BINS = 10
"""Under ``dirichlet`` a regression target is cut at its deciles, which then play the classes."""


def partition(
    y: NDArray[Any], peers: int, spec: str, rng: np.random.Generator, minimum: int = 8
) -> list[NDArray[np.int64]]:
    """Positions (sorted int64 arrays) of the records of every peer.

    ``spec``: ``iid`` (random, sizes differ by at most one) or ``dirichlet:ALPHA`` (for each class, the peers' shares
    are a draw from a symmetric Dirichlet distribution; the smaller ALPHA, the more one-sided).  A peer below
    ``minimum`` is filled up with random records of the largest shards.  Raises ``ConfigurationError`` for a bad
    ``spec`` or too few records.
    """
    alpha = parse_spec(spec)
    problems = []
    if peers < 1:
        problems.append(f"peers: {peers} must be at least 1")
    elif len(y) < peers * minimum:
        most = len(y) // max(minimum, 1)
        remedy = f"use at most {most} peers" if most else "more are needed"
        problems.append(
            f"{len(y)} records to train with are too few for {peers} peers with at least {minimum} each; {remedy}"
        )
    if problems:
        raise ConfigurationError(problems)
    if alpha is None:
        return [np.sort(part) for part in np.array_split(rng.permutation(len(y)), peers)]
    shards = _dirichlet(y, peers, alpha, rng)
    _fill_up(shards, minimum, rng)
    return [np.sort(np.array(shard, dtype=np.int64)) for shard in shards]


def parse_spec(spec: str) -> float | None:
    """The ALPHA of ``dirichlet:ALPHA``, None for ``iid``.  Raises ``ConfigurationError``."""
    kind, _, rest = spec.partition(":")
    if spec == "iid":
        return None
    try:
        alpha = float(rest) if kind == "dirichlet" else math.nan
    except ValueError:
        alpha = math.nan
    if not 1e-3 <= alpha <= 1e6:
        right = "iid, or dirichlet:ALPHA with ALPHA from 0.001 to 1000000"
        raise ConfigurationError([f"partition: '{spec}' must be {right}"])
    return alpha


def _dirichlet(y: NDArray[Any], peers: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    labels = y
    if not np.issubdtype(y.dtype, np.integer):
        labels = np.searchsorted(np.quantile(y, np.linspace(0, 1, _TARGET_BINS + 1)[1:-1]), y)
    shards: list[list[int]] = [[] for _ in range(peers)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(peers, alpha)))[:-1] * len(rows)).astype(np.int64)
        for shard, part in zip(shards, np.split(rows, cuts), strict=True):
            shard.extend(part.tolist())
    return shards


def _fill_up(shards: list[list[int]], minimum: int, rng: np.random.Generator) -> None:
    for shard in shards:
        while len(shard) < minimum:
            largest = max(shards, key=len)
            shard.append(largest.pop(int(rng.integers(len(largest)))))
