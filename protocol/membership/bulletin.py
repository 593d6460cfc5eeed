"""What to tell a partner: news first, then callers, then a random part of the view, and the rumours under way.

Neighbours: ``machine`` reports what it learned and asks for the content of messages; ``rumours`` counts how often
each item was passed on; ``view`` gives the random part, and says why callers are passed on.
Invariants: a message's size depends on its budget alone, never on the size of the network; whoever is not held for
alive is told so in any gossip that goes to it, so that it can refute.
"""

from collections.abc import Iterable
from typing import NamedTuple

from protocol.base.ids import PeerId
from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS, MAX_RUMOURS
from protocol.base.settings import Settings
from protocol.identity.descriptor import Descriptor
from protocol.membership.rumours import RumourQueue, transmissions
from protocol.membership.view import Entry, Liveness, View
from protocol.wire.messages import Rumour


class Told(NamedTuple):
    """One half of an exchange."""

    descriptors: list[Descriptor]
    """What goes to the partner."""
    exchangeable: list[PeerId]
    """As many members to be given up for those that come back, first one first: what moves to the partner, then others
    in the place of the callers, which are copied."""


class Bulletin:
    """The three queues of one peer, and its own descriptor."""

    def __init__(self, own: Descriptor, view: View, settings: Settings) -> None:
        capacity = settings.view_capacity
        self.own = own
        self._budget = min(settings.gossip_descriptors, MAX_GOSSIP_DESCRIPTORS)
        self._view = view
        self._rumours: RumourQueue[Rumour] = RumourQueue(capacity)
        self._news: RumourQueue[PeerId] = RumourQueue(capacity)
        self._callers: RumourQueue[PeerId] = RumourQueue(capacity)
        self.announce(own.peer)

    # --- what to pass on -------------------------------------------------------------------------------------

    def announce(self, peer: PeerId) -> None:
        """The descriptor of ``peer`` is unknown to many, or has changed: it goes first from now."""
        self._news.put(peer, peer)

    def introduce(self, peer: PeerId) -> None:
        """``peer`` has begun an exchange: it is passed on, unless that is being done (calling often helps nobody)."""
        if peer not in self._callers:
            self._callers.put(peer, peer)

    def outgrown(self) -> None:
        """The view is partial from now: newcomers are no news any more (see ``machine``)."""
        self._news.clear()

    def accuse(self, entry: Entry) -> None:
        """Pass on that a peer is suspect, dead or gone."""
        peer = entry.descriptor.peer
        self._news.drop(peer)
        self._rumours.put(peer, Rumour(peer, entry.incarnation, entry.state))

    def remind(self, entry: Entry) -> None:
        """Somebody does not know yet: pass it on again, unless that is being done."""
        if entry.descriptor.peer not in self._rumours:
            self.accuse(entry)

    def drop(self, peer: PeerId) -> None:
        """Pass no rumour about ``peer`` on any more."""
        self._rumours.drop(peer)

    # --- what to say -----------------------------------------------------------------------------------------

    def pick(self, partner: PeerId, *, with_own: bool, much: bool = False) -> Told:
        """What goes to ``partner``: as many descriptors as the settings say.

        Up to ``MAX_GOSSIP_DESCRIPTORS`` when ``much`` is to be told, or while a whole view has more news than usually
        fits: many join at once.  ``with_own``: one of them is this peer, always and first; else it is among them
        only as long as it is news.
        """
        own = [self.own] if with_own else []
        partial = self._view.partial
        crowded = not partial and len(self._news) > self._budget
        budget = MAX_GOSSIP_DESCRIPTORS if much or crowded else self._budget
        room = self._budget // 2 if partial else budget - len(own)
        limit = transmissions(self._view.size_estimate())
        known = {partner, *[descriptor.peer for descriptor in own]}
        news = self._good(self._news.take(room, limit, known))
        callers: list[Descriptor] = []
        if partial:
            # For one caller a period there is room in half of two messages: so often can each be passed on.
            room -= len(news)
            known.update([descriptor.peer for descriptor in news])
            callers = self._good(self._callers.take(room, self._budget, known))
        known.update([descriptor.peer for descriptor in news + callers])
        rest = self._view.sample(budget - len(own) - len(news) - len(callers), known)
        others: list[Descriptor] = []
        if callers:
            known.update([descriptor.peer for descriptor in rest])
            others = self._view.sample(len(callers), known)
        return Told(own + news + callers + rest, [descriptor.peer for descriptor in rest + news + others])

    def _good(self, peers: Iterable[PeerId]) -> list[Descriptor]:
        """Of those that can be passed on: alive members, and this peer itself."""
        found: list[Descriptor] = []
        for peer in peers:
            entry = self._view.member(peer)
            if entry is not None and entry.state is Liveness.ALIVE:
                found.append(entry.descriptor)
            elif peer == self.own.peer:
                found.append(self.own)
        return found

    def rumours(self, partner: PeerId) -> tuple[Rumour, ...]:
        """The rumours that go to ``partner``, what is said of itself first."""
        limit = transmissions(self._view.size_estimate())
        rumours = self._rumours.take(MAX_RUMOURS - 1, limit, (partner,))
        entry = self._view.entry(partner)
        if entry is not None and entry.state is not Liveness.ALIVE:
            rumours.insert(0, Rumour(partner, entry.incarnation, entry.state))
        return tuple(rumours)
