"""What one record uses up: it serves one task of a schema, and the same parameters and statistics of that one once."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.aggregation.machine import RoundMachine
from protocol.aggregation.phases import AbstainReason, DeclineReason
from protocol.aggregation.uses import Question, binding, keys_of
from protocol.application import Freshness
from protocol.base.ids import Digest
from protocol.effects import Effect, PersistUse
from protocol.training.state import digest, initial_state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Abstain, Checkpoint, Decline, Offer, Partial
from tests.protocol.aggregation.bench import NOW, Bench, make_bench, said
from tests.protocol.checks import check_single, check_time, newest_age, published
from tests.protocol.world import World, make_task

OTHERS: list[dict[str, Any]] = [
    {"name": "again"},
    {"learning_rate": 0.25},
    {"clip": 2.0},
    {"momentum": 0.5},
    {"steps": 7},
    {"features": ("c", "d"), "target": "z"},
    {"features": ("b", "a")},
    {"features": ("a", "c")},
    {"features": ("b",), "ranges": ((-1.0, 1.0),)},
    {"model": "mlp"},
]
"""What makes another task of the same schema: another name, other settings; columns renamed, reordered, changed."""


def ask(bench: Bench, task: Task, round_id: bytes, value: float = 0.0, age: int = 0) -> list[Effect]:
    """A leaf's place in a round of ``task``, from parameters that are all ``value``."""
    bench.task = task
    model = Checkpoint(task.id, age, initial_state(task, np.full(task.dimension, value, np.float32)))
    kind = int(task.kind_at(age))
    return bench.take(
        bench.offer(1, 2, 3, round_id=round_id, kind=kind, age=age, digest=digest(model), state=model.state)
    )


def declined(effects: list[Effect]) -> bool:
    """Whether the offer was declined for want of a record that may answer it."""
    (message,) = said(effects)[:1]
    return isinstance(message, Decline) and message.reason == DeclineReason.NO_FRESH_RECORDS


def contributed(effects: list[Effect]) -> bool:
    """Whether a partial has left."""
    return any(isinstance(message, Partial) for message in said(effects))


def restart(bench: Bench, effects: list[Effect]) -> None:
    """The machine as it comes back with what ``effects`` have made durable."""
    keys = {key for effect in effects if isinstance(effect, PersistUse) for key in effect.keys}
    bench.machine = RoundMachine(bench.machine._ports, {}, keys)


# --- one task of a schema -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [0, 1])
@pytest.mark.parametrize("changes", OTHERS)
def test_a_record_serves_one_task_of_a_schema(changes: dict[str, Any], statistics: int) -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    first = make_task(statistics_rounds=statistics)
    second = make_task(statistics_rounds=statistics, **changes)
    begun = ask(bench, first, b"1" * 16)
    assert declined(ask(bench, second, b"2" * 16)), "under way"
    done = bench.finish(begun)
    assert contributed(done)
    for again in (False, True):
        assert bench.machine.serves_another(second)
        assert not bench.machine.serves_another(first)
        for i, age in enumerate((0, 1)):
            assert declined(ask(bench, second, bytes([i, again]) * 8, value=0.5, age=age))
        restart(bench, done)
    assert contributed(bench.finish(ask(bench, first, b"3" * 16, value=0.5, age=1))), "its own task goes on"
    assert declined(ask(bench, second, b"4" * 16, value=0.75, age=1))


@pytest.mark.parametrize("first_statistics", [0, 1])
def test_a_task_with_statistics_and_one_without_are_two(first_statistics: int) -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    first, second = (make_task(statistics_rounds=rounds) for rounds in (first_statistics, 1 - first_statistics))
    assert contributed(bench.finish(ask(bench, first, b"1" * 16)))
    assert declined(ask(bench, second, b"2" * 16))


def test_all_that_is_used_up_is_durable_at_once() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    task = make_task()
    done = bench.finish(ask(bench, task, b"1" * 16))
    (use,) = [effect for effect in done if isinstance(effect, PersistUse)]
    model = Checkpoint(task.id, 0, initial_state(task, np.zeros(3, np.float32)))
    keys = keys_of(task, RoundKind.GRADIENT, digest(model))
    assert use.keys == (*binding(task), *keys, Question(task, model).run())


