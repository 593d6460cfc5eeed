"""Whom this peer can talk to directly: what its own messages have shown, and nothing that others say.

Neighbours: ``machine`` reports what was heard and what was not answered; partners, helpers and, through ``node``, the
candidates of rounds and walks are chosen by it.
Invariants: at most ``capacity`` peers on either side, the oldest forgotten first; a message of a peer always outweighs
what was missed before it.

In networks of phones about every second pair cannot connect (NAT).  The silence of somebody who has been heard from is
a sign of death at once; that of somebody never heard from only after ``STRIKES`` times, each time with other helpers:
three helpers that are reached themselves all fail to reach a peer that is well with a chance of 0.57^3, one in five.

There most of those who are held for alive may be gone or out of reach, unnoticed.  Whether it is so shows in the share
of this peer's regular exchanges that meet silence (``fickle``).
"""

import math
from enum import Enum, auto

from protocol.base.ids import PeerId

STRIKES = 3
RETRY_S = 600.0
"""A peer out of reach is tried again after so long: it, or this one, may have changed networks."""

FICKLE_SHARE = 1 / 50
"""From this share of unanswered exchanges on, silence costs more than asking those heard from lately out of turn."""
_MEMORY = 32
"""Exchanges over which that share is smoothed."""


class Contact(Enum):
    """What is known of the way to a peer."""

    OPEN = auto()
    """It has been heard from, and nothing was missed since."""
    UNTRIED = auto()
    CLOSED = auto()
    """A message to it was not answered lately, and nothing was heard from it since."""


class Reach:
    """One peer's own experience of others."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._heard: dict[PeerId, float] = {}
        self._missed: dict[PeerId, float] = {}
        self._vouched: dict[PeerId, float] = {}
        self._strikes: dict[PeerId, float] = {}
        self._unanswered = 0.0

    def heard(self, peer: PeerId, now: float) -> None:
        """An authentic message of ``peer`` arrived."""
        _note(self._heard, peer, now, self._capacity)
        if peer in self._missed:
            self.moved(peer)

    def missed(self, peer: PeerId, now: float) -> None:
        """A message to ``peer`` was not delivered, or not answered."""
        _note(self._missed, peer, now, self._capacity)

    def exchanged(self, answered: bool) -> None:
        """An exchange with whoever's turn it was was answered, or met with silence.

        Others have a say in whom this peer greets out of turn, and are not to make its network look fickle.
        """
        self._unanswered += (float(not answered) - self._unanswered) / _MEMORY

    @property
    def fickle(self) -> bool:
        """Whether many of those who are held for alive do not answer."""
        return self._unanswered > FICKLE_SHARE

    def moved(self, peer: PeerId) -> None:
        """It has started anew, or got other addresses: what was missed says nothing any more."""
        for notes in (self._missed, self._vouched, self._strikes):
            notes.pop(peer, None)

    def vouched(self, peer: PeerId, now: float) -> None:
        """Others can reach it, so it is alive."""
        _note(self._vouched, peer, now, self._capacity)
        self._strikes.pop(peer, None)

    def strike(self, peer: PeerId) -> bool:
        """Nobody who was asked has reached it, once more; whether that is enough to suspect it."""
        strikes = self._strikes.get(peer, 0) + 1
        _note(self._strikes, peer, strikes, self._capacity)
        return peer in self._heard or strikes >= STRIKES

    def hopeless(self, peer: PeerId, now: float) -> bool:
        """Whether it is alive, as others say, and closed to this one: no use in trying for a while."""
        return peer in self._vouched and self.to(peer, now) is Contact.CLOSED

    def ever(self, peer: PeerId) -> bool:
        """Whether it has been heard from."""
        return peer in self._heard

    def silence(self, peer: PeerId, now: float) -> float:
        """Seconds since it was last heard from; infinity: never."""
        return now - self._heard.get(peer, -math.inf)

    def to(self, peer: PeerId, now: float) -> Contact:
        """What is known of the way to it."""
        missed = self._missed.get(peer)
        if missed is not None and now < missed + RETRY_S:
            return Contact.CLOSED
        return Contact.OPEN if missed is None and peer in self._heard else Contact.UNTRIED


def _note(times: dict[PeerId, float], peer: PeerId, now: float, capacity: int) -> None:
    times.pop(peer, None)
    if len(times) >= capacity:
        del times[next(iter(times))]
    times[peer] = now
