"""The shape of a tree: how many children, how large their subtrees, and who may invite whom.

Neighbours: ``machine`` plans with it at every node of the tree.
Invariants: every leaf of a planned tree lies at depth >= S, so that the contribution rule can hold everywhere; a
network barely large enough gets a trunk of single-child levels without any special case; siblings invite from
disjoint slices of the candidates.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from protocol.base.ids import PeerId, RoundId
from protocol.base.limits import MAX_DEPTH

RING = 1 << 63
"""Positions of peers in a round's ring are integers in ``[0, RING)``."""


def planned_cohort(live: int, wanted: int, minimum: int, branching: int = 2) -> int:
    """Contributions a root plans for: as asked, a little below the peers believed alive (itself included).

    One place in sixteen is left free so that a stale view does not cost whole branches; never below ``minimum``,
    which is needed to publish at all.  A chain (``branching`` 1) is no longer than ``MAX_DEPTH``.
    """
    longest = MAX_DEPTH + 1 if branching == 1 else wanted
    return max(minimum, min(wanted, longest, live - live // 16))


def minimum_subtree(depth: int, collusion_threshold: int) -> int:
    """Fewest nodes of a subtree whose root is at ``depth`` and whose leaves lie at depth >= S.

    With fewer its root has fewer than S mask neighbours, whoever takes part; with as many it can have S.
    """
    return max(1, collusion_threshold - depth + 1)


def child_caps(depth: int, cap: int, branching: int, collusion_threshold: int) -> tuple[int, ...]:
    """Caps of the children of a node at ``depth`` whose own subtree may hold ``cap`` contributions.

    As many children as branching allows while each can still reach depth S; sizes differ by at most one.  None at
    ``MAX_DEPTH``, below which no offer can be made: with a branching of 1 a large cohort is one long chain.
    """
    if depth >= MAX_DEPTH:
        return ()
    rest = cap - 1
    smallest = minimum_subtree(depth + 1, collusion_threshold)
    count = min(branching, rest // smallest)
    if count < 1:
        return ()
    return tuple(rest // count + (1 if i < rest % count else 0) for i in range(count))


@lru_cache(maxsize=256)
def height(depth: int, cap: int, branching: int, collusion_threshold: int) -> int:
    """Levels below a node at ``depth``: 0 for a leaf.  The first child is never smaller than its siblings."""
    levels = 0
    while caps := child_caps(depth, cap, branching, collusion_threshold):
        depth, cap, levels = depth + 1, caps[0], levels + 1
    return levels


def position(round_id: RoundId, peer: PeerId) -> int:
    """Where a peer stands in the ring of one round: a hash, so that slices are fresh in every round."""
    return int.from_bytes(hashlib.sha256(round_id + peer).digest()[:8], "little") >> 1


def split(low: int, high: int, positions: Sequence[int], caps: Sequence[int]) -> list[tuple[int, int]]:
    """Cut ``[low, high)`` into one slice per child, holding known candidates in proportion to the caps.

    ``positions``: those of the known candidates in the slice, sorted.  Where nobody is known the cut is by length.
    """
    total = sum(caps)
    borders = [low]
    passed = 0
    for cap in caps[:-1]:
        passed += cap
        if positions:
            cut = (len(positions) * passed + total // 2) // total
            border = positions[cut] if cut < len(positions) else high
        else:
            border = low + (high - low) * passed // total
        borders.append(min(max(border, borders[-1]), high))
    borders.append(high)
    return list(pairwise(borders))
