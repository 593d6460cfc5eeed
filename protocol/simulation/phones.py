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
from itertools import accumulate, count

import numpy as np
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
    """Local hour around which they lie, for the middle phone."""
    night_spread_hours: float = 4.0
    """Early and late risers: the phones' night hours lie evenly within so many hours around that."""
    night_sd_hours: float = 2.25
    """Standard deviation of the middles of these sessions."""

    def sessions(self, peer: int) -> Iterator[Session]:
        zone = self.utc_offset_hours + (share(self.seed, "zone", peer) - 0.5) * self.utc_spread_hours
        night = self.night_hour + (share(self.seed, "night", peer) - 0.5) * self.night_spread_hours
        # When the day begins in which the world starts: half a day before or after its night.
        first = -((self.start_hour + zone - night - 12) % 24) * HOUR_S
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
        drawn = self._lengths(rng, online, most)
        # Sorted together: the last length drawn is longer than others on average, and must not be the last of the day.
        middles, lengths = zip(*sorted(zip(self._middles(rng, len(drawn)), drawn, strict=True)), strict=True)
        # Sessions that would lie closer than the gap are pushed apart, as little as possible: without the lengths and
        # gaps before them, their beginnings need only not go back.
        taken = [0.0, *accumulate(length + gap for length in lengths)]
        slack = DAY_S - gap / 2 - (taken.pop() - gap)
        wanted = [m - length / 2 - t for m, length, t in zip(middles, lengths, taken, strict=True)]
        begins = [min(max(w, gap / 2), slack) + t for w, t in zip(_not_falling(wanted), taken, strict=True)]
        return [(begin, begin + length) for begin, length in zip(begins, lengths, strict=True)]

    def _lengths(self, rng: Generator, online: float, most: int) -> list[float]:
        """At most ``most`` lengths that add up to ``online`` seconds: as many draws as reach it, shrunk to fit."""
        lengths: list[float] = []
        total = 0.0
        while total < online:
            for length in np.maximum(self.session_s.draw(rng, 16), 1.0).tolist():
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


def _not_falling(values: list[float]) -> list[float]:
    """The sequence nearest to ``values``, by least squares, in which no element is smaller than the one before.

    Pool adjacent violators: a run that falls becomes its mean.
    """
    runs: list[tuple[float, int]] = []
    for value in values:
        total, size = value, 1
        while runs and runs[-1][0] * size > total * runs[-1][1]:
            before = runs.pop()
            total, size = total + before[0], size + before[1]
        runs.append((total, size))
    return [total / size for total, size in runs for _ in range(size)]
