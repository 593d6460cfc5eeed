"""What strangers do, told once: whoever sends what is refused shall not fill a log.

Neighbours: ``server``, and ``peer.observe`` for what is logged of others; ``addresses`` says what is one source.
Invariants: memory and what is told in a day are bounded, whatever strangers do; all of it is counted.
"""

import time
from collections import Counter

from peer.transport.addresses import counted_source

DAY_S = 86_400.0
MAX_A_DAY = 1_000
"""Refusals of one log that are told in a day; a line has about 150 bytes."""


class OncePer:
    """Says whether a (source, kind) is to be told: once a day, ``most`` of all in a day; and counts."""

    def __init__(self, most: int = MAX_A_DAY) -> None:
        self._most = most
        self._told: set[tuple[str, str]] = set()
        self._since = time.monotonic()
        self.counts: Counter[str] = Counter()
        """How often each kind came, from all sources."""

    def first(self, source: str, kind: str) -> bool:
        """Count one ``kind`` from ``source``; True if it is the first that day and not too many have been told.

        ``source``: whatever names it; an IP address stands for all that are counted as one source.
        """
        self.counts[kind] += 1
        source = counted_source(source)
        now = time.monotonic()
        if now - self._since >= DAY_S:
            self._since = now
            self._told.clear()
        if (source, kind) in self._told or len(self._told) >= self._most:
            return False
        self._told.add((source, kind))
        return True
