"""Training goes on and everybody gets its model: small networks, lost walks, several walks, one record, leaving."""

from collections.abc import Callable

import pytest

from protocol import reports
from protocol.aggregation.lineage import sign_hop
from protocol.aggregation.shape import RING
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import Digest, Lineage, RoundId
from protocol.base.limits import MAX_BUDGET_S, MAX_ROUNDS_AT_ONCE
from protocol.base.settings import WAN
from protocol.effects import Effect, Send
from protocol.events import MessageReceived, Stopping
from protocol.membership import Liveness
from protocol.training.task import Task
from protocol.training.walks import Walks
from protocol.wire import messages as m
from tests.protocol.checks import check_all, ended, newest_age, published
from tests.protocol.world import Fate, Peer, World, make_task


def lossy(share: float, seed: str) -> Fate:
    draw = SeededEntropy(seed)
    return lambda world, sender, to, message: None if draw.uniform() < share else 0.004


def begin(world: World, task: Task, members: bool = True) -> None:
    world.start_all(members)
    world.introduce(world.peers[0], task)


def all_at(world: World, task: Task, age: int) -> Callable[[], bool]:
    return lambda: all(newest_age(p, task) >= age for p in world.peers if p.node is not None)


def roots(world: World, task: Task) -> list[Peer]:
    return [p for p in world.peers if p.node is not None and p.node.rounds.running(task.id)]


def running_root(world: World, task: Task) -> Peer:
    """Who is root of a round under way, some rounds into the training."""
    assert world.run(20.0, lambda: len(published(world)) >= 5 and bool(roots(world, task)))
    return roots(world, task)[0]


def test_offers_of_endless_rounds_hold_nobody_for_long() -> None:
    """A member fills every peer's places with rounds whose model it never sends, and gives them ten minutes."""
    world, task = World(12, "endless offers"), make_task(steps=1000)
    begin(world, task)
    assert world.run(20.0, lambda: len(published(world)) >= 5)
    victim, liar = world.peers[0], world.peers[11]
    assert liar.node is not None
    for i in range(MAX_ROUNDS_AT_ONCE):
        round_id = RoundId(bytes([i]) * 16)
        signature = sign_hop(liar.keyring.signing, liar.node.network, round_id, task.id, 3, 1, victim.id)
        above = (m.Ancestor(liar.node.descriptor.raw, signature),)
        offer = m.Offer(
            round_id, task.id, 1, 1, Digest(b"?" * 32), 3, 4, 2, 1, 12, 13, MAX_BUDGET_S, 0, RING, 0,
            Lineage(bytes(8)), above,
        )  # fmt: skip
        world.handle(victim, MessageReceived(liar.node.descriptor, offer))
    world.run(1.0)
    held = [len(p.node.rounds._rounds) for p in world.peers if p.node is not None]
    assert sum(held) > 6 * MAX_ROUNDS_AT_ONCE
    before = len(published(world))
    world.run(60.0)
    assert len(published(world)) > before + 20


# --- who gets the model -------------------------------------------------------------------------------------------


def test_peers_outside_every_tree_get_the_model_too() -> None:
    world, task = World(14, "outside"), make_task(steps=6, cohort=5)
    begin(world, task)
    assert world.run(60.0, all_at(world, task, 6))
    assert max(r.cohort for r in published(world)) == 5
    check_all(world, task, "outside")


def test_a_peer_that_refuses_the_task_is_asked_for_nothing_and_gets_no_model() -> None:
    world, task = World(6, "refuses"), make_task(steps=4)
    unwilling = world.peers[3]
    unwilling.application.refusal = "the user does not agree"
    begin(world, task)
    willing = [peer for peer in world.peers if peer is not unwilling]
    assert world.run(60.0, lambda: all(newest_age(p, task) == 4 for p in willing))
    world.run(20.0)
    assert newest_age(unwilling, task) == -1
    assert not unwilling.disk.checkpoints
    assert not any(isinstance(x, m.ModelRequest) and sender == unwilling.id for _, sender, _, x in world.sent)
    assert not any(isinstance(x, m.Parameters | m.ModelReply) and to == unwilling.id for _, _, to, x in world.sent)
    assert not any(record.peer == unwilling.id for record in world.records)
    assert max(r.cohort for r in published(world)) < 6


def test_a_peer_without_records_has_the_model_too() -> None:
    world, task = World(6, "none"), make_task(steps=4)
    world.peers[2].application.fresh = Freshness.NONE
    begin(world, task)
    assert world.run(60.0, all_at(world, task, 4))
    assert not any(record.peer == world.peers[2].id for record in world.records)


