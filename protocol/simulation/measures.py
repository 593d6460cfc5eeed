"""What is counted while a world runs, and the figures that come of it.

Neighbours: ``run`` attaches a ``Measures`` to its world and asks for the ``Summary``.
Invariants: it only looks on; a figure that nothing was measured for is None, never zero.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from protocol import reports
from protocol.aggregation.phases import DeclineReason
from protocol.base.ids import PeerId, RoundId
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.world import World
from protocol.wire.codec import kind_name_of
from protocol.wire.messages import Accept, Decline, Message, Offer

GOSSIP = ("gossip", "gossip_reply", "probe_request", "ping", "pong", "leave")
"""Kinds of message that membership sends."""

Figure = int | float | str | None


@dataclass(slots=True)
class RoundSeen:
    """One round as seen from outside."""

    started: float
    """Seconds since the world's start."""
    accepted: int = 0
    """Invitees that accepted; the root is none."""
    planned: int = 0
    cohort: int = 0
    published: bool = False
    finished: float | None = None
    """None: its root has died, or it is under way."""
    reason: str = ""
    min_mask_neighbours: int = 0


@dataclass(frozen=True, slots=True)
class Degrees:
    """How evenly the views hold the peers that are up."""

    peers: int
    mean: float
    deviation: float
    uniform_deviation: float
    """That of views drawn uniformly at random."""
    stale_share: float
    """Entries taken for alive whose peer is not up."""
    chi_square: float
    """Of one draw from each view against equal chances, with ``peers - 1`` degrees of freedom."""

    @property
    def chi_square_z(self) -> float:
        """In standard deviations from its mean, by Wilson and Hilferty's cube root (1931)."""
        freedom = max(1, self.peers - 1)
        third = 2 / (9 * freedom)
        return float(((self.chi_square / freedom) ** (1 / 3) - (1 - third)) / math.sqrt(third))


@dataclass(slots=True)
class Measures:
    """An observer of a world.  ``begin``: Unix seconds from which on things count."""

    begin: float
    messages: Counter[type] = field(default_factory=Counter)
    bytes: Counter[type] = field(default_factory=Counter)
    rounds: dict[RoundId, RoundSeen] = field(default_factory=dict)
    declined: Counter[int] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    walks_revived: int = 0
    ages: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the begin, age) whenever a round published the oldest model so far."""

    def sent(self, world: World, sender: SimulatedPeer, to: PeerId, message: Message, nbytes: int) -> None:
        """Count a message."""
        if world.now < self.begin:
            return
        kind = type(message)
        self.messages[kind] += 1
        self.bytes[kind] += nbytes
        if kind is Offer:
            if isinstance(message, Offer) and message.depth == 1:
                self.rounds.setdefault(message.round, RoundSeen(world.now - self.begin, planned=message.cohort_cap))
        elif isinstance(message, Accept):
            seen = self.rounds.get(message.round)
            if seen is not None:
                seen.accepted += 1
        elif isinstance(message, Decline):
            self.declined[message.reason] += 1

    def reported(self, world: World, peer: SimulatedPeer, item: reports.Item) -> None:
        """Count a report."""
        if world.now < self.begin:
            return
        match item:
            case reports.RoundEnded():
                seen = self.rounds.setdefault(
                    item.round, RoundSeen(world.now - self.begin - item.finished + item.started)
                )
                seen.planned, seen.cohort, seen.published = item.planned, item.cohort, item.published
                seen.finished, seen.reason = world.now - self.begin, item.reason
                seen.min_mask_neighbours = item.min_mask_neighbours
                if item.published and (not self.ages or item.age + 1 > self.ages[-1][1]):
                    self.ages.append((world.now - self.begin, item.age + 1))
            case reports.MessageRefused():
                self.refused[item.reason.name] += 1
            case reports.WalkStarted(revived=True):
                self.walks_revived += 1
            case _:
                pass


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one run, and its rounds and progress as series."""

    figures: Mapping[str, Figure]
    rounds: tuple[Mapping[str, Figure], ...]
    """One line for each round that was started, in the order of their starts."""
    progress: tuple[tuple[float, int], ...]
    """(seconds, age of the newest model)."""

    def flat(self) -> dict[str, Figure]:
        """The figures alone."""
        return dict(self.figures)


def share(part: float, whole: float) -> float | None:
    """``part / whole``, or None where there is no whole."""
    return part / whole if whole else None


