"""The membership machine: joins, gossips, detects failures, refutes, leaves.

Neighbours: ``view`` (whom it knows), ``detector`` (timers), ``reach`` (whom it can talk to), ``judging`` (what it
believes), ``bulletin`` (what to pass on), ``dialling`` (when to ask the seeds); ``node`` calls it with authentic
messages only, and signs a new descriptor when ``incarnation`` grew.
Invariants: one exchange per period, plus a bounded number of probes when somebody is silent; every descriptor from
outside passes the verifier before it is looked at; the state of a peer never goes back to an earlier incarnation;
after ``leave`` the machine says nothing more.

What is alive is said by descriptors, which only their peer can sign; rumours say suspect, dead and left.  A peer that
is told such a thing of itself raises its incarnation above it, and its next descriptor overrides the rumour
everywhere.  To that end whoever writes to a peer it does not hold for alive says so in the same message.
"""

from collections.abc import Container, Sequence

from protocol.base.entropy import Entropy
from protocol.base.errors import Refused
from protocol.base.ids import PeerId, TaskId
from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS, MAX_HEADS, MAX_INCARNATION_LEAD, MAX_RUMOURS, MAX_TASKS
from protocol.base.settings import Settings
from protocol.effects import Dial, Effect, Send
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.membership.bulletin import Bulletin
from protocol.membership.detector import Detector, Probe, draw_nonce
from protocol.membership.dialling import Dialler
from protocol.membership.judging import Judge
from protocol.membership.reach import Contact, Reach
from protocol.membership.view import Entry, Learned, Liveness, View
from protocol.wire.messages import Gossip, GossipReply, Head, Leave, Ping, Pong, ProbeRequest, Rumour

JITTER = 0.25
"""Periods vary by this share either way, so that peers do not fall into step."""
RECONNECT_PERIODS = 10
"""Every so many periods somebody taken for dead is greeted: after a partition the two sides find each other."""
LATELY_PERIODS = 3
"""Heard from lately is who was heard from within so many periods."""
MAX_URGENT = 4
"""Peers to be greeted at once instead of in their turn."""
LEAVE_FANOUT = 16
"""Peers that are told of a leave at first hand."""
REMEMBERED_PER_MEMBER = 4
"""Peers whose reach is remembered, as a multiple of the view's capacity."""
_RUMOURED = frozenset((Liveness.SUSPECT, Liveness.DEAD, Liveness.LEFT))


