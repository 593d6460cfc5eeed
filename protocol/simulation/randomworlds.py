"""Random small worlds with faults of every kind: drawn from a seed, run to their end, judged by the invariants.

Neighbours: ``world`` runs them, ``mishaps`` does to them what the plan says, ``invariants`` judges; the laboratory's
command and CI run thousands.
Invariants: one seed gives one world and one trace, in whatever process and after whatever other worlds.  All faults are
over ``Plan.calm_s`` after the start (clocks stay skewed, and who has left stays away); from then on enough peers are up
to publish, so that everybody who is up has to get the last model.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from protocol.application import Contribution, Freshness, sections_of
from protocol.base.entropy import SeededEntropy
from protocol.base.settings import LAN, Settings
from protocol.effects import Effect
from protocol.events import Event
from protocol.simulation import invariants
from protocol.simulation.application import NoiseApplication
from protocol.simulation.costs import Costs
from protocol.simulation.distributions import Constant, Exponential, Uniform
from protocol.simulation.identities import Pooled
from protocol.simulation.invariants import Collector
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.mishaps import Absence, Death, Mishaps, Plan, Spell
from protocol.simulation.network_model import Connections, NatShares, NetworkModel
from protocol.simulation.world import START, Making, World, newest_ages
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint, Message
from protocol.work import Job

PATIENCE_S = 200.0
"""Virtual seconds after the last fault within which everybody who is up has the last model."""
POOL = 64
"""Worlds draw the first of their peers' keys from so many."""
SECRECY_EVERY = 32
"""In one world of so many, all coalitions are tried; the rule, which stands for them, is checked in all."""
EXACT_EVERY = 200
"""In one world of so many, cryptography is real."""
_LATENCIES = (Constant(0.002), Uniform(0.001, 0.02), Constant(0.04))
_JITTERS = (Constant(0.0), Exponential(0.005), Exponential(0.03))
_HASTY = replace(
    LAN,
    gossip_descriptors=3,
    probe_timeout_s=0.3,
    suspicion_periods=2,
    answer_timeout_s=0.25,
    hop_allowance_s=0.1,
    round_budget_s=1.2,
    walk_ack_timeout_s=0.3,
    revive_timeout_s=0.8,
    retry_pause_s=0.1,
)
STEPS = (
    "Offer", "Accept", "Decline", "Partial", "Abstain", "Walk", "WalkAck", "Gossip", "GossipReply", "TaskReply",
    "ModelRequest", "ModelReply", "identify", "question", "contribute", "own", "absorb", "seal", "publish", "received",
    "merged", "pulled", "restored", "PersistRound", "PersistUse", "PersistIdentity", "SaveCheckpoint", "SaveTask",
    "Contributed", "Abstained", "Recorded", "RoundEnded", "ModelAdvanced", "WalkStarted", "",
)  # fmt: skip
"""Before what peers die, as ``mishaps.step_of`` names it; the empty name is anything."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one world."""

    seed: int
    violations: tuple[str, ...]
    published: int
    failed: int
    events: int
    virtual_s: float
    happened: tuple[str, ...]
    """Names of what befell it, of ``mishaps.KINDS``."""
    digest: str = ""
    """Of its trace, if asked for."""


def random_world(seed: int) -> tuple[World, Task, Plan]:
    """The world of a seed, nobody in it started, its task, and what is to befall it."""
    draw = SeededEntropy(f"random world {seed}")
    size = 3 + min(draw.below(6), draw.below(6)) if draw.below(64) else 9 + draw.below(8)
    threshold = min(2 + draw.below(3), size - 1)
    task = _task(draw, size, threshold)
    faults = {name for name in _FAULTS if draw.below(100) < _FAULTS[name]} if draw.below(10) else set()
    calm_s = 0.1 + 0.4 * draw.uniform() if faults - _LASTING else 0.0
    gone, records = _people(draw, faults, task, size)
    plan = Plan(
        calm_s=calm_s,
        acquainted=bool(draw.below(12)),
        told=bool(draw.below(8)),
        straggling=0.15 if "stragglers" in faults else 0.0,
        deaths=tuple(_deaths(draw)) if "deaths" in faults else (),
        absences=tuple(_absences(draw, faults, gone, size, calm_s)),
        spells=tuple(_spells(draw, faults, size, calm_s)),
        skews=tuple((draw.uniform() - 0.5) * 100.0 if "skew" in faults else 0.0 for _ in range(size)),
        records=records,
    )
    making = Making(
        settings=_settings(draw),
        costs=Costs(contribution_s=(0.0005, 0.005, 0.05)[draw.below(3)]),
        exact_cryptography=seed % EXACT_EVERY == 0,
        recording=True,
        identities=Pooled(START, draw.below(POOL)),
        sizes=_no_size,
    )
    network = Mishaps.network(_network(draw, faults), seed)
    world = World(size, seed, network, making, lambda i, entropy: _Application(entropy, records[i]))
    return world, task, plan


