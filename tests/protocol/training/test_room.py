"""Room for tasks: whose share is full, what goes for another, and what does not come back."""

from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import Lineage, TaskId
from protocol.base.limits import MAX_BULK, MAX_MODELS, MAX_TASKS
from protocol.base.settings import LAN
from protocol.effects import DropTask, Effect, Report, SaveTask, Send
from protocol.training import catalogue as rules
from protocol.training.catalogue import (
    MAX_MODELS_OF_ONE,
    MAX_OTHERS_TASKS,
    MAX_TASKS_OF_ONE,
    SETTLED_S,
    Catalogue,
    Entry,
    signed_bytes,
)
from protocol.training.state import Model, digest, initial_state
from protocol.training.task import SignedTask, Task
from protocol.wire.messages import Checkpoint, TaskReply, TaskRequest
from tests.protocol.aggregation.bench import make_network
from tests.protocol.checks import newest_age
from tests.protocol.world import ToyApplication, World, make_task

NOW = 1_800_000_000.0
LATER = NOW + SETTLED_S
MEMBERS = make_network("room", 6)[1]
OWN = 0
TELLER = MEMBERS[5].descriptor


class Desk:
    """A catalogue, and what befalls it."""

    def __init__(self) -> None:
        self.application = ToyApplication(SeededEntropy("room"))
        self.engaged: set[TaskId] = set()
        key = MEMBERS[OWN].keyring.signing.public_bytes
        self.tasks = Catalogue(self.application, SeededEntropy("tasks"), LAN, key, self.engaged.__contains__)

    def adopt(self, task: Task, by: int, now: float = NOW, **how: Any) -> list[Effect]:
        return self.tasks.adopt(signed(task, by), now, **how)[1]

    def fill(self, by: int, count: int = MAX_TASKS_OF_ONE) -> list[Task]:
        """Tasks of one submitter, all going on."""
        made = [a_task(by, i) for i in range(count)]
        for task in made:
            self.adopt(task, by)
        return made

    def entry(self, task: Task) -> Entry:
        entry = self.tasks.get(task.id)
        assert entry is not None
        return entry

    def finish(self, *finished: Task) -> None:
        """The last model of each is here."""
        for task in finished:
            self.entry(task).walks.offer_model(model(task, task.last_age), NOW)

    def asks(self, task: Task, now: float, age: int | None = 0) -> bool:
        """Whether it asks for a task, of which the teller has a model of this age."""
        asked = self.tasks.hear_of(TELLER, (task.id,), now, {} if age is None else {task.id: age})
        assert [e.message for e in asked if isinstance(e, Send)] == [TaskRequest((task.id,))] * len(asked)
        return bool(asked)

    def told(self, task: Task, by: int, now: float = LATER, age: int | None = 0) -> list[TaskId]:
        """It is told of a task and gets it: what it drops for it."""
        assert self.asks(task, now, age)
        s = signed(task, by)
        reply = TaskReply(task.encode(), s.submitter_key, s.signature)
        return dropped(self.tasks.on_task_reply(TELLER, reply, now))


def signed(task: Task, by: int) -> SignedTask:
    key = MEMBERS[by].keyring.signing
    return SignedTask(task, key.public_bytes, key.sign(signed_bytes(task.encode())))


def model(task: Task, age: int) -> Model:
    checkpoint = Checkpoint(task.id, age, initial_state(task, np.zeros(task.dimension, np.float32)))
    return Model(checkpoint, digest(checkpoint), 0, Lineage(bytes(8)))


def a_task(by: int, i: int, **changes: Any) -> Task:
    return make_task(name=f"{i} of {by}", **changes)


def dropped(effects: list[Effect]) -> list[TaskId]:
    """Before anything is saved."""
    told = [e.item.task.id for e in effects if isinstance(e, Report) and isinstance(e.item, reports.TaskDropped)]
    assert [e.task for e in effects if isinstance(e, DropTask)] == told
    assert [type(e) for e in effects if isinstance(e, DropTask | SaveTask)] == [DropTask] * len(told) + [SaveTask]
    return told


# --- shares -------------------------------------------------------------------------------------------------------


