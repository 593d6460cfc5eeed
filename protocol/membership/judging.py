"""What is believed of others: from silence, from what helpers find, and from what others say.

Neighbours: ``machine`` tells it of silence and of rumours and sends what it asks for; ``view`` holds the verdicts,
``detector`` the timers, ``reach`` what this peer knows of its own.
Invariants: a verdict goes to the view and to the bulletin together; silence alone does not make anybody suspect who
could never be reached from here (see ``reach``); what others say alone is no verdict on a peer that was just heard.
"""

from dataclasses import replace

from protocol.base.ids import PeerId
from protocol.base.limits import MAX_INCARNATION_LEAD
from protocol.base.settings import Settings
from protocol.effects import Effect, Send
from protocol.identity.descriptor import Descriptor
from protocol.membership.bulletin import Bulletin
from protocol.membership.detector import Detector, Probe
from protocol.membership.reach import Contact, Reach
from protocol.membership.view import Entry, Liveness, View
from protocol.wire.messages import Ping, ProbeRequest, Rumour

HELPERS_DRAWN = 4
"""How many times as many as are asked are looked at, for those that are sure to be reached."""


class Judge:
    """One peer's verdicts on the others."""

    def __init__(self, view: View, detector: Detector, bulletin: Bulletin, reach: Reach, settings: Settings) -> None:
        self._view = view
        self._detector = detector
        self._bulletin = bulletin
        self._reach = reach
        self._helpers_asked = settings.indirect_probes

    def told(self, rumour: Rumour, now: float, *, by_itself: bool = False) -> list[Effect]:
        """Somebody says something of a peer; ``by_itself``: that very peer."""
        entry = self._view.entry(rumour.peer)
        if entry is None or rumour.incarnation > max(entry.descriptor.incarnation, now) + MAX_INCARNATION_LEAD:
            return []
        state, member = Liveness(rumour.state), self._view.member(rumour.peer) is not None
        heard_lately = member and now - entry.heard_at < self._detector.suspicion_s
        if state is Liveness.DEAD and heard_lately:
            state = Liveness.SUSPECT  # it gets its time to refute
        if state is Liveness.SUSPECT and not member:
            return []  # suspects live: to rise from the tombstones takes a descriptor
        if (rumour.incarnation, state) > (entry.incarnation, entry.state):
            if heard_lately and not by_itself:
                return self._ask(entry, replace(rumour, state=state), now)  # one's own ears first
            self._believe(entry, state, rumour.incarnation, now)
        elif rumour.incarnation < entry.incarnation and entry.state is Liveness.ALIVE:
            self._bulletin.announce(rumour.peer)
        return []

    def _ask(self, entry: Entry, rumour: Rumour, now: float) -> list[Effect]:
        """Whether a peer is there is best known to itself: silence proves the rumour, any word of it refutes it."""
        nonce = self._detector.begin(rumour.peer, [], now)
        probe = self._detector.probe_of(rumour.peer)
        if probe is not None:
            probe.hearsay = rumour
        return [] if nonce is None else [Send(entry.descriptor, Ping(nonce))]

    def silent(self, probe: Probe, now: float) -> tuple[list[Effect], bool]:
        """A probe was not answered: the first time others are asked, the second time the target becomes suspect.

        Returns what to send, and whether the target is suspect now.
        """
        entry, said = self._view.member(probe.target), probe.hearsay
        if entry is None:
            return [], False
        if said is not None and (said.incarnation, said.state) > (entry.incarnation, entry.state):
            self._detector.answered(probe.target, probe.nonce)
            self._reach.missed(probe.target, now)
            self._believe(entry, Liveness(said.state), said.incarnation, now)
            return [], said.state == Liveness.SUSPECT
        if entry.state is Liveness.SUSPECT:
            return [], False
        self._reach.missed(probe.target, now)
        if self._view.partial and not self._reach.ever(probe.target):
            # Nothing says that it could ever be reached from here: others know better, and its place is soon taken.
            self._detector.answered(probe.target, probe.nonce)
            self._view.give_up(probe.target)
            return [], False
        helpers = [] if probe.helpers else self._helpers(probe.target, now)
        if helpers:
            self._detector.ask(probe, tuple(helper.peer for helper in helpers), now)
            request = ProbeRequest(probe.nonce, probe.target, entry.descriptor.raw)
            return [Send(helper, request) for helper in helpers], False
        self._detector.answered(probe.target, probe.nonce)
        if not self._reach.strike(probe.target):
            return [], False
        self._believe(entry, Liveness.SUSPECT, entry.incarnation, now)
        return [], True

    def lapsed(self, peer: PeerId, now: float) -> None:
        """A suspect's time is up."""
        entry = self._view.member(peer)
        if entry is None or entry.state is not Liveness.SUSPECT:
            return
        if entry.heard_at > entry.since:
            self._bulletin.drop(peer)
            self._view.set_state(entry, Liveness.ALIVE, entry.incarnation, now)
        else:
            self._believe(entry, Liveness.DEAD, entry.incarnation, now)

    def _believe(self, entry: Entry, state: Liveness, incarnation: int, now: float) -> None:
        """Take on that a peer is suspect, dead or gone, and pass it on."""
        peer = entry.descriptor.peer
        self._view.set_state(entry, state, incarnation, now)
        self._bulletin.accuse(entry)
        if state is Liveness.SUSPECT:
            self._detector.suspect(peer, now)
        else:
            self._detector.forget(peer)

    def _helpers(self, target: PeerId, now: float) -> list[Descriptor]:
        """Whom to ask: of a sample, those first who are sure to be reached."""
        drawn = self._view.sample(HELPERS_DRAWN * self._helpers_asked, {target})
        near = [d for d in drawn if self._reach.to(d.peer, now) is Contact.OPEN]
        others = [d for d in drawn if self._reach.to(d.peer, now) is Contact.UNTRIED]
        return (near + others)[: self._helpers_asked]
