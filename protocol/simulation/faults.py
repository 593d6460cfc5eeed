"""Scheduled faults, as plain data that the world executes.

Neighbours: the world asks a fault for its times, its peers or its groups, and does what it says.
Invariants: frozen; times are seconds since the world's start; what a fault draws comes from the entropy handed in.

A crash is for good; a restart is a crash followed by a new start.  Plain data is a list of tables, such as
``{ kind = "restart", random = 3, at = 60, down_s = 5, disk = false }``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation.plain import LARGEST, Table

MAX_FAULTS = 100_000
MAX_NAMED = 1_000_000
"""Peers that one fault names."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a fault befalls: the named peers, or so many random ones, drawn anew each time."""

    peers: tuple[int, ...] = ()
    random: int = 0

    def pick(self, population: int, entropy: Entropy) -> list[int]:
        """Indices below ``population``, ascending; of a smaller network, those that there are."""
        if not self.random:
            return [peer for peer in self.peers if peer < population]
        return sorted(entropy.sample(range(population), self.random))


@dataclass(frozen=True, slots=True)
class Moments:
    """When something happens: once at ``at``, or at a constant rate between two instants (a Poisson process)."""

    at: float | None = None
    per_hour: float = 0.0
    begin: float = 0.0
    end: float = math.inf

    def times(self, entropy: Entropy) -> Iterator[float]:
        """All moments in order, possibly without end."""
        if self.at is not None:
            yield self.at
            return
        now = self.begin
        while (now := now + entropy.exponential(3600.0 / self.per_hour)) < self.end:
            yield now


@dataclass(frozen=True, slots=True)
class Crash:
    """Peers stop without a word, and do not come back."""

    when: Moments
    target: Target


@dataclass(frozen=True, slots=True)
class Restart:
    """Peers stop without a word and start again."""

    when: Moments
    target: Target
    down_s: float
    disk: bool
    """Whether they find again what they had made durable."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Everything that peers compute takes ``factor`` times as long."""

    begin: float
    end: float
    target: Target
    factor: float


