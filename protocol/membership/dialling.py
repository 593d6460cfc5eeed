"""When to ask the seeds: at once and with growing pauses while nobody alive is known, seldom as soon as somebody is.

Neighbours: ``machine`` turns the answer into a ``Dial`` effect, the driver calls the seeds.
Invariants: the pauses do not depend on anything that others say but being there.  Nobody ever stops asking: two parts
of a network that have never heard of each other (a seed that others found before it found another one) do not stay
apart; together the peers of a network ask no more often than a few do, and those of a large one not at one time.
"""

from protocol.base.ids import PeerId
from protocol.base.settings import Settings

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Pauses between calls while nobody alive is known; the last one repeats."""
LONELY_PERIODS = 30
"""A peer that knows up to ``FEW`` others asks again after so many periods; one that knows more, as much later."""
FEW = 3


class Dialler:
    """One peer's calls to the seeds; ``known``: how many other peers are known to be alive, ``others``: how many there
    are likely to be."""

    def __init__(self, own: PeerId, settings: Settings) -> None:
        self._lonely_s = LONELY_PERIODS * settings.gossip_period_s
        self._large = settings.view_capacity
        self._share = 0.5 + int.from_bytes(own[:2], "little") / 2**16
        """Of the usual pause, in a large network: in [0.5, 1.5), evenly over its peers."""
        self._calls = 0
        """Calls since somebody alive was known."""
        self._next = self._last = float("-inf")
        """When to call, and when the last call was."""

    def due(self, known: int, others: int, now: float) -> bool:
        """Whether to call the seeds now; if so, the call is taken as made."""
        if known == 0:
            if now < self.deadline():
                return False
            self._next, self._last = now + BACKOFF_S[min(self._calls, len(BACKOFF_S) - 1)], now
            self._calls += 1
            return True
        if self._calls:  # somebody was found
            self._calls = 0
            self._next = now + self._lonely_s
            return False
        if now < self._next:
            return False
        pause = self._lonely_s * max(1.0, others / FEW)
        if others >= self._large:  # what is heard of a seed displaces a member there: see ``machine``
            pause *= self._share
            if now < self._last + pause:
                self._next = self._last + pause
                return False
        first, self._next, self._last = self._next == float("-inf"), now + pause, now
        return not first or known < FEW

    def deadline(self) -> float:
        """When to ask ``due`` again while nobody alive is known; else the next period is soon enough."""
        return self._next if self._calls else float("-inf")