def test_a_peer_without_records_does_not_stand_in_the_way_where_all_others_are_needed() -> None:
    """Five of six can contribute, and K is five; a tree of six needs a sixth for a leaf.  Retries plan smaller ones."""
    world = World(6, "in the way")
    task = make_task(steps=3, collusion_threshold=3, minimum_cohort=5, branching=2)
    world.peers[1].application.fresh = Freshness.NONE
    begin(world, task)
    assert world.run(60.0, all_at(world, task, 3))
    check_all(world, task, "in the way")


def test_who_comes_late_gets_task_and_model() -> None:
    world, task = World(6, "late comer"), make_task(steps=5)
    for peer in world.peers[:5]:
        world.start(peer)
    world.introduce(world.peers[0], task)
    assert world.run(60.0, all_at(world, task, 5))
    world.start(world.peers[5])
    assert world.run(15.0, lambda: newest_age(world.peers[5], task) == 5)


# --- who is asked to be a root --------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["gate", "refusal", "no records"])
def test_who_introduces_a_task_it_cannot_contribute_to_passes_the_walk_on(why: str) -> None:
    world, task = World(6, f"introduces {why}"), make_task(steps=4)
    first = world.peers[0]
    match why:
        case "gate":
            first.application.closed = "on battery"
        case "refusal":
            first.application.refusal = "the user does not agree"
        case _:
            first.application.fresh = Freshness.NONE
    begin(world, task)
    assert world.run(60.0, lambda: all(newest_age(p, task) == 4 for p in world.peers[why == "refusal" :]))
    assert not any(record.peer == first.id for record in world.records), "it contributed all the same"
    assert bool(first.disk.checkpoints) is (why != "refusal")
    check_all(world, task, why)


def test_a_gate_that_closes_while_a_walk_stands_here_passes_it_on() -> None:
    """The next round starts elsewhere."""
    world, task = World(5, "gate closes"), make_task(steps=8)
    begin(world, task)
    root = running_root(world, task)
    root.application.closed = "on battery"
    inside = {record.round for record in world.records if record.peer == root.id}
    assert world.run(60.0, all_at(world, task, 8))
    later = {r.round for r in world.records if r.peer == root.id and r.contributed} - inside
    assert len(later) <= 1  # the round under way


# --- waiting ------------------------------------------------------------------------------------------------------


def test_fewer_than_k_wait_and_say_for_how_many() -> None:
    world, task = World(4, "waiting"), make_task(steps=3)
    for peer in world.peers[:2]:
        world.start(peer)
    world.introduce(world.peers[0], task)
    world.run(10.0)
    waiting = [r.missing for _, _, r in world.reports if isinstance(r, reports.Waiting)]
    assert waiting[0] == 3 - (waiting[0] == 2)  # it may not have met the other yet
    assert waiting[-1] == 2
    assert not ended(world)
    assert world.most_events_in_a_second() < 100
    for peer in world.peers[2:]:
        world.start(peer)
    assert world.run(60.0, all_at(world, task, 3))


# --- walks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_lost_walk_is_revived_and_does_not_multiply(seed: int) -> None:
    world, task = World(8, f"revival {seed}"), make_task(steps=40)
    begin(world, task)
    world.kill(running_root(world, task))
    assert world.run(120.0, all_at(world, task, 40))
    assert any(r.revived for _, _, r in world.reports if isinstance(r, reports.WalkStarted))
    extra = len(published(world)) - 40
    assert extra <= 10, f"seed {seed}: {extra} rounds beyond the task's steps: a walk has multiplied"


