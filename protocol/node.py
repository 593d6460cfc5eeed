"""The node: composes the machines, routes events to them, and merges their effects and deadlines.

Neighbours: ``peer.driver`` and simulators call ``handle`` and carry out what it returns; ``membership``,
``aggregation`` and ``training`` hold the state and never touch each other.
Invariants: one input method, ordered effects out; nothing happens between two calls; a refused message changes no
state but its count.
"""

from typing import Any

from protocol import reports
from protocol.aggregation.machine import RoundMachine
from protocol.aggregation.ports import Ports
from protocol.aggregation.shape import planned_cohort
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.effects import Effect, PersistIdentity, Report, Send
from protocol.events import (
    AddressesChanged,
    Event,
    MessageReceived,
    PeerFound,
    SendFailed,
    Stopping,
    TaskIntroduced,
    TimePassed,
    WorkDone,
    WorkFailed,
)
from protocol.identity.descriptor import Descriptor, make_descriptor
from protocol.membership import Liveness, Membership
from protocol.surroundings import Restored, Surroundings
from protocol.training.catalogue import Catalogue, Entry, identify
from protocol.training.task import SignedTask, Task
from protocol.wire import messages as m
from protocol.wire.codec import kind_name
from protocol.work import ModelWork, Purpose, RoundWork, WalkWork


