"""The round machine: every round in which this peer takes part, as a child, a parent or the root.

Neighbours: ``node`` feeds it and carries its ``outcomes`` to the walks; ``opening`` makes a round's first state,
``inviting`` fills children's places, ``combining`` orders the work, ``privacy.guard`` holds the rule.
Invariants: a round's id is persisted before it is entered, and it is never entered again; at most one partial of it
leaves; what a partial or a published total holds is fixed when combining starts; every round ends by its deadline, and
keeps its place here until its last job is back.
"""

from typing import Any, assert_never

from protocol import reports
from protocol.aggregation import combining, inviting, opening, uses
from protocol.aggregation.lineage import check_ancestors
from protocol.aggregation.phases import AbstainReason, DeclineReason, Phase, Place, advance
from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Child, Outcome, Recording, Round
from protocol.aggregation.seeds import check_contributors, check_groups
from protocol.aggregation.shape import RING
from protocol.application import Freshness
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import PeerId, RoundId, TaskId
from protocol.base.limits import MAX_BUDGET_S, MAX_ROUNDS_AT_ONCE, MAX_ROUNDS_OF_ONE_PARENT
from protocol.effects import Effect, PersistRound, Report, Send
from protocol.identity.descriptor import Descriptor
from protocol.training.state import Model
from protocol.training.task import RoundKind, Task
from protocol.training.update import Identify, Published
from protocol.wire.messages import Abstain, Accept, Checkpoint, Decline, Message, Offer, Parameters, Partial
from protocol.work import RoundWork


