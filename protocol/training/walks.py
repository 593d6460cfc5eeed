"""The walks of one task: who holds the model next, when a lost walk is revived, and which of two copies goes on.

Neighbours: ``node`` starts a round for every walk in ``take_ready`` and reports its outcome back; ``update`` merges.
Invariants: a walk is named by its index (0..W-1) and its lineage (drawn when it was started or revived).  Of two copies
of one index the one behind dies out, so lost acknowledgements and eager revivals do not multiply walks; none dies out
for a copy whose model this peer has not seen.  Ages only grow; a model is replaced only by a newer one.

A walk is lost with the peer that holds it.  Everybody misses it in the end, and some one revives it; the few who know
who held it (whoever handed it over, and those invited by it) look after that peer, and need not wait so long.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

from protocol import reports
from protocol.base.entropy import Entropy
from protocol.base.ids import LINEAGE_BYTES, NO_LINEAGE, Digest, Lineage, PeerId
from protocol.base.settings import Settings
from protocol.effects import Effect, Report, SaveCheckpoint, Send, Work
from protocol.identity.descriptor import Descriptor
from protocol.training.state import Model
from protocol.training.task import Task
from protocol.training.update import Identify, Merge, Published, Sidestep
from protocol.wire.messages import Checkpoint, Head, Walk, WalkAck
from protocol.work import WalkWork

SLOW_STEP = 4.0
"""A step that seems to take longer than this many usual ones counts as this many, and its root is looked after."""
LONGEST_PAUSE_S = 600.0
"""At most between two attempts to find somebody for a walk that nobody takes: each sends its model to everybody."""
PASSED_OVER = 10
"""Whoever announces a model and does not send it is not asked for so many times as long as it was waited for."""
LINEAGE_STEP = 1 << 48
"""A revived walk's lineage is above that of the lost one by up to so much."""

Companions = Callable[[Container[PeerId]], list[Descriptor]]
"""Whom a walk may be handed to, but for those who were tried; nobody only if nobody is left."""


@dataclass(slots=True)
class Trace:
    """What this peer knows of one walk index: of models that it has seen, but for ``rumoured``."""

    lineage: Lineage
    age: int
    heard: float
    """When it was last known to make progress."""
    rumoured: float = float("-inf")
    """When it last did so at others' word."""
    interval: float = 0.0
    """Smoothed seconds per step."""
    revive_at: float | None = None
    """Drawn once the walk is missed."""
    root: Descriptor | None = None
    """Who holds it, where that is known: whoever has taken it over from here, or has made an offer as its root."""
    look_at: float = 0.0
    """When to look whether that peer is still there."""
    orphaned: bool = False
    """That peer has failed."""
    begun: tuple[int, Lineage] | None = None
    """The age, and the lineage, from which a round was last known to begin."""


@dataclass(slots=True)
class Held:
    """A walk that stands at this peer, waiting for its round to start."""

    model: Model
    ready_at: float
    retry: bool = False
    paused: float = 0.0
    """Seconds that were waited, the last time that nobody took it."""


@dataclass(slots=True)
class HandOver:
    """A walk on its way to the next root, not yet acknowledged."""

    model: Model
    retry: bool
    to: PeerId
    ack_by: float
    paused: float
    tried: list[PeerId] = field(default_factory=list)


