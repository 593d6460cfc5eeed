"""When to ask the seeds: at once and with growing pauses while nobody alive is known, seldom as soon as somebody is.

Neighbours: ``machine`` turns the answer into a ``Dial`` effect, the driver calls the seeds.
Invariants: the pauses do not depend on anything that others say but being there.  Nobody ever stops asking: two parts
of a network that have never heard of each other (a seed that others found before it found another one) do not stay
apart; together the peers of a network ask no more often than a few do.
"""

from protocol.base.settings import Settings

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Pauses between calls while nobody alive is known; the last one repeats."""
LONELY_PERIODS = 30
"""A peer that knows up to ``FEW`` others asks again after so many periods; one that knows more, as much later."""
FEW = 3


class Dialler:
    """One peer's calls to the seeds; ``known``: how many other peers are known to be alive, ``others``: how many there
    are likely to be."""

    def __init__(self, settings: Settings) -> None:
        self._lonely_s = LONELY_PERIODS * settings.gossip_period_s
        self._calls = 0
        """Calls since somebody alive was known."""
        self._next = float("-inf")

    def due(self, known: int, others: int, now: float) -> bool:
        """Whether to call the seeds now; if so, the call is taken as made."""
        if known == 0:
            if now < self.deadline():
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
        first, self._next = self._next == float("-inf"), now + self._lonely_s * max(1.0, others / FEW)
        return not first or known < FEW

    def deadline(self) -> float:
        """When to ask ``due`` again while nobody alive is known; else the next period is soon enough."""
        return self._next if self._calls else float("-inf")
