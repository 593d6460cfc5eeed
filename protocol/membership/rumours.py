"""News on its way: a bounded queue in which every item is passed on about 3 log2(n + 1) times, then forgotten.

Neighbours: ``bulletin`` keeps three of them: of rumours (suspect, dead, left), of fresh descriptors and of callers.
Invariants: at most one item per peer, the newest; at most ``capacity`` items: when full, the item passed on most
often gives way; what has been passed on least often goes first (source: SWIM, Das, Gupta, Motivala, DSN 2002, 4.1).
"""

import math
from collections.abc import Collection
from itertools import islice
from typing import Generic, TypeVar

from protocol.base.ids import PeerId

T = TypeVar("T")

SPREAD_FACTOR = 3
"""Multiple of log2(n + 1) that makes it all but certain that everybody hears of it."""


def transmissions(size: int) -> int:
    """How often one peer passes one item on in a network of ``size`` peers."""
    return max(1, math.ceil(SPREAD_FACTOR * math.log2(size + 1)))


class RumourQueue(Generic[T]):
    """Items keyed by the peer that they are about."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._capacity = capacity
        self._sent: dict[PeerId, int] = {}
        self._by_sent: list[dict[PeerId, T]] = []
        """Items by how often they were sent, those that came to be sent so often first in front."""

    def __len__(self) -> int:
        return len(self._sent)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._sent

    def put(self, peer: PeerId, content: T) -> None:
        """Pass ``content`` on from now; it replaces what the queue held about ``peer``."""
        self.drop(peer)
        if len(self._sent) >= self._capacity:
            self.drop(next(iter(next(level for level in reversed(self._by_sent) if level))))
        self._place({peer: content}, 0)

    def drop(self, peer: PeerId) -> None:
        """Say nothing more about ``peer``."""
        sent = self._sent.pop(peer, None)
        if sent is not None:
            del self._by_sent[sent][peer]

    def clear(self) -> None:
        """Say nothing more about anybody."""
        self._sent.clear()
        self._by_sent.clear()

    def take(self, count: int, limit: int, besides: Collection[PeerId] = ()) -> list[T]:
        """Up to ``count`` items about peers not in ``besides``, least often sent first; each counts as sent once more.

        An item that has been sent ``limit`` times leaves the queue.
        """
        taken: list[tuple[int, dict[PeerId, T]]] = []
        for sent, level in enumerate(self._by_sent):
            if count <= 0:
                break
            part = level
            if len(level) > count or not level.keys().isdisjoint(besides):
                wanted = ((peer, content) for peer, content in level.items() if peer not in besides)
                part = dict(islice(wanted, count))
            if part:
                taken.append((sent, part))
                count -= len(part)
        for sent, part in reversed(taken):  # most often sent first: what moves up is not in the way
            level = self._by_sent[sent]
            if part is level:
                self._by_sent[sent] = {}
            else:
                for peer in part:
                    del level[peer]
            if sent + 1 < limit:
                self._place(part, sent + 1)
            else:
                for peer in part:
                    del self._sent[peer]
        return [content for _, part in taken for content in part.values()]

    def _place(self, items: dict[PeerId, T], sent: int) -> None:
        while len(self._by_sent) <= sent:
            self._by_sent.append({})
        self._sent.update(dict.fromkeys(items, sent))
        self._by_sent[sent].update(items)
