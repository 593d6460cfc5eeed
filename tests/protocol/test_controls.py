"""Positive controls: with one clause of the protocol broken, the checks of ``checks`` fail.  Else they are nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.aggregation import combining, jobs, machine
from protocol.aggregation import round as round_module
from protocol.aggregation.jobs import Absorb
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.effects import PersistRound
from protocol.membership import Membership
from protocol.training import update
from protocol.wire import messages as m
from tests.protocol import checks
from tests.protocol.checks import check_all, ended, published
from tests.protocol.world import World, make_task

Patch = pytest.MonkeyPatch


def lossy_world(name: str, size: int = 6, loss: float = 0.05, **changes: Any) -> tuple[World, Any]:
    draw = SeededEntropy(name)
    world = World(size, name, fate=lambda *_: None if draw.uniform() < loss else 0.004)
    task = make_task(steps=6, **changes)
    world.start_all()
    world.introduce(world.peers[0], task)
    world.run(25.0)
    return world, task


def caught(check: Callable[[World, str], Any], match: str, worlds: int = 8, **changes: Any) -> bool:
    """Whether ``check`` fails in one of a few worlds, for the reason expected."""
    for seed in range(worlds):
        world, _ = lossy_world(f"control {seed}", **changes)
        try:
            check(world, str(seed))
        except AssertionError as error:
            return match in str(error)
    return False


def test_nothing_is_caught_when_nothing_is_broken() -> None:
    for seed in range(4):
        world, task = lossy_world(f"control {seed}")
        assert check_all(world, task, str(seed)) > 0


def test_a_guard_off_by_one_breaks_the_rule(monkeypatch: Patch) -> None:
    def lax(depth: int, threshold: int, children: int, opened: int) -> bool:
        return min(depth, threshold) + children + opened >= threshold - 1

    monkeypatch.setattr(round_module, "may_contribute", lax)
    assert caught(checks.check_rule, "rule is broken")


def test_a_guard_that_lets_everybody_pass_gives_values_away(monkeypatch: Patch) -> None:
    monkeypatch.setattr(round_module, "may_contribute", lambda *_: True)
    assert caught(checks.check_secrecy, "is learned by a coalition", collusion_threshold=4, minimum_cohort=5)


def test_a_mask_too_few_gives_values_away() -> None:
    """S - 2 masks instead of S - 1: as if one ancestor had not been trusted with a share."""

    def stingy(world: World, name: str) -> None:
        for record in world.records:
            assert isinstance(record.masks, dict)
            if record.masks:
                record.masks.popitem()
        checks.check_secrecy(world, name)

    assert caught(stingy, "is learned by a coalition")


def forget(monkeypatch: Patch, *, seeds: bool = False, vector: bool = False) -> None:
    """From now on one mask stays on in every absorbed partial, or its vector is not added."""
    real = jobs.add_masks

    def forgetful(out: Any, plus: Any, minus: Any = (), **rest: Any) -> None:
        if vector and "vector" in rest:
            rest["vector"] = rest["vector"] * 0
        real(out, plus, list(minus)[1:] if seeds else minus, **rest)

    monkeypatch.setattr(jobs, "add_masks", forgetful)


@pytest.mark.parametrize("what", ["seeds", "vector"])
def test_what_is_no_sum_is_refused_by_the_root(monkeypatch: Patch, what: str) -> None:
    """A mask left on, or a child counted and not added: weight and norm tell, and the model stays as it was."""
    forget(monkeypatch, **{what: True})
    world, _ = lossy_world("forgetful", loss=0.0)
    assert not published(world)
    assert any("outside what its contributions allow" in r.reason for r in ended(world))


@pytest.mark.parametrize("what", ["seeds", "vector"])
def test_what_is_no_sum_is_caught_where_the_root_does_not_look(monkeypatch: Patch, what: str) -> None:
    forget(monkeypatch, **{what: True})

    def trusting(self: update.Publish) -> update.Published:
        checkpoint = update.apply_gradient(self.task, self.checkpoint, np.zeros(self.task.dimension))
        return update.Published(checkpoint, update.state.digest(checkpoint), 0.0, 0.0)

    monkeypatch.setattr(update.Publish, "run", trusting)
    assert caught(checks.check_exact, "the total is not the sum")


def test_a_seed_used_twice(monkeypatch: Patch) -> None:
    monkeypatch.setattr(combining.masks, "draw", lambda entropy, count: [bytes(32)] * count)
    assert caught(checks.check_once, "seed was used twice")


def test_a_round_that_is_not_made_durable(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "PersistRound", lambda round_id, expires: PersistRound(bytes(16), expires))
    assert caught(checks.check_once, "visible before durable")


def test_a_use_that_is_forgotten(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine.RoundMachine, "_note_use", lambda self, state: None)
    for seed in range(8):
        draw = SeededEntropy(f"forgotten {seed}")
        world = World(6, f"forgotten {seed}", fate=lambda *_, draw=draw: None if draw.uniform() < 0.1 else 0.004)
        for peer in world.peers:
            peer.application.fresh = Freshness.DETERMINISTIC
        world.start_all()
        world.introduce(world.peers[0], make_task(steps=6, walks=2))
        world.run(25.0)
        try:
            checks.check_single(world, str(seed))
        except AssertionError:
            return
    pytest.fail("nobody noticed")


def test_a_record_that_serves_every_task(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine.RoundMachine, "serves_another", lambda self, task: False)
    world = World(6, "every task")
    for peer in world.peers:
        peer.application.fresh = Freshness.DETERMINISTIC
    world.start_all()
    for task in (make_task(), make_task(features=("b", "a"))):
        world.introduce(world.peers[0], task)
        world.run(10.0)
    with pytest.raises(AssertionError, match="answered two tasks"):
        checks.check_single(world, "every task")


def test_a_round_without_a_deadline(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine.RoundMachine, "tick", lambda self, now: [])
    monkeypatch.setattr(machine.RoundMachine, "next_deadline", lambda self: (float("inf"), ""))

    def on_time(world: World, name: str) -> None:
        checks.check_time(world, make_task(), name, world.settings)

    assert caught(on_time, "endless round")


def test_a_node_that_spins(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Membership, "next_deadline", lambda self: (0.0, "at once"))
    world, task = World(4, "spins"), make_task()
    world.start_all()
    world.run(1.5)
    with pytest.raises(AssertionError, match="spins"):
        checks.check_time(world, task, "spinning", world.settings)


def test_a_seed_that_does_not_open_costs_that_child_alone(monkeypatch: Patch) -> None:
    honest, broken = Absorb.run, [0]

    def sometimes(self: Absorb) -> Any:
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
    assert min(r.cohort for r in ended(world)) < 12
    check_all(world, task, "unopenable")
