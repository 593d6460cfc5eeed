"""News on its way: a bounded queue in which every item is passed on about 3 log2(n + 1) times, then forgotten.

Neighbours: ``bulletin`` keeps three of them: of rumours (suspect, dead, left), of fresh descriptors and of callers.
Invariants: at most one item per peer, the newest; at most ``capacity`` items: when full, the item passed on most
often gives way; what has been passed on least often goes first (source: SWIM, Das, Gupta, Motivala, DSN 2002, 4.1).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Container
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar

from protocol.base.ids import PeerId

T = TypeVar("T")

_SENT = attrgetter("sent")
SPREAD_FACTOR = 3
"""Multiple of log2(n + 1) that makes it all but certain that everybody hears of it."""


def transmissions(size: int) -> int:
    """How often one peer passes one item on in a network of ``size`` peers."""
    return max(1, math.ceil(SPREAD_FACTOR * math.log2(size + 1)))


@dataclass(slots=True, eq=False)
class _Item(Generic[T]):
    peer: PeerId
    content: T
    sent: int = 0


class RumourQueue(Generic[T]):
    """Items keyed by the peer that they are about."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._by_peer: dict[PeerId, _Item[T]] = {}
        self._in_order: list[_Item[T]] = []
        """By how often they were sent; those that came to be sent so often first in front."""

    def __len__(self) -> int:
        return len(self._in_order)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._by_peer

    def put(self, peer: PeerId, content: T) -> None:
        """Pass ``content`` on from now; it replaces what the queue held about ``peer``."""
        self.drop(peer)
        if len(self._in_order) >= self._capacity:
            most = self._in_order[-1].sent
            self.drop(self._in_order[bisect_left(self._in_order, most, key=_SENT)].peer)
        item = self._by_peer[peer] = _Item(peer, content)
        self._in_order.insert(bisect_right(self._in_order, 0, key=_SENT), item)

    def drop(self, peer: PeerId) -> None:
        """Say nothing more about ``peer``."""
        item = self._by_peer.pop(peer, None)
        if item is not None:
            self._in_order.remove(item)

    def clear(self) -> None:
        """Say nothing more about anybody."""
        self._by_peer.clear()
        self._in_order.clear()

    def take(self, count: int, limit: int, besides: Container[PeerId] = ()) -> list[T]:
        """Up to ``count`` items about peers not in ``besides``, least often sent first; each counts as sent once more.

        An item that has been sent ``limit`` times leaves the queue.
        """
        if count <= 0 or not self._in_order:
            return []
        taken: list[_Item[T]] = []
        left: list[_Item[T]] = []
        for at, item in enumerate(self._in_order):
            if item.peer in besides:
                left.append(item)
            else:
                taken.append(item)
                if len(taken) == count:
                    left += self._in_order[at + 1 :]
                    break
        for item in taken:
            item.sent += 1
            if item.sent < limit:
                left.append(item)
            else:
                del self._by_peer[item.peer]
        left.sort(key=_SENT)  # stable: whoever has just come to be sent so often stands behind
        self._in_order = left
        return [item.content for item in taken]
