"""Distributions of times, sizes and rates, named in plain data: ``{ kind = "lognormal", median = 0.05, sigma = 0.5 }``.

Neighbours: ``network`` and ``churn`` are parameterised by them; ``figures`` holds the measured ones.
Invariants: frozen; a draw is never negative; a distribution has no unit of its own, its parameters are in the unit of
what is drawn (seconds, bytes per second; ``sigma`` and ``shape`` are numbers without unit).
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise, repeat
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError
from protocol.simulation.plain import Table

MAX_BINS = 100_000
"""Bins of a histogram that a user gives."""
MAX_SIGMA = 10.0
"""Beyond it the mean of a lognormal is more than 10**21 medians."""
BLOCK = 1024
"""Draws that a sampler takes from its stream at once, if not told otherwise."""


class Distribution(ABC):
    """A distribution of non-negative numbers."""

    __slots__ = ()

    @property
    @abstractmethod
    def mean(self) -> float:
        """The expectation."""

    @abstractmethod
    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        """``size`` independent draws."""

    @abstractmethod
    def quantile(self, share: float) -> float:
        """The value that this share of draws stays below; ``share`` strictly between 0 and 1."""

    @abstractmethod
    def length_biased(self, rng: Generator) -> float:
        """One draw with probability proportional to ``length * density``: the interval around a random instant."""

    def residual(self, rng: Generator) -> float:
        """How long the interval around a random instant still lasts (the stationary start of a renewal process)."""
        return float(rng.random()) * self.length_biased(rng)

    def sampler(self, rng: Generator, block: int = BLOCK) -> Callable[[], float]:
        """A fast source of draws: they are taken from ``rng`` in blocks and handed out one by one."""
        blocks = (self.draw(rng, block).tolist() for _ in repeat(None))
        return chain.from_iterable(blocks).__next__


@dataclass(frozen=True, slots=True)
class Constant(Distribution):
    """Always ``value``."""

    value: float

    @property
    def mean(self) -> float:
        return self.value

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        return np.full(size, self.value)

    def quantile(self, share: float) -> float:
        return self.value

    def length_biased(self, rng: Generator) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform(Distribution):
    """Evenly between ``low`` and ``high``."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        return rng.uniform(self.low, self.high, size)

    def quantile(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def length_biased(self, rng: Generator) -> float:
        return _length_biased_uniform(self.low, self.high, float(rng.random()))


@dataclass(frozen=True, slots=True)
class Exponential(Distribution):
    """Exponential with expectation ``scale`` (in plain data: ``mean``)."""

    scale: float

    @property
    def mean(self) -> float:
        return self.scale

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        return rng.exponential(self.scale, size)

    def quantile(self, share: float) -> float:
        return -self.scale * math.log1p(-share)

    def length_biased(self, rng: Generator) -> float:
        return self.scale * float(rng.gamma(2.0))


@dataclass(frozen=True, slots=True)
class Lognormal(Distribution):
    """``median * exp(sigma * z)``, ``z`` standard normal; its expectation is ``median * exp(sigma**2 / 2)``."""

    median: float
    sigma: float

    @property
    def mean(self) -> float:
        return self.median * math.exp(self.sigma**2 / 2)

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        return self.median * rng.lognormal(0.0, self.sigma, size)

    def quantile(self, share: float) -> float:
        return self.median * math.exp(self.sigma * NormalDist().inv_cdf(share))

    def length_biased(self, rng: Generator) -> float:
        return self.median * math.exp(self.sigma**2) * float(rng.lognormal(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class Weibull(Distribution):
    """Weibull: a share ``exp(-(x / scale) ** shape)`` of draws exceeds ``x``; a shape below 1 has a heavy tail."""

    scale: float
    shape: float

    @property
    def mean(self) -> float:
        return self.scale * math.gamma(1 + 1 / self.shape)

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        return self.scale * rng.weibull(self.shape, size)

    def quantile(self, share: float) -> float:
        return float(self.scale * (-math.log1p(-share)) ** (1 / self.shape))

    def length_biased(self, rng: Generator) -> float:
        return float(self.scale * rng.gamma(1 + 1 / self.shape) ** (1 / self.shape))


@dataclass(frozen=True, slots=True)
class Histogram(Distribution):
    """What was counted: bin ``i`` reaches from ``values[i]`` over ``width``, weighs ``weights[i]``, is even within."""

    values: tuple[float, ...]
    """Lower ends of the bins, growing by at least ``width``."""
    weights: tuple[float, ...]
    """As many as values; not negative, not all zero."""
    width: float = 0.0
    """0: exactly the values."""
    _sums: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _arrays: tuple[NDArray[np.float64], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sums = tuple(accumulate(self.weights))
        biased = np.cumsum(np.multiply(self.weights, np.add(self.values, self.width / 2)))
        object.__setattr__(self, "_sums", sums)
        arrays = (np.array(self.values), np.array(self.weights), np.array(sums), biased)
        object.__setattr__(self, "_arrays", arrays)

    @property
    def mean(self) -> float:
        return float(self._arrays[3][-1]) / self._sums[-1]

    def draw(self, rng: Generator, size: int) -> NDArray[np.float64]:
        values, weights, sums, _ = self._arrays
        mark = np.minimum(rng.random(size) * sums[-1], np.nextafter(sums[-1], 0))
        bins = np.searchsorted(sums, mark, side="right")
        found: NDArray[np.float64] = values[bins] + self.width * (1 - (sums[bins] - mark) / weights[bins])
        return found

    def quantile(self, share: float) -> float:
        mark = min(share * self._sums[-1], math.nextafter(self._sums[-1], 0))
        i = bisect_right(self._sums, mark)
        return self.values[i] + self.width * (1 - (self._sums[i] - mark) / self.weights[i])

    def length_biased(self, rng: Generator) -> float:
        biased = self._arrays[3]
        value = self.values[int(np.searchsorted(biased, rng.random() * biased[-1], side="right"))]
        return _length_biased_uniform(value, value + self.width, float(rng.random()))


def _length_biased_uniform(low: float, high: float, share: float) -> float:
    """The inverse of the distribution function of a density proportional to ``x`` between ``low`` and ``high``."""
    return math.sqrt(low**2 + share * (high**2 - low**2))


KINDS = ("constant", "uniform", "exponential", "lognormal", "weibull", "histogram")


def parse(data: object, place: str) -> Distribution:
    """The distribution that plain data names: a bare number (constant) or a table with ``kind`` and its parameters:

    ``constant``: ``value``; ``uniform``: ``low, high``; ``exponential``: ``mean``; ``lognormal``: ``median, sigma``;
    ``weibull``: ``scale, shape``; ``histogram``: ``values, weights, width`` (0 if left out).
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the data in them.
    """
    problems: list[str] = []
    found = read(data, place, problems)
    if problems:
        raise ConfigurationError(problems)
    return found


def read(data: object, place: str, problems: list[str], *, positive: bool = False) -> Distribution:
    """As ``parse``, with mistakes appended to ``problems`` (the result is a stand-in then).

    ``positive``: a distribution whose expectation is 0 is a mistake.
    """
    if isinstance(data, int | float) and not isinstance(data, bool):
        data = {"kind": "constant", "value": data}
    table = Table(data, place, problems)
    kind = table.word("kind", KINDS) if table.ok else None
    if kind is None:
        return Constant(0.0)
    found = _of_kind(kind, table)
    table.close()
    if not table.ok:
        return Constant(0.0)
    if positive and not found.mean > 0:
        table.say(f"{place} must not always be 0")
    return found


def field_of(
    table: Table, key: str, default: Distribution | None = None, *, positive: bool = False
) -> Distribution | None:
    """The distribution under ``key`` of a table; ``default`` if the key is not there."""
    data: Any = table.get(key)
    return default if data is None else read(data, table.at(key), table.problems, positive=positive)


def _of_kind(kind: str, table: Table) -> Distribution:
    match kind:
        case "constant":
            return Constant(table.number("value"))
        case "uniform":
            low, high = table.number("low"), table.number("high")
            if table.ok and low > high:
                table.say(f"{table.place} has low = {low:g} above high = {high:g}")
            return Uniform(low, high)
        case "exponential":
            return Exponential(table.number("mean"))
        case "lognormal":
            return Lognormal(table.number("median"), table.number("sigma", most=MAX_SIGMA))
        case "weibull":
            return Weibull(table.number("scale"), table.number("shape", least=0.1, most=100.0))
        case _:
            return _histogram(table)


def _histogram(table: Table) -> Distribution:
    values = table.numbers("values", longest=MAX_BINS)
    weights = table.numbers("weights", longest=MAX_BINS)
    width = table.number("width", 0.0)
    if values is None or weights is None:
        return Constant(0.0)
    if len(values) != len(weights):
        table.say(f"{table.place} has {len(values)} values and {len(weights)} weights")
    elif not sum(weights) > 0:
        table.say(f"{table.at('weights')} are all 0")
    if any(b <= a or b - a < width * (1 - 1e-9) for a, b in pairwise(values)):
        table.say(f"{table.at('values')} must grow, by at least width = {width:g} each")
    return Histogram(tuple(values), tuple(weights), width) if table.ok else Constant(0.0)
