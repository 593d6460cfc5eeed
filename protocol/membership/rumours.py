"""News on its way: a bounded queue in which every item is passed on about 3 log2(n + 1) times, then forgotten.

Neighbours: ``machine`` keeps two of them, one for rumours (suspect, dead, left) and one for fresh descriptors.
Invariants: at most one item per peer, the newest; at most ``capacity`` items: when full, the item passed on most
often gives way; what has been passed on least often goes first (source: SWIM, Das, Gupta, Motivala, DSN 2002, 4.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from protocol.base.ids import PeerId

T = TypeVar("T")

SPREAD_FACTOR = 3
"""Multiple of log2(n + 1) that makes it all but certain that everybody hears of it."""


def transmissions(size: int) -> int:
    """How often one peer passes one item on in a network of ``size`` peers."""
    return max(1, math.ceil(SPREAD_FACTOR * math.log2(size + 1)))


@dataclass(slots=True)
class _Item(Generic[T]):
    content: T
    sent: int


class RumourQueue(Generic[T]):
    """Items keyed by the peer that they are about."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._items: dict[PeerId, _Item[T]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._items

    def put(self, peer: PeerId, content: T) -> None:
        """Pass ``content`` on from now; it replaces what the queue held about ``peer``."""
        self._items.pop(peer, None)
        if len(self._items) >= self._capacity:
            # max() takes the first of equals, and a dict keeps the order of insertion: the oldest goes.
            del self._items[max(self._items, key=lambda held: self._items[held].sent)]
        self._items[peer] = _Item(content, 0)

    def drop(self, peer: PeerId) -> None:
        """Say nothing more about ``peer``."""
        self._items.pop(peer, None)

    def take(self, count: int, limit: int, wanted: Callable[[PeerId], bool] = lambda peer: True) -> list[T]:
        """Up to ``count`` items about ``wanted`` peers, least often sent first; each counts as sent once more.

        An item that has been sent ``limit`` times leaves the queue.
        """
        ready = sorted((peer for peer in self._items if wanted(peer)), key=lambda peer: self._items[peer].sent)
        taken = []
        for peer in ready[: max(0, count)]:
            item = self._items[peer]
            taken.append(item.content)
            item.sent += 1
            if item.sent >= limit:
                del self._items[peer]
        return taken
