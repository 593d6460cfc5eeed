"""Smartphones: who is online when, half measured and half modelled.

Neighbours: ``figures`` holds what was measured, ``churn`` parses the parameters.
Invariants: those of ``sessions.ChurnModel``; a phone's day has its own random stream, so it does not depend on the days
before.

Measured (see ``figures``): which share of its day a phone is online; gaps of up to 13 minutes were not counted.
Modelled, because nothing of it is published: the days of a phone are independent of each other; a day is cut into
sessions of lognormal length (their mean is about three quarters of an hour, within the half to one hour on a charger
that the campaign's README tells); most sessions lie around the middle of the night, when phones are charged, the others
anywhere in the day.  A phone's day begins 12 hours before the middle of its night, so that midnight cuts no night.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from numpy.random import Generator

from protocol.simulation.distributions import Distribution, Lognormal
from protocol.simulation.figures import GAP_S, ONLINE_PERCENT_OF_DAY
from protocol.simulation.sessions import ChurnModel, Session, joined
from protocol.simulation.streams import generator, share

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
SESSION_S = Lognormal(median=2100.0, sigma=1.0)
"""Length of a session before it is fitted to its day."""


@dataclass(frozen=True, slots=True)
class Smartphones(ChurnModel):
    """Phones that take part while they are online and on a charger."""

    seed: int
    start_hour: float = 0.0
    """Hour of the day, UTC, at which the world starts."""
    utc_offset_hours: float = 0.0
    """Local time minus UTC, of the middle phone."""
    utc_spread_hours: float = 0.0
    """The phones' local times lie evenly within so many hours around that."""
    session_s: Distribution = SESSION_S
    night_share: float = 0.7
    """The share of sessions that lie around ``night_hour``."""
    night_hour: float = 2.5
    """Local hour around which they lie."""
    night_sd_hours: float = 2.5
    """Standard deviation of the middles of these sessions."""

    def sessions(self, peer: int) -> Iterator[Session]:
        zone = self.utc_offset_hours + (share(self.seed, "zone", peer) - 0.5) * self.utc_spread_hours
        # When the day begins in which the world starts: half a day before or after its night.
        first = -((self.start_hour + zone - self.night_hour - 12) % 24) * HOUR_S
        return joined(
            (first + day * DAY_S + begin, first + day * DAY_S + end)
            for day in count()
            for begin, end in self._day(generator(self.seed, "day", peer, day))
        )

    def _day(self, rng: Generator) -> list[Session]:
        """The sessions of one day, in seconds since its beginning, in order."""
        online = min(ONLINE_PERCENT_OF_DAY.quantile(float(rng.random())), 100.0) / 100 * DAY_S
        gap = GAP_S
        most = int((DAY_S - online) / gap)
        if most < 1:
            most, gap = 1, DAY_S - online
        lengths = self._lengths(rng, online, most)
        middles = sorted(self._middles(rng, len(lengths)))
        # Sessions are pushed apart: first none before the end of the one before, then none beyond the end of the day.
        begins: list[float] = []
        earliest = gap / 2
        for middle, length in zip(middles, lengths, strict=True):
            begins.append(max(middle - length / 2, earliest))
            earliest = begins[-1] + length + gap
        latest = DAY_S - gap / 2
        for i in reversed(range(len(begins))):
            begins[i] = min(begins[i], latest - lengths[i])
            latest = begins[i] - gap
        return [(begin, begin + length) for begin, length in zip(begins, lengths, strict=True)]

    def _lengths(self, rng: Generator, online: float, most: int) -> list[float]:
        """At most ``most`` lengths that add up to ``online`` seconds: as many draws as reach it, shrunk to fit."""
        lengths: list[float] = []
        total = 0.0
        while total < online:
            for length in self.session_s.draw(rng, 16).tolist():
                lengths.append(length)
                total += length
                if total >= online or len(lengths) == most:
                    return [length * online / total for length in lengths]
        return lengths

    def _middles(self, rng: Generator, size: int) -> list[float]:
        """Middles of sessions, in seconds since the day's beginning."""
        nightly = (rng.random(size) < self.night_share).tolist()
        night = 12 + self.night_sd_hours * rng.standard_normal(size)
        day = 24 * rng.random(size)
        return [HOUR_S * (n if is_n else d) for is_n, n, d in zip(nightly, night.tolist(), day.tolist(), strict=True)]
