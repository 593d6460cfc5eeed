"""When to ask the seeds: at once and with growing pauses while nobody alive is known, seldom while few are.

Neighbours: ``machine`` turns the answer into a ``Dial`` effect, the driver calls the seeds.
Invariants: the pauses do not depend on anything that others say but being there.
"""

from protocol.base.settings import Settings

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Pauses between calls while nobody alive is known; the last one repeats."""
LONELY_PERIODS = 30
"""A peer that knows fewer than ``LONELY_BELOW`` others asks again after so many periods."""
LONELY_BELOW = 3


class Dialler:
    """One peer's calls to the seeds; ``known`` is always the number of other peers known to be alive."""

    def __init__(self, settings: Settings) -> None:
        self._lonely_s = LONELY_PERIODS * settings.gossip_period_s
        self._calls = 0
        """Calls since somebody alive was known."""
        self._next = float("-inf")

    def due(self, known: int, now: float) -> bool:
        """Whether to call the seeds now; if so, the call is taken as made."""
        if known == 0:
            if now < self.deadline(known):
                return False
            self._next = now + BACKOFF_S[min(self._calls, len(BACKOFF_S) - 1)]
            self._calls += 1
            return True
        if self._calls:  # somebody was found
            self._calls = 0
            self._next = now + self._lonely_s
            return False
        if now < self._next:
            return False
        self._next = now + self._lonely_s
        return known < LONELY_BELOW

    def deadline(self, known: int) -> float:
        """When to ask ``due`` again, if not at the next period anyway (infinity)."""
        if known:
            return float("inf")
        return self._next if self._calls else float("-inf")