class Membership:
    """One peer's membership; what a method asks for it returns, in order."""

    def __init__(
        self, own: Descriptor, settings: Settings, entropy: Entropy, verifier: DescriptorVerifier, now: float
    ) -> None:
        self._settings = settings
        self._entropy = entropy
        self._verifier = verifier
        self._view = View(own.peer, settings.view_capacity, entropy)
        self._detector = Detector(settings, entropy)
        self._bulletin = Bulletin(own, self._view, settings)
        self._dialler = Dialler(own.peer, settings)
        self._reach = Reach(REMEMBERED_PER_MEMBER * settings.view_capacity)
        self._judge = Judge(self._view, self._detector, self._bulletin, self._reach, settings)
        self._urgent: list[PeerId] = []
        self._clock = now
        """The latest ``now`` of any call."""
        self._gossip_at = now
        self._periods = 0
        self._gone = False
        self.incarnation = own.incarnation
        """Grows when this peer hears itself suspected; ``node`` then signs a descriptor with it (``set_own``)."""
        self.refused_descriptors = 0
        """Descriptors inside authentic gossip that did not pass the verifier."""

    # --- questions -------------------------------------------------------------------------------------------

    def lookup(self, peer: PeerId) -> Descriptor | None:
        """The freshest descriptor of a known peer, dead ones included: they may come back and must be understood."""
        entry = self._view.entry(peer)
        return entry.descriptor if entry else None

    def state_of(self, peer: PeerId) -> Liveness | None:
        """What is believed of a peer; None: unknown."""
        entry = self._view.entry(peer)
        return entry.state if entry else None

    def alive(self) -> list[Descriptor]:
        """The other peers that are alive (suspects are left out) in id order."""
        return list(self._view.alive())

    def within_reach(self) -> list[Descriptor]:
        """Those of ``alive`` to whom this peer has not just failed to talk."""
        return [d for d in self._view.alive() if self._reach.to(d.peer, self._clock) is not Contact.CLOSED]

    def companions(self, besides: Container[PeerId] = ()) -> list[Descriptor]:
        """Those of ``alive`` it prefers; if none but ``besides``, those it talks with; then those within reach."""
        for circle in (self.preferred, self._talking, self.within_reach):
            if found := [d for d in circle() if d.peer not in besides]:
                return found
        return []

    def preferred(self) -> list[Descriptor]:
        """Where many do not answer, those of ``alive`` that were heard from lately; elsewhere nobody."""
        if not self._reach.fickle:
            return []
        lately, now = LATELY_PERIODS * self._settings.gossip_period_s, self._clock
        return [d for d in self._talking() if self._reach.silence(d.peer, now) < lately]

    def _talking(self) -> list[Descriptor]:
        return [d for d in self._view.alive() if self.talked_with(d.peer)]

    def talked_with(self, peer: PeerId) -> bool:
        """Whether this peer has heard from it directly, and missed nothing since."""
        return self._reach.to(peer, self._clock) is Contact.OPEN

    def sample(self, count: int, exclude: Container[PeerId] = ()) -> list[Descriptor]:
        """Up to ``count`` different alive peers not in ``exclude``, near uniform over the network."""
        return self._view.sample(count, exclude)

    def size_estimate(self) -> int:
        """Peers in the network, this one included: a count in small networks, else an estimate (see ``view``)."""
        return self._view.size_estimate()

    def peers(self) -> list[tuple[Descriptor, Liveness]]:
        """Everybody remembered, in id order: for people to look at."""
        return sorted(((e.descriptor, e.state) for e in self._view.entries()), key=lambda pair: pair[0].peer)

    def descriptors_to_save(self) -> list[Descriptor]:
        """What to give to ``found`` after a restart, so that the network is found without seeds.

        None of them while nobody has been heard from: what was saved before is worth no less then.
        """
        alive = self.alive()
        return alive if any(self._reach.ever(descriptor.peer) for descriptor in alive) else []

    def next_deadline(self) -> tuple[float, str]:
        """When ``tick`` is due (Unix seconds, may lie in the past) and why; infinity after ``leave``."""
        if self._gone:
            return float("inf"), "left"
        if self._urgent:
            return self._clock, "gossip"
        best = self._detector.next_deadline()
        if self._gossip_at <= best[0]:
            best = self._gossip_at, "gossip"
        if not self._view.alive():
            dial = max(self._clock, self._dialler.deadline())
            if dial < best[0]:
                best = dial, "dial"
        return best

    # --- what happened ---------------------------------------------------------------------------------------

    def set_own(self, descriptor: Descriptor) -> None:
        """This peer signed a new descriptor; a higher incarnation is passed on without waiting for the period."""
        own = self._bulletin.own
        if descriptor.peer != own.peer:
            raise ValueError("set_own takes this peer's own descriptor")
        if descriptor.incarnation > own.incarnation:
            self._gossip_at = min(self._gossip_at, self._clock)
        self._bulletin.own = descriptor
        self._bulletin.announce(descriptor.peer)
        self.incarnation = max(self.incarnation, descriptor.incarnation)

    def found(self, descriptor: Descriptor, now: float) -> None:
        """A verified descriptor from a seed or from before a restart: greet its peer at once, unless they talk already.

        A network that started together asks its seeds again together: greeted by all, they would be given up by all.
        In a partial view a random member makes room: a seed may be all that is known of another part of the network.
        """
        self._wake(now)
        spare = self._view.sample(1) if self._view.partial and self._view.entry(descriptor.peer) is None else []
        self._learn(descriptor, now, [member.peer for member in spare])
        if self._view.member(descriptor.peer) is not None and not self.talked_with(descriptor.peer):
            self.greet_soon(descriptor.peer)

    def heard(self, sender: Descriptor, now: float) -> None:
        """An authentic message of ``sender`` arrived, whatever its kind: to be told before what is in it."""
        self._wake(now)
        entry = self._view.entry(sender.peer)
        if entry is None or entry.descriptor is not sender:
            self._learn(sender, now, [])
            entry = self._view.entry(sender.peer)
        if entry is not None:
            entry.heard_at = now
        self._reach.heard(sender.peer, now)
        self._detector.heard(sender.peer)

    def send_failed(self, peer: PeerId, now: float) -> list[Effect]:
        """A message to ``peer`` could not be delivered: ask others at once, or probe it at once."""
        self._wake(now)
        entry = self._view.member(peer)
        # Of a suspect nothing new is learned, and what a ping for another peer met is that peer's to judge.
        if self._gone or entry is None or entry.state is Liveness.SUSPECT or self._detector.relaying(peer, now):
            return []
        probe = self._detector.probe_of(peer)
        if probe is None:
            if self.talked_with(peer):
                self.greet_soon(peer)
            else:
                self._reach.missed(peer, now)
            return []
        return [] if probe.helpers or probe.heard else self._ask_others(probe, now)

    def on_gossip(
        self, sender: Descriptor, message: Gossip, now: float, heads: Sequence[Head], tasks: Sequence[TaskId]
    ) -> list[Effect]:
        """A peer began an exchange: take in its half, answer with ours."""
        if self._gone:
            return []
        questions = self._take_rumours(message.rumours, now)
        # Chosen before the other half is taken in, so that nothing goes back to where it came from.
        # Whoever offers less than its budget knows few others: a joiner, who is told more.
        joiner = len(message.descriptors) < self._settings.gossip_descriptors
        told = self._bulletin.pick(sender.peer, with_own=False, much=joiner)
        reply = GossipReply(
            message.nonce,
            tuple([descriptor.raw for descriptor in told.descriptors]),
            self._bulletin.rumours(sender.peer),
            tuple(heads[:MAX_HEADS]),
            tuple(tasks[:MAX_TASKS]),
        )
        self._take_descriptors(message.descriptors, sender.peer, told.exchangeable, now)
        if self._view.partial:
            self._bulletin.introduce(sender.peer)
        return [Send(sender, reply), *questions]

    def on_gossip_reply(self, sender: Descriptor, message: GossipReply, now: float) -> list[Effect]:
        """The other half of an exchange that this peer began, and the acknowledgement of its probe."""
        probe = self._detector.answered(sender.peer, message.nonce)
        if probe is not None and probe.in_turn:
            self._reach.exchanged(answered=True)
        questions = self._take_rumours(message.rumours, now)
        # The partner goes first: its view now points here (see ``view``).
        exchangeable = [sender.peer, *probe.exchangeable] if probe else []
        self._take_descriptors(message.descriptors, sender.peer, exchangeable, now)
        return questions

    def on_ping(self, sender: Descriptor, message: Ping, now: float) -> list[Effect]:
        """Somebody asks whether this peer is alive."""
        return [] if self._gone else [Send(sender, Pong(message.nonce, self._bulletin.own.peer))]

    def on_pong(self, sender: Descriptor, message: Pong, now: float) -> list[Effect]:
        """A ping was answered: pass it on to who asked for it, or take it as the answer to an own probe."""
        if message.subject == sender.peer:
            relay = self._detector.relayed(message.nonce, sender.peer, now)
            if relay is not None:
                return [] if self._gone else [Send(relay.asker, Pong(relay.asker_nonce, sender.peer))]
        probe = self._detector.probe_of(message.subject)
        if probe is not None and probe.nonce == message.nonce and sender.peer in (probe.target, *probe.helpers):
            probe.heard = True
            if sender.peer != probe.target:
                self._reach.vouched(probe.target, now)
            else:
                self._detector.answered(probe.target, probe.nonce)
            entry = self._view.entry(probe.target)
            if entry is not None:
                entry.heard_at = now
        return []

    def on_probe_request(self, sender: Descriptor, message: ProbeRequest, now: float) -> list[Effect]:
        """Somebody cannot reach a peer and asks this one to try."""
        if self._gone:
            return []
        if message.target == self._bulletin.own.peer:
            return [Send(sender, Pong(message.nonce, self._bulletin.own.peer))]
        target = self._verified(message.descriptor, now)
        if target is None or target.peer != message.target:
            return []
        known = self.lookup(message.target)
        if known is not None and known.supersedes(target):
            target = known
        nonce = self._detector.relay(sender, message.nonce, target.peer, now)
        return [] if nonce is None else [Send(target, Ping(nonce))]

    def on_leave(self, sender: Descriptor, message: Leave, now: float) -> list[Effect]:
        """A peer says goodbye."""
        return self._judge.told(Rumour(sender.peer, message.incarnation, Liveness.LEFT), now, by_itself=True)

    def leave(self, now: float) -> list[Effect]:
        """Say goodbye to some peers, who tell the others; nothing is sent afterwards."""
        self._wake(now)
        if self._gone:
            return []
        self._gone = True
        return [Send(to, Leave(self.incarnation)) for to in self._view.sample(LEAVE_FANOUT)]

    def tick(self, now: float, heads: Sequence[Head], tasks: Sequence[TaskId]) -> list[Effect]:
        """Time has passed: conclude from silence, and gossip when the period is over."""
        self._wake(now)
        if self._gone:
            return []
        effects: list[Effect] = []
        for probe in self._detector.silent(now):
            effects += self._ask_others(probe, now)
        for peer in self._detector.lapsed(now):
            self._judge.lapsed(peer, now)
        urgent, self._urgent = self._urgent, []
        for peer in urgent:
            entry = self._view.member(peer)
            effects += self._exchange(entry, now, heads, tasks) if entry else []
        if now >= self._gossip_at:
            self._gossip_at = now + self._settings.gossip_period_s * (1 - JITTER + 2 * JITTER * self._entropy.uniform())
            effects += self._period(now, heads, tasks)
        if self._dialler.due(len(self._view.alive()), self._view.size_estimate() - 1, now):
            effects.append(Dial())
        return effects

    # --- speaking --------------------------------------------------------------------------------------------

    def _period(self, now: float, heads: Sequence[Head], tasks: Sequence[TaskId]) -> list[Effect]:
        self._periods += 1
        for peer in self._view.expire(now):
            self._detector.forget(peer)
        effects: list[Effect] = []
        partner = self._view.next_partner(lambda peer: not self._reach.hopeless(peer, now))
        if partner is not None:
            effects += self._exchange(partner, now, heads, tasks, in_turn=True)
        dead = self._view.random_dead() if self._periods % RECONNECT_PERIODS == 0 else None
        if dead is not None:
            effects += self._exchange(dead, now, heads, tasks)
        return effects

    def _exchange(
        self, with_: Entry, now: float, heads: Sequence[Head], tasks: Sequence[TaskId], *, in_turn: bool = False
    ) -> list[Effect]:
        partner = with_.descriptor
        if self._detector.probe_of(partner.peer) is not None:
            return []
        told = self._bulletin.pick(partner.peer, with_own=True)
        if with_.state in (Liveness.ALIVE, Liveness.SUSPECT):
            nonce = self._detector.begin(partner.peer, told.exchangeable, now, in_turn=in_turn)
        else:
            nonce = draw_nonce(self._entropy)  # nobody is to be suspected of having been dead
        if nonce is None:
            return []
        raw = tuple([descriptor.raw for descriptor in told.descriptors])
        rumours = self._bulletin.rumours(partner.peer)
        return [Send(partner, Gossip(nonce, raw, rumours, tuple(heads[:MAX_HEADS]), tuple(tasks[:MAX_TASKS])))]

    def greet_some(self) -> None:
        """There is news worth more than a period's wait: gossip with a few peers as soon as time passes."""
        for descriptor in self._view.sample(MAX_URGENT):
            self.greet_soon(descriptor.peer)

    def greet_soon(self, peer: PeerId) -> None:
        """Exchange with this peer, if it is a member, as soon as time passes."""
        if peer not in self._urgent and len(self._urgent) < MAX_URGENT:
            self._urgent.append(peer)

    # --- listening -------------------------------------------------------------------------------------------

    def _verified(self, raw: bytes, now: float) -> Descriptor | None:
        try:
            return self._verifier.verify(raw, now)
        except Refused:
            self.refused_descriptors += 1
            return None

    def _take_descriptors(
        self, raw: Sequence[bytes], sender: PeerId, exchangeable: Sequence[PeerId], now: float
    ) -> None:
        spare = list(exchangeable)
        for one in raw[:MAX_GOSSIP_DESCRIPTORS]:
            descriptor = self._verified(one, now)
            if descriptor is None:
                continue
            if descriptor.peer == self._bulletin.own.peer:
                if descriptor.supersedes(self._bulletin.own):  # this home was set back, or lives twice
                    self.incarnation = max(self.incarnation, descriptor.incarnation + 1)
                continue
            if descriptor.peer != sender:
                self._view.observe(descriptor.peer)
            if not self._view.holds(descriptor):  # most are nothing new
                self._learn(descriptor, now, spare)

    def _learn(self, descriptor: Descriptor, now: float, exchangeable: list[PeerId]) -> None:
        peer, whole = descriptor.peer, not self._view.partial
        learned = self._view.learn(descriptor, now, exchangeable)
        if whole and self._view.partial:
            self._bulletin.outgrown()
        match learned:
            case Learned.REBORN:
                self._detector.forget(peer)
                self._reach.moved(peer)
                self._bulletin.drop(peer)
                self._bulletin.announce(peer)
            case Learned.NEW | Learned.REFRESHED if not self._view.partial:
                # A whole view means that everybody is to know everybody; in a partial one news of every newcomer
                # would grow with the network and crowd the views with newcomers.
                self._bulletin.announce(peer)
            case Learned.BURIED:
                entry = self._view.entry(peer)  # whoever sent this does not know yet
                if entry is not None:
                    self._bulletin.remind(entry)
            case _:
                pass

    def _take_rumours(self, rumours: Sequence[Rumour], now: float) -> list[Effect]:
        """Returns the questions that they lead to."""
        own, view, questions = self._bulletin.own.peer, self._view, list[Effect]()
        for rumour in rumours[:MAX_RUMOURS]:
            if rumour.state not in _RUMOURED:
                continue
            if rumour.peer == own:
                self._hear_of_itself(rumour, now)
            elif view.entry(rumour.peer) is not None:  # most are of nobody known here
                questions += self._judge.told(rumour, now)
        return questions

    def _hear_of_itself(self, rumour: Rumour, now: float) -> None:
        own = self._bulletin.own
        if rumour.incarnation < self.incarnation:
            self._bulletin.announce(rumour.peer)  # they have not seen the refutation
        # Twice what others believe: their clocks may be ahead, and what they believe must be refuted.
        elif rumour.incarnation <= max(own.incarnation, now) + 2 * MAX_INCARNATION_LEAD:
            self.incarnation = rumour.incarnation + 1

    # --- concluding ------------------------------------------------------------------------------------------

    def _ask_others(self, probe: Probe, now: float) -> list[Effect]:
        if probe.in_turn and not probe.helpers:
            self._reach.exchanged(answered=False)
        effects, suspected = self._judge.silent(probe, now)
        if suspected:
            self.greet_soon(probe.target)  # a last message, which tells it that it is suspected
        return effects

    def _wake(self, now: float) -> None:
        """Time that this peer slept through (suspended, or starved of CPU) is not held against others."""
        grace = self._settings.probe_timeout_s
        if now - self._clock > grace:
            slept = now - max(self._clock, self.next_deadline()[0])
            if slept > grace:
                self._detector.postpone(slept + grace)
        self._clock = max(self._clock, now)
