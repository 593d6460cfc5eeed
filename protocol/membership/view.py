"""The bounded view: whom this peer knows, how they are, and near uniform samples of them.

Neighbours: ``machine`` decides what enters and leaves, ``detector`` holds the timers.
Invariants: at most ``capacity`` members (alive or suspect) and as many tombstones (dead or left); this peer itself is
in neither; a member's descriptor is only ever replaced by a fresher one of the same peer; a tombstone gives way only
to a higher incarnation, or once the descriptor that it guards against has expired and nobody would take it any more.

A network smaller than the capacity is held whole.  A larger one is held in part (``partial``), and its views are kept
near uniform by two rules (``bulletin`` chooses, ``machine`` exchanges):

- Entries move.  Of what was told to a partner as much is given up as was received in return, and the initiator gives
  up the partner itself, whose view now holds the initiator (Voulgaris, Gavidia, van Steen, *CYCLON*, J. Network and
  Systems Management 13(2), 2005).  This mixes, but evens out slowly: a peer gains one entry and loses in-degree /
  capacity of them in a period, so whatever the start did lasts for some ``capacity`` periods.
- Callers, and nobody else, are copied.  Whoever begins an exchange is passed on by its partner in k messages, k being
  the descriptors in one, and for every copy taken in a random member is given up.  Everybody calls once in a period,
  whatever its in-degree, and so gains up to k + 1 entries; entries are given up without regard to whom they name.
  In-degrees tend to the capacity with a time constant of about capacity / (k + 1) periods, and spread no more than in
  views drawn at random.  (Were news copied as well, whoever is often suspected, as behind NAT, would be everywhere.)

What a hostile peer can make of it: each call buys k + 1 entries at most, for it as for everybody, and a caller that is
still being passed on is not taken up again, so in-degree grows with the number of *different* peers called in a period,
as without the second rule (where whoever never answered with anything new was not even given up).  It falls as fast
when the calls end.  A partner that lies in its messages places no more entries than without it: as many are taken from
it as it is told of.
"""

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from protocol.base.entropy import Entropy
from protocol.base.ids import PeerId
from protocol.base.limits import CLOCK_TOLERANCE_S
from protocol.identity.descriptor import Descriptor

ESTIMATE_WINDOW = 1024
"""Received descriptors over which the hit rate is averaged: some 70 periods."""
EXPIRY_STEP_S = CLOCK_TOLERANCE_S / 2
"""Between two looks for what has expired: in a large network something always has."""
PARTIAL_UNTIL = 0.75
"""A partial view counts as whole again once it has shrunk to this share of its capacity."""


