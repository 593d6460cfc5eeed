"""What one record uses up: the same question of another task is the same question; a different one is not."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol.aggregation.phases import AbstainReason, DeclineReason
from protocol.aggregation.uses import Question, keys_of
from protocol.application import Freshness
from protocol.base.ids import Digest
from protocol.effects import Effect, PersistUse
from protocol.training.state import digest, initial_state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Abstain, Accept, Checkpoint, Decline, Offer, Partial
from tests.protocol.aggregation.bench import Bench, make_bench, said
from tests.protocol.checks import published
from tests.protocol.world import World, make_task


def ask(bench: Bench, task: Task, round_id: bytes, value: float = 0.0) -> list[Effect]:
    """A leaf's place in a round of ``task``, from parameters that are all ``value``."""
    bench.task = task
    model = Checkpoint(task.id, 0, initial_state(task, np.full(task.dimension, value, np.float32)))
    offer = bench.offer(1, 2, 3, round_id=round_id, kind=int(task.kind_at(0)), digest=digest(model), state=model.state)
    return bench.take(offer)


@pytest.mark.parametrize(
    "changes", [{"name": "again"}, {"learning_rate": 0.25}, {"clip": 2.0}, {"momentum": 0.5}, {"steps": 7}]
)
def test_two_tasks_that_begin_from_the_same_parameters_are_answered_once(changes: dict[str, Any]) -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    first, second = make_task(), make_task(**changes)
    assert isinstance(said(bench.finish(ask(bench, first, b"1" * 16)))[1], Partial)
    effects = said(bench.finish(ask(bench, second, b"2" * 16)))
    assert effects[1:] == [Abstain(b"2" * 16, AbstainReason.NO_CONTRIBUTION)]
    assert said(ask(bench, second, b"3" * 16)) == [Decline(b"3" * 16, DeclineReason.NO_FRESH_RECORDS)]
    assert isinstance(said(bench.finish(ask(bench, second, b"4" * 16, value=0.5)))[1], Partial)


def test_two_rounds_under_way_ask_the_same_once() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    one, two = ask(bench, make_task(), b"1" * 16), ask(bench, make_task(steps=7), b"2" * 16)
    answers = said(bench.finish(one + two))
    assert sum(isinstance(answer, Partial) for answer in answers) == 1
    assert sum(isinstance(answer, Abstain) for answer in answers) == 1


def test_who_has_more_records_answers_every_task() -> None:
    bench = make_bench()
    for i, task in enumerate((make_task(), make_task(name="again"))):
        assert isinstance(said(bench.finish(ask(bench, task, bytes([i]) * 16)))[1], Partial)


def test_a_column_is_summed_once_in_whatever_list_it_stands() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    both = make_task(statistics_rounds=1)
    effects = bench.finish(ask(bench, both, b"1" * 16))
    assert isinstance(said(effects)[1], Partial)
    assert [len(e.keys) for e in effects if isinstance(e, PersistUse)] == [2]  # all at once
    for i, features in enumerate((("b", "a"), ("a", "c"), ("b",))):
        other = make_task(statistics_rounds=1, features=features, ranges=((-1.0, 1.0),) * len(features))
        assert isinstance(said(ask(bench, other, bytes([i]) * 16))[0], Decline)
    for i, changes in enumerate(({"features": ("c", "d")}, {"schema": "other"})):
        assert isinstance(said(ask(bench, replace(both, **changes), bytes([9 + i]) * 16))[0], Accept)


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


def test_single_records_train_two_tasks_from_one_beginning_to_the_end() -> None:
    """Nobody answers the first model twice, and the second task gets past it all the same (by a sidestep)."""
    world = World(6, "two tasks")
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    world.start_all()
    for task in (make_task(steps=4), make_task(steps=4, learning_rate=0.25)):
        world.introduce(world.peers[0], task)
        assert world.run(120.0, lambda task=task: any(r.task == task.id and r.age == 3 for r in published(world)))
    partials = {(sender, message.round) for _, sender, _, message in world.sent if isinstance(message, Partial)}
    models = {x.round: x.state for *_, x in world.sent if isinstance(x, Offer)}
    answered = Counter((sender, bytes(models[round_id])) for sender, round_id in partials)
    assert max(answered.values()) == 1
