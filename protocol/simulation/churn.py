"""Churn: who is online when, as a model that plain data names.

Neighbours: the world takes ``sessions`` of each peer and starts and stops it; ``phones`` is the model of measured
smartphones, ``traces`` parses recorded days.
Invariants: those of ``sessions.ChurnModel``; one seed gives one life of every peer.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation.distributions import Constant, Distribution, Exponential, field_of
from protocol.simulation.phones import HOUR_S, SESSION_S, Smartphones
from protocol.simulation.plain import Table
from protocol.simulation.sessions import ChurnModel, Session, joined
from protocol.simulation.streams import generator
from protocol.simulation.traces import Trace, devices, parse_csv

_BLOCK = 16
"""Draws held ready for each peer: there are many peers, and few sessions of each."""
_MAX_PER_HOUR = 3600.0
_LEAST_MEAN_S = 0.001
"""Of a session, and of the time between two."""
_MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class Always(ChurnModel):
    """Everybody is online from the start on."""

    def sessions(self, peer: int) -> Iterator[Session]:
        return iter([(0.0, math.inf)])


@dataclass(frozen=True, slots=True)
class Failures(ChurnModel):
    """Everybody starts online, fails at a constant rate, and comes back."""

    seed: int
    per_hour: float
    """Failures of one peer per hour online; 0: none."""
    down_s: Distribution
    """How long a failed peer is away."""

    def sessions(self, peer: int) -> Iterator[Session]:
        if self.per_hour == 0:
            return iter([(0.0, math.inf)])
        return joined(_renewal(self.seed, peer, Exponential(HOUR_S / self.per_hour), self.down_s, stationary=False))


@dataclass(frozen=True, slots=True)
class Renewal(ChurnModel):
    """On and off in turn, independently drawn, in equilibrium at the world's start.

    The share ``mean(on) / (mean(on) + mean(off))`` is online at time 0, as at any other time; what lasts then, on or
    off, has already lasted (length-biased, of which a uniform part is left).
    """

    seed: int
    on_s: Distribution
    off_s: Distribution

    def sessions(self, peer: int) -> Iterator[Session]:
        return joined(_renewal(self.seed, peer, self.on_s, self.off_s, stationary=True))


@dataclass(frozen=True, slots=True)
class Recorded(ChurnModel):
    """What a trace says; after its last session a peer stays away."""

    trace: Trace

    @property
    def population(self) -> int:
        return len(self.trace.peers)

    def sessions(self, peer: int) -> Iterator[Session]:
        return iter(self.trace.sessions[peer])


def _renewal(seed: int, peer: int, on_s: Distribution, off_s: Distribution, *, stationary: bool) -> Iterator[Session]:
    rng = generator(seed, "renewal", peer)
    now, online = 0.0, True
    if stationary:
        online = float(rng.random()) * (on_s.mean + off_s.mean) < on_s.mean
        now = (on_s if online else off_s).residual(rng)
        if online:
            yield 0.0, now
    on, off = on_s.sampler(rng, _BLOCK), off_s.sampler(rng, _BLOCK)
    if online and stationary:
        now += off()
    while True:
        end = now + on()
        yield now, end
        now = end + off()


KINDS = ("always", "failures", "sessions", "smartphones", "trace")


def parse(data: object, place: str, seed: int, texts: Mapping[str, str] | None = None) -> ChurnModel:
    """The model that plain data names: ``kind`` (a bare string is taken as one) and its parameters:

    ``always``; ``failures``: ``per_hour, down_s``; ``sessions``: ``on_s, off_s``; ``smartphones``: the fields of
    ``phones.Smartphones``; ``trace``: ``format`` (``csv`` or ``stunner``) and ``files``, one of them for ``csv``.
    ``texts`` holds the text of every file that ``files`` names.
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the data in them.
    """
    problems: list[str] = []
    table = Table({"kind": data} if isinstance(data, str) else data, place, problems)
    kind = table.word("kind", KINDS) if table.ok else None
    model: ChurnModel = Always()
    match kind:
        case "failures":
            model = Failures(seed, table.number("per_hour", most=_MAX_PER_HOUR), _needed(table, "down_s"))
        case "sessions":
            model = Renewal(seed, _needed(table, "on_s"), _needed(table, "off_s"))
        case "smartphones":
            model = _smartphones(table, seed)
        case "trace":
            model = _recorded(table, texts or {})
    if kind is not None:
        table.close()
    if problems:
        raise ConfigurationError(problems)
    return model


def files(data: object) -> list[str]:
    """The files whose texts ``parse`` needs."""
    named = data.get("files") if isinstance(data, Mapping) and data.get("kind") == "trace" else None
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _needed(table: Table, key: str) -> Distribution:
    found = field_of(table, key, positive=True)
    if found is None:
        table.say(f"{table.place} needs {key}")
    elif 0 < found.mean < _LEAST_MEAN_S:
        table.say(f"{table.at(key)} must last {_LEAST_MEAN_S:g} s on average, not {found.mean:g}")
    return found or Constant(1.0)


def _smartphones(table: Table, seed: int) -> Smartphones:
    return Smartphones(
        seed,
        start_hour=table.number("start_hour", 0.0, most=24.0),
        utc_offset_hours=table.number("utc_offset_hours", 0.0, least=-14.0, most=14.0),
        utc_spread_hours=table.number("utc_spread_hours", 0.0, most=24.0),
        session_s=field_of(table, "session_s", SESSION_S, positive=True) or SESSION_S,
        night_share=table.number("night_share", 0.7, most=1.0),
        night_hour=table.number("night_hour", 2.5, most=24.0),
        night_spread_hours=table.number("night_spread_hours", 4.0, most=24.0),
        night_sd_hours=table.number("night_sd_hours", 2.25, most=24.0),
    )


def _recorded(table: Table, texts: Mapping[str, str]) -> Recorded:
    form = table.word("format", ("csv", "stunner"), "csv")
    named = table.get("files")
    trace = Trace((), ())
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        table.say(f"{table.place} needs files: a list of names")
    elif len(named) > (1 if form == "csv" else _MAX_FILES):
        table.say(f"{table.at('files')} must be one file, or for stunner at most {_MAX_FILES}, not {len(named)}")
    elif len(set(named)) < len(named):
        table.say(f"{table.at('files')} names a file twice")
    elif missing := [name for name in named if name not in texts]:
        table.say(f"{table.at('files')}: the text of {shown(missing[0])} is not there")
    else:
        try:
            if form == "csv":
                trace = parse_csv(texts[named[0]], named[0])
            elif form == "stunner":
                trace = devices([(name, texts[name]) for name in named])
        except ConfigurationError as error:
            table.problems += error.problems
    return Recorded(trace)
