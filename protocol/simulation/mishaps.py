"""What befalls a random world: the plan as plain data, who carries it out, and what of it really happened.

Neighbours: ``randomworlds`` draws plans and runs the worlds; ``network`` is watched here while it misbehaves.
Invariants: whoever carries the plan out reaches into nobody but through ``World``; after ``Plan.calm_s`` the network is
whole, everybody works at full speed, and who is to come back has come back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from protocol import reports
from protocol.aggregation.phases import AbstainReason
from protocol.application import Freshness
from protocol.base.errors import Refusal
from protocol.base.ids import PeerId
from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS
from protocol.effects import Effect, PersistRound, PersistUse, Report, SaveCheckpoint, Send, Work
from protocol.events import MessageReceived, Stopping
from protocol.simulation.invariants import Evidence
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.network import Delivery, Network
from protocol.simulation.network_model import NetworkModel
from protocol.simulation.world import START, World
from protocol.training.task import Task
from protocol.wire.messages import Accept, GossipReply, Message, Partial

GOODBYE_S = 0.3
"""How long who leaves stays to hand over what it holds."""
SLOW = 12.0
"""How many times as long work takes a slow peer."""

KINDS = (
    "a round published", "a round failed", "a cohort too small", "an abstention by the rule", "an offer declined",
    "a message lost", "a message doubled", "a message overtaken", "a message undeliverable",
    "a late partial refused", "a walk's merge", "a walk revived", "a model sidestepped", "several walks",
    "a partition", "a cut", "a failed set-up", "a slow peer", "a skewed clock", "a closed gate",
    "a peer with one record", "a peer without records", "a latecomer", "a clean leave", "a crash for good",
    "a death", "a death between persist and send", "a restart with its disk", "a restart without its disk",
    "a restart that resumes", "the task introduced again", "a statistics round", "real cryptography", "no fault",
)  # fmt: skip
"""What is counted, by name: each must happen in some worlds."""


@dataclass(frozen=True, slots=True)
class Death:
    """Whoever is about to do ``step`` for the ``nth`` time in this world dies instead, and starts again."""

    step: str
    nth: int
    down_s: float
    disk: bool


@dataclass(frozen=True, slots=True)
class Absence:
    """A peer is away.  Seconds since the world's start; ``begin`` None: from the start; ``end`` None: for good."""

    peer: int
    begin: float | None
    end: float | None
    disk: bool
    cleanly: bool = False
    """It says goodbye."""


@dataclass(frozen=True, slots=True)
class Spell:
    """``partition``, ``cut``, ``slow`` or ``gate`` for some peers, for a while."""

    kind: str
    begin: float
    end: float
    peers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to befall a world."""

    calm_s: float
    acquainted: bool
    """Everybody knows everybody from the start; else they join through each other's addresses."""
    told: bool
    """Everybody holds the task from before; else the first peer alone."""
    straggling: float
    """The share of partials that come after every deadline."""
    deaths: tuple[Death, ...]
    absences: tuple[Absence, ...]
    spells: tuple[Spell, ...]
    skews: tuple[float, ...]
    """Seconds by which each peer's clock is ahead."""
    records: tuple[Freshness, ...]
    """What each peer's records allow."""


class WatchedNetwork(Network):
    """Notes what it does to messages."""

    def __init__(self, model: NetworkModel, seed: int) -> None:
        super().__init__(model, seed)
        self.did: set[str] = set()
        self._last: dict[tuple[int, int], float] = {}

    def send(self, now: float, sender: int, recipient: int, nbytes: int) -> Delivery:
        """As ``Network.send``."""
        delivery = super().send(now, sender, recipient, nbytes)
        arrivals = delivery.arrivals
        if not arrivals:
            lost = delivery.failed_at is None
            self.did.add("a message lost" if lost else "a message undeliverable")
            if not lost and self.model.connections is not None and self.connected(sender, recipient):
                self.did.add("a failed set-up")
            return delivery
        if len(arrivals) > 1:
            self.did.add("a message doubled")
        if arrivals[0] < self._last.get((sender, recipient), 0.0):
            self.did.add("a message overtaken")
        self._last[sender, recipient] = arrivals[0]
        return delivery


def step_of(effect: Effect) -> str:
    """The name of what a peer is about to do."""
    match effect:
        case Send(message=message):
            return type(message).__name__
        case Work(purpose):
            return purpose.step
        case Report(item):
            return type(item).__name__
    return type(effect).__name__