class RoundMachine:
    """All rounds at one node.  Of before a restart: ``remembered``, ids entered (with expiry); ``answered``, uses."""

    def __init__(self, ports: Ports, remembered: dict[RoundId, float], answered: set[bytes]) -> None:
        self._ports = ports
        self._rounds: dict[RoundId, Round] = {}
        self._ended: dict[RoundId, Round] = {}
        """Rounds that are over, some of whose jobs are not back."""
        self._taken = dict(remembered)
        self._uses = set(answered)
        self._leaving = False
        self._prune_at = 0.0
        self.outcomes: list[Outcome] = []

    # --- entering a round -------------------------------------------------------------------------------------

    def start(self, task: Task, model: Model, planned: int, now: float) -> list[Effect]:
        """Begin a round as root from ``model``, planned for ``planned`` contributions, this peer's included."""
        state = opening.at_root(self._ports, task, model, planned, now)
        if self._objection_of_records(state) is not None:
            return self._end(state, AbstainReason.NO_CONTRIBUTION, now)
        return self._enter(state, 0, RING, now, [])

    def on_offer(
        self, sender: Descriptor, offer: Offer, task: Task | None, held: Checkpoint | None, agreed: bool, now: float
    ) -> list[Effect]:
        """Accept or decline.  ``held``: the model of the offered digest, if this peer has it; ``agreed``: its user
        agrees to the task."""
        ports = self._ports
        state = None
        reason = self._objection(sender, offer, task, agreed)
        if reason is None and task is not None:
            state = opening.at_invitee(ports, sender, offer, task, held, now)
            reason = self._objection_of_records(state)
            if reason is None and state.deadline <= now:
                reason = DeclineReason.TOO_LATE
        if reason is None and state is not None:
            above = check_ancestors(offer, sender, ports.peer, ports.network, ports.verifier, now)
            reason = DeclineReason.BAD_ANCESTORS if above is None else None
            state.ancestors = above or ()
        if reason is not None or state is None:
            reason = DeclineReason.UNKNOWN_TASK if reason is None else reason
            said = Report(reports.Declined(offer.round, sender.peer, reason.sentence))
            return [said, Send(sender, Decline(offer.round, int(reason)))]
        accept = Accept(offer.round, held is None and not len(offer.state))
        return self._enter(state, offer.slice_low, offer.slice_high, now, [Send(sender, accept)])

    def _objection(self, sender: Descriptor, offer: Offer, task: Task | None, agreed: bool) -> DeclineReason | None:
        """Why this peer does not take part, as far as its own state and the offer's numbers tell."""
        if self._leaving:
            return DeclineReason.LEAVING
        if offer.round in self._rounds or offer.round in self._taken:
            return DeclineReason.ALREADY_IN_ROUND
        if task is None:
            return DeclineReason.UNKNOWN_TASK
        if not agreed:
            return DeclineReason.TASK_REFUSED
        if self.full or self._under(sender.peer) >= MAX_ROUNDS_OF_ONE_PARENT:
            return DeclineReason.BUSY
        if self._ports.application.gate() is not None:
            return DeclineReason.GATE_CLOSED
        return None if opening.fits(offer, task) else DeclineReason.BAD_SHAPE

    def _objection_of_records(self, state: Round) -> DeclineReason | None:
        """Why this peer's records cannot answer; notes what a deterministic answer uses up."""
        match self._ports.application.freshness(state.task):
            case Freshness.NONE:
                return DeclineReason.NO_RECORDS
            case Freshness.DETERMINISTIC:
                keys = uses.keys_of(state.task, state.kind, state.digest)
                state.uses = uses.binding(state.task) + keys
                taken = self.serves_another(state.task) or self._used(*keys)
                return DeclineReason.NO_FRESH_RECORDS if taken else None
            case Freshness.FRESH:
                return None

    def _used(self, *keys: bytes) -> bool:
        """Whether a deterministic contribution has used one of these up, or is about to."""
        wanted = set(keys)
        under_way = (state.uses for state in self._rounds.values())
        return any(not wanted.isdisjoint(used) for used in (self._uses, *under_way))

    def _enter(self, state: Round, low: int, high: int, now: float, answer: list[Effect]) -> list[Effect]:
        """Answer, invite the children and start the own contribution; nobody waits for the tree to be complete.

        A round that is over at once, for want of anybody to invite, makes no work.
        The round is made durable before anybody hears of it: after a crash it is abandoned, not entered again, where
        this peer's descendants would name ancestors that are no longer above it.
        """
        if self._ports.recording and state.task.public_data:
            state.recording = Recording()
        self._rounds[state.id] = state
        self._taken[state.id] = now + MAX_BUDGET_S
        inviting.open_places(self._ports, state, low, high)
        effects: list[Effect] = [PersistRound(state.id, self._taken[state.id]), *answer]
        for child in state.children:
            effects += inviting.call(self._ports, state, child, now)
        effects += self._settle(state, now)
        if state.id not in self._rounds:
            return effects
        if state.checkpoint is not None:
            effects += self._begin_contribution(state)
        elif state.offer is not None and len(state.offer.state):
            effects += self._identify(state, Checkpoint(state.task.id, state.age, state.offer.state))
        return effects

    def _identify(self, state: Round, checkpoint: Checkpoint) -> list[Effect]:
        return [combining.work(state, "identify", Identify(state.task, checkpoint))]

    def _begin_contribution(self, state: Round) -> list[Effect]:
        assert state.checkpoint is not None, "contributions are computed from a model"
        if state.uses and state.kind is RoundKind.GRADIENT:  # it may have answered these parameters at another age
            return [combining.work(state, "question", uses.Question(state.task, state.checkpoint))]
        return self._contribute(state)

    def _questioned(self, state: Round, key: bytes, now: float) -> list[Effect]:
        if self._used(key):
            # so that this model is declined at once from now on
            self._uses.update(uses.keys_of(state.task, state.kind, state.digest))
            return self._end(state, AbstainReason.NO_CONTRIBUTION, now)
        state.uses += (key,)
        return self._contribute(state)

    def _contribute(self, state: Round) -> list[Effect]:
        assert state.checkpoint is not None, "contributions are computed from a model"
        job = self._ports.application.contribution_job(state.task, state.kind, state.checkpoint)
        return [combining.work(state, "contribute", job)]

    # --- messages ---------------------------------------------------------------------------------------------

    def on_accept(self, sender: Descriptor, message: Accept, now: float) -> list[Effect]:
        """A candidate takes its place."""
        if self._over(message.round):
            return []
        state, child = self._expected(sender.peer, message.round)
        if child.place is not Place.CALLING:
            raise Refused(Refusal.OUT_OF_PHASE, "accept")
        child.place = advance(child.place, Place.JOINED)
        if not message.need_state:
            return []
        if state.checkpoint is None:
            state.wanting.append(sender)
            return []
        return [self._parameters(state, sender)]

    def on_decline(self, sender: Descriptor, message: Decline, now: float) -> list[Effect]:
        """A candidate says no: the next one is asked."""
        if self._over(message.round):
            return []
        state, child = self._expected(sender.peer, message.round)
        if child.place is not Place.CALLING:
            raise Refused(Refusal.OUT_OF_PHASE, "decline")
        return inviting.vacate(self._ports, state, child, now) + self._settle(state, now)

    def on_parameters(self, sender: Descriptor, message: Parameters, now: float) -> list[Effect]:
        """The model that this peer asked its parent for."""
        state = self._rounds.get(message.round)
        if state is None or state.parent is None or state.parent.peer != sender.peer:
            raise Refused(Refusal.NOT_EXPECTED, "parameters")
        identifying = RoundWork(state.id, "identify") in state.outstanding
        if identifying or state.checkpoint is not None or state.phase is not Phase.GATHERING:
            raise Refused(Refusal.OUT_OF_PHASE, "parameters")
        if message.checkpoint.task != state.task.id or message.checkpoint.age != state.age:
            raise Refused(Refusal.NOT_EXPECTED, "parameters of another model")
        return self._identify(state, message.checkpoint)

    def on_partial(self, sender: Descriptor, message: Partial, now: float) -> list[Effect]:
        """A child's subtree sum.  Refused whole if anything about it is wrong, or if it comes late."""
        if self._over(message.round):
            raise Refused(Refusal.OUT_OF_PHASE, "partial of a round that is over here")
        state, child = self._expected(sender.peer, message.round)
        # an accept that was overtaken by its partial is no fault of the child
        if child.place is Place.CALLING:
            child.place = advance(child.place, Place.JOINED)
        if state.phase is not Phase.GATHERING or state.closing or child.place is not Place.JOINED:
            raise Refused(Refusal.OUT_OF_PHASE, "partial")
        try:
            if not 1 <= message.cohort <= child.cap:
                raise Refused(Refusal.OVER_CAP, f"{message.cohort} of {child.cap}")
            if len(message.vector) != state.encoding.nbytes:
                raise Refused(Refusal.WRONG_LENGTH, "partial")
            check_groups(sender.peer, state.depth + 1, state.threshold, message)
            check_contributors(message, state.elsewhere(self._ports.peer, child))
        except Refused as error:
            child.place = advance(child.place, Place.GONE)
            refused = reports.MessageRefused(sender.peer, "partial", error.reason, error.detail)
            return [Report(refused), *self._settle(state, now)]
        return combining.absorb(self._ports, state, state.children.index(child), message)

    def on_abstain(self, sender: Descriptor, message: Abstain, now: float) -> list[Effect]:
        """A child's subtree is left out."""
        if self._over(message.round):
            return []
        state, child = self._expected(sender.peer, message.round)
        if child.place not in (Place.CALLING, Place.JOINED):
            raise Refused(Refusal.OUT_OF_PHASE, "abstain")
        child.place = advance(child.place, Place.GONE)
        return self._settle(state, now)

    def on_send_failed(self, to: PeerId, message: Message, now: float) -> list[Effect]:
        """A message of a round did not reach its peer: act as if that peer had said no."""
        round_id = getattr(message, "round", None)
        state = self._rounds.get(round_id) if round_id is not None else None
        if state is None:
            return []
        match message:
            case Offer():
                child = state.child_of(to)
                if child is not None and child.place is Place.CALLING:
                    return inviting.vacate(self._ports, state, child, now) + self._settle(state, now)
            case Parameters():
                child = state.child_of(to)
                if child is not None and child.place is Place.JOINED:
                    child.place = advance(child.place, Place.GONE)
                    return self._settle(state, now)
            case Accept() if state.phase is Phase.GATHERING:
                return self._end(state, AbstainReason.PARENT_LOST, now)
            case _:
                pass
        return []

    # --- work -------------------------------------------------------------------------------------------------

    def on_work_done(self, done: RoundWork, result: Any, now: float) -> list[Effect]:
        """A job of a round has ended well."""
        state = self._back(done)
        if state is None:
            return []
        ports = self._ports
        match done.step:
            case "identify":
                return self._identified(state, result, now)
            case "question":
                return self._questioned(state, result, now)
            case "contribute":
                return combining.contributed(ports, state, result)
            case "own":
                state.busy, state.own_added = False, True
                if state.recording is not None:
                    state.recording.value = result
            case "absorb":
                combining.absorbed(state, done.place, result)
            case "seal":
                del self._rounds[done.round]
                self._note_use(state)
                return combining.sealed(ports, state, result, now)
            case "publish":
                del self._rounds[done.round]
                self._note_use(state)
                self._conclude(state, result)
                return combining.published(ports, state, result, now)
            case _:
                assert_never(done.step)
        return combining.pump(state) + self._settle(state, now)

    def on_work_failed(self, failed: RoundWork, error: Exception, now: float) -> list[Effect]:
        """A job of a round has raised: a child's fault costs that child, anything else ends the round here."""
        state = self._back(failed)
        if state is None:
            return []
        if failed.step == "absorb" and isinstance(error, Refused):
            child = state.children[failed.place]
            combining.absorbed(state, failed.place, None)
            sender = child.peer.peer if child.peer is not None else self._ports.peer
            refused = Report(reports.MessageRefused(sender, "partial", error.reason, error.detail))
            return [refused, *combining.pump(state), *self._settle(state, now)]
        reason = AbstainReason.NO_PARAMETERS if failed.step == "identify" else AbstainReason.WORK_FAILED
        return self._end(state, reason, now)

    def _back(self, work: RoundWork) -> Round | None:
        """The round whose job is back, unless it is over: then its last job gives up its place."""
        if (state := self._rounds.get(work.round)) is not None:
            state.outstanding.discard(work)
        elif (ended := self._ended.get(work.round)) is not None:
            ended.outstanding.discard(work)
            if not ended.outstanding:
                del self._ended[work.round]
        return state

    def _identified(self, state: Round, result: Any, now: float) -> list[Effect]:
        checkpoint, digest = result
        if digest != state.digest:
            return self._end(state, AbstainReason.NO_PARAMETERS, now)
        if state.checkpoint is not None:
            return []
        state.checkpoint = checkpoint
        effects: list[Effect] = [self._parameters(state, child) for child in state.wanting]
        state.wanting.clear()
        return effects + self._begin_contribution(state)

    def _parameters(self, state: Round, child: Descriptor) -> Effect:
        assert state.checkpoint is not None, "only a held model is passed on"
        return Send(child, Parameters(state.id, state.checkpoint), ttl_s=self._ports.settings.round_budget_s)

    def held(self, round_id: RoundId) -> Model | None:
        """The model of a round under way, once it is here and identified."""
        state = self._rounds.get(round_id)
        return None if state is None or state.checkpoint is None else state.model

    def root_of(self, round_id: RoundId) -> Descriptor | None:
        """Whoever has begun a round under way, if this peer was invited by it."""
        state = self._rounds[round_id]
        return state.parent if state.depth == 1 else None

    # --- time -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Act on every deadline that has passed."""
        effects: list[Effect] = []
        for state in list(self._rounds.values()):
            if state.phase is not Phase.GATHERING:
                continue
            for child in state.children:
                if child.place is Place.CALLING and child.answer_by <= now:
                    effects += inviting.vacate(self._ports, state, child, now)
                elif child.place is Place.JOINED and child.peer is not None and self._ports.lost(child.peer):
                    child.place = advance(child.place, Place.GONE)
            if state.deadline <= now:
                state.closing = True
            effects += self._settle(state, now)
        if now >= self._prune_at:
            self._prune_at = now + MAX_BUDGET_S / 10
            self._taken = {r: expiry for r, expiry in self._taken.items() if expiry > now}
        return effects

    def next_deadline(self) -> tuple[float, str]:
        """When ``tick`` has something to do, and why; infinity if never."""
        best, why = float("inf"), "no round"
        for state in self._rounds.values():
            when, reason = state.next_deadline()
            if when < best:
                best, why = when, reason
        return best, why

    def leave(self, now: float) -> list[Effect]:
        """Stop taking part: no new rounds, and what has not been combined yet is abstained from at once."""
        self._leaving = True
        effects: list[Effect] = []
        for state in list(self._rounds.values()):
            if state.phase is Phase.GATHERING:
                effects += self._end(state, AbstainReason.LEAVING, now)
        return effects

    def engaged(self, task: TaskId) -> bool:
        """Whether this peer has a part in a round of this task."""
        return any(r.task.id == task for r in self._rounds.values())

    def running(self, task: TaskId, walk: int | None = None) -> bool:
        """Whether a round of this task (and walk) that this peer started is under way."""
        return any(r.parent is None and r.task.id == task and walk in (None, r.walk) for r in self._rounds.values())

    def serves_another(self, task: Task) -> bool:
        """Whether this peer's only record serves another task of the schema, or is about to: it has no part in this."""
        if self._ports.application.freshness(task) is not Freshness.DETERMINISTIC:
            return False
        schema, own = uses.binding(task)
        return self._used(schema) and not self._used(own)

    def spent(self, task: Task, model: Model) -> bool:
        """Whether this peer's only record has answered this very model, so that it cannot be the root of its round."""
        kind = task.kind_at(model.checkpoint.age)
        single = self._ports.application.freshness(task) is Freshness.DETERMINISTIC
        answered = any(key in self._uses for key in uses.keys_of(task, kind, model.digest))
        return single and kind is RoundKind.GRADIENT and answered

    @property
    def full(self) -> bool:
        """As many rounds have a place here as one peer takes part in at once, be it as root or below."""
        return len(self._rounds) + len(self._ended) >= MAX_ROUNDS_AT_ONCE

    @property
    def idle(self) -> bool:
        """No round under way."""
        return not self._rounds

    # --- inside -----------------------------------------------------------------------------------------------

    def _under(self, parent: PeerId) -> int:
        """How many rounds have a place here under one parent."""
        rounds = (*self._rounds.values(), *self._ended.values())
        return sum(r.parent is not None and r.parent.peer == parent for r in rounds)

    def _expected(self, sender: PeerId, round_id: RoundId) -> tuple[Round, Child]:
        state = self._rounds.get(round_id)
        child = state.child_of(sender) if state is not None else None
        if state is None or child is None:
            raise Refused(Refusal.NOT_EXPECTED, "no such child in any round")
        return state, child

    def _over(self, round_id: RoundId) -> bool:
        """This peer took part in the round and is done with it: what still arrives is merely late."""
        return round_id in self._taken and round_id not in self._rounds

    def _settle(self, state: Round, now: float) -> list[Effect]:
        if state.id not in self._rounds:
            return []
        effects, reason = combining.settle(self._ports, state, now)
        return effects if reason is None else effects + self._end(state, reason, now)

    def _end(self, state: Round, reason: AbstainReason, now: float) -> list[Effect]:
        self._rounds.pop(state.id, None)
        if state.outstanding:
            self._ended[state.id] = state
        if state.parent is None:
            self._conclude(state, None)
        return combining.abstain(self._ports, state, reason, now)

    def _conclude(self, state: Round, result: Published | None) -> None:
        self.outcomes.append(Outcome(state.task.id, state.model, result))

    def _note_use(self, state: Round) -> None:
        self._uses.update(state.uses)
