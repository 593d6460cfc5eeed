"""Whole rounds under a virtual clock, with faults of every kind: exact or nothing, the rule kept, nothing learned.

A world is named by its seed, which every assertion prints; SUSURRUS_TEST_WORLDS asks for more of them.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer.audit import audit
from peer.audit.recording import Recorder
from protocol import reports
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal
from protocol.effects import Effect, Report, Send, Work
from protocol.events import MessageReceived
from protocol.training.task import Task
from protocol.wire import messages as m
from tests.protocol.checks import check_all, check_exact, newest_age, published
from tests.protocol.world import START, Peer, World, make_task

WORLDS = int(os.environ.get("SUSURRUS_TEST_WORLDS", "120"))
REGRESSION_SEEDS: tuple[int, ...] = (140, 147)
"""Worlds that have found a mistake, beyond the first ``WORLDS``."""


def faulty_world(seed: int) -> tuple[World, Task]:
    """A random network whose messages are lost, late, doubled and reordered, and whose peers die and come back."""
    draw = SeededEntropy(f"faults {seed}")
    size = 4 + draw.below(17 if seed % 10 == 0 else 6)
    threshold = 2 + draw.below(3 if size > 4 else 2)
    task = make_task(
        collusion_threshold=threshold,
        minimum_cohort=threshold + 1,
        branching=1 + draw.below(3),
        modulus_bits=(16, 32, 64)[draw.below(3)],
        walks=1 + draw.below(2),
        steps=5,
        cohort=max(threshold + 1, size - draw.below(3)),
        statistics_rounds=draw.below(2),
        momentum=0.5 * draw.below(2),
    )
    loss, slow, doubled = (draw.uniform() * share for share in (0.08, 0.1, 0.1))

    def delay() -> float:
        return 0.003 + (draw.exponential(1.0) if draw.uniform() < slow else draw.uniform() * 0.02)

    def fate(world: World, sender: bytes, to: bytes, message: m.Message) -> float | tuple[float, ...] | None:
        if draw.uniform() < loss:
            return None
        return (delay(), delay()) if draw.uniform() < doubled else delay()

    world = World(size, f"rounds {seed}", fate=fate, work_delay=(0.0, 0.001, 0.05)[draw.below(3)])
    for peer in world.peers:
        peer.skew = (draw.uniform() - 0.5) * 100.0
        if draw.uniform() < 0.1:
            peer.application.fresh = (Freshness.DETERMINISTIC, Freshness.NONE)[draw.below(2)]
    kinds = (m.Offer, m.Accept, m.Partial, m.Walk, m.Gossip, m.Parameters)
    deaths = draw.below(4)

    def die(peer: Peer, effect: Effect) -> None:
        nonlocal deaths
        phase = isinstance(effect, Work) or (isinstance(effect, Send) and isinstance(effect.message, kinds))
        if deaths and phase and world.now > START + 1.5 and draw.uniform() < 0.01:
            deaths -= 1
            kill_and_restart(world, peer, 0.5 + 3 * draw.uniform(), keep_disk=draw.uniform() < 0.7)

    world.on_effect = die
    return world, task


def kill_and_restart(world: World, peer: Peer, after: float, *, keep_disk: bool) -> None:
    world.kill(peer)
    world.at(world.now + after, lambda: world.start(peer, keep_disk=keep_disk))


def train(world: World, task: Task, seconds: float, members: bool = True) -> bool:
    """Introduce the task; True if everybody who lives got its last model within ``seconds``."""
    world.start_all(members)
    world.introduce(world.peers[0], task)
    return world.run(
        seconds, lambda: all(newest_age(p, task) == task.last_age for p in world.peers if p.node is not None)
    )


def check_by_audit(world: World, directory: Path, name: str) -> None:
    """The auditor, which shares no arithmetic with the protocol, finds nothing: exactness, rule, coalitions."""
    recorders: dict[bytes, Recorder] = {}
    for record in world.records:
        recorders.setdefault(record.peer, Recorder(directory, record.peer)).write(record)
    for recorder in recorders.values():
        recorder.close()
    report = audit(directory, max_coalitions=400, seed=1)
    assert report.clean, f"{name}: {report.sentences()}"


@pytest.mark.parametrize("seed", [*range(WORLDS), *REGRESSION_SEEDS])
def test_exact_or_nothing_under_faults(seed: int, tmp_path: Path) -> None:
    world, task = faulty_world(seed)
    train(world, task, 40.0)
    world.run(2.0)
    name = f"world {seed}"
    check_all(world, task, name)
    if seed % 10 == 0:
        check_by_audit(world, tmp_path, name)


def test_the_faulty_worlds_do_learn() -> None:
    """Else the check above would have nothing to check."""
    rounds = 0
    for seed in range(1, 9):
        world, task = faulty_world(seed)
        train(world, task, 20.0)
        rounds += len(published(world))
    assert rounds > 25


# --- a death at every step of a round -----------------------------------------------------------------------------


def step_of(effect: Effect) -> str:
    match effect:
        case Send(message=message):
            return type(message).__name__
        case Work(purpose):
            return f"{type(purpose).__name__.removesuffix('Work').lower()} {purpose.step}"
        case Report(item):
            return type(item).__name__
    return type(effect).__name__


STEPS = [
    "Offer", "Accept", "Parameters", "round identify", "round contribute", "round own", "round absorb", "round seal",
    "PersistRound", "Partial", "Contributed", "Recorded", "round publish", "RoundEnded", "SaveCheckpoint",
    "ModelAdvanced", "Walk", "WalkAck", "walk received", "TaskRequest", "ModelRequest", "ModelReply",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("keep_disk", [True, False], ids=["disk kept", "disk lost"])
def test_a_death_at_any_step_costs_time_alone(step: str, keep_disk: bool) -> None:
    """Three peers die, each at its own time, just before what they were about to do."""
    # a model beyond what an offer carries is asked for with Accept
    world, task = World(7, f"death {step}"), make_task(steps=6, dimension=5000 if step == "Parameters" else 3)
    left, seen = 3, 0

    def die(peer: Peer, effect: Effect) -> None:
        nonlocal left, seen
        # who introduces the task is, for a while, the only one to know it
        if left and step_of(effect) == step and (peer is not world.peers[0] or world.now > START + 2):
            seen += 1
            if seen % 3 == 1:
                left -= 1
                kill_and_restart(world, peer, 1.0, keep_disk=keep_disk)

    world.on_effect = die
    assert train(world, task, 200.0), f"{step}: the training stopped"
    assert left < 3, f"nobody ever came to {step}"
    assert check_all(world, task, step) >= 6


def test_a_restarted_peer_never_contributes_twice_to_one_round() -> None:
    """It dies just after its partial has left, comes back at once, and is offered the same round by another parent."""
    world, task = World(6, "twice"), make_task(steps=4)
    offered: list[tuple[Peer, bytes]] = []

    def die(peer: Peer, effect: Effect) -> None:
        if isinstance(effect, Report) and isinstance(effect.item, reports.Contributed) and not offered:
            offered.append((peer, effect.item.round))
            world.kill(peer)
            world.at(world.now, lambda: world.start(peer))

    world.on_effect = die
    train(world, task, 60.0)
    ((peer, round_id),) = offered
    assert peer.node is not None
    sender = next(p for p in world.peers if p is not peer)
    offer = next(msg for _, _, to, msg in world.sent if isinstance(msg, m.Offer) and msg.round == round_id)
    before = len(world.sent)
    assert sender.node is not None
    world.handle(peer, MessageReceived(sender.node.descriptor, offer))
    replies = [msg for _, _, _, msg in world.sent[before:] if isinstance(msg, m.Accept | m.Decline)]
    assert [type(reply) for reply in replies] == [m.Decline]
    check_all(world, task, "twice")


# --- what parents refuse ------------------------------------------------------------------------------------------


def test_doubled_late_foreign_and_oversized_partials_change_nothing() -> None:
    world, task = World(6, "doubled"), make_task(steps=8)
    again: list[tuple[Peer, m.Partial]] = []
    world.on_effect = lambda peer, e: (
        again.append((peer, e.message)) if isinstance(e, Send) and isinstance(e.message, m.Partial) else None
    )
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(6.0, lambda: len(published(world)) == 2)
    sender, partial = again[-1]
    assert sender.node is not None
    before = len(published(world))
    grown = m.Partial(partial.round, 99, partial.min_neighbours, partial.seeds, partial.vector)
    short = m.Partial(partial.round, partial.cohort, partial.min_neighbours, partial.seeds, bytes(partial.vector)[:-4])
    for forged in (partial, grown, short):
        for other in world.peers:
            if other is not sender:
                world.handle(other, MessageReceived(sender.node.descriptor, forged))
    refused = [r for _, _, r in world.reports if isinstance(r, reports.MessageRefused) and r.kind == "partial"]
    assert len(refused) >= 15
    assert {r.reason for r in refused} <= {Refusal.OUT_OF_PHASE, Refusal.NOT_EXPECTED}
    world.on_effect = None
    world.run(30.0, lambda: all(newest_age(p, task) == 8 for p in world.peers))
    assert check_exact(world, "doubled") == len(published(world)) > before


def test_a_late_partial_is_refused_and_the_total_is_that_of_the_others() -> None:
    """Every tenth partial comes after its parent's deadline; it is still in the view of whoever received it."""
    count = 0

    def fate(world: World, sender: bytes, to: bytes, message: m.Message) -> float:
        nonlocal count
        count += isinstance(message, m.Partial)
        return 12.0 if isinstance(message, m.Partial) and count % 10 == 9 else 0.004

    world, task = World(12, "late", fate=fate), make_task(steps=6)
    assert train(world, task, 200.0)
    world.run(15.0)
    refused = [r for _, _, r in world.reports if isinstance(r, reports.MessageRefused) and r.kind == "partial"]
    assert refused
    assert min(r.cohort for r in published(world)) < 12
    check_all(world, task, "late")