class Walks:
    """All walks of one task, as one peer sees them, and the newest model it holds."""

    def __init__(self, task: Task, entropy: Entropy, settings: Settings, now: float, *, keeps: bool = True) -> None:
        """``keeps``: models are held here; else not one, but for that of a walk that waits to be passed on."""
        self.task = task
        self._keeps = keeps
        self.newest: Model | None = None
        self.previous: Model | None = None
        """The model before the newest: what a retry merges with when there is nothing else."""
        self._entropy = entropy
        self._settings = settings
        self._traces: dict[int, Trace] = {}
        self._held: list[Held] = []
        self._handing: dict[int, HandOver] = {}
        self._since = now
        self._asked: PeerId | None = None
        """Whose answer with a model is waited for."""
        self._pull_until = 0.0
        self._passed_over: dict[PeerId, float] = {}
        """Who has announced a model and not sent it, and until when it is not asked."""
        self._leaving = False

    # --- models -----------------------------------------------------------------------------------------------

    def restore(self, model: Model) -> None:
        """Take up the model that this peer held before a restart, unless a newer one has come meanwhile."""
        if self.newest is None or model.checkpoint.age > self.newest.checkpoint.age:
            self.newest = model

    def offer_model(self, model: Model, now: float) -> list[Effect]:
        """Hold ``model`` if it is newer than what is held."""
        if not self._keeps or (self.newest is not None and model.checkpoint.age <= self.newest.checkpoint.age):
            return []
        self.previous, self.newest = self.newest, model
        return [
            SaveCheckpoint(model.checkpoint),
            Report(reports.ModelAdvanced(self.task.id, model.checkpoint.age)),
        ]

    def wants(self, head: Head, sender: PeerId, now: float, pull_timeout_s: float) -> bool:
        """Whether to ask the sender of ``head`` for its model; at most one question at a time."""
        age = -1 if self.newest is None else self.newest.checkpoint.age
        if not self._keeps or head.age <= age or now < self._pull_until:
            return False
        self._passed_over = {peer: until for peer, until in self._passed_over.items() if now < until}
        if self._asked is not None:
            self._passed_over[self._asked], self._asked = now + PASSED_OVER * pull_timeout_s, None
        if sender in self._passed_over:
            return False
        self._asked, self._pull_until = sender, now + pull_timeout_s
        return True

    def answered(self) -> None:
        """The question that ``wants`` has led to is answered: the next one may be put."""
        self._asked, self._pull_until = None, 0.0

    def head(self, now: float) -> Head | None:
        """What to tell others of the newest model."""
        if self.newest is None:
            return None
        trace = self._traces.get(self.newest.walk)
        heard = now - (self._since if trace is None else self._seen(trace))
        model = self.newest
        return Head(
            self.task.id, model.checkpoint.age, model.digest, model.walk, model.lineage, min(max(0.0, heard), 1e6)
        )

    # --- walks ------------------------------------------------------------------------------------------------

    def round_begun(self, walk: int, lineage: Lineage, age: int, root: Descriptor | None, now: float) -> None:
        """A round from this walk's model, which is here, is under way, here or elsewhere.  ``root``: whose, if it is
        another's and known."""
        self.heard(walk, lineage, age, now)
        trace = self._traces[walk]
        if (trace.age, trace.lineage) == (age, lineage):
            trace.begun = (age, lineage)
            if root is not None:
                self._look_after(trace, root, now)

    def heard(self, walk: int, lineage: Lineage, age: int, when: float) -> None:
        """This walk was at this age at time ``when``, as the model shows, which is here."""
        if lineage == NO_LINEAGE:
            return  # a model of no known walk
        trace = self._traces.get(walk)
        if trace is None:
            self._traces[walk] = Trace(lineage, age, when)
            return
        if age > trace.age >= 0:
            # the silence of a lost walk is no step's length: it counts as a slow step at most
            slow = SLOW_STEP * (trace.interval or self._settings.revive_timeout_s)
            interval = min(max(0.0, when - trace.heard) / (age - trace.age), slow)
            trace.interval = 0.8 * trace.interval + 0.2 * interval if trace.interval else interval
        if (age, lineage) >= (trace.age, trace.lineage):
            if age > trace.age or (when > trace.heard and not trace.orphaned):  # that model is known to have been there
                trace.revive_at = None
            trace.heard = max(trace.heard, when)
            if (age, lineage) != (trace.age, trace.lineage):
                trace.age, trace.lineage, trace.root = age, lineage, None

    def rumoured(self, walk: int, lineage: Lineage, age: int, when: float) -> None:
        """Somebody says that this walk was at this age at time ``when``.

        No copy dies of it, and a revival it puts off by one time-out at most: what is true can be shown.
        """
        trace = self._trace(walk)
        if lineage == NO_LINEAGE or (age, lineage) < (trace.age, trace.lineage):
            return
        seen, trace.rumoured = self._seen(trace), max(trace.rumoured, when)
        if self._seen(trace) > seen and not trace.orphaned:
            trace.revive_at = None

    def introduce(self, model: Model, now: float) -> list[Effect]:
        """Start every walk of a new task here."""
        effects = self.offer_model(model, now)
        for walk in range(self.task.walks):
            effects += self._begin(walk, model, now, revived=False)
        return effects

    def on_walk(self, sender: Descriptor, message: Walk, now: float) -> list[Effect]:
        """This peer is asked to be the next root: acknowledge, then take the walk up unless it is a stale copy."""
        effects: list[Effect] = [Send(sender, WalkAck(message.nonce, True), ttl_s=self._settings.walk_ack_timeout_s)]
        if self._behind(message.walk, message.checkpoint.age, message.lineage, message.retry, now):
            return effects
        purpose = WalkWork(self.task.id, "received", message.walk, message.lineage, message.retry)
        return [*effects, Work(purpose, Identify(self.task, message.checkpoint))]

    def identified(self, received: WalkWork, result: tuple[Checkpoint, Digest], now: float) -> list[Effect]:
        """A walk's model has been checked and hashed: hold it, merged where that is due."""
        checkpoint, digest = result
        model = Model(checkpoint, digest, received.walk, received.lineage)
        self.heard(model.walk, model.lineage, checkpoint.age, now)
        partner = self._partner(model, received.retry)
        effects = self.offer_model(model, now)
        if partner is not None and checkpoint.age < self.task.last_age:
            return [*effects, Work(replace(received, step="merged"), Merge(self.task, checkpoint, partner.checkpoint))]
        self._hold(model, received.retry, now)
        return effects

    def merged(self, merged: WalkWork, result: tuple[Checkpoint, Digest], now: float) -> None:
        """A walk's model has been merged with the one that stood here."""
        checkpoint, digest = result
        self._hold(Model(checkpoint, digest, merged.walk, merged.lineage), merged.retry, now)

    def _partner(self, model: Model, retry: bool) -> Model | None:
        """The model that an arriving walk meets here, or None if it simply goes on.

        Another walk's newest model is met; after a round that died, any other model will do, so that nobody is asked
        for the same model twice.
        """
        newest = self.newest
        if newest is None:
            return None
        if newest.walk != model.walk and newest.digest != model.digest:
            return newest
        if retry:
            for other in (newest, self.previous):
                if other is not None and other.digest != model.digest:
                    return other
        return None

    def _hold(self, model: Model, retry: bool, now: float) -> None:
        if model.checkpoint.age >= self.task.last_age:
            return
        if model.walk in self._traces:
            self._traces[model.walk].root = None  # this peer is
        for held in self._held:
            if held.model.walk == model.walk:  # two copies of one walk have met: the newer goes on
                if model.checkpoint.age > held.model.checkpoint.age:
                    held.model, held.retry = model, retry
                return
        pause = self._settings.retry_pause_s if retry else self._settings.root_pause_s
        self._held.append(Held(model, now + pause, retry))

    def take_ready(self, now: float) -> Held | None:
        """The next walk whose round may start now; it is no longer held here then."""
        for held in list(self._held):
            if held.ready_at <= now:
                self._held.remove(held)
                model = held.model
                if self._behind(model.walk, model.checkpoint.age, model.lineage, held.retry, now):
                    continue  # its other copy is ahead and alive: this one dies out
                return held
        return None

    def put_back(self, held: Held, ready_at: float) -> None:
        """Its round could not start (too few peers): hold it until ``ready_at``."""
        held.ready_at = ready_at
        self._held.append(held)

    def postpone(self, until: float) -> None:
        """No walk that stands here starts a round before ``until``."""
        for held in self._held:
            held.ready_at = max(held.ready_at, until)

    def pass_on(self, held: Held, companions: Companions, now: float) -> list[Effect]:
        """This peer cannot start the walk's round: another is asked to."""
        return self._hand_over(held.model, held.retry, companions, [], now, held.paused)

    def sidestep(self, model: Model) -> list[Effect]:
        """Its round has died, those who contributed answer it no more, and there is no other model to merge it with."""
        purpose = WalkWork(self.task.id, "merged", model.walk, model.lineage, True)
        return [Work(purpose, Sidestep(self.task, model.checkpoint, self._entropy.token(32)))]

    def ended(self, model: Model, published: Published | None, companions: Companions, now: float) -> list[Effect]:
        """The walk's round here has ended: hand it to another peer."""
        effects: list[Effect] = []
        if published is not None:
            model = Model(published.checkpoint, published.digest, model.walk, model.lineage)
            effects += self.offer_model(model, now)
        self.heard(model.walk, model.lineage, model.checkpoint.age, now)
        if model.checkpoint.age >= self.task.last_age:
            return effects
        return effects + self._hand_over(model, published is None, companions, [], now)

    def _hand_over(
        self, model: Model, retry: bool, companions: Companions, tried: list[PeerId], now: float, paused: float = 0.0
    ) -> list[Effect]:
        candidates = companions(tried)
        if not candidates and self._leaving:
            return []  # nobody answers: whoever misses the walk will revive it
        if not candidates:  # nobody takes it: it goes on here, if it can
            pause = min(max(self._settings.retry_pause_s, 2 * paused), LONGEST_PAUSE_S)
            self._held.append(Held(model, now + pause, retry, pause))
            return []
        to = self._entropy.choice(candidates)
        nonce = self._entropy.below(1 << 62)
        size = len(model.checkpoint.state)
        wait = self._settings.walk_ack_timeout_s + 2 * size / self._settings.link_bytes_per_s
        self._handing[nonce] = HandOver(model, retry, to.peer, now + wait, paused, [*tried, to.peer])
        message = Walk(nonce, model.walk, model.lineage, retry, model.checkpoint)
        return [Send(to, message, ttl_s=wait)]

    def on_ack(self, sender: Descriptor, message: WalkAck, companions: Companions, now: float) -> list[Effect]:
        """The next root answers."""
        handing = self._handing.get(message.nonce)
        if handing is None or handing.to != sender.peer:
            return []
        del self._handing[message.nonce]
        model = handing.model
        if not message.accepted:
            return self._next(handing, companions, now)
        trace = self._traces.get(model.walk)
        if trace is not None and (trace.age, trace.lineage) == (model.checkpoint.age, model.lineage):
            self._look_after(trace, sender, now)
        return []

    def on_send_failed(self, message: Walk, companions: Companions, now: float) -> list[Effect]:
        """The walk did not reach its next root: another is tried."""
        handing = self._handing.pop(message.nonce, None)
        return [] if handing is None else self._next(handing, companions, now)

    def _next(self, handing: HandOver, companions: Companions, now: float) -> list[Effect]:
        return self._hand_over(handing.model, handing.retry, companions, handing.tried, now, handing.paused)

    # --- time -------------------------------------------------------------------------------------------------

    def overdue(self, able: bool, now: float) -> list[PeerId]:
        """Roots to be looked after, their walks being slow; each again when the silence is twice as long."""
        peers: list[PeerId] = []
        if not self._reviving(able):
            return peers
        for walk, trace in self._traces.items():
            root = self._watched(walk, trace)
            if root is None or now < trace.look_at:
                continue
            late = trace.heard + self._late(trace)
            if now < late:
                trace.look_at = late
            else:
                trace.look_at = now + (now - trace.heard)
                peers.append(root.peer)
        return peers

    def tick(
        self, companions: Companions, size: int, failed: Callable[[Descriptor], bool], able: bool, now: float
    ) -> list[Effect]:
        """Retry unanswered hand-overs; revive walks that are missed.

        ``failed``: whether a peer is believed dead, or has been since; ``able``: this peer may be a root.
        """
        effects: list[Effect] = []
        for nonce, handing in list(self._handing.items()):
            if handing.ack_by <= now:
                del self._handing[nonce]
                effects += self._next(handing, companions, now)
        if self._leaving:
            effects += self._clear(companions, now)
        if not self._reviving(able):
            return effects
        for walk in range(self.task.walks):
            trace = self._trace(walk)
            if self._here(walk):
                continue
            orphaned = trace.root is not None and failed(trace.root)
            if orphaned is not trace.orphaned:
                trace.orphaned, trace.revive_at = orphaned, None
            if not orphaned and now < self._seen(trace) + self._timeout(trace):
                continue
            if trace.revive_at is None:
                # each of `size` peers waits an exponential time with mean size x time-out: one walk per time-out
                mean = size * self._timeout(trace)
                if orphaned:  # known to whoever handed it over, and to the root's children
                    mean = (1 + self.task.branching) * self._settings.answer_timeout_s
                trace.revive_at = now + self._entropy.exponential(mean)
            elif trace.revive_at <= now and self.newest is not None:
                effects += self._begin(walk, self.newest, now, revived=True)
        return effects

    def next_deadline(self, able: bool) -> tuple[float, str]:
        """When ``tick`` or ``take_ready`` has something to do, and why."""
        best, why = float("inf"), "no walk"
        for held in self._held:
            if held.ready_at < best:
                best, why = held.ready_at, "round to start"
        for handing in self._handing.values():
            if handing.ack_by < best:
                best, why = handing.ack_by, "answer of the next root"
        if self._reviving(able):
            away = not (self._held or self._handing)
            for walk in range(self.task.walks):
                trace = self._traces.get(walk)
                if trace is None:
                    if self._since < best:
                        best, why = self._since, "walk never heard of"
                elif away or not self._here(walk):
                    when = self._seen(trace) + self._timeout(trace) if trace.revive_at is None else trace.revive_at
                    if when < best:
                        best, why = when, "lost walk"
                    if trace.look_at < best and self._watched(walk, trace) is not None:
                        best, why = trace.look_at, "slow root"
        return best, why

    def leave(self, companions: Companions, now: float) -> list[Effect]:
        """Hand over every walk that stands here, and any that still comes to stand here."""
        self._leaving = True
        return self._clear(companions, now)

    def _clear(self, companions: Companions, now: float) -> list[Effect]:
        held, self._held = self._held, []
        return [e for item in held for e in self._hand_over(item.model, item.retry, companions, [], now)]

    @property
    def busy(self) -> bool:
        """A walk stands here or is being handed over."""
        return bool(self._held or self._handing)

    @property
    def standing(self) -> bool:
        """A walk stands here."""
        return bool(self._held)

    @property
    def unfinished(self) -> bool:
        """There is a model here, and a newer one to be had."""
        return self.newest is not None and self.newest.checkpoint.age < self.task.last_age

    def last_progress(self) -> float:
        """When any walk was last known to make progress."""
        return max((t.heard for t in self._traces.values()), default=self._since)

    def _begin(self, walk: int, model: Model, now: float, *, revived: bool) -> list[Effect]:
        lineage = self._lineage_above(self._traces.get(walk))
        started = Model(model.checkpoint, model.digest, walk, lineage)
        self._traces[walk] = Trace(lineage, model.checkpoint.age, now)
        report = Report(reports.WalkStarted(self.task.id, walk, lineage, revived))
        self._hold(started, revived, now)
        return [report]

    def _trace(self, walk: int) -> Trace:
        return self._traces.setdefault(walk, Trace(NO_LINEAGE, -1, self._since))

    def _seen(self, trace: Trace) -> float:
        """When the walk was last known to make progress, others' word being good for one time-out."""
        return max(trace.heard, min(trace.rumoured, trace.heard + self._timeout(trace)))

    def _lineage_above(self, lost: Trace | None) -> Lineage:
        """A new one, above that of a lost walk: whoever believes that one alive shall not take the new for stale."""
        if lost is not None:
            above = int.from_bytes(lost.lineage, "big") + 1 + self._entropy.below(LINEAGE_STEP)
            if above < 1 << 64:
                return Lineage(above.to_bytes(8, "big"))
        return Lineage(self._entropy.token(LINEAGE_BYTES))

    def _look_after(self, trace: Trace, root: Descriptor, now: float) -> None:
        trace.root, trace.look_at = root, now + self._late(trace)

    def _late(self, trace: Trace) -> float:
        return max(self._settings.walk_ack_timeout_s, SLOW_STEP * trace.interval)

    def _watched(self, walk: int, trace: Trace) -> Descriptor | None:
        return None if trace.orphaned or self._here(walk) else trace.root

    def _reviving(self, able: bool) -> bool:
        return able and self.unfinished

    def _here(self, walk: int) -> bool:
        return any(h.model.walk == walk for h in self._held) or any(
            h.model.walk == walk for h in self._handing.values()
        )

    def _behind(self, walk: int, age: int, lineage: Lineage, retry: bool, now: float) -> bool:
        """Whether another copy of this walk is known to be alive and ahead, be it by a round just begun: known by its
        model, which others cannot just say.

        Of a walk that is no retry, nobody has begun a round from this age: somebody else's is that of a copy, made when
        the acknowledgement of a hand-over was lost.
        """
        trace = self._traces.get(walk)
        if trace is None or not self._fresh(trace, now):
            return False
        return (age, lineage) < (trace.age, trace.lineage) or (not retry and trace.begun == (age, lineage))

    def _timeout(self, trace: Trace) -> float:
        return max(self._settings.revive_timeout_s, self._settings.revive_intervals * trace.interval)

    def _fresh(self, trace: Trace, now: float) -> bool:
        return now < trace.heard + self._timeout(trace)