def test_the_time_to_a_revival_does_not_grow_with_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody draws a waiting time of mean size x time-out: together they revive at one per time-out.

    So it is where nobody is left who knows who held the walk.
    """
    monkeypatch.setattr(Walks, "_look_after", lambda *_: None)
    for size in (5, 16):
        delays = []
        for seed in range(6):
            world, task = World(size, f"rate {size} {seed}", recording=False), make_task(steps=500, cohort=5)
            begin(world, task)
            world.kill(running_root(world, task))
            lost = world.now
            world.run(90.0, lambda world=world: bool(revivals(world)))
            delays.append(revivals(world)[0] - lost)
        timeout = world.settings.revive_timeout_s
        assert min(delays) >= timeout * 0.9
        assert sum(delays) / len(delays) <= 4 * timeout, f"{size} peers: {delays}"


def test_those_who_know_of_a_failed_root_revive_its_walk_before_anybody_misses_it() -> None:
    delays = []
    for seed in range(6):
        world = World(16, f"known {seed}", settings=WAN, recording=False)
        task = make_task(steps=500, cohort=5)
        begin(world, task)
        world.kill(running_root(world, task))
        lost = world.now
        world.run(600.0, lambda world=world: bool(revivals(world)))
        delays.append(revivals(world)[0] - lost)
        age = max(newest_age(p, task) for p in world.peers if p.node is not None)
        assert world.run(60.0, all_at(world, task, age + 5))
    assert sum(delays) / len(delays) <= WAN.revive_timeout_s / 2, delays


def revivals(world: World) -> list[float]:
    return [when for when, _, r in world.reports if isinstance(r, reports.WalkStarted) and r.revived]


def test_a_member_that_says_of_everybody_that_they_have_left_holds_nobody_up() -> None:
    made = []
    for lies in (False, True):
        world, task = World(9, "rumours", recording=False), make_task(steps=100_000)
        begin(world, task)
        liar = world.peers[0]

        def lie(world: World = world, liar: Peer = liar) -> None:
            assert liar.node is not None
            nodes = [p.node for p in world.peers if p.node is not None]
            said = tuple(m.Rumour(n.peer, n.descriptor.incarnation, Liveness.LEFT) for n in nodes)
            for peer in world.peers[1:]:
                rumours = tuple(rumour for rumour in said if rumour.peer != peer.id)
                event = MessageReceived(liar.node.descriptor, m.Gossip(1, (), rumours, (), ()))
                world.handle(peer, event)
            world.at(world.now + 0.25, lie)

        world.run(5.0)  # they have heard of one another
        if lies:
            lie()
        before = len(published(world))
        world.run(10.0)
        made.append(len(published(world)) - before)
    assert made[1] >= 0.9 * made[0] > 0


@pytest.mark.parametrize("said", ["heads", "offers"])
def test_models_that_nobody_has_stop_no_walk_and_keep_none_from_being_revived(said: str) -> None:
    made = []
    for lies in (False, True):
        world, task = World(9, "models", recording=False), make_task(steps=100_000)
        begin(world, task)
        liar, count = world.peers[8], 0

        def lie(world: World = world, liar: Peer = liar, task: Task = task) -> None:
            nonlocal count
            for peer in world.peers[:8]:
                assert liar.node is not None
                none, last, lineage, count = Digest(bytes(32)), task.last_age, Lineage(b"\xff" * 8), count + 1
                round_id = RoundId(count.to_bytes(16, "big"))
                signature = sign_hop(liar.keyring.signing, liar.node.network, round_id, task.id, 3, 1, peer.id)
                message: m.Message = m.Offer(
                    round_id, task.id, 1, last - 1, none, 3, 4, 2, 1, 1, 4, 8.0, 0, 9, 0, lineage,
                    (m.Ancestor(liar.node.descriptor.raw, signature),),
                )  # fmt: skip
                if said == "heads":
                    message = m.Gossip(1, (), (), (m.Head(task.id, last, none, 0, lineage, 0.0),), ())
                world.handle(peer, MessageReceived(liar.node.descriptor, message))
            world.at(world.now + 2.0, lie)

        world.run(2.0)
        world.kill(world.peers[7])
        if lies:
            lie()
        before = len(published(world))
        world.run(10.0)
        made.append(len(published(world)) - before)
        world.kill(running_root(world, task))
        assert world.run(60.0, lambda world=world: bool(revivals(world)))
    assert made[1] >= 0.8 * made[0] > 0


def test_two_walks_of_one_index_become_one() -> None:
    """For a while every hand-over reaches two peers, as if its acknowledgement had been lost at once."""
    draw = SeededEntropy("copies")
    world = World(7, "copies", fate=lambda *_: 0.004 + 0.004 * draw.uniform(), work_delay=0.01)
    task = make_task(steps=400)
    doubling = True

    def double(peer: Peer, effect: Effect) -> None:
        if doubling and isinstance(effect, Send) and isinstance(effect.message, m.Walk) and peer.node is not None:
            walk, other = effect.message, next(p for p in world.peers if p.id not in (peer.id, effect.to.peer))
            copy = m.Walk(walk.nonce + 1, walk.walk, walk.lineage, walk.retry, walk.checkpoint)
            event = MessageReceived(peer.node.descriptor, copy)
            world.at(world.now + 0.005, lambda: world.handle(other, event))

    world.on_effect = double
    begin(world, task)

    def copies() -> int:
        """Peers where the walk stands or its round is under way, seen a few times."""
        counts = []
        for _ in range(20):
            world.run(0.21)
            counts.append(sum(bool(p.node and (p.node.rounds.running(task.id) or held(p, task))) for p in world.peers))
        return max(counts)

    assert copies() > 1, "the test tests nothing"
    doubling = False
    world.run(5.0)
    assert copies() <= 1
    before, start = len(published(world)), newest_age(world.peers[0], task)
    world.run(8.0)
    made, progress = len(published(world)) - before, newest_age(world.peers[0], task) - start
    assert made <= progress * 1.2 + 3, f"{made} rounds for {progress} steps"


def held(peer: Peer, task: Task) -> bool:
    entry = peer.node.tasks.get(task.id) if peer.node is not None else None
    return entry is not None and bool(entry.walks._held)


def test_several_walks_stay_about_as_many() -> None:
    world, task = World(9, "walks"), make_task(steps=30, walks=3)
    begin(world, task)
    most = 0

    def count(peer: Peer, effect: Effect) -> None:
        nonlocal most
        most = max(most, sum(len([r for r in p.node.rounds._rounds.values() if not r.parent]) for p in running()))

    def running() -> list[Peer]:
        return [p for p in world.peers if p.node is not None]

    world.on_effect = count
    assert world.run(120.0, all_at(world, task, 30))
    assert {r.walk for r in published(world)} == {0, 1, 2}
    assert most <= 4
    check_all(world, task, "walks")


# --- one record ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_one_record_answers_a_model_once_and_training_goes_on(seed: int) -> None:
    world, task = World(6, f"single {seed}", fate=lossy(0.03, f"single {seed}")), make_task(steps=6, walks=1 + seed % 2)
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    begin(world, task)
    assert world.run(300.0, lambda: max(newest_age(p, task) for p in world.peers) == 6), f"seed {seed} stands still"
    check_all(world, task, f"single {seed}")


def test_one_record_answers_a_model_once_after_restarts_too() -> None:
    world, task = World(6, "single restarts"), make_task(steps=6)
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    deaths = 4

    def die(peer: Peer, effect: Effect) -> None:
        nonlocal deaths
        if deaths and isinstance(effect, Send) and isinstance(effect.message, m.Partial) and len(world.records) > 7:
            deaths -= 1
            world.kill(peer)
            world.at(world.now + 0.3, lambda: world.start(peer))

    world.on_effect = die
    begin(world, task)
    assert world.run(300.0, all_at(world, task, 6))
    assert deaths == 0
    check_all(world, task, "single restarts")


# --- leaving ------------------------------------------------------------------------------------------------------


def test_leaving_hands_the_walk_over() -> None:
    world, task = World(7, "leaving"), make_task(steps=25)
    begin(world, task)
    root = running_root(world, task)
    world.handle(root, Stopping())
    world.run(0.3)
    assert root.node is not None
    assert root.node.idle
    world.kill(root)
    assert world.run(60.0, all_at(world, task, 25))
    assert not revivals(world)
    check_all(world, task, "leaving")


def test_who_leaves_and_finds_nobody_to_take_the_walk_does_not_spin() -> None:
    cut = False

    def fate(world: World, sender: bytes, to: bytes, message: m.Message) -> float | None:
        return None if cut else 0.004

    world, task = World(5, "leaves alone", fate=fate), make_task(steps=25)
    begin(world, task)
    root = running_root(world, task)
    cut = True
    world.handle(root, Stopping())
    world.run(15.0)
    assert world.most_events_in_a_second() < 2000
    assert root.node is not None
    assert root.node.idle, "it would be waited for"


def test_leaving_amid_a_round_costs_that_round_no_time() -> None:
    """Whoever leaves says so: its parent does not wait for the deadline."""
    world, task = World(7, "leaves amid", work_delay=0.05), make_task(steps=12)
    begin(world, task)
    root = running_root(world, task)

    def inside() -> list[Peer]:
        return [p for p in world.peers if p is not root and p.node is not None and not p.node.rounds.idle]

    assert world.run(5.0, lambda: bool(inside()))
    leaver = inside()[0]
    world.handle(leaver, Stopping())
    world.run(3.0)
    assert max(r.finished - r.started for r in ended(world)) < 2.5