def summarise(world: World, measures: Measures, seconds: float, online_s: float, ages: list[int]) -> Summary:
    """The figures of a run that was measured for ``seconds``, in which peers were up for ``online_s`` together.

    ``ages``: of the newest model of every peer that is up at the end.
    """
    rounds = sorted(measures.rounds.values(), key=lambda r: r.started)
    over = [r for r in rounds if r.finished is not None or r.started < seconds - _LONGEST_S]
    published = [r for r in over if r.published]
    times = [r.finished - r.started for r in published if r.finished is not None]
    accepted, counted = sum(r.accepted for r in published), sum(r.cohort - 1 for r in published)
    contributions = sum(r.cohort for r in published)
    gossip = sum(n for kind, n in measures.bytes.items() if kind_name_of(kind) in GOSSIP)
    total = sum(measures.bytes.values())
    degrees = view_degrees(world)
    figures: dict[str, Figure] = {
        "peers": len(world.peers),
        "seconds": seconds,
        "online_mean": online_s / seconds,
        "events": world.steps,
        "messages": sum(measures.messages.values()),
        "bytes": total,
        "bytes_per_peer_second": share(total, online_s),
        "gossip_bytes_per_peer_second": share(gossip, online_s),
        "rounds_started": len(over),
        "rounds_published": len(published),
        "publish_share": share(len(published), len(over)),
        "accepted": accepted,
        "accepted_share": share(counted, accepted),
        "accepted_share_of_started": share(counted, sum(r.accepted for r in over)),
        "planned_mean": fmean(r.planned for r in over) if over else None,
        "cohort_mean": fmean(r.cohort for r in published) if published else None,
        "planned_share": share(sum(r.cohort for r in published), sum(r.planned for r in published)),
        "seconds_per_round_mean": fmean(times) if times else None,
        "seconds_per_round_median": median(times) if times else None,
        "min_mask_neighbours": min((r.min_mask_neighbours for r in published), default=None),
        "steps": max((age for _, age in measures.ages), default=0),
        "age_median": median(ages) if ages else None,
        "age_min": min(ages, default=None),
        "messages_per_contribution": share(sum(measures.messages.values()), contributions),
        "bytes_per_contribution": share(total, contributions),
        "walks_revived": measures.walks_revived,
        "in_degree_mean": degrees.mean if degrees else None,
        "in_degree_deviation": degrees.deviation if degrees else None,
        "in_degree_deviation_uniform": degrees.uniform_deviation if degrees else None,
        "in_degree_stale_share": degrees.stale_share if degrees else None,
        "sampling_chi_square": degrees.chi_square if degrees else None,
        "sampling_chi_square_z": degrees.chi_square_z if degrees else None,
    }
    for reason in DeclineReason:
        if measures.declined[reason.value]:
            figures[f"declined_{reason.name.lower()}"] = measures.declined[reason.value]
    for name in sorted(measures.refused):
        figures[f"refused_{name.lower()}"] = measures.refused[name]
    lines = tuple(_line(r) for r in rounds)
    return Summary(figures, lines, tuple(measures.ages))


_LONGEST_S = 600.0
"""A round without an end counts as failed once it has had so long."""


def _line(seen: RoundSeen) -> dict[str, Figure]:
    return {
        "started": round(seen.started, 6),
        "finished": None if seen.finished is None else round(seen.finished, 6),
        "planned": seen.planned,
        "accepted": seen.accepted,
        "cohort": seen.cohort,
        "published": int(seen.published),
        "reason": seen.reason,
    }


def view_degrees(world: World) -> Degrees | None:
    """How evenly the views of all that are up hold them; None where nobody knows anybody."""
    held: Counter[PeerId] = Counter()
    drawn: Counter[PeerId] = Counter()
    draw: Any = world.entropy.fork("view degrees")
    entries = stale = 0
    up = {peer.id for peer in world.running()}
    sizes: list[int] = []
    for peer in world.running():
        assert peer.node is not None, "it runs"
        alive = peer.node.membership.alive()
        entries += len(alive)
        present = [d.peer for d in alive if d.peer in up]
        stale += len(alive) - len(present)
        held.update(present)
        sizes.append(len(present))
        if present:
            drawn[draw.choice(present)] += 1
    n = len(sizes)
    if n < 2 or not entries:
        return None
    mean = sum(sizes) / n
    counts = [held[peer] for peer in sorted(up)]
    deviation = math.sqrt(sum((c - mean) ** 2 for c in counts) / n)
    expected = sum(drawn.values()) / n
    chi = sum((drawn[peer] - expected) ** 2 / expected for peer in sorted(up))
    return Degrees(n, mean, deviation, math.sqrt(mean * max(0.0, 1 - mean / (n - 1))), stale / entries, chi)