class Mishaps:
    """Carries out one plan in one world."""

    def __init__(self, world: World, task: Task, plan: Plan) -> None:
        self.world, self.task, self.plan = world, task, plan
        self.settled = False
        """All faults are over."""
        self._did: set[str] = set()
        self._resumed: set[PeerId] = set()
        self._gone_for_good: set[int] = set()
        self._deaths = {death: death.nth for death in plan.deaths}
        self._last: tuple[int, int, bool] = (-1, -1, False)

    @staticmethod
    def network(model: NetworkModel, seed: int) -> Network:
        """A network to be watched."""
        return WatchedNetwork(model, seed)

    def begin(self) -> None:
        """Start everybody who is there from the start, let them know each other, bring the task, arm the faults."""
        world, late = self.world, {a.peer for a in self.plan.absences if a.begin is None}
        making = world.making
        if self.plan.acquainted:  # who is about to know everybody need not ask the seeds
            world.making = replace(making, seeds=0)
        told = [world.submission(world.peers[0], self.task)] if self.plan.told else []
        for peer in world.peers:
            peer.skew = self.plan.skews[peer.index]
            peer.disk.tasks += told
            if peer.index not in late:
                world.start(peer)
        if self.plan.acquainted:
            self._acquaint()
        world.making = making
        self._arm()
        world.introduce(world.peers[0], self.task)
        self.settled = not self.plan.calm_s

    def _acquaint(self) -> None:
        """Everybody is told of everybody, which needs no greeting (as ``World.acquaint`` would lead to)."""
        known = [peer.node.descriptor for peer in self.world.running() if peer.node is not None]
        for peer in self.world.running():
            others = [descriptor for descriptor in known if descriptor.peer != peer.id]
            for first in range(0, len(others), MAX_GOSSIP_DESCRIPTORS):
                told = others[first : first + MAX_GOSSIP_DESCRIPTORS]
                raw = tuple(descriptor.raw for descriptor in told)
                self.world.handle(peer, MessageReceived(told[0], GossipReply(0, raw, (), (), ())))

    def _arm(self) -> None:
        world, plan = self.world, self.plan
        if plan.straggling:
            world.fate = self._fate
        if plan.deaths:
            world.before_effect = self._before
        for absence in plan.absences:
            if absence.begin is not None:
                world.at(START + absence.begin, self._away, absence)
            if absence.end is not None:
                world.at(START + absence.end, self._back, absence)
        for spell in plan.spells:
            world.at(START + spell.begin, self._spell, spell, True)
            world.at(START + spell.end, self._spell, spell, False)
        if plan.calm_s:
            world.at(START + plan.calm_s, self._calm)

    # --- what is done -----------------------------------------------------------------------------------------

    def _fate(self, sender: SimulatedPeer, recipient: SimulatedPeer, message: Message) -> Delivery | None:
        if isinstance(message, Partial) and self.world.entropy.uniform() < self.plan.straggling:
            settings = self.world.making.settings
            return Delivery((self.world.now + settings.round_budget_s * (0.5 + self.world.entropy.uniform()),))
        return None

    def _before(self, peer: SimulatedPeer, effect: Effect) -> None:
        step, persists = step_of(effect), isinstance(effect, PersistRound | PersistUse | SaveCheckpoint)
        index, at, durable = self._last
        durable = durable and (index, at) == (peer.index, self.world.steps)
        self._last = (peer.index, self.world.steps, persists or durable)
        for death in self.plan.deaths:
            if death.step not in ("", step):
                continue
            self._deaths[death] = left = self._deaths[death] - 1
            if left == 0:
                self._did.add("a death")
                if durable and isinstance(effect, Send) and isinstance(effect.message, Accept | Partial):
                    self._did.add("a death between persist and send")
                self._die(peer, death)
                return

    def _die(self, peer: SimulatedPeer, death: Death) -> None:
        self.world.stop(peer)
        self.world.at(self.world.now + death.down_s, self._start, peer, death.disk)

    def _start(self, peer: SimulatedPeer, disk: bool) -> None:
        if peer.node is not None or peer.index in self._gone_for_good:
            return
        if peer.life:
            self._did.add(f"a restart {'with' if disk else 'without'} its disk")
            if disk and peer.disk.checkpoints:
                self._resumed.add(peer.id)
        self.world.start(peer, keep_disk=disk)

    def _away(self, absence: Absence) -> None:
        peer = self.world.peers[absence.peer]
        if absence.end is None:
            self._gone_for_good.add(peer.index)
        if not absence.cleanly:
            self._did.add("a crash for good" if absence.end is None else "a death")
            self.world.stop(peer)
            return
        self._did.add("a clean leave")
        self.world.handle(peer, Stopping())
        self.world.at(self.world.now + GOODBYE_S, self._gone, peer, peer.life)

    def _gone(self, peer: SimulatedPeer, life: int) -> None:
        if peer.life == life:
            self.world.stop(peer)

    def _back(self, absence: Absence) -> None:
        peer = self.world.peers[absence.peer]
        if absence.begin is None:
            self._did.add("a latecomer")
        if peer.node is not None and absence.cleanly:  # it has not quite gone yet
            self.world.stop(peer)
        self._start(peer, absence.disk)

    def _spell(self, spell: Spell, begins: bool) -> None:
        network = self.world.network
        self._did.add(
            {"partition": "a partition", "cut": "a cut", "slow": "a slow peer", "gate": "a closed gate"}[spell.kind]
        )
        if spell.kind == "partition":
            network.partition([spell.peers]) if begins else network.heal()
        for index in spell.peers:
            peer = self.world.peers[index]
            match spell.kind:
                case "cut":
                    network.cut(index) if begins else network.mend(index)
                case "slow":
                    peer.slow = SLOW if begins else 1.0
                case "gate":
                    peer.application.closed = "closed" if begins else None  # type: ignore[attr-defined]
                case _:
                    pass

    def _calm(self) -> None:
        """The last fault is over: only whoever has died is still on its way back."""
        world = self.world
        world.fate = world.before_effect = None
        before = world.network
        assert isinstance(before, WatchedNetwork), "random worlds are made with one"
        self._did |= before.did
        world.network = Network(NetworkModel(before.model.latency_s, before.model.jitter_s), 0)
        self._whole()

    def _whole(self) -> None:
        """Wait for the last restarts; then somebody must hold the task, or its user submits it again."""
        world = self.world
        for_good = {a.peer for a in self.plan.absences if a.end is None}
        if any(peer.node is None and peer.index not in for_good for peer in world.peers) or any(
            peer.node is not None and peer.index in for_good for peer in world.peers
        ):
            world.at(world.now + 0.1, self._whole)
            return
        self.settled = True
        running = world.running()
        if not any(p.node is not None and self._holds(p) for p in running):
            self._did.add("the task introduced again")
            world.introduce(running[0], self.task)

    def _holds(self, peer: SimulatedPeer) -> bool:
        entry = peer.node.tasks.get(self.task.id) if peer.node is not None else None
        return entry is not None and entry.walks.newest is not None

    # --- what happened ----------------------------------------------------------------------------------------

    def ended(self, seen: Evidence) -> int:
        """Rounds that ended at their roots."""
        return sum(isinstance(item, reports.RoundEnded) for _, _, item in seen.items)

    def happened(self, seen: Evidence) -> tuple[str, ...]:
        """Of ``KINDS``, in their order."""
        did = self._did | set(self._reported(seen)) | set(self._made())
        if isinstance(self.world.network, WatchedNetwork):
            did |= self.world.network.did
        return tuple(kind for kind in KINDS if kind in did)

    def _made(self) -> Iterator[str]:
        world, plan = self.world, self.plan
        if self.task.walks > 1:
            yield "several walks"
        if self.task.statistics_rounds:
            yield "a statistics round"
        if world.making.exact_cryptography:
            yield "real cryptography"
        if any(plan.skews):
            yield "a skewed clock"
        if Freshness.DETERMINISTIC in plan.records:
            yield "a peer with one record"
        if Freshness.NONE in plan.records:
            yield "a peer without records"
        if not (plan.deaths or plan.absences or plan.spells or plan.straggling or world.network.model.loss):
            yield "no fault"

    def _reported(self, seen: Evidence) -> Iterator[str]:
        if "Merge" in seen.jobs:
            yield "a walk's merge"
        if "Sidestep" in seen.jobs:
            yield "a model sidestepped"
        for _, who, item in seen.items:
            match item:
                case reports.RoundEnded():
                    yield "a round published" if item.published else "a round failed"
                    if item.reason == AbstainReason.COHORT_TOO_SMALL.sentence:
                        yield "a cohort too small"
                case reports.Abstained() if item.reason == AbstainReason.TOO_FEW_NEIGHBOURS.sentence:
                    yield "an abstention by the rule"
                case reports.Declined():
                    yield "an offer declined"
                case reports.MessageRefused(kind="partial", reason=Refusal.OUT_OF_PHASE):
                    yield "a late partial refused"
                case reports.WalkStarted(revived=True):
                    yield "a walk revived"
                case reports.Contributed() if who in self._resumed:
                    yield "a restart that resumes"
                case _:
                    pass