def test_several_rounds_at_once_at_one_node() -> None:
    world, task = World(6, "at once", work_delay=0.02), make_task(steps=25, walks=3)
    most = 0

    def count(peer: Peer, effect: Effect) -> None:
        nonlocal most
        assert peer.node is not None
        most = max(most, len(peer.node.rounds._rounds))

    world.on_effect = count
    assert train(world, task, 120.0)
    assert most >= 3
    check_all(world, task, "at once")


@pytest.mark.parametrize("size", [4, 5, 6, 12])
def test_small_networks_train_and_everybody_has_the_newest_model(size: int, tmp_path: Path) -> None:
    world, task = World(size, size), make_task(steps=10)
    assert train(world, task, 90.0, members=False)
    assert check_all(world, task, f"size {size}") == 10
    check_by_audit(world, tmp_path, str(size))


@pytest.mark.parametrize("threshold", [2, 3, 4])
@pytest.mark.parametrize("branching", [1, 2, 3])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_every_shape_and_width_trains(threshold: int, branching: int, bits: int) -> None:
    size = threshold + 1 + branching
    world = World(size, f"{threshold} {branching} {bits}")
    task = make_task(
        collusion_threshold=threshold, minimum_cohort=threshold + 1, branching=branching, modulus_bits=bits, steps=3
    )
    assert train(world, task, 60.0)
    assert check_all(world, task, f"S={threshold} B={branching} w={bits}") == 3


def test_one_seed_one_trace() -> None:
    assert trace(3) == trace(3) != trace(4)


def test_the_trace_does_not_hang_on_how_this_process_hashes() -> None:
    here = trace(3)
    for seed in ("1", "2"):
        assert trace_elsewhere(seed) == here


def trace(seed: int) -> str:
    """A digest of every event of the first seconds.  Sealed bytes differ from run to run by nature."""
    world, task = faulty_world(seed)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(8.0)
    hasher = hashlib.sha256()
    for when, who, item in world.reports:
        hasher.update(f"{when!r} {who.hex()} {type(item).__name__}\n".encode())
    for when, sender, to, message in world.sent:
        hasher.update(f"{when!r} {sender.hex()} {to.hex()} {type(message).__name__}\n".encode())
    for record in world.records:
        hasher.update(record.round + record.peer + bytes(record.sent_vector or record.total or b""))
    return hasher.hexdigest()


def trace_elsewhere(hash_seed: str) -> str:
    root = Path(__file__).parents[2]
    code = "from tests.protocol.test_rounds import trace; print(trace(3))"
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()