@dataclass(frozen=True, slots=True)
class Skew:
    """The peers' clocks are ``offset_s`` ahead of the true time (negative: behind)."""

    begin: float
    end: float
    target: Target
    offset_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Nobody reaches these peers, nor they anybody, each other included."""

    begin: float
    end: float
    target: Target


@dataclass(frozen=True, slots=True)
class Partition:
    """The network falls apart into groups.  Exactly one of ``groups`` and ``share`` is given."""

    begin: float
    end: float
    groups: tuple[tuple[int, ...], ...] = ()
    """Disjoint; peers in none of them form one more."""
    share: float = 0.0
    """Or so large a random part of all peers against the rest."""

    def split(self, population: int, entropy: Entropy) -> list[list[int]]:
        """The groups for ``Network.partition``."""
        if self.groups:
            return [[peer for peer in group if peer < population] for group in self.groups]
        return [sorted(entropy.sample(range(population), round(self.share * population)))]


Fault = Crash | Restart | Slow | Skew | Cut | Partition


def parse(data: object, place: str, population: int | None = None) -> tuple[Fault, ...]:
    """The faults that a list of tables names, in its order.

    Each has ``kind`` and: ``crash``: a target, moments; ``restart``: these, ``down_s`` (0 if left out) and ``disk``
    (true); ``slow``: a target, a span, ``factor``; ``skew``: a target, a span, ``offset_s``; ``cut``: a target, a span;
    ``partition``: a span, and ``groups`` (lists of peers) or ``share``.  A target is ``peer``, ``peers`` or ``random``
    (how many); moments are ``at``, or ``per_hour`` with a span; a span is ``from`` (0 if left out) and ``to`` (for
    good).
    ``population``: how many peers there are, if known.
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the list in them.
    """
    problems: list[str] = []
    found: list[Fault] = []
    if not isinstance(data, list | tuple) or len(data) > MAX_FAULTS:
        raise ConfigurationError([f"{place} must be a list of at most {MAX_FAULTS} tables"])
    for i, item in enumerate(data, 1):
        table = Table(item, f"{place}[{i}]", problems)
        kind = table.word("kind", tuple(_MAKERS)) if table.ok else None
        if kind is not None:
            fault = _MAKERS[kind](table, population)
            table.close()
            found.append(fault)
    if not problems:
        _one_partition_at_a_time(found, place, problems)
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def _crash(table: Table, population: int | None) -> Fault:
    return Crash(_moments(table), _target(table, population))


def _restart(table: Table, population: int | None) -> Fault:
    when, target = _moments(table), _target(table, population)
    return Restart(when, target, table.number("down_s", 0.0), table.flag("disk", True))


def _slow(table: Table, population: int | None) -> Fault:
    return Slow(*_span(table), _target(table, population), table.number("factor", above=0.0))


def _skew(table: Table, population: int | None) -> Fault:
    return Skew(*_span(table), _target(table, population), table.number("offset_s", least=-LARGEST))


def _cut(table: Table, population: int | None) -> Fault:
    return Cut(*_span(table), _target(table, population))


def _partition(table: Table, population: int | None) -> Fault:
    begin, end = _span(table)
    share = table.number("share", above=0.0, most=0.5) if table.get("share") is not None else 0.0
    groups = tuple(_groups(table, population)) if table.get("groups") is not None else ()
    if ("share" in table) == ("groups" in table):
        table.say(f"{table.place} needs either groups or share")
    return Partition(begin, end, groups, share)


_MAKERS: dict[str, Callable[[Table, int | None], Fault]] = {
    "crash": _crash,
    "restart": _restart,
    "slow": _slow,
    "skew": _skew,
    "cut": _cut,
    "partition": _partition,
}


def _span(table: Table) -> tuple[float, float]:
    begin = table.number("from", 0.0)
    end = table.number("to") if "to" in table else math.inf
    table.get("to")
    if end <= begin and table.ok:
        table.say(f"{table.place} ends at {end:g}, not after it begins at {begin:g}")
    return begin, end


def _moments(table: Table) -> Moments:
    at = table.number("at") if table.get("at") is not None else None
    rate = table.number("per_hour", above=0.0) if table.get("per_hour") is not None else 0.0
    if ("at" in table) == ("per_hour" in table):
        table.say(f"{table.place} needs either at or per_hour")
    if "per_hour" in table:
        return Moments(at, rate, *_span(table))
    return Moments(at, rate)


def _target(table: Table, population: int | None) -> Target:
    given = [key for key in ("peer", "peers", "random") if table.get(key) is not None]
    if len(given) != 1:
        table.say(f"{table.place} needs one of peer, peers and random")
        return Target()
    key = given[0]
    if key == "random":
        most = MAX_NAMED if population is None else population
        return Target(random=table.whole("random", least=1, most=most))
    named = [table.get(key)] if key == "peer" else table.get(key)
    return Target(_peers(table, table.at(key), named, population))


def _groups(table: Table, population: int | None) -> list[tuple[int, ...]]:
    given = table.get("groups")
    if not isinstance(given, list | tuple) or not given:
        table.say(f"{table.at('groups')} must be a list of lists of peers")
        return []
    groups = [_peers(table, f"{table.at('groups')}[{i}]", group, population) for i, group in enumerate(given, 1)]
    seen: dict[int, int] = {}
    for i, group in enumerate(groups, 1):
        for peer in group:
            if seen.setdefault(peer, i) != i:
                table.say(f"{table.at('groups')}: peer {peer} is in groups {seen[peer]} and {i}")
    return groups


def _peers(table: Table, place: str, named: object, population: int | None) -> tuple[int, ...]:
    """Distinct peers, ascending."""
    if not isinstance(named, list | tuple) or not 1 <= len(named) <= MAX_NAMED:
        table.say(f"{place} must be a list of 1 to {MAX_NAMED} peers")
        return ()
    for peer in named:
        if isinstance(peer, bool) or not isinstance(peer, int) or peer < 0:
            table.say(f"{place}: a peer is a whole number from 0, not {shown(peer)}")
            return ()
        if population is not None and peer >= population:
            table.say(f"{place}: there is no peer {peer} among {population}")
    distinct = sorted({int(peer) for peer in named})
    if len(distinct) < len(named):
        table.say(f"{place} names a peer twice")
    return tuple(distinct)


def _one_partition_at_a_time(faults: list[Fault], place: str, problems: list[str]) -> None:
    spans = sorted((f.begin, f.end, i) for i, f in enumerate(faults, 1) if isinstance(f, Partition))
    for (_, end, one), (begin, _, other) in pairwise(spans):
        if begin < end:
            problems.append(f"{place}[{one}] and {place}[{other}] are partitions at the same time")
