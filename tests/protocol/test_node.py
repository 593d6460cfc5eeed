"""The node as a whole: what reaches which machine, what is refused without a trace, time, restarts, leaving."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.aggregation.lineage import sign_hop
from protocol.aggregation.phases import AbstainReason, DeclineReason
from protocol.aggregation.shape import RING
from protocol.aggregation.uses import binding
from protocol.application import Freshness
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import Lineage, RoundId, TaskId
from protocol.base.limits import KEM_EPOCH_S, KEM_KEEP_S, MAX_ROUNDS_AT_ONCE, MAX_TASKS
from protocol.base.settings import LAN
from protocol.effects import DropTask, Effect, PersistIdentity, Report, SaveCheckpoint, SaveTask, Send, Work
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
from protocol.identity.descriptor import Descriptor
from protocol.membership import Liveness
from protocol.node import Node
from protocol.surroundings import Restored
from protocol.training import catalogue
from protocol.training.catalogue import MAX_FOREIGN_TASKS, signed_bytes
from protocol.training.state import digest, initial_state
from protocol.training.task import SignedTask, Task
from protocol.wire import messages as m
from tests.protocol.checks import newest_age
from tests.protocol.world import START, World, make_task

NOW = START
TASK = make_task()


class Desk:
    """One node, everybody else by hand."""

    def __init__(self, size: int = 5, known: bool = True) -> None:
        self.world = World(size, "node")
        for peer in self.world.peers[1:]:
            self.world.start(peer)
        self.others = [p.node.descriptor for p in self.world.peers[1:] if p.node is not None]
        self.start(Restored())
        if known:
            for descriptor in self.others:
                self.do(PeerFound(descriptor))

    def start(self, restored: Restored, now: float = NOW) -> list[Effect]:
        self.node = Node(self.world.peers[0].surroundings, ("10.0.0.1:1",), restored, now)
        return self.do(TimePassed(), now)

    def do(self, event: Event, now: float = NOW) -> list[Effect]:
        return self.node.handle(event, now)

    def hear(self, message: m.Message, now: float = NOW, sender: int = 0) -> list[Effect]:
        return self.do(MessageReceived(self.others[sender], message), now)

    def work(self, effects: list[Effect], now: float = NOW) -> list[Effect]:
        """Everything but work, which is carried out, and what follows from it."""
        out, queue = [], list(effects)
        while queue:
            effect = queue.pop(0)
            if isinstance(effect, Work):
                try:
                    queue += self.do(WorkDone(effect.purpose, effect.job.run()), now)
                except Refused as error:
                    queue += self.do(WorkFailed(effect.purpose, error), now)
            else:
                out.append(effect)
        return out

    def end_rounds(self) -> None:
        """Every round under way ends with nothing published; what follows, follows from the next event."""
        for state in list(self.node.rounds._rounds.values()):
            self.node.rounds._end(state, AbstainReason.COHORT_TOO_SMALL, NOW)

    def offer(self, age: int, depth: int = 1, **changes: Any) -> m.Offer:
        """Of ``others[0]``, for a round from ``checkpoint(age)``; its root, if it is none, is ``others[1]``."""
        round_id, lower, above = RoundId(bytes(16)), self.node.peer, []
        for index in range(depth):
            upper = self.world.peers[1 + index]
            key, descriptor = upper.keyring.signing, self.others[index]
            signature = sign_hop(key, self.node.network, round_id, TASK.id, 3, depth - index, lower)
            above.append(m.Ancestor(descriptor.raw, signature))
            lower = descriptor.peer
        offer = m.Offer(
            round_id, TASK.id, 1, age, digest(checkpoint(age)), 3, 4, 2, depth, 3, 4, 8.0, 0, RING, 0,
            Lineage(b"r" * 8), tuple(above), checkpoint(age).state,
        )  # fmt: skip
        return replace(offer, **changes)

    def signed(self, task: Task) -> SignedTask:
        key = self.world.peers[0].keyring.signing
        return SignedTask(task, key.public_bytes, key.sign(signed_bytes(task.encode())))

    def introduce(self, task: Task = TASK) -> list[Effect]:
        state = initial_state(task, np.zeros(task.dimension, np.float32))
        return self.work(self.do(TaskIntroduced(self.signed(task), state)))


def said(effects: list[Effect], kind: type | None = None) -> list[Any]:
    messages = [e.message for e in effects if isinstance(e, Send)]
    return [x for x in messages if kind is None or isinstance(x, kind)]


def told(effects: list[Effect], kind: type) -> list[Any]:
    return [e.item for e in effects if isinstance(e, Report) and isinstance(e.item, kind)]


def checkpoint(age: int, task: Task = TASK) -> m.Checkpoint:
    return m.Checkpoint(task.id, age, initial_state(task, np.full(3, 0.5, np.float32)))


def walk(age: int, **changes: Any) -> m.Walk:
    return replace(m.Walk(7, 0, Lineage(b"w" * 8), False, checkpoint(age)), **changes)


def gossip(*heads: m.Head, tasks: tuple[TaskId, ...] = ()) -> m.Gossip:
    return m.Gossip(1, (), (), heads, tasks)


def head(age: int, walk: int = 0) -> m.Head:
    return m.Head(TASK.id, age, digest(checkpoint(age)), walk, Lineage(b"w" * 8), 0.0)


# --- tasks and their first round ----------------------------------------------------------------------------------


def test_an_introduced_task_is_kept_and_its_first_round_begins() -> None:
    desk = Desk()
    effects = desk.introduce()
    assert isinstance(effects[0], SaveTask)
    assert told(effects, reports.WalkStarted)
    assert any(isinstance(e, SaveCheckpoint) for e in effects)
    (offer,) = said(effects, m.Offer)
    assert (offer.task, offer.age, offer.depth) == (TASK.id, 0, 1)


def test_a_task_is_introduced_once() -> None:
    desk = Desk()
    desk.introduce()
    again = desk.introduce()
    assert not told(again, reports.WalkStarted)
    assert not said(again, m.Offer)
    desk = Desk()
    desk.hear(m.GossipReply(1, (), (), (), (TASK.id,)))  # it comes by gossip first, and its walk is elsewhere
    reply = m.TaskReply(TASK.encode(), desk.signed(TASK).submitter_key, desk.signed(TASK).signature)
    assert told(desk.hear(reply), reports.TaskAdopted)
    assert told(desk.introduce(), reports.WalkStarted)


def test_waiting_is_told_and_tried_again_each_period() -> None:
    desk = Desk(size=3)
    effects = desk.introduce()
    assert told(effects, reports.Waiting) == [reports.Waiting(TASK.id, 1)]
    assert not said(effects, m.Offer)
    when, why = min(desk.node.next_deadline(NOW), (NOW + 1, ""))
    assert when > NOW or "gossip" in why
    later = desk.do(TimePassed(), NOW + 1)
    assert told(later, reports.Waiting) == [reports.Waiting(TASK.id, 1)]


# --- what is refused ----------------------------------------------------------------------------------------------


REFUSED: dict[str, Any] = {
    "task": m.TaskReply(TASK.encode(), bytes(32), bytes(64)),
    "model_reply": m.ModelReply(checkpoint(3)),
    "accept": m.Accept(RoundId(bytes(16)), False),
    "decline": m.Decline(RoundId(bytes(16)), 0),
    "abstain": m.Abstain(RoundId(bytes(16)), 0),
    "parameters": m.Parameters(RoundId(bytes(16)), checkpoint(3)),
    "partial": m.Partial(RoundId(bytes(16)), 1, 3, (), bytes(24)),
    "a head beyond the last age": gossip(head(5), head(21)),
    "a head of another walk": gossip(head(5, walk=1)),
    "a walk beyond the last age": walk(21),
    "a walk of another index": walk(3, walk=1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_message_leaves_nothing_but_its_count(name: str) -> None:
    desk = Desk()
    desk.introduce()
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    before = (dict(entry.walks._traces), entry.walks.newest, entry.asked, desk.node.rounds._taken.copy())
    effects = desk.hear(REFUSED[name], NOW + 0.01)
    (refused,) = told(effects, reports.MessageRefused)
    assert refused.sender == desk.others[0].peer
    assert refused.reason in (Refusal.NOT_EXPECTED, Refusal.MALFORMED)
    assert said(effects) == []
    after = (dict(entry.walks._traces), entry.walks.newest, entry.asked, desk.node.rounds._taken.copy())
    assert after == before


def test_an_offer_outside_its_task() -> None:
    desk = Desk()
    desk.introduce()
    offer = m.Offer(
        RoundId(bytes(16)), TASK.id, 1, 20, bytes(32), 3, 4, 2, 1, 1, 4, 8.0, 0, 9, 0, Lineage(bytes(8)), ()  # type: ignore[arg-type]
    )  # fmt: skip
    assert told(desk.hear(offer), reports.MessageRefused)[0].reason is Refusal.MALFORMED
    assert told(desk.hear(replace(offer, age=3, walk=1)), reports.MessageRefused)[0].reason is Refusal.MALFORMED


@pytest.mark.parametrize("flaw", ["ancestors", "model", "none"])
def test_what_an_offer_says_of_a_walk_is_known_once_its_ancestors_are_checked_and_its_model_is_here(flaw: str) -> None:
    desk = Desk()
    desk.introduce()
    desk.end_rounds()
    desk.do(TimePassed())
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    trace = entry.walks._traces[0]
    before = replace(trace)
    changes = {"ancestors": {"ancestors": ()}, "model": {"digest": digest(checkpoint(6))}, "none": {}}[flaw]
    effects = desk.hear(desk.offer(5, **changes))
    assert bool(said(effects, m.Accept)) is (flaw != "ancestors")
    assert trace == before
    desk.work(effects)
    if flaw == "none":
        assert (trace.age, trace.lineage, trace.begun) == (5, Lineage(b"r" * 8), (5, Lineage(b"r" * 8)))
    else:
        assert trace == before


def test_an_offer_of_a_model_that_is_here_already_is_known_to_be_true() -> None:
    desk = Desk()
    desk.introduce()
    desk.end_rounds()
    desk.work(desk.hear(desk.offer(5)))
    desk.end_rounds()
    lineage = Lineage(b"s" * 8)
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    desk.node.rounds._taken.clear()
    effects = desk.hear(desk.offer(5, lineage=lineage, state=b""))
    assert [accept.need_state for accept in said(effects, m.Accept)] == [False]
    assert entry.walks._traces[0].begun == (5, lineage)


def test_an_unknown_task_is_declined_and_asked_for() -> None:
    desk = Desk()
    offer = m.Offer(
        RoundId(bytes(16)), TASK.id, 1, 0, bytes(32), 3, 4, 2, 1, 1, 4, 8.0, 0, 9, 0, Lineage(bytes(8)), ()  # type: ignore[arg-type]
    )  # fmt: skip
    assert said(desk.hear(offer)) == [m.Decline(offer.round, DeclineReason.UNKNOWN_TASK), m.TaskRequest((TASK.id,))]
    desk = Desk()
    assert said(desk.hear(walk(3))) == [m.WalkAck(7, False), m.TaskRequest((TASK.id,))]


def test_too_many_tasks_of_ones_own_are_refused_like_anybodys() -> None:
    desk = Desk()
    for i in range(MAX_TASKS):
        desk.introduce(make_task(initial_seed=i))
    refused = reports.MessageRefused(
        desk.node.peer, "introduced task", Refusal.BUSY, "64 tasks are held, and no peer holds more"
    )
    assert desk.introduce(make_task(initial_seed=MAX_TASKS)) == [Report(refused)]
    assert len(desk.node.tasks.entries()) == MAX_TASKS


# --- walks --------------------------------------------------------------------------------------------------------


def test_a_walk_is_taken_up_and_its_round_begins() -> None:
    desk = Desk()
    desk.introduce()
    desk.end_rounds()
    effects = desk.work(desk.hear(walk(3, lineage=Lineage(b"z" * 8))))
    assert said(effects, m.WalkAck) == [m.WalkAck(7, True)]
    assert {o.age for o in said(effects, m.Offer)} == {3}
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    assert entry.walks.newest is not None
    assert entry.walks.newest.checkpoint.age == 3


@pytest.mark.parametrize("why", ["gate", "refusal", "stopping", "another task's record"])
def test_a_walk_is_not_taken_up_by_who_cannot_be_its_root(why: str) -> None:
    desk = Desk()
    application = desk.world.peers[0].application
    if why == "refusal":
        application.refusal = "no"
    desk.introduce()
    if why == "gate":
        application.closed = "on battery"
    if why == "stopping":
        desk.do(Stopping())
    if why == "another task's record":
        application.fresh = Freshness.DETERMINISTIC
        desk.node.rounds._uses.update(binding(make_task(name="another")))
    assert said(desk.hear(walk(3)), m.WalkAck) == [m.WalkAck(7, False)]


def test_who_has_a_record_that_serves_another_task_passes_the_walk_on_without_haste() -> None:
    desk = Desk()
    desk.world.peers[0].application.fresh = Freshness.DETERMINISTIC
    desk.node.rounds._uses.update(binding(make_task(name="another")))
    effects = desk.introduce()
    assert not said(effects, m.Offer)
    tried = []
    while sends := [e for e in effects if isinstance(e, Send) and isinstance(e.message, m.Walk)]:
        (send,) = sends
        tried.append(send.to)
        assert isinstance(send.message, m.Walk)
        effects = desk.hear(m.WalkAck(send.message.nonce, False), sender=desk.others.index(send.to))
    assert sorted(d.peer for d in tried) == sorted(d.peer for d in desk.others)
    assert not said(desk.do(TimePassed()), m.Walk)
    assert said(desk.do(TimePassed(), NOW + LAN.retry_pause_s), m.Walk)


def test_a_retry_that_is_passed_on_stays_one() -> None:
    """Else whoever took part in the round that died would hold it for a stale copy."""
    desk = Desk()
    application = desk.world.peers[0].application
    desk.introduce()
    desk.end_rounds()
    desk.work(desk.hear(walk(3, retry=True)))
    application.fresh = Freshness.DETERMINISTIC
    desk.node.rounds._uses.update(binding(make_task(name="another")))
    passed = said(desk.do(TimePassed(), NOW + LAN.retry_pause_s), m.Walk)
    assert [message.retry for message in passed if message.checkpoint.age == 3] == [True]


@pytest.mark.parametrize(("depth", "known"), [(1, True), (2, False)])
def test_a_root_that_falls_silent_is_looked_after_by_those_whom_it_invited(depth: int, known: bool) -> None:
    """Its silence to them is enough, long before the walk counts as lost."""
    desk = Desk()
    desk.introduce()
    desk.end_rounds()
    (root, *others), now, asked = desk.others, NOW, []

    def pass_time(silent: tuple[Descriptor, ...]) -> None:
        for effect in desk.work(desk.do(TimePassed(), now), now):
            if not isinstance(effect, Send):
                continue
            answer: m.Message | None = None
            match effect.message:
                case m.Gossip(nonce=nonce):
                    answer = m.GossipReply(nonce, (), (), (), ())
                case m.Walk(nonce=nonce):
                    answer = m.WalkAck(nonce, True)
                case _:
                    pass
            if effect.to in silent:
                asked.append(now)
            elif answer is not None:
                desk.hear(answer, now, desk.others.index(effect.to))

    pass_time(())
    pass_time(())
    desk.work(desk.hear(desk.offer(3, depth)))
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    orphaned = False
    while (now := max(now, desk.node.next_deadline(now)[0])) < NOW + LAN.revive_timeout_s:
        pass_time((root,))
        orphaned |= entry.walks._traces[0].orphaned
    assert orphaned is known
    assert not known or asked[0] <= NOW + LAN.walk_ack_timeout_s
    assert {desk.node.membership.state_of(d.peer) for d in others} == {Liveness.ALIVE}


def test_a_model_that_is_none_is_refused_and_asked_for_again() -> None:
    desk = Desk()
    desk.introduce()
    effects = desk.hear(gossip(head(5)), NOW + 10)
    assert said(effects, m.ModelRequest) == [m.ModelRequest(TASK.id, 1)]
    short = m.Checkpoint(TASK.id, 5, bytes(8))
    refused = told(desk.work(desk.hear(m.ModelReply(short), NOW + 10), NOW + 10), reports.MessageRefused)
    assert refused[0].reason is Refusal.WRONG_LENGTH
    assert said(desk.hear(gossip(head(5)), NOW + 20, sender=1), m.ModelRequest)


def test_a_hand_over_that_fails_goes_to_another() -> None:
    desk = Desk()
    desk.introduce()
    desk.end_rounds()
    effects = desk.do(TimePassed(), NOW + 0.001)
    (first,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, m.Walk)]
    again = desk.do(SendFailed(first.to.peer, first.message), NOW + 0.002)
    (second,) = [e for e in again if isinstance(e, Send) and isinstance(e.message, m.Walk)]
    assert second.to.peer != first.to.peer
    assert second.message.checkpoint == first.message.checkpoint


# --- time ---------------------------------------------------------------------------------------------------------


def test_a_node_left_alone_asks_for_no_time_that_has_passed() -> None:
    """Following its own deadlines for an hour, it is called a bounded number of times."""
    desk = Desk()
    desk.introduce()
    now, calls = NOW, 0
    while now < NOW + 3600:
        when, why = desk.node.next_deadline(now)
        now = max(now + 1e-4, when)
        desk.work(desk.do(TimePassed(), now), now)
        calls += 1
        assert calls < 40_000, why


def test_the_descriptor_is_renewed_at_half_its_life_and_the_key_each_epoch() -> None:
    desk = Desk()
    first, half = desk.node.descriptor, desk.world.settings.descriptor_lifetime_s / 2
    desk.do(TimePassed(), NOW + half - 1)
    assert desk.node.descriptor is first
    desk.do(TimePassed(), NOW + half)
    second = desk.node.descriptor
    assert second.expires > first.expires
    assert second.kem_epoch == first.kem_epoch
    assert second.incarnation == first.incarnation
    desk.do(TimePassed(), NOW + KEM_EPOCH_S)
    assert desk.node.descriptor.kem_epoch > first.kem_epoch


@pytest.mark.parametrize("stopping", [False, True])
def test_a_replaced_key_is_dropped_when_its_time_is_over_and_not_at_the_next_signature(stopping: bool) -> None:
    desk, replaced = Desk(known=False), NOW + KEM_EPOCH_S
    ring, first = desk.world.peers[0].keyring, desk.node.descriptor.kem_epoch
    desk.do(TimePassed(), replaced)
    if stopping:
        desk.do(Stopping(), replaced)
    now = replaced
    while now < replaced + KEM_KEEP_S:
        assert ring.find(first) is not None
        now = max(now + 1e-4, desk.node.next_deadline(now)[0])
        desk.do(TimePassed(), now)
    assert now == replaced + KEM_KEEP_S
    assert ring.find(first) is None


def test_new_addresses_and_refuted_rumours_raise_the_incarnation() -> None:
    desk = Desk()
    desk.do(AddressesChanged(("10.9.9.9:9",)))
    assert desk.node.descriptor.addresses == ("10.9.9.9:9",)
    assert desk.node.descriptor.incarnation == 2
    rumour = m.Rumour(desk.node.peer, 2, 1)
    desk.hear(m.Gossip(1, (), (rumour,), (), ()))
    assert desk.node.descriptor.incarnation == 3
    assert desk.node.membership.incarnation == 3


def test_a_flood_of_walks_starts_no_more_rounds_than_a_peer_takes_part_in() -> None:
    world, task = World(6, "flood"), make_task(steps=500)
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(10.0, lambda: newest_age(world.peers[1], task) > 0)
    victim, flooder = world.peers[1], world.peers[5]
    assert victim.node is not None
    assert flooder.node is not None
    most = 0
    for i in range(100):
        flood = m.Walk(i, 0, Lineage(b"\xff" * 8), False, checkpoint(100 + i, task))
        world.handle(victim, MessageReceived(flooder.node.descriptor, flood))
        world.run(0.002)
        most = max(most, len(victim.node.rounds._rounds))
    assert most == MAX_ROUNDS_AT_ONCE
    assert world.most_events_in_a_second() < 2000


def test_what_a_descriptor_says_is_durable_whenever_it_grows() -> None:
    desk = Desk()

    def kept(effects: list[Effect]) -> list[PersistIdentity]:
        return [e for e in effects if isinstance(e, PersistIdentity)]

    epoch = desk.node.descriptor.kem_epoch
    refuted = desk.hear(m.Gossip(1, (), (m.Rumour(desk.node.peer, 7, 2),), (), ()))
    assert kept(refuted) == [PersistIdentity(8, epoch)]
    assert kept(desk.do(AddressesChanged(("10.9.9.9:9",)))) == [PersistIdentity(9, epoch)]
    renewed = kept(desk.do(TimePassed(), NOW + KEM_EPOCH_S))
    assert renewed == [PersistIdentity(9, desk.node.descriptor.kem_epoch)]
    assert renewed[0].kem_epoch > epoch


@pytest.mark.parametrize("incarnation", [2**62 - 1, 2**62, 2**63 - 1])
def test_no_lie_keeps_a_peer_from_being_believed_alive_again(incarnation: int) -> None:
    """However far ahead it is: the peer is cut off, is taken for dead, comes back, and refutes."""
    cut: set[Any] = set()
    world = World(6, "far ahead", fate=lambda w, a, b, message: None if (a in cut) != (b in cut) else 0.01)
    world.start_all()
    world.run(10.0)
    victim, liar = world.peers[:2]
    assert victim.node is not None
    assert liar.node is not None

    def believed() -> list[Liveness | None]:
        return [p.node.membership.state_of(victim.id) for p in world.peers[1:] if p.node is not None]

    rumour = m.Rumour(victim.id, incarnation, 2)
    for peer in world.peers:
        world.handle(peer, MessageReceived(liar.node.descriptor, m.Gossip(1, (), (rumour,), (), ())))
    assert victim.node.descriptor.incarnation == 1
    cut.add(victim.id)
    assert world.run(15.0, lambda: set(believed()) == {Liveness.DEAD})
    cut.clear()
    assert world.run(30.0, lambda: set(believed()) == {Liveness.ALIVE})


def test_a_peer_that_was_driven_far_up_is_found_again_after_a_restart() -> None:
    """Its tombstones hold the incarnation that it had: without having kept it, it could never rise above them."""
    world = World(4, "driven up")
    world.start_all()
    victim, liar = world.peers[0], world.peers[1]
    assert victim.node is not None
    assert liar.node is not None
    rumour = m.Rumour(victim.id, int(world.now), 2)
    world.handle(victim, MessageReceived(liar.node.descriptor, m.Gossip(1, (), (rumour,), (), ())))
    assert victim.node.descriptor.incarnation == int(world.now) + 1
    world.run(5.0)
    world.kill(victim)
    world.run(20.0)
    world.start(victim)
    for other in world.peers[1:]:
        assert other.node is not None
        assert other.node.membership.state_of(victim.id) is not Liveness.ALIVE
        world.handle(victim, PeerFound(other.node.descriptor))
    world.run(10.0)
    for other in world.peers[1:]:
        assert other.node is not None
        assert other.node.membership.state_of(victim.id) is Liveness.ALIVE


# --- restarts and leaving -----------------------------------------------------------------------------------------


def test_a_user_who_has_come_to_refuse_all_that_is_stored_can_still_start() -> None:
    desk = Desk()
    stored = tuple(desk.signed(make_task(initial_seed=i)) for i in range(MAX_TASKS))
    desk.world.peers[0].application.refusal = "no more"
    desk.start(Restored(4, stored))
    assert len(desk.node.tasks.entries()) == MAX_FOREIGN_TASKS


def test_what_was_restored_is_there_and_what_was_under_way_is_not() -> None:
    desk = Desk()
    round_id = RoundId(b"r" * 16)
    restored = Restored(
        4, (desk.signed(TASK),), (checkpoint(7),), {round_id: NOW + 60}, frozenset(), tuple(desk.others)
    )
    effects = desk.work(desk.start(restored))
    assert not any(isinstance(e, SaveTask) for e in effects)
    assert desk.node.descriptor.incarnation == 4
    assert len(desk.node.membership.alive()) == 4
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    assert entry.walks.newest is not None
    assert entry.walks.newest.checkpoint.age == 7
    assert not entry.walks.busy
    assert desk.node.rounds._taken == {round_id: NOW + 60}


def held_age(desk: Desk) -> int:
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    assert entry.walks.newest is not None
    return entry.walks.newest.checkpoint.age


def introduced_while_restoring(desk: Desk, kept: m.Checkpoint) -> list[Effect]:
    """A restart of a peer with a kept model and ``--task``: nothing is worked on before the task is introduced."""
    restoring = desk.start(Restored(4, (desk.signed(TASK),), (kept,), descriptors=tuple(desk.others)))
    state = initial_state(TASK, np.zeros(TASK.dimension, np.float32))
    introducing = desk.do(TaskIntroduced(desk.signed(TASK), state))
    # the larger of two models may be hashed last, in whatever order they were begun
    return desk.work([*introducing, *restoring])


def test_nothing_is_introduced_while_a_kept_model_is_being_checked() -> None:
    desk = Desk()
    effects = introduced_while_restoring(desk, checkpoint(7))
    assert not told(effects, reports.WalkStarted)
    assert not said(effects, m.Offer)
    assert held_age(desk) == 7


def test_a_kept_model_that_is_none_is_begun_anew() -> None:
    desk = Desk()
    effects = introduced_while_restoring(desk, replace(checkpoint(7), state=b"damaged"))
    assert told(effects, reports.MessageRefused)
    assert told(effects, reports.WalkStarted)
    assert [offer.age for offer in said(effects, m.Offer)] == [0]


@pytest.mark.parametrize("kept", [(checkpoint(7),), ()])
def test_a_newer_model_that_comes_meanwhile_stays(kept: tuple[m.Checkpoint, ...]) -> None:
    desk = Desk()
    late = desk.start(Restored(4, (desk.signed(TASK),), kept, descriptors=tuple(desk.others)))
    late += desk.do(TaskIntroduced(desk.signed(TASK), initial_state(TASK, np.zeros(TASK.dimension, np.float32))))
    assert said(desk.hear(gossip(head(9))), m.ModelRequest)
    desk.work(desk.hear(m.ModelReply(checkpoint(9))))
    assert held_age(desk) == 9
    assert not told(desk.work(late), reports.WalkStarted)
    assert held_age(desk) == 9


def test_a_model_of_a_task_that_is_gone_is_not_restored() -> None:
    desk = Desk()
    assert desk.work(desk.start(Restored(2, (), (checkpoint(7),)))) is not None
    assert desk.node.tasks.entries() == []


def test_a_kept_model_of_a_task_that_the_user_refuses_now_is_not_taken_up() -> None:
    desk = Desk()
    desk.world.peers[0].application.refusal = "no more"
    assert not any(isinstance(e, Work) for e in desk.start(Restored(2, (desk.signed(TASK),), (checkpoint(7),))))
    entry = desk.node.tasks.get(TASK.id)
    assert entry is not None
    assert entry.walks.newest is None
    assert said(desk.hear(gossip(head(9))), m.ModelRequest) == []
    assert [reply.heads for reply in said(desk.hear(gossip()), m.GossipReply)] == [()]


def test_work_for_a_task_that_has_gone_meanwhile_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_TASKS", 1)
    for start in (True, False):
        desk = Desk()
        kept = (checkpoint(TASK.last_age),)
        late = desk.start(Restored(2, (desk.signed(TASK),), kept, descriptors=tuple(desk.others)))
        if not start:
            desk.work(late)
            late = desk.hear(walk(3))
            assert said(late, m.WalkAck) == [m.WalkAck(7, True)]
        other = desk.do(TaskIntroduced(desk.signed(make_task(name="other")), bytes(12)))
        assert [e.task for e in other if isinstance(e, DropTask)] == [TASK.id]
        assert said(desk.work([e for e in late if isinstance(e, Work)])) == []
        assert desk.node.tasks.get(TASK.id) is None


def test_a_task_in_whose_round_this_peer_is_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_TASKS", 1)
    desk = Desk()
    desk.introduce()
    desk.hear(gossip(head(TASK.last_age)), NOW + 10)
    desk.work(desk.hear(m.ModelReply(checkpoint(TASK.last_age)), NOW + 10), NOW + 10)
    assert desk.node.rounds.engaged(TASK.id)
    refused = told(
        desk.do(TaskIntroduced(desk.signed(make_task(name="other")), bytes(12)), NOW + 10), reports.MessageRefused
    )
    assert [r.reason for r in refused] == [Refusal.BUSY]
    desk.end_rounds()
    (walk_on,) = [e for e in desk.do(TimePassed(), NOW + 10) if isinstance(e, Send) and isinstance(e.message, m.Walk)]
    desk.do(MessageReceived(walk_on.to, m.WalkAck(walk_on.message.nonce, True)), NOW + 10)
    effects = desk.do(TaskIntroduced(desk.signed(make_task(name="other")), bytes(12)), NOW + 10)
    assert any(isinstance(e, DropTask) for e in effects)


def test_a_task_that_an_offer_or_a_walk_names_may_take_the_place_of_one_that_is_over() -> None:
    new = make_task(name="new")
    offer = m.Offer(
        RoundId(bytes(16)), new.id, 1, 5, bytes(32), 3, 4, 2, 1, 1, 4, 8.0, 0, 9, 0, Lineage(bytes(8)), ()  # type: ignore[arg-type]
    )  # fmt: skip
    for message in (
        offer,
        walk(5, checkpoint=checkpoint(5, new)),
        gossip(replace(head(5), task=new.id), tasks=(new.id,)),
    ):
        desk = Desk()
        assert said(desk.hear(message), m.TaskRequest) == [m.TaskRequest((new.id,))]
        assert desk.node.tasks._asked_tasks[new.id][2] == 5


def test_stopping_hands_over_says_goodbye_and_starts_nothing_more() -> None:
    desk = Desk()
    desk.introduce()
    effects = desk.do(Stopping(), NOW + 0.01)
    assert told(effects, reports.RoundEnded)[0].reason == "the peer was leaving"
    (walk_on,) = said(effects, m.Walk)
    assert walk_on.retry
    assert said(effects, m.Leave)
    assert not desk.node.idle
    to = next(e.to for e in effects if isinstance(e, Send) and isinstance(e.message, m.Walk))
    desk.do(MessageReceived(to, m.WalkAck(walk_on.nonce, True)), NOW + 0.02)
    assert desk.node.idle
    assert said(desk.do(TimePassed(), NOW + 5)) == []
    assert desk.node.next_deadline(NOW + 5)[0] == float("inf")