def test_a_round_that_sent_nothing_leaves_the_record_to_another_task() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    first, second = make_task(), make_task(name="again")
    ask(bench, first, b"1" * 16)
    assert bench.machine.serves_another(second)
    bench.machine.tick(NOW + 100.0)
    assert bench.machine.idle
    assert not bench.machine.serves_another(second)
    assert contributed(bench.finish(ask(bench, second, b"2" * 16)))
    assert declined(ask(bench, first, b"3" * 16))


def test_another_schema_has_a_record_of_its_own() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    for i, schema in enumerate(("toy", "other")):
        assert contributed(bench.finish(ask(bench, make_task(schema=schema), bytes([i]) * 16)))
    assert declined(ask(bench, make_task(schema="other", name="again"), b"2" * 16))


def test_who_has_more_records_answers_every_task() -> None:
    bench = make_bench()
    for i, task in enumerate((make_task(), make_task(name="again"))):
        done = bench.finish(ask(bench, task, bytes([i]) * 16))
        assert contributed(done)
        assert not any(isinstance(effect, PersistUse) for effect in done)


def test_one_task_may_find_one_record_where_another_finds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without a value in one of its columns are left out: only what is deterministic binds and is bound."""
    bench = make_bench()
    many, one, other = (make_task(features=columns) for columns in (("a", "b"), ("a", "c"), ("c", "a")))
    monkeypatch.setattr(
        bench.application,
        "freshness",
        lambda task: Freshness.DETERMINISTIC if "c" in task.features else Freshness.FRESH,
    )
    for i, (task, serves) in enumerate(((many, True), (one, True), (other, False), (many, True))):
        assert bench.machine.serves_another(task) is not serves
        effects = bench.finish(ask(bench, task, bytes([i]) * 16))
        assert contributed(effects) is serves
        assert declined(effects) is not serves


# --- within one task ----------------------------------------------------------------------------------------------


def test_parameters_that_stand_still_are_answered_once() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    task = make_task()
    assert contributed(bench.finish(ask(bench, task, b"1" * 16)))
    effects = said(bench.finish(ask(bench, task, b"2" * 16, age=1)))
    assert effects[1:] == [Abstain(b"2" * 16, AbstainReason.NO_CONTRIBUTION)]
    assert declined(ask(bench, task, b"3" * 16, age=1))
    assert contributed(bench.finish(ask(bench, task, b"4" * 16, value=0.5, age=1)))


def test_two_rounds_under_way_ask_the_same_once() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    one, two = (ask(bench, make_task(), bytes([age]) * 16, age=age) for age in (0, 1))
    answers = said(bench.finish(one + two))
    assert sum(isinstance(answer, Partial) for answer in answers) == 1
    assert sum(isinstance(answer, Abstain) for answer in answers) == 1


def test_statistics_are_summed_once() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    task = make_task(statistics_rounds=2)
    done = bench.finish(ask(bench, task, b"1" * 16))
    assert contributed(done)
    for _ in range(2):
        assert declined(ask(bench, task, b"2" * 16, age=1))
        restart(bench, done)
    assert contributed(bench.finish(ask(bench, task, b"3" * 16, age=2)))


# --- homes of earlier versions, which bound no record to a task ---------------------------------------------------


def old_keys(task: Task, model: Checkpoint) -> dict[str, bytes]:
    """Keys as earlier versions wrote them."""
    columns = hashlib.sha256("\0".join((task.schema, *task.features, task.target)).encode()).digest()
    question = hashlib.sha256(b"susurrus gradient v1\0" + columns + model.state).digest()
    return {
        "model": b"model" + digest(model),
        "parameters": b"parameters" + question,
        "statistics": b"statistics" + b"toy\0" + b"b",
    }


@pytest.mark.parametrize("kind", ["model", "parameters", "statistics"])
def test_what_an_earlier_version_has_used_up_stays_used_up(kind: str) -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    task = make_task(statistics_rounds=int(kind == "statistics"))
    model = Checkpoint(task.id, 0, initial_state(task, np.zeros(3, np.float32)))
    bench.machine = RoundMachine(bench.machine._ports, {}, {old_keys(task, model)[kind]})
    tasks = [task] if kind == "model" else [task, replace(task, name="again"), replace(task, steps=7)]
    for i, asked in enumerate(tasks):
        effects = bench.finish(ask(bench, asked, bytes([i]) * 16))
        assert not contributed(effects)
        assert declined(effects) is (kind != "parameters")  # parameters are compared once they are here
        assert declined(ask(bench, asked, bytes([i, 9]) * 8))


def test_a_home_of_an_earlier_version_serves_the_first_task_that_it_answers() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    first, second = make_task(), make_task(name="again")
    model = Checkpoint(first.id, 0, initial_state(first, np.zeros(3, np.float32)))
    bench.machine = RoundMachine(bench.machine._ports, {}, set(old_keys(first, model).values()))
    assert not contributed(bench.finish(ask(bench, second, b"1" * 16)))
    assert not bench.machine.serves_another(first), "what was refused binds nothing"
    assert contributed(bench.finish(ask(bench, first, b"2" * 16, value=0.5, age=1)))
    assert declined(ask(bench, second, b"3" * 16, value=0.75, age=1))


# --- keys ---------------------------------------------------------------------------------------------------------


def test_keys_name_what_fixes_the_value() -> None:
    task = make_task()
    model = Checkpoint(task.id, 0, initial_state(task, np.ones(3, np.float32)))
    key = Question(task, model).run()
    same = make_task(walks=2, weight_decay=0.1)
    assert Question(same, replace(model, task=same.id, age=5)).run() == key
    for other in (make_task(schema="other"), make_task(features=("a", "c")), make_task(target="z")):
        assert Question(other, model).run() != key
    assert keys_of(task, RoundKind.GRADIENT, digest(model)) == (b"model" + digest(model),)
    moments = keys_of(task, RoundKind.STATISTICS, digest(model))
    assert len(set(moments)) == len(task.features) == len(moments)
    assert keys_of(make_task(name="again", steps=7), RoundKind.STATISTICS, Digest(bytes(32))) == moments


def test_standardisation_makes_another_question() -> None:
    task = make_task(statistics_rounds=1)
    states = [np.array([1, 1, 1, 0, 0, moment, 1], "<f4").tobytes() for moment in (0.25, 0.5)]
    keys = {Question(task, Checkpoint(task.id, 1, state)).run() for state in states}
    assert len(keys) == 2


# --- whole networks -----------------------------------------------------------------------------------------------


def test_a_second_task_gets_nothing_out_of_single_records_and_disturbs_nobody() -> None:
    """Its columns have other names; its walk goes round and waits, also after everybody has come back."""
    world = World(6, "two tasks")
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    world.start_all()
    first, second = make_task(steps=4), make_task(steps=4, features=("c", "d"), target="z")
    world.introduce(world.peers[0], first)
    assert world.run(120.0, lambda: any(r.age == 3 for r in published(world)))
    world.introduce(world.peers[0], second)
    world.run(30.0)
    for peer in world.peers:
        world.kill(peer)
    world.start_all()
    world.run(30.0)
    assert all(second.id in peer.node.tasks.ids() for peer in world.peers if peer.node is not None)
    assert not [r for _, _, r in world.reports if isinstance(r, reports.RoundEnded) and r.task == second.id]
    assert not [m for *_, m in world.sent if isinstance(m, Offer) and m.task == second.id]
    assert world.most_events_in_a_second() < 200
    check_single(world, "two tasks")


def test_two_tasks_are_trained_to_the_end_around_a_record_that_serves_one() -> None:
    """Also where the second one is introduced at a peer that cannot be its root."""
    world = World(7, "around")
    for peer in world.peers[:2]:
        peer.application.fresh = Freshness.DETERMINISTIC
    world.start_all()
    first, second = make_task(steps=4), make_task(steps=4, features=("b", "a"))
    world.introduce(world.peers[0], first)
    assert world.run(60.0, lambda: all(newest_age(peer, first) == 4 for peer in world.peers))
    world.introduce(world.peers[0], second)
    assert world.run(60.0, lambda: all(newest_age(peer, second) == 4 for peer in world.peers))
    rounds = {m.round: m.task for *_, m in world.sent if isinstance(m, Offer)}
    served = {(r.peer, rounds[r.round]) for r in world.records if r.contributed}
    assert {task for peer, task in served if peer == world.peers[0].id} == {first.id}
    check_single(world, "around")
    check_time(world, second, "around", world.settings)