_FAULTS = {
    "losses": 40, "stragglers": 20, "deaths": 45, "crashes": 12, "leaves": 12, "latecomers": 10, "partition": 12,
    "cuts": 10, "set-ups": 8, "slow": 12, "skew": 25, "gates": 8, "single": 20, "recordless": 15,
}  # fmt: skip
"""Chances in percent; one world of ten has none of them."""
_LASTING = {"skew", "single", "recordless"}
"""What never ends, and so need not be waited for."""


def _task(draw: SeededEntropy, size: int, threshold: int) -> Task:
    minimum = min(size, threshold + 1 + (draw.below(3) == 0))
    task = Task(
        name="random", public_data=True, model="linear", hyper=(), schema="random", features=("a",), target="y",
        classes=("0", "1"), ranges=((-1.0, 1.0),), target_range=(0.0, 0.0),
        statistics_rounds=int(draw.below(8) == 0), dimension=1 + draw.below(4), learning_rate=0.5,
        learning_rate_decay=0.0, momentum=0.5 * (draw.below(5) == 0), weight_decay=0.0, batch_per_peer=8,
        steps=(1, 1, 1, 1, 1, 1, 2, 3)[draw.below(8)], collusion_threshold=threshold, minimum_cohort=minimum,
        branching=1 + draw.below(3), cohort=(1000, size, minimum + draw.below(size - minimum + 1))[draw.below(3)],
        modulus_bits=(16, 32, 64)[draw.below(3)], clip=1.0, loss_bound=10.0, walks=1 + (draw.below(5) == 0),
        initial_seed=0,
    )  # fmt: skip
    task.validate()
    return task


@dataclass(frozen=True, slots=True)
class _Draw:
    """As ``application.Noise``, of whatever few bytes make: worlds are many, and all that matters is that values
    differ."""

    task: Task
    kind: RoundKind
    seed: bytes
    cost_bytes: int = 0

    def run(self) -> Contribution:
        """One byte for each coordinate, its section's bound never exceeded."""
        at, parts, words = 0, [], np.frombuffer(self.seed, np.int8)
        for section in sections_of(self.task, self.kind):
            parts.append(words[at : at + section.length] * (section.bound / (128.0 * section.length)))
            at += section.length
        if self.kind is RoundKind.STATISTICS:
            parts[1], parts[2] = np.square(parts[0]), np.ones_like(parts[0])
        parts[1 if self.kind is RoundKind.GRADIENT else 3].fill(self.task.batch_per_peer)
        return Contribution(tuple(parts))


class _Application(NoiseApplication):
    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> Job:
        return _Draw(task, kind, self._entropy.token(16))


def _no_size(message: Message) -> int:
    """Networks of random worlds have bandwidth enough, and a message's length would cost more than its handling."""
    return 1024


def _settings(draw: SeededEntropy) -> Settings:
    return replace(
        _HASTY,
        gossip_period_s=(1.0, 2.0, 4.0)[draw.below(3)],
        round_budget_s=(0.6, 1.2)[draw.below(2)],
        root_pause_s=(0.0, 0.0, 0.02)[draw.below(3)],
        offer_attempts=3 + draw.below(3),
    )


def _network(draw: SeededEntropy, faults: Iterable[str]) -> NetworkModel:
    losses = "losses" in faults
    connections = None
    if "set-ups" in faults:
        nat = NatShares(0.4, 0.3, 0.2, 0.1) if draw.below(2) else None
        connections = Connections(Uniform(0.01, 0.1), 0.8, Constant(0.2), nat)
    return NetworkModel(
        latency_s=draw.choice(_LATENCIES),
        jitter_s=draw.choice(_JITTERS),
        loss=0.12 * draw.uniform() if losses else 0.0,
        duplication=0.15 * draw.uniform() if losses else 0.0,
        silence_s=Constant(0.1),
        connections=connections,
    )


def _deaths(draw: SeededEntropy) -> Iterable[Death]:
    """Restarts, each just before what a peer was about to do."""
    for _ in range(1 + draw.below(3)):
        step = draw.choice(STEPS)
        nth = 1 + draw.below(200 if not step else 5)
        yield Death(step, nth, down_s=0.05 + 0.2 * draw.uniform(), disk=draw.below(10) < 7)


def _people(
    draw: SeededEntropy, faults: Iterable[str], task: Task, size: int
) -> tuple[set[int], tuple[Freshness, ...]]:
    """Who does not come back in the end, and what everybody's records allow; enough for the minimum cohort are left.

    The first peer brings the task, and stays.  Who has one record counts as none where statistics come first: it
    answers them once, whatever becomes of that round.
    """
    spare = size - task.minimum_cohort
    peers = list(range(1, size))
    draw.shuffle(peers)
    gone: set[int] = set()
    records = [Freshness.FRESH] * size
    if spare and {"crashes", "leaves"} & set(faults) and draw.below(3):
        spare -= 1
        gone.add(peers.pop())
    if spare and "recordless" in faults:
        spare -= 1
        records[peers.pop()] = Freshness.NONE
    if "single" in faults:
        most = spare if task.statistics_rounds else size
        for peer in draw.sample([0, *peers], draw.below(most + 1)):
            records[peer] = Freshness.DETERMINISTIC
    return gone, tuple(records)