def test_no_submitter_takes_more_than_its_share_and_there_is_room_for_ones_own() -> None:
    desk, mine = Desk(), a_task(OWN, 99)
    for by in (1, 2, 3):
        desk.fill(by)
        with pytest.raises(Refused, match="16 of its submitter's tasks are held") as full:
            desk.told(a_task(by, 99), by, NOW)
        assert full.value.reason is Refusal.BUSY
    with pytest.raises(Refused, match="48 of others' tasks are held"):
        desk.told(a_task(4, 99), 4, NOW)
    desk.tasks.check_room(mine.id)
    desk.fill(OWN, MAX_TASKS - MAX_OTHERS_TASKS)
    with pytest.raises(Refused, match="64 tasks are held, and no peer holds more"):
        desk.tasks.check_room(mine.id)
    with pytest.raises(Refused, match="64 tasks are held, and no peer holds more"):
        desk.adopt(mine, OWN, displaces=True)
    assert len(desk.tasks.entries()) == len(desk.tasks.ids()) == MAX_TASKS


def test_models_of_others_tasks_are_bounded_by_what_they_may_come_to() -> None:
    """They count before they have come, or all of them would be announced at once."""
    desk, large = Desk(), 4 * 2**20
    of_one = MAX_MODELS_OF_ONE // (2 * 4 * large)
    for by in (1, 2, 3, 4):
        for i in range(of_one):
            desk.adopt(a_task(by, i, dimension=large), by)
        with pytest.raises(Refused, match="models of its submitter's tasks would take more"):
            desk.adopt(a_task(by, 99), by)
    with pytest.raises(Refused, match=f"models of others' tasks would take more than {MAX_MODELS} bytes"):
        desk.adopt(a_task(5, 99), 5)
    desk.adopt(a_task(OWN, 99, dimension=large), OWN)
    desk.application.refusal = "no"
    desk.adopt(a_task(5, 98, dimension=large), 5)  # of which no model is kept


def test_two_of_the_largest_model_fit_into_one_submitters_share() -> None:
    assert 2 * 2 * MAX_BULK <= MAX_MODELS_OF_ONE


# --- what goes for another ------------------------------------------------------------------------------------------


def test_the_oldest_finished_task_of_the_submitter_goes_for_a_new_one() -> None:
    desk = Desk()
    others, held = desk.fill(1), desk.fill(2)
    desk.finish(*others, held[5], held[3])
    assert desk.told(a_task(2, 50), 2) == [held[3].id]
    assert desk.tasks.get(held[3].id) is None
    assert held[3] not in [entry.task for entry in desk.tasks.entries()]
    assert desk.told(a_task(2, 51), 2) == [held[5].id]
    with pytest.raises(Refused):
        desk.told(a_task(2, 52), 2)  # the others go on
    assert len(desk.tasks.ids()) == 2 * MAX_TASKS_OF_ONE


def test_where_all_shares_are_full_refused_ones_go_first() -> None:
    desk = Desk()
    finished, going_on = desk.fill(1), desk.fill(2)
    desk.finish(*finished)
    desk.application.refusal = "no"
    refused = desk.fill(3)
    desk.application.refusal = None
    gone = [desk.told(a_task(4, i), 4) for i in range(MAX_TASKS_OF_ONE)]
    assert gone == [[task.id] for task in refused]
    assert desk.told(a_task(5, 0), 5) == [finished[0].id]
    assert all(desk.tasks.get(task.id) for task in going_on)


def test_models_go_with_their_tasks_until_there_is_room_for_a_large_one() -> None:
    desk = Desk()
    small = [a_task(1, i, dimension=2**21) for i in range(12)]
    for task in small:
        desk.adopt(task, 1)
    desk.finish(*small[2:])
    assert desk.told(a_task(1, 50, dimension=2**22), 1) == [small[2].id, small[3].id]
    desk = Desk()
    for task in small:
        desk.adopt(task, 1)
    desk.finish(small[0])
    with pytest.raises(Refused):
        desk.told(a_task(1, 50, dimension=2**22), 1)
    assert desk.tasks.get(small[0].id) is not None, "it would have gone for nothing"


@pytest.mark.parametrize("why", ["settling", "a round", "a walk", "refused", "told of the last model", "told of none"])
def test_what_does_not_go_and_for_what_nothing_goes(why: str) -> None:
    desk = Desk()
    held, new = desk.fill(1), a_task(1, 50)
    desk.finish(held[0])
    now, age = LATER, {"told of the last model": new.last_age, "told of none": None}.get(why, new.last_age - 1)
    if why == "settling":
        now -= 1
    if why == "a round":
        desk.engaged.add(held[0].id)
    if why == "a walk":
        desk.entry(held[0]).walks.introduce(model(held[0], 0), NOW)
    if why == "refused":
        desk.application.refusal = "no"
    with pytest.raises(Refused) as full:
        desk.told(new, 1, now, age)
    assert full.value.reason is Refusal.BUSY
    assert desk.tasks.get(held[0].id) is not None


