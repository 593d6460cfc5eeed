"""What must hold of every world, whatever happened in it, as pure functions over what was seen of it.

Neighbours: a ``Collector`` looks on (``world.Observer``); ``randomworlds`` and the tests ask the functions at the end.
Invariants: nothing here shares code with the round machine: sums, depths and neighbours are worked out from records and
messages alone, what coalitions learn by the exact engine.  Each violation is one sentence that names its world.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from protocol import reports
from protocol.base.ids import PeerId, RoundId
from protocol.effects import Effect, Work
from protocol.events import Event
from protocol.privacy.description import describe
from protocol.privacy.leakage import Leakage
from protocol.privacy.record import RoundRecord
from protocol.reports import Item
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.world import World
from protocol.wire import messages as m

SPINS = 2000
"""Events of one node in one second, beyond which it asks for a time that has passed, again and again."""

_VISIBLE = (m.Offer, m.Accept, m.Partial)
"""What shows others that a peer takes part in a round."""
Rounds = dict[RoundId, dict[PeerId, RoundRecord]]


@dataclass(slots=True)
class Evidence:
    """What was seen of one world; the sentences of the functions below begin with ``name``."""

    name: str
    sent: list[tuple[float, PeerId, PeerId, m.Message]] = field(default_factory=list)
    """(when, sender, recipient, message), as they left."""
    items: list[tuple[float, PeerId, Item]] = field(default_factory=list)
    records: list[RoundRecord] = field(default_factory=list)
    single: set[PeerId] = field(default_factory=set)
    """Ids of peers that have one record."""
    hasty: list[tuple[PeerId, RoundId]] = field(default_factory=list)
    """Who let a round be seen before it was durable."""
    under_way: dict[tuple[PeerId, RoundId], tuple[float, int]] = field(default_factory=dict)
    """Rounds that began at a peer and have not ended there: when, and in which of its lives."""
    lasted: list[tuple[PeerId, RoundId, float]] = field(default_factory=list)
    """Rounds that ended at a peer, with the seconds they took."""
    jobs: set[str] = field(default_factory=set)
    """Kinds of work that was asked for."""
    busiest: int = 0
    """Most events of one node in one second."""

    def rounds(self) -> Rounds:
        """The records by round and peer; of two by one peer, the one with its contribution."""
        rounds: Rounds = {}
        for record in self.records:
            records = rounds.setdefault(record.round, {})
            before = records.get(record.peer)
            if before is None or not before.contributed:
                records[record.peer] = record
        return rounds

    def published(self) -> list[reports.RoundEnded]:
        """Reports of rounds that ended well."""
        return [r for _, _, r in self.items if isinstance(r, reports.RoundEnded) and r.published]


class Collector:
    """Fills the evidence of one world.  ``attach`` it before the world starts."""

    def __init__(self, name: str) -> None:
        self.evidence = Evidence(name)
        self._second: dict[tuple[int, int], int] = {}

    def attach(self, world: World) -> None:
        """Look on from now."""
        world.observers.append(self)
        world.tracer = self.traced

    def traced(self, world: World, peer: SimulatedPeer, event: Event, effects: list[Effect]) -> None:
        """``World.tracer``: counts the events of each node."""
        key = (peer.index, int(world.now))
        self._second[key] = count = self._second.get(key, 0) + 1
        seen = self.evidence
        if count > seen.busiest:
            seen.busiest = count
        for effect in effects:
            if type(effect) is Work:
                seen.jobs.add(type(effect.job).__name__)

    def sent(self, world: World, sender: SimulatedPeer, to: PeerId, message: m.Message, nbytes: int) -> None:
        """A message left."""
        me = sender.id
        self.evidence.sent.append((world.now, me, to, message))
        if isinstance(message, _VISIBLE):
            if message.round not in sender.disk.rounds:
                self.evidence.hasty.append((me, message.round))
            if not isinstance(message, m.Partial):
                self.evidence.under_way.setdefault((me, message.round), (world.now, sender.life))

    def reported(self, world: World, peer: SimulatedPeer, item: Item) -> None:
        """A node said something."""
        seen, me = self.evidence, peer.id
        seen.items.append((world.now, me, item))
        match item:
            case reports.Recorded(record):
                seen.records.append(record)
            case reports.RoundEnded() | reports.Contributed() | reports.Abstained():
                begun = seen.under_way.pop((me, item.round), None)
                if begun is not None:
                    seen.lasted.append((me, item.round, world.now - begun[0]))
            case _:
                pass


# --- sums -------------------------------------------------------------------------------------------------------------


def exactness(seen: Evidence) -> list[str]:
    """Every published total is the sum, in the ring, of the values of whom it counts: exact or nothing."""
    found: list[str] = []
    recorded = set()
    for round_id, records in seen.rounds().items():
        for root in records.values():
            if not root.published:
                continue
            if round_id in recorded:
                found.append(f"{seen.name}: a round was published twice")
            recorded.add(round_id)
            found += (f"{seen.name}: {wrong}" for wrong in _wrong_total(records, root))
    if any(end.round not in recorded for end in seen.published()):
        found.append(f"{seen.name}: published without a record")
    return found


def _wrong_total(records: Mapping[PeerId, RoundRecord], root: RoundRecord) -> Iterator[str]:
    members = _inside(records, root)
    if members is None:
        yield "somebody whose value is counted has no record of the round"
        return
    if not all(r.contributed and r.value is not None for r in members):
        yield "a relay is inside a sum"
    if len({r.peer for r in members}) != len(members):
        yield "somebody counts twice"
    word = f"<u{root.modulus_bits // 8}"
    total = np.sum([np.frombuffer(r.value or b"", word) for r in members if r.value], axis=0, dtype=word)
    if total.tobytes() != bytes(root.total or b""):
        yield "the total is not the sum"
    if not len(members) == root.cohort > root.collusion_threshold:
        yield f"a cohort of {root.cohort} is counted where {len(members)} are inside"


def _inside(records: Mapping[PeerId, RoundRecord], top: RoundRecord) -> list[RoundRecord] | None:
    """The contributions inside a vector, by walking down from its owner; None where a record is missing."""
    found: list[RoundRecord] = []
    queue = [top]
    while queue and len(found) <= len(records):
        found.append(queue.pop())
        for child in found[-1].children:
            if child not in records:
                return None
            queue.append(records[child])
    return found


# --- privacy ----------------------------------------------------------------------------------------------------------


def rule(seen: Evidence) -> list[str]:
    """Every contributor has S mask neighbours: ancestors within S, and contributors within S inside its vector."""
    found: list[str] = []
    depths = {(msg.round, sender, to): msg.depth for _, sender, to, msg in seen.sent if isinstance(msg, m.Offer)}
    for round_id, records in seen.rounds().items():
        for record in records.values():
            if not record.sent and not record.published:
                continue
            if not record.contributed:
                found.append(f"{seen.name}: a relay sent something")
            s = record.collusion_threshold
            depth = 0 if record.parent is None else depths.get((round_id, record.parent, record.peer), -1)
            if len(record.ancestors) != min(depth, s):
                found.append(f"{seen.name}: {len(record.ancestors)} ancestors at depth {depth}")
            down, level = 0, [record]
            for _ in range(s):
                level = [records[child] for r in level for child in r.children if child in records]
                down += len(level)
            if min(depth, s) + down < s:
                found.append(f"{seen.name}: the contribution rule is broken: {min(depth, s)} above, {down} below")
    return found


def secrecy(seen: Evidence, most: int = 10**6) -> list[str]:
    """No coalition of fewer than S learns a value, be every vector that left in its sender's parent's hands.

    Tries every coalition of each round, as long as there are at most ``most`` of them; and says where linear algebra
    and the theorem disagree.
    """
    found: list[str] = []
    for records in seen.rounds().values():
        try:
            described = describe(records.values())
            engine = Leakage(described)
        except ValueError as error:
            found.append(f"{seen.name}: a round's records contradict each other: {error}")
            continue
        small = (c for size in range(described.collusion_threshold) for c in combinations(engine.peers, size))
        for coalition, _ in zip(small, range(most), strict=False):
            known = engine.by_algebra(coalition)
            if known.values:
                found.append(f"{seen.name}: a value is learned by a coalition of {len(coalition)}")
                break
            if described.follows_protocol and engine.by_components(coalition) != known:
                found.append(f"{seen.name}: linear algebra and the theorem disagree about a coalition")
                break
    return found


# --- once -------------------------------------------------------------------------------------------------------------


def once(seen: Evidence) -> list[str]:
    """One contribution per round and peer, lives included; a mask seed serves once; durable before visible."""
    found: list[str] = []
    partials = Counter((sender, msg.round) for _, sender, _, msg in seen.sent if isinstance(msg, m.Partial))
    if any(count > 1 for count in partials.values()):
        found.append(f"{seen.name}: two partials of one peer in one round")
    if seen.hasty:
        found.append(f"{seen.name}: a round was visible before durable")
    seeds = Counter(bytes(seed) for record in seen.records for seed in record.masks.values() if record.contributed)
    if any(count > 1 for count in seeds.values()):
        found.append(f"{seen.name}: a mask seed was used twice")
    before: set[tuple[PeerId, RoundId]] = set()
    for record in seen.records:
        if (record.peer, record.round) in before:
            found.append(f"{seen.name}: took part again after contributing")
        if record.contributed:
            before.add((record.peer, record.round))
    return found


def single(seen: Evidence) -> list[str]:
    """Who has one record never answers a model twice, nor two tasks of a schema, whatever became of the rounds, in this
    life or a later one."""
    if not seen.single:
        return []
    offers = {msg.round: msg for *_, msg in seen.sent if isinstance(msg, m.Offer)}
    schemas = {item.task.id: item.task.schema for *_, item in seen.items if isinstance(item, reports.TaskAdopted)}
    answers = [
        (r.peer, offers[r.round]) for r in seen.records if r.contributed and r.round in offers and r.peer in seen.single
    ]
    models = Counter((peer, offer.digest) for peer, offer in answers)
    tasks = Counter((peer, schemas[task]) for peer, task in {(peer, offer.task) for peer, offer in answers})
    found = [f"{seen.name}: one record answered one model twice" for count in models.values() if count > 1]
    return found + [f"{seen.name}: one record answered two tasks" for count in tasks.values() if count > 1]


# --- time -------------------------------------------------------------------------------------------------------------


def ends(seen: Evidence, world: World, most_s: float) -> list[str]:
    """Every round ends within ``most_s`` wherever it began, unless its peer's life ended before; nobody spins."""
    lives = {peer.id: peer.life for peer in world.peers if peer.node is not None}
    found = [
        f"{seen.name}: an endless round: under way for {world.now - begun:.1f} s"
        for (peer, _), (begun, life) in seen.under_way.items()
        if lives.get(peer) == life and world.now - begun > most_s
    ]
    found += [f"{seen.name}: a round took {took:.1f} s" for _, _, took in seen.lasted if took > most_s]
    if seen.busiest >= SPINS:
        found.append(f"{seen.name}: a node spins: {seen.busiest} events in a second")
    return found