class Node:
    """One peer of the protocol, without its input and output."""

    def __init__(self, surroundings: Surroundings, addresses: tuple[str, ...], restored: Restored, now: float) -> None:
        self._given = surroundings
        self._addresses = addresses
        self._stopping = False
        if surroundings.keyring.rotation_due(now):
            surroundings.keyring.rotate(now)
        self.descriptor = self._describe(restored.incarnation, now)
        self.membership = Membership(
            self.descriptor, surroundings.settings, surroundings.entropy, surroundings.verifier, now
        )
        self.tasks = Catalogue(
            surroundings.application,
            surroundings.entropy,
            surroundings.settings,
            surroundings.keyring.signing.public_bytes,
            lambda task: self.rounds.engaged(task),
            surroundings.verifier.check_signature,
        )
        ports = Ports(
            own=lambda: self.descriptor,
            members=self.membership.within_reach,
            talked_with=self.membership.talked_with,
            preferred=self.membership.preferred,
            lost=self._lost,
            keyring=surroundings.keyring,
            network=self.network,
            verifier=surroundings.verifier,
            settings=surroundings.settings,
            entropy=surroundings.entropy,
            application=surroundings.application,
            link_speed=surroundings.link_speed,
            recording=surroundings.recording,
        )
        self.rounds = RoundMachine(ports, restored.rounds, set(restored.uses))
        self._effects = self._restore(restored, now)

    @property
    def network(self) -> NetworkId:
        """The network this peer belongs to."""
        return self._given.chain.network

    @property
    def peer(self) -> PeerId:
        """This peer's id."""
        return self.descriptor.peer

    @property
    def membership_expires(self) -> float:
        """Unix seconds until which this peer's certificate chain admits it."""
        return self._given.chain.expires

    @property
    def idle(self) -> bool:
        """Nothing is under way that a clean leave should wait for."""
        return self.rounds.idle and not any(entry.walks.busy for entry in self.tasks.entries())

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Everything that this event makes the node ask for, in order.  ``now``: Unix seconds, never backwards."""
        effects, self._effects = self._effects, []
        match event:
            case MessageReceived(sender, message):
                effects += self._message(sender, message, now)
            case SendFailed(to, message):
                effects += self._send_failed(to, message, now)
            case WorkDone(purpose, result):
                effects += self._work_done(purpose, result, now)
            case WorkFailed(purpose, error):
                effects += self._work_failed(purpose, error, now)
            case TimePassed():
                effects += self._tick(now)
            case PeerFound(descriptor):
                self.membership.found(descriptor, now)
            case TaskIntroduced(signed, state):
                effects += self._introduce(signed, state, now)
            case AddressesChanged(addresses):
                self._addresses = addresses
                effects += self._sign(self.membership.incarnation + 1, now)
            case Stopping():
                effects += self._stop(now)
        if self.membership.incarnation != self.descriptor.incarnation:
            effects += self._sign(self.membership.incarnation, now)
        effects += self._follow_up(now)
        for effect in effects:
            if type(effect) is Report and self._is_final(effect):
                self.membership.greet_some()
                break
        return effects

    def next_deadline(self, now: float) -> tuple[float, str]:
        """When ``TimePassed`` is due, and why."""
        best, why = self.membership.next_deadline()
        when, reason = self.rounds.next_deadline()
        if when < best:
            best, why = when, reason
        if not self._stopping and self._resign_at < best:
            best, why = self._resign_at, "descriptor to renew"
        if self._given.keyring.prune_at < best:
            best, why = self._given.keyring.prune_at, "replaced key to drop"
        for entry in self.tasks.entries():
            walks = entry.walks
            able = walks.unfinished and not self._stopping
            if able or walks.busy:
                when, reason = walks.next_deadline(able)
                if when < best and able and not self._able(entry):
                    when, reason = walks.next_deadline(False)
                if when < best:
                    best, why = when, reason
        return best, why

    # --- events -----------------------------------------------------------------------------------------------

    def _message(self, sender: Descriptor, message: m.Message, now: float) -> list[Effect]:
        try:
            self.membership.heard(sender, now)
            return self._route(sender, message, now)
        except Refused as refused:
            report = reports.MessageRefused(sender.peer, kind_name(message), refused.reason, refused.detail)
            return [Report(report)]

    def _route(self, sender: Descriptor, message: m.Message, now: float) -> list[Effect]:
        match message:
            case m.Gossip():
                self.tasks.check_heads(message.heads)
                replies = self.membership.on_gossip(sender, message, now, self.tasks.heads(now), self.tasks.ids())
                return replies + self._gossiped(sender, message, now)
            case m.GossipReply():
                self.tasks.check_heads(message.heads)
                return self.membership.on_gossip_reply(sender, message, now) + self._gossiped(sender, message, now)
            case m.ProbeRequest():
                return self.membership.on_probe_request(sender, message, now)
            case m.Ping():
                return self.membership.on_ping(sender, message, now)
            case m.Pong():
                return self.membership.on_pong(sender, message, now)
            case m.Leave():
                return self.membership.on_leave(sender, message, now)
            case m.TaskRequest():
                return self.tasks.on_task_request(sender, message, now)
            case m.TaskReply():
                return self.tasks.on_task_reply(sender, message, now)
            case m.ModelRequest():
                return self.tasks.on_model_request(sender, message, now)
            case m.ModelReply():
                return self.tasks.on_model_reply(sender, message)
            case m.Offer():
                return self._offer(sender, message, now)
            case m.Accept():
                return self.rounds.on_accept(sender, message, now)
            case m.Decline():
                return self.rounds.on_decline(sender, message, now)
            case m.Parameters():
                return self.rounds.on_parameters(sender, message, now)
            case m.Partial():
                return self.rounds.on_partial(sender, message, now)
            case m.Abstain():
                return self.rounds.on_abstain(sender, message, now)
            case m.Walk():
                return self._walk(sender, message, now)
            case m.WalkAck():
                companions, entries = self.membership.companions, self.tasks.entries()
                return [e for entry in entries for e in entry.walks.on_ack(sender, message, companions, now)]

    def _gossiped(self, sender: Descriptor, message: m.Gossip | m.GossipReply, now: float) -> list[Effect]:
        ages = {head.task: head.age for head in message.heads}
        effects = self.tasks.hear_of(sender, message.tasks, now, ages)
        for head in message.heads:
            effects += self.tasks.hear_head(sender, head, now)
        return effects

    def _offer(self, sender: Descriptor, offer: m.Offer, now: float) -> list[Effect]:
        entry = self.tasks.get(offer.task)
        if entry is None:
            return self.rounds.on_offer(sender, offer, None, None, False, now) + self.tasks.hear_of(
                sender, (offer.task,), now, {offer.task: offer.age}
            )
        if offer.age >= entry.task.last_age or offer.walk >= entry.task.walks:
            raise Refused(Refusal.MALFORMED, "offer outside its task")
        newest = entry.walks.newest
        held = newest.checkpoint if newest is not None and newest.digest == offer.digest else None
        effects = self.rounds.on_offer(sender, offer, entry.task, held, entry.refused is None, now)
        return effects + self._shown(offer.round, now)

    def _shown(self, round_id: RoundId, now: float) -> list[Effect]:
        """The model of a round that this peer has entered is here, and so what its offer says of a walk is true."""
        model = self.rounds.held(round_id)
        entry = self.tasks.get(model.checkpoint.task) if model is not None else None
        if model is None or entry is None:
            return []
        entry.walks.round_begun(model.walk, model.lineage, model.checkpoint.age, self.rounds.root_of(round_id), now)
        return entry.walks.offer_model(model, now)

    def _walk(self, sender: Descriptor, message: m.Walk, now: float) -> list[Effect]:
        entry = self.tasks.get(message.checkpoint.task)
        if entry is None or self._stopping or not self._able(entry):
            refusal = Send(sender, m.WalkAck(message.nonce, False))
            unknown = {message.checkpoint.task: message.checkpoint.age} if entry is None else {}
            return [refusal, *self.tasks.hear_of(sender, tuple(unknown), now, unknown)]
        if message.walk >= entry.task.walks or message.checkpoint.age > entry.task.last_age:
            raise Refused(Refusal.MALFORMED, "walk outside its task")
        return entry.walks.on_walk(sender, message, now)

    def _send_failed(self, to: PeerId, message: m.Message, now: float) -> list[Effect]:
        effects = self.membership.send_failed(to, now)
        if isinstance(message, m.Walk):
            for entry in self.tasks.entries():
                effects += entry.walks.on_send_failed(message, self.membership.companions, now)
            return effects
        return effects + self.rounds.on_send_failed(to, message, now)

    def _work_done(self, done: Purpose, result: Any, now: float) -> list[Effect]:
        match done:
            case RoundWork():
                effects = self.rounds.on_work_done(done, result, now)
                return effects + self._shown(done.round, now) if done.step == "identify" else effects
            case WalkWork():
                entry = self.tasks.get(done.task)
                if entry is None:  # it has gone for another task
                    return []
                if done.step == "received":
                    return entry.walks.identified(done, result, now)
                entry.walks.merged(done, result, now)
                return []
            case ModelWork():
                return self.tasks.identified(done, result, now)

    def _work_failed(self, failed: Purpose, error: Exception, now: float) -> list[Effect]:
        if isinstance(failed, RoundWork):
            return self.rounds.on_work_failed(failed, error, now)
        effects: list[Effect] = []
        if isinstance(error, Refused):
            # a model that is none was refused by its check: nothing has changed, gossip will ask somebody else
            effects.append(Report(reports.MessageRefused(self.peer, "model", error.reason, failed.step)))
        if failed.step == "restored":
            effects += self.tasks.not_restored(failed.task)
        return effects

    def _introduce(self, signed: SignedTask, state: bytes, now: float) -> list[Effect]:
        try:
            entry, effects = self.tasks.adopt(signed, now, displaces=True)
        except Refused as refused:
            return [Report(reports.MessageRefused(self.peer, "introduced task", refused.reason, refused.detail))]
        if entry.walks.newest is not None:
            return effects  # already under way: a lost walk is revived, not started twice
        first = m.Checkpoint(entry.task.id, 0, state)
        if entry.restoring is not None:  # so it is under way, unless what was kept turns out to be no model
            entry.introduced = first
            return effects
        return [*effects, identify(entry.task, "introduced", first)]

    def _stop(self, now: float) -> list[Effect]:
        self._stopping = True
        effects = self.rounds.leave(now)
        effects += self._outcomes(now)
        for entry in self.tasks.entries():
            effects += entry.walks.leave(self.membership.companions, now)
        return effects + self.membership.leave(now)

    # --- time and what follows from anything ------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._given.keyring.prune_at <= now:
            self._given.keyring.prune(now)
        if not self._stopping and self._resign_at <= now:
            effects += self._sign(self.membership.incarnation, now)
        effects += self.membership.tick(now, self.tasks.heads(now), self.tasks.ids())
        effects += self.rounds.tick(now)
        entries = [entry for entry in self.tasks.entries() if entry.walks.busy or entry.walks.unfinished]
        if not entries:
            return effects
        companions, size = self.membership.companions, self.membership.size_estimate()
        for entry in entries:
            able = self._able(entry) and not self._stopping
            for peer in entry.walks.overdue(able, now):
                self.membership.greet_soon(peer)
            effects += entry.walks.tick(companions, size, self._failed, able, now)
        return effects

    def _follow_up(self, now: float) -> list[Effect]:
        """Outcomes go to their walks; walks that are ready start their rounds."""
        effects = self._outcomes(now) if self.rounds.outcomes else []
        if self._stopping:
            return effects
        for entry in self.tasks.entries():
            if entry.walks.standing:
                effects += self._start_rounds(entry, now)
        if self.rounds.outcomes:
            effects += self._outcomes(now)
        return effects

    def _outcomes(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self.rounds.outcomes:
            outcome = self.rounds.outcomes.pop(0)
            entry = self.tasks.get(outcome.task)
            if entry is not None:
                effects += entry.walks.ended(outcome.model, outcome.published, self.membership.companions, now)
        return effects

    def _start_rounds(self, entry: Entry, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while True:
            if self.rounds.full:  # a walk costs its sender next to nothing, and a round costs everybody
                entry.walks.postpone(now + self._given.settings.retry_pause_s)
            if (held := entry.walks.take_ready(now)) is None:
                return effects
            task, model = entry.task, held.model
            # its user has said no since, or will not contribute to what he introduced; or its record serves another
            if not self._able(entry):
                effects += entry.walks.pass_on(held, self.membership.companions, now)
                continue
            if self.rounds.spent(task, model):  # merging has led to no other model: there may be none yet
                effects += entry.walks.sidestep(model)
                continue
            live = min(len(self.membership.alive()) + 1, self.membership.size_estimate())
            if live < task.minimum_cohort:
                entry.walks.put_back(held, now + self._given.settings.gossip_period_s)
                return [*effects, Report(reports.Waiting(task.id, task.minimum_cohort - live))]
            entry.walks.round_begun(model.walk, model.lineage, model.checkpoint.age, None, now)
            effects += self.rounds.start(task, model, self._planned(task, held.retry), now)

    def _planned(self, task: Task, retry: bool) -> int:
        """Contributions to plan a round for.  A retry does with less: whoever is counted as alive and cannot contribute
        may have stood where the tree needed a leaf, and would stand there again."""
        most = planned_cohort(self.membership.size_estimate(), task.cohort, task.minimum_cohort, task.branching)
        return most - self._given.entropy.below(most - task.minimum_cohort + 1) if retry else most

    # --- inside -----------------------------------------------------------------------------------------------

    def _able(self, entry: Entry) -> bool:
        """Whether this peer may contribute to a task at the moment, and so be a root."""
        return self.tasks.able(entry) and not self.rounds.serves_another(entry.task)

    def _restore(self, restored: Restored, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for signed in restored.tasks:
            try:
                effects += self.tasks.adopt(signed, now, save=False)[1]
            except Refused:
                continue  # its user has changed his mind about too many: they are for others to carry
        for checkpoint in restored.checkpoints:
            entry = self.tasks.get(checkpoint.task)
            if entry is not None and entry.refused is None:  # else it stays where it is: its user may agree again
                entry.restoring = checkpoint.age
                effects.append(identify(entry.task, "restored", checkpoint))
        for descriptor in restored.descriptors:
            self.membership.found(descriptor, now)
        return effects

    def _is_final(self, report: Report) -> bool:
        """Whether this peer has just got the last model of a task: no offer will carry it, so gossip must hurry."""
        item = report.item
        if not isinstance(item, reports.ModelAdvanced):
            return False
        entry = self.tasks.get(item.task)
        return entry is not None and item.age >= entry.task.last_age

    def _failed(self, peer: Descriptor) -> bool:
        """Whether a peer is believed dead, or has lost its memory since it signed this descriptor."""
        known = self.membership.lookup(peer.peer)
        # every start makes a new KEM epoch, and one in an hour beside: that one costs a partial or a round at worst
        restarted = known is not None and known.kem_epoch > peer.kem_epoch
        return restarted or self.membership.state_of(peer.peer) in (Liveness.SUSPECT, Liveness.DEAD)

    def _lost(self, peer: Descriptor) -> bool:
        """Whether nothing is to be hoped for from a child."""
        return self._failed(peer) or self.membership.state_of(peer.peer) is not Liveness.ALIVE

    def _describe(self, incarnation: int, now: float) -> Descriptor:
        descriptor = make_descriptor(
            self._given.keyring,
            self._given.chain,
            addresses=self._addresses,
            capabilities=self._given.capabilities,
            incarnation=incarnation,
            now=now,
            lifetime_s=self._given.settings.descriptor_lifetime_s,
        )
        half_life = descriptor.issued + self._given.settings.descriptor_lifetime_s / 2
        self._resign_at = min(half_life, self._given.keyring.current.expires)
        return descriptor

    def _sign(self, incarnation: int, now: float) -> list[Effect]:
        if self._given.keyring.rotation_due(now):
            self._given.keyring.rotate(now)
        self.descriptor = self._describe(incarnation, now)
        told = PersistIdentity(incarnation, self.descriptor.kem_epoch)
        self.membership.set_own(self.descriptor)
        return [told]