def _absences(
    draw: SeededEntropy, faults: Iterable[str], gone: set[int], size: int, calm_s: float
) -> Iterable[Absence]:
    """Who comes late, leaves or crashes: distinct peers, never the first."""
    back = [peer for peer in range(1, size) if peer not in gone]
    draw.shuffle(back)
    if "latecomers" in faults and back:
        yield Absence(back.pop(), None, calm_s * draw.uniform(), disk=True)
    away = [*gone, *back[:1]]
    for kind in ("leaves", "crashes"):
        if kind in faults and away:
            peer = away.pop(0)
            end = None if peer in gone else calm_s
            yield Absence(peer, calm_s * draw.uniform() / 2, end, disk=draw.below(4) > 0, cleanly=kind == "leaves")


def _spells(draw: SeededEntropy, faults: Iterable[str], size: int, calm_s: float) -> Iterable[Spell]:
    """Conditions with a begin and an end."""
    for fault, kind in (("partition", "partition"), ("cuts", "cut"), ("slow", "slow"), ("gates", "gate")):
        if fault in faults:
            begin = calm_s * draw.uniform() / 2
            most = size // 2 if kind == "partition" else 2
            peers = tuple(sorted(draw.sample(range(size), 1 + draw.below(most))))
            yield Spell(kind, begin, begin + (calm_s - begin) * draw.uniform(), peers)


# --- running them -----------------------------------------------------------------------------------------------------


def check_world(seed: int, *, digest: bool = False) -> Verdict:
    """Run the world of a seed until everybody has the last model and all faults are over; judge it."""
    world, task, plan = random_world(seed)
    collector = _Hashing(f"world {seed}") if digest else Collector(f"world {seed}")
    collector.attach(world)
    mishaps = Mishaps(world, task, plan)
    mishaps.begin()
    done = _outcome(world, task, mishaps)
    seen = collector.evidence
    seen.single = {peer for peer, index in world.index_of.items() if plan.records[index] is Freshness.DETERMINISTIC}
    violations = [] if done else [f"{seen.name}: {_missing(world, task)}"]
    violations += invariants.exactness(seen) + invariants.rule(seen) + invariants.once(seen) + invariants.single(seen)
    violations += invariants.ends(seen, world, most_s=longest(world, task))
    if seed % SECRECY_EVERY == 0:
        violations += invariants.secrecy(seen, most=400)
    published = len(seen.published())
    happened = mishaps.happened(seen)
    return Verdict(
        seed=seed,
        violations=tuple(violations),
        published=published,
        failed=mishaps.ended(seen) - published,
        events=world.steps,
        virtual_s=world.now - START,
        happened=happened,
        digest=collector.hexdigest() if isinstance(collector, _Hashing) else "",
    )


def longest(world: World, task: Task) -> float:
    """Seconds that no round exceeds: the root's budget, an allowance per level, and the last jobs of a slow peer."""
    settings, levels = world.making.settings, task.cohort if task.branching == 1 else task.collusion_threshold + 4
    levels = min(levels, len(world.peers))
    return (
        settings.round_budget_s
        + levels * (settings.hop_allowance_s + 0.01)
        + 40 * world.making.costs.contribution_s
        + 0.5
    )


def _outcome(world: World, task: Task, mishaps: Mishaps) -> bool:
    """Let time pass until everybody is done; False if patience runs out."""

    laggard = world.peers[0]

    def behind(peer: SimulatedPeer) -> bool:
        entry = peer.node.tasks.get(task.id) if peer.node is not None else None
        newest = entry.walks.newest if entry is not None else None
        return peer.node is not None and (newest is None or newest.checkpoint.age < task.last_age)

    def over() -> bool:
        """Asked after every event, so it looks first at whom everybody was waiting for last time."""
        nonlocal laggard
        if not mishaps.settled or behind(laggard):
            return False
        laggard = next(filter(behind, world.peers), laggard)
        return not behind(laggard)

    return world.run(mishaps.plan.calm_s + PATIENCE_S, over)


def _missing(world: World, task: Task) -> str:
    ages = list(newest_ages(world, task))
    return f"{PATIENCE_S:g} s after the last fault the newest models are of ages {ages}, not {task.last_age}"


class _Hashing(Collector):
    """A collector that also digests every event and effect."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._hasher = hashlib.sha256()

    def traced(self, world: World, peer: SimulatedPeer, event: Event, effects: list[Effect]) -> None:
        """Sealed bytes differ from run to run where cryptography is real, so kinds and times stand for messages."""
        super().traced(world, peer, event, effects)
        asked = " ".join(type(effect).__name__ for effect in effects)
        self._hasher.update(f"{world.now!r} {peer.id.hex()} {type(event).__name__}: {asked}\n".encode())

    def hexdigest(self) -> str:
        """With what left, and every vector that was recorded."""
        for when, sender, to, message in self.evidence.sent:
            self._hasher.update(f"{when!r} {sender.hex()} {to.hex()} {type(message).__name__}\n".encode())
        for record in self.evidence.records:
            self._hasher.update(record.round + record.peer + bytes(record.sent_vector or record.total or b""))
        return self._hasher.hexdigest()