def test_ones_own_task_needs_not_wait_and_ones_own_go_last() -> None:
    """Also right after a start, while the kept models are being checked."""
    desk = Desk()
    mine = desk.fill(OWN, MAX_TASKS - MAX_TASKS_OF_ONE)
    others = desk.fill(1)
    desk.finish(mine[0])
    desk.entry(others[2]).restoring = others[2].last_age
    desk.tasks.check_room(a_task(OWN, 99).id)
    assert dropped(desk.adopt(a_task(OWN, 99), OWN, displaces=True)) == [others[2].id]
    assert dropped(desk.adopt(a_task(OWN, 98), OWN, displaces=True)) == [mine[0].id]
    assert desk.tasks.not_restored(others[2].id) == []  # it was on its way


def test_others_tasks_never_take_the_place_of_ones_own() -> None:
    desk = Desk()
    mine = desk.fill(OWN, MAX_TASKS)
    desk.finish(*mine)
    with pytest.raises(Refused):
        desk.told(a_task(1, 0), 1)


# --- what does not come back ----------------------------------------------------------------------------------------


def test_what_was_dropped_is_not_asked_for_again_and_what_found_no_room_is_after_a_while() -> None:
    desk = Desk()
    held = desk.fill(1)
    desk.finish(held[0])
    assert desk.told(a_task(1, 50), 1) == [held[0].id]
    with pytest.raises(Refused):
        desk.told(a_task(1, 51), 1)
    assert not desk.asks(a_task(1, 51), LATER + SETTLED_S - 1)
    assert desk.asks(a_task(1, 51), LATER + SETTLED_S)
    assert not desk.asks(held[0], LATER + 1e9)


def test_a_task_whose_teller_has_no_model_yet_is_asked_for_again_where_there_is_one() -> None:
    """Its id is faster than its model."""
    desk, new = Desk(), a_task(1, 50)
    held = desk.fill(1)
    desk.finish(held[0])
    with pytest.raises(Refused):
        desk.told(new, 1, age=None)
    assert not desk.asks(new, LATER, None)
    assert desk.told(new, 1) == [held[0].id]


def test_a_task_of_before_a_restart_has_settled() -> None:
    """Else a peer that is never up for so long would never make room."""
    desk = Desk()
    held = [a_task(1, i) for i in range(MAX_TASKS_OF_ONE)]
    for task in held:
        desk.adopt(task, 1, save=False)
    desk.finish(*held)
    assert desk.told(a_task(1, 50), 1, NOW + 1.0) == [held[0].id]


def test_what_finds_no_room_is_not_what_its_schemas_tasks_ask() -> None:
    desk = Desk()
    desk.fill(1)
    with pytest.raises(Refused):
        desk.told(a_task(1, 50), 1)
    assert desk.application.held == [f"{i} of 1" for i in range(MAX_TASKS_OF_ONE)]


def test_where_nothing_can_go_nothing_is_asked_for() -> None:
    desk = Desk()
    mine = desk.fill(OWN, MAX_TASKS)
    assert not desk.asks(a_task(1, 0), NOW)
    desk.finish(mine[0])
    assert desk.asks(a_task(1, 0), NOW)


def test_a_submitter_of_many_tasks_has_them_all_trained_and_peers_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds all of them, everybody tells what it holds, and restarts: nothing goes round in circles."""
    monkeypatch.setattr(rules, "SETTLED_S", 5.0)
    monkeypatch.setattr(rules, "MAX_TASKS_OF_ONE", 3)
    world = World(6, "many tasks", recording=False)
    made = [make_task(steps=2, name=f"{i}") for i in range(8)]
    world.start_all()
    first, others = world.peers[0], world.peers[1:]
    for task in made:
        world.introduce(first, task)
    assert world.run(120.0, lambda: all(newest_age(first, task) == 2 for task in made))
    world.run(30.0)
    gone = [(peer, item.task.name) for _, peer, item in world.reports if isinstance(item, reports.TaskDropped)]
    assert len(made) < len(gone) == len(set(gone))
    taken = len(world.reports)
    world.run(60.0)
    changes = [r for *_, r in world.reports[taken:] if isinstance(r, reports.TaskAdopted | reports.TaskDropped)]
    assert changes == []
    for peer in others:
        world.kill(peer)
        world.start(peer)
    taken = len(world.reports)
    world.run(60.0)
    assert [r for *_, r in world.reports[taken:] if isinstance(r, reports.TaskDropped)] == []
    for peer in others:
        assert peer.node is not None
        assert {signed.task.id for signed in peer.disk.tasks} == set(peer.node.tasks.ids())
        assert len(peer.disk.tasks) == len(peer.disk.checkpoints) == 3