class Liveness(IntEnum):
    """What is believed of a peer.  At one incarnation the higher number wins; a higher incarnation always wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Learned(Enum):
    """What a descriptor changed."""

    NOTHING = auto()
    """It was known, is older than what is known, or there is no room for it."""
    NEW = auto()
    REFRESHED = auto()
    """A fresher descriptor of a known member at the same incarnation: keys or addresses may have changed."""
    REBORN = auto()
    """A known member or a tombstone rose to a higher incarnation: it is alive."""
    BURIED = auto()
    """Its peer is dead or has left as of this incarnation or a later one."""


@dataclass(slots=True, eq=False)
class Entry:
    """One known peer."""

    descriptor: Descriptor
    state: Liveness
    incarnation: int
    """Incarnation of which ``state`` holds: that of the descriptor, or higher after a rumour that was ahead of it."""
    since: float
    """Unix seconds at which ``state`` was taken on."""
    heard_at: float
    """Unix seconds of the last authentic message of this peer; ``-inf``: never."""


def expired(descriptor: Descriptor, now: float) -> bool:
    """Whether no peer with a tolerable clock would still take this descriptor."""
    return descriptor.expires + CLOCK_TOLERANCE_S < now


class View:
    """Members and tombstones; see the module."""

    def __init__(self, own: PeerId, capacity: int, entropy: Entropy) -> None:
        self._own = own
        self._capacity = capacity
        self._entropy = entropy
        self._members: dict[PeerId, Entry] = {}
        self._tombstones: dict[PeerId, Entry] = {}
        self._lap: list[Entry] = []
        """Still to be visited in this lap of the round robin, last one next; who has left the members since is passed
        over then."""
        self._alive: list[Descriptor] = []
        self._alive_ids: list[PeerId] = []
        """The alive members in id order, and their ids."""
        self._expire_at = float("-inf")
        """When to look for what has expired."""
        self._partial = False
        self._hits = 0.0
        self._trials = 0.0

    # --- looking ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def member(self, peer: PeerId) -> Entry | None:
        """The entry of an alive or suspect peer."""
        return self._members.get(peer)

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether this very descriptor is a member's."""
        known = self._members.get(descriptor.peer)
        return known is not None and known.descriptor is descriptor

    def entry(self, peer: PeerId) -> Entry | None:
        """The entry of a member or a tombstone."""
        return self._members.get(peer) or self._tombstones.get(peer)

    def entries(self) -> Iterator[Entry]:
        """All entries, members first."""
        yield from self._members.values()
        yield from self._tombstones.values()

    def alive(self) -> list[Descriptor]:
        """The alive members (suspects are none) in id order.  Not to be changed by the caller."""
        return self._alive

    def sample(self, count: int, exclude: Container[PeerId] = ()) -> list[Descriptor]:
        """Up to ``count`` different alive members, uniformly from the view."""
        pool, moved, found = self._alive, dict[int, int](), list[Descriptor]()
        for i in range(len(pool)):  # Fisher and Yates' shuffle, as far as it is needed and without a copy
            if len(found) >= count:
                break
            j = i + self._entropy.below(len(pool) - i)
            drawn = pool[moved.get(j, j)]
            moved[j] = moved.get(i, i)
            if drawn.peer not in exclude:
                found.append(drawn)
        return found

    @property
    def partial(self) -> bool:
        """Whether the network is larger than the view."""
        return self._partial

    def next_partner(self, wanted: Callable[[PeerId], bool] = lambda peer: True) -> Entry | None:
        """The next member of a shuffled round robin: within one lap everybody is visited once, suspects too.

        Those not ``wanted`` are passed over, unless nobody else is left of the lap.
        """
        passed_over: Entry | None = None
        while self._members:
            if not self._lap:
                if passed_over is not None:
                    return passed_over
                self._lap = list(self._members.values())
                self._entropy.shuffle(self._lap)
            entry = self._lap.pop()
            if self._members.get(entry.descriptor.peer) is entry:
                if wanted(entry.descriptor.peer):
                    return entry
                passed_over = entry
        return None

    def random_dead(self) -> Entry | None:
        """A peer taken for dead (not one that left): whoever was cut off may have come back."""
        dead = [e for e in self._tombstones.values() if e.state is Liveness.DEAD]
        return self._entropy.choice(dead) if dead else None

    # --- size of the network ---------------------------------------------------------------------------------

    def observe(self, peer: PeerId) -> None:
        """Count one descriptor drawn at random by another peer: was it in this view already?"""
        if self._partial and peer not in self._tombstones:
            keep = 1 - 1 / ESTIMATE_WINDOW
            self._trials = self._trials * keep + 1
            self._hits = self._hits * keep + (peer in self._members)

    def size_estimate(self) -> int:
        """Peers in the network, this one included.

        A count while the view is whole; else capture and recapture: a random peer is in this view with probability
        (members / others), so others = members / hit rate (one is added to hits and trials, after Chapman).
        """
        members = len(self._members)
        if not self._partial:
            return members + 1
        return round(members * (self._trials + 1) / (self._hits + 1)) + 1

    # --- changing --------------------------------------------------------------------------------------------

    def learn(self, descriptor: Descriptor, now: float, exchangeable: list[PeerId]) -> Learned:
        """Take in a verified descriptor of another peer.

        ``exchangeable``: members that may be given up for it when the view is full, first one first; those that
        were are removed from the list.
        """
        peer = descriptor.peer
        known = self._members.get(peer)
        if peer == self._own or expired(descriptor, now):
            return Learned.NOTHING
        if known is not None:
            return self._refresh(known, descriptor, now)
        outcome = Learned.NEW
        buried = self._tombstones.get(peer)
        if buried is not None:
            if descriptor.incarnation <= buried.incarnation:
                return Learned.BURIED
            del self._tombstones[peer]
            outcome = Learned.REBORN
        if not self._make_room(exchangeable):
            return Learned.NOTHING
        entry = Entry(descriptor, Liveness.ALIVE, descriptor.incarnation, now, float("-inf"))
        self._members[peer] = entry
        if len(self._lap) > 2 * self._capacity:  # mostly of those that have left since
            self._lap = [e for e in self._lap if self._members.get(e.descriptor.peer) is e]
        self._lap.insert(self._entropy.below(len(self._lap) + 1), entry)
        self._count_in(descriptor)
        return outcome

    def set_state(self, entry: Entry, state: Liveness, incarnation: int, now: float) -> None:
        """Take on a new belief; the dead and those that left become tombstones."""
        entry.state, entry.incarnation, entry.since = state, incarnation, now
        peer = entry.descriptor.peer
        if state is Liveness.ALIVE and peer in self._members:
            self._count_in(entry.descriptor)
        else:
            self._count_out(peer)
        if state in (Liveness.DEAD, Liveness.LEFT) and peer in self._members:
            self._remove(peer)
            if len(self._tombstones) >= self._capacity:
                del self._tombstones[next(iter(self._tombstones))]
            self._tombstones[peer] = entry

    def give_up(self, peer: PeerId) -> None:
        """Drop a member without a word: its place is better used for another."""
        if peer in self._members:
            self._remove(peer)

    def expire(self, now: float) -> list[PeerId]:
        """Drop what has expired, every now and then; returns the members dropped.

        Members go some seconds early, so that they are not passed on to somebody who refuses them.
        """
        if now < self._expire_at:
            return []
        self._expire_at = now + EXPIRY_STEP_S
        limit = self._expire_at - CLOCK_TOLERANCE_S
        dropped = [peer for peer, entry in self._members.items() if entry.descriptor.expires < limit]
        for peer in dropped:
            self._remove(peer)
        for peer in [p for p, entry in self._tombstones.items() if expired(entry.descriptor, now)]:
            del self._tombstones[peer]
        return dropped

    def _refresh(self, known: Entry, descriptor: Descriptor, now: float) -> Learned:
        if not descriptor.supersedes(known.descriptor):
            return Learned.NOTHING
        known.descriptor = descriptor
        if known.state is Liveness.ALIVE:
            self._count_in(descriptor)
        if descriptor.incarnation <= known.incarnation:
            return Learned.REFRESHED
        self.set_state(known, Liveness.ALIVE, descriptor.incarnation, now)
        return Learned.REBORN

    def _make_room(self, exchangeable: list[PeerId]) -> bool:
        if len(self._members) < self._capacity:
            return True
        if not self._partial:
            self._partial = True
            self._hits = self._trials = 0.0
        while exchangeable:
            peer = exchangeable.pop(0)
            if peer in self._members:
                self._remove(peer)
                return True
        return False

    def _remove(self, peer: PeerId) -> None:
        del self._members[peer]
        self._count_out(peer)
        if len(self._members) <= PARTIAL_UNTIL * self._capacity:
            self._partial = False

    def _count_in(self, descriptor: Descriptor) -> None:
        """The member is alive, and this is its descriptor now."""
        at = bisect_left(self._alive_ids, descriptor.peer)
        if at < len(self._alive_ids) and self._alive_ids[at] == descriptor.peer:
            self._alive[at] = descriptor
        else:
            self._alive_ids.insert(at, descriptor.peer)
            self._alive.insert(at, descriptor)

    def _count_out(self, peer: PeerId) -> None:
        at = bisect_left(self._alive_ids, peer)
        if at < len(self._alive_ids) and self._alive_ids[at] == peer:
            del self._alive_ids[at], self._alive[at]
