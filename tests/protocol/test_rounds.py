"""Whole rounds under a virtual clock, with faults of every kind: exact or nothing, the rule kept, nothing learned.

A world is named by its seed, which every assertion prints; SUSURRUS_TEST_WORLDS asks for more of them.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from peer.audit import audit
from peer.audit.recording import Recorder
from protocol import reports
from protocol.aggregation import round as round_module
from protocol.aggregation.jobs import Absorb
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.effects import Effect, Send, Work
from protocol.events import MessageReceived, Stopping
from protocol.privacy.record import RoundRecord
from protocol.training.task import Task
from protocol.wire import messages as m
from tests.protocol.world import Peer, World, make_task

WORLDS = int(os.environ.get("SUSURRUS_TEST_WORLDS", "60"))


def newest_age(peer: Peer, task: Task) -> int:
    entry = peer.node.tasks.get(task.id) if peer.node is not None else None
    newest = entry.walks.newest if entry is not None else None
    return -1 if newest is None else newest.checkpoint.age


def running_root(world: World, task: Task) -> Peer:
    """Who is root of a round under way, some rounds into the training."""

    def roots() -> list[Peer]:
        return [p for p in world.peers if p.node is not None and p.node.rounds.running(task.id)]

    assert world.run(20.0, lambda: len(published(world)) >= 5 and bool(roots()))
    return roots()[0]


def published(world: World) -> list[reports.RoundEnded]:
    return [r for _, _, r in world.reports if isinstance(r, reports.RoundEnded) and r.published]


def check_exact(world: World, name: str) -> int:
    """Every published total is the sum, in the ring, of the values of whom it counts; returns how many there are."""
    rounds: dict[bytes, dict[bytes, RoundRecord]] = {}
    for record in world.records:
        assert record.peer not in rounds.setdefault(record.round, {}), f"{name}: took part twice in one round"
        rounds[record.round][record.peer] = record
    count = 0
    for records in rounds.values():
        for root in [r for r in records.values() if r.published]:
            count += 1
            total, members, queue = None, 0, [root]
            while queue:
                record = queue.pop()
                assert record.contributed, f"{name}: a relay inside a published sum"
                value = np.frombuffer(record.value or b"", f"<u{record.modulus_bits // 8}")
                total = value.copy() if total is None else total + value
                members += 1
                queue += [records[child] for child in record.children]
            assert total is not None
            assert total.tobytes() == bytes(root.total or b""), f"{name}: the total is not the sum"
            assert members == root.cohort >= root.collusion_threshold + 1, f"{name}: cohort"
    return count


def check_by_audit(world: World, directory: Path, name: str) -> None:
    """The auditor, which shares no arithmetic with the protocol, finds nothing: exactness, rule, coalitions."""
    recorders: dict[bytes, Recorder] = {}
    for record in world.records:
        recorders.setdefault(record.peer, Recorder(directory, record.peer)).write(record)
    for recorder in recorders.values():
        recorder.close()
    report = audit(directory, max_coalitions=400, seed=1)
    assert report.clean, f"{name}: {report.sentences()}"


def faulty_world(seed: int) -> tuple[World, Task]:
    """A random small network whose messages are lost, late, doubled in order, and whose peers die and come back."""
    draw = SeededEntropy(f"faults {seed}")
    size = 4 + draw.below(10)
    threshold = 2 + draw.below(3 if size > 4 else 2)
    task = make_task(
        collusion_threshold=threshold,
        minimum_cohort=threshold + 1,
        branching=1 + draw.below(3),
        modulus_bits=(16, 32, 64)[draw.below(3)],
        walks=1 + draw.below(2),
        steps=8,
        cohort=max(threshold + 1, size - draw.below(3)),
        statistics_rounds=draw.below(2),
    )
    loss, slow = draw.uniform() * 0.08, draw.uniform() * 0.1

    def fate(world: World, sender: bytes, to: bytes, message: m.Message) -> float | None:
        if draw.uniform() < loss:
            return None
        return 0.003 + (draw.exponential(1.0) if draw.uniform() < slow else draw.uniform() * 0.02)

    world = World(size, f"rounds {seed}", fate=fate)
    kinds = (m.Offer, m.Accept, m.Partial, m.Walk, m.Gossip)
    deaths = draw.below(4)

    def die(peer: Peer, effect: Effect) -> None:
        nonlocal deaths
        phase = isinstance(effect, Work) or (isinstance(effect, Send) and isinstance(effect.message, kinds))
        if deaths and phase and world.now > 1_800_000_003 and draw.uniform() < 0.01:
            deaths -= 1
            world.kill(peer)
            keep = draw.uniform() < 0.7
            world.at(world.now + 0.5 + 3 * draw.uniform(), lambda: world.start(peer, keep_disk=keep))

    world.on_effect = die
    return world, task


@pytest.mark.parametrize("seed", range(WORLDS))
def test_exact_or_nothing_under_faults(seed: int, tmp_path: Path) -> None:
    world, task = faulty_world(seed)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(60.0)
    name = f"world {seed}"
    count = check_exact(world, name)
    assert count == len(published(world)), name
    if seed % 4 == 0:
        check_by_audit(world, tmp_path, name)
    for peer in world.peers:
        if peer.node is not None:
            assert all(r.deadline > world.now - 1 for r in peer.node.rounds._rounds.values()), f"{name}: endless round"


@pytest.mark.parametrize("size", [4, 5, 6, 12])
def test_small_networks_train_and_everybody_has_the_newest_model(size: int, tmp_path: Path) -> None:
    world, task = World(size, size), make_task(steps=10)
    world.start_all(members=False)
    world.introduce(world.peers[0], task)
    assert world.run(90.0, lambda: all(newest_age(p, task) == 10 for p in world.peers))
    assert check_exact(world, str(size)) == 10
    check_by_audit(world, tmp_path, str(size))


def test_peers_outside_every_tree_get_the_model_too() -> None:
    world, task = World(14, "outside"), make_task(steps=6, cohort=5)
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(60.0, lambda: all(newest_age(p, task) == 6 for p in world.peers))
    assert max(r.cohort for r in published(world)) == 5


def test_fewer_than_k_wait_and_say_for_how_many() -> None:
    world, task = World(4, "waiting"), make_task(steps=3)
    for peer in world.peers[:2]:
        world.start(peer)
    world.introduce(world.peers[0], task)
    world.run(10.0)
    waiting = [r.missing for _, _, r in world.reports if isinstance(r, reports.Waiting)]
    assert waiting[-1] == 2
    assert not published(world)
    for peer in world.peers[2:]:
        world.start(peer)
    assert world.run(60.0, lambda: all(newest_age(p, task) == 3 for p in world.peers))


def test_a_lost_walk_is_revived_and_does_not_multiply() -> None:
    world, task = World(8, "revival"), make_task(steps=60)
    world.start_all()
    world.introduce(world.peers[0], task)
    root = running_root(world, task)
    world.kill(root)
    alive = [p for p in world.peers if p is not root]
    assert world.run(120.0, lambda: all(newest_age(p, task) == 60 for p in alive))
    extra = len(published(world)) - 60
    assert extra <= 10, f"{extra} rounds beyond the task's steps: a walk has multiplied"


def test_several_walks_stay_about_as_many() -> None:
    world, task = World(10, "walks"), make_task(steps=40, walks=3)
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(120.0, lambda: all(newest_age(p, task) == 40 for p in world.peers))
    assert {r.walk for r in published(world)} == {0, 1, 2}
    check_exact(world, "walks")


def test_one_record_answers_a_model_once_and_training_goes_on() -> None:
    world, task = World(6, "single", fate=lossy(0.04, "single")), make_task(steps=6)
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    answered: Counter[tuple[bytes, bytes]] = Counter()
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(300.0, lambda: max(newest_age(p, task) for p in world.peers) == 6)
    digests = {}
    for _, _, _, message in world.sent:
        if isinstance(message, m.Offer):
            digests[message.round] = message.digest
    for record in world.records:
        if record.contributed and record.round in digests:
            answered[record.peer, digests[record.round]] += 1
    assert answered
    assert max(answered.values()) == 1


def lossy(share: float, seed: str):  # type: ignore[no-untyped-def]
    draw = SeededEntropy(seed)
    return lambda world, sender, to, message: None if draw.uniform() < share else 0.004


def test_leaving_hands_the_walk_over() -> None:
    world, task = World(7, "leaving"), make_task(steps=30)
    world.start_all()
    world.introduce(world.peers[0], task)
    root = running_root(world, task)
    world.handle(root, Stopping())
    world.run(0.3)
    world.kill(root)
    alive = [p for p in world.peers if p is not root]
    assert world.run(60.0, lambda: all(newest_age(p, task) == 30 for p in alive))
    assert not any(r.revived for _, _, r in world.reports if isinstance(r, reports.WalkStarted))


def test_doubled_late_foreign_and_oversized_partials_change_nothing() -> None:
    world, task = World(6, "doubled"), make_task(steps=8)
    world.start_all()
    again: list[tuple[Peer, m.Partial]] = []
    world.on_effect = lambda peer, e: (
        again.append((peer, e.message)) if isinstance(e, Send) and isinstance(e.message, m.Partial) else None
    )
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
    world.run(30.0, lambda: all(newest_age(p, task) == 8 for p in world.peers))
    assert check_exact(world, "doubled") == len(published(world)) > before


def test_one_seed_one_trace() -> None:
    def trace() -> list[tuple[float, str]]:
        world, task = faulty_world(3)
        world.start_all()
        world.introduce(world.peers[0], task)
        world.run(10.0)
        return [(when, type(item).__name__) for when, _, item in world.reports]

    assert trace() == trace()


# --- positive controls: the checks above can fail ---------------------------------------------------------------


def test_a_mask_not_taken_off_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from protocol.aggregation import jobs

    def forgetful(out, plus, minus=(), *, vector=None):  # type: ignore[no-untyped-def]
        real(out, plus, list(minus)[1:], vector=vector)

    real = jobs.add_masks
    monkeypatch.setattr(jobs, "add_masks", forgetful)
    world, task = World(6, "forgetful"), make_task(steps=2)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(8.0)
    # a mask left on makes noise of weight and norm: the root itself rejects the sum
    assert not published(world)
    ended = [r for _, _, r in world.reports if isinstance(r, reports.RoundEnded)]
    assert ended
    assert "outside what its contributions allow" in ended[0].reason


def test_a_guard_off_by_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lax(depth: int, threshold: int, children: int, opened: int) -> bool:
        return min(depth, threshold) + children + opened >= threshold - 1

    monkeypatch.setattr(round_module, "may_contribute", lax)
    caught = 0
    for seed in range(12):
        world, task = World(5, f"lax {seed}", fate=lossy(0.06, f"lax {seed}")), make_task(steps=6, minimum_cohort=4)
        world.start_all()
        world.introduce(world.peers[0], task)
        world.run(30.0)
        neighbours = [r.neighbours for _, _, r in world.reports if isinstance(r, reports.Contributed)]
        caught += any(n < 3 for n in neighbours)
    assert caught


def test_a_seed_used_twice_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from protocol.aggregation import combining

    monkeypatch.setattr(combining.masks, "draw", lambda entropy, count: [bytes(32)] * count)
    world, task = World(6, "twice"), make_task(steps=2)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(8.0)
    with pytest.raises(AssertionError, match="seed"):
        check_by_audit(world, tmp_path, "twice")


def test_a_seed_that_does_not_open_costs_that_child_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, broken = Absorb.run, [0]

    def sometimes(self: Absorb):  # type: ignore[no-untyped-def]
        if self.partial.seeds[0] and broken[0] == 0:
            broken[0] += 1
            spoilt = m.SealedSeed(self.partial.seeds[0][0].contributor, bytes(80))
            groups = ((spoilt, *self.partial.seeds[0][1:]), *self.partial.seeds[1:])
            bad = m.Partial(
                self.partial.round, self.partial.cohort, self.partial.min_neighbours, groups, self.partial.vector
            )
            return honest(Absorb(self.accumulator, bad, self.encoding, self.keyring, self.network))
        return honest(self)

    monkeypatch.setattr(Absorb, "run", sometimes)
    world, task = World(12, "unopenable"), make_task(steps=4)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(30.0, lambda: len(published(world)) >= 4)
    assert any(isinstance(r, reports.MessageRefused) and r.reason.name == "BAD_SEEDS" for _, _, r in world.reports)
    check_exact(world, "unopenable")
