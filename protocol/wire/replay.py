"""The message ids that were accepted and could still be sent again: bounded memory, closed when full.

Neighbours: ``envelope`` asks and remembers.
Invariants: an id is remembered after its message was authenticated, never before (else a stranger could block a
message that it merely saw); it is kept until no accepted clock could take the message as current; when there is no
room the new message is refused, and nothing is forgotten early.
"""

import heapq

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import ID_BYTES
from protocol.base.limits import MAX_REPLAY_ENTRIES, MAX_REPLAY_PER_SENDER


class ReplayCache:
    """Ids by sender, each with the time until which it is kept (about 250 bytes an entry)."""

    __slots__ = ("_by_sender", "_capacity", "_heap", "_per_sender", "_seen")

    def __init__(self, capacity: int = MAX_REPLAY_ENTRIES, per_sender: int = MAX_REPLAY_PER_SENDER) -> None:
        self._capacity = capacity
        self._per_sender = per_sender
        self._seen: set[bytes] = set()  # only asked, never iterated over
        self._heap: list[tuple[float, bytes]] = []
        self._by_sender: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def seen(self, sender: bytes, message_id: bytes) -> bool:
        """Whether this sender's message of this id was accepted already."""
        return sender + message_id in self._seen

    def remember(self, sender: bytes, message_id: bytes, keep_until: float, now: float) -> None:
        """Remember an authenticated id.  ``Refused(REPLAYED)`` if known, ``Refused(BUSY)`` if there is no room."""
        self._forget(now)
        key = sender + message_id
        if key in self._seen:
            raise Refused(Refusal.REPLAYED)
        count = self._by_sender.get(sender, 0)
        if len(self._heap) >= self._capacity or count >= self._per_sender:
            raise Refused(Refusal.BUSY, "too many messages in a short time")
        self._seen.add(key)
        self._by_sender[sender] = count + 1
        heapq.heappush(self._heap, (keep_until, key))

    def _forget(self, now: float) -> None:
        while self._heap and self._heap[0][0] < now:
            _, key = heapq.heappop(self._heap)
            self._seen.discard(key)
            sender = key[:-ID_BYTES]
            left = self._by_sender[sender] - 1
            if left:
                self._by_sender[sender] = left
            else:
                del self._by_sender[sender]
