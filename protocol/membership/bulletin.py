"""What to tell a partner: news first, then a random part of the view, and the rumours that are under way.

Neighbours: ``machine`` reports what it learned and asks for the content of messages; ``rumours`` counts how often
each item was passed on; ``view`` gives the random part.
Invariants: a message's size depends on its budget alone, never on the size of the network; whoever is not held for
alive is told so in any gossip that goes to it, so that it can refute.
"""

from collections.abc import Sequence

from protocol.base.ids import PeerId
from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS, MAX_RUMOURS
from protocol.base.settings import Settings
from protocol.identity.descriptor import Descriptor
from protocol.membership.rumours import RumourQueue, transmissions
from protocol.membership.view import Entry, Liveness, View
from protocol.wire.messages import Rumour


class Bulletin:
    """The two queues of one peer, and its own descriptor."""

    def __init__(self, own: Descriptor, view: View, settings: Settings) -> None:
        capacity = settings.view_capacity
        self.own = own
        self._budget = settings.gossip_descriptors
        self._view = view
        self._rumours: RumourQueue[Rumour] = RumourQueue(capacity)
        self._news: RumourQueue[PeerId] = RumourQueue(capacity)
        self.announce(own.peer)

    # --- what to pass on -------------------------------------------------------------------------------------

    def announce(self, peer: PeerId) -> None:
        """The descriptor of ``peer`` is unknown to many, or has changed: it goes first from now."""
        self._news.put(peer, peer)

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

    def pick(self, partner: PeerId, *, with_own: bool, much: bool = False) -> list[PeerId]:
        """The peers whose descriptors go to ``partner``: as many as the settings say.

        Up to ``MAX_GOSSIP_DESCRIPTORS`` when ``much`` is to be told, or while a whole view has more news than usually
        fits: many join at once.  ``with_own``: one of them is this peer, always and first; else it is among them
        only as long as it is news.
        """
        own = self.own.peer
        picked = [own] if with_own else []
        partial = self._view.partial
        crowded = not partial and len(self._news) > self._budget
        budget = MAX_GOSSIP_DESCRIPTORS if much or crowded else min(self._budget, MAX_GOSSIP_DESCRIPTORS)
        # In a partial view news is about few, and the random part keeps samples uniform and the size known.
        for_news = self._budget // 2 if partial else budget - len(picked)
        limit = transmissions(self._view.size_estimate())
        for peer in self._news.take(for_news, limit, lambda peer: peer not in (partner, *picked)):
            entry = self._view.member(peer)
            if peer == own or (entry is not None and entry.state is Liveness.ALIVE):
                picked.append(peer)
        rest = self._view.sample(budget - len(picked), {partner, *picked})
        return picked + [descriptor.peer for descriptor in rest]

    def descriptors(self, peers: Sequence[PeerId]) -> tuple[bytes, ...]:
        """The signed bytes of these members, or of this peer itself."""
        entries = (self._view.member(peer) for peer in peers if peer != self.own.peer)
        own = (self.own.raw,) if self.own.peer in peers else ()
        return own + tuple(entry.descriptor.raw for entry in entries if entry is not None)

    def rumours(self, partner: PeerId) -> tuple[Rumour, ...]:
        """The rumours that go to ``partner``, what is said of itself first."""
        limit = transmissions(self._view.size_estimate())
        rumours = self._rumours.take(MAX_RUMOURS - 1, limit, lambda peer: peer != partner)
        entry = self._view.entry(partner)
        if entry is not None and entry.state is not Liveness.ALIVE:
            rumours.insert(0, Rumour(partner, entry.incarnation, entry.state))
        return tuple(rumours)
