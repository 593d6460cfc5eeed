"""With what a round begins: time for every level and both transfers, at every node less; and which offers fit."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.aggregation.opening import PATIENCE, at_invitee, at_root, budget_s, encoding_of, fits
from protocol.aggregation.ports import Ports
from protocol.aggregation.shape import RING, child_caps, height, planned_cohort
from protocol.base.limits import MAX_BUDGET_S, MAX_COLLUSION_THRESHOLD
from protocol.base.settings import LAN
from protocol.training.task import RoundKind
from tests.protocol.aggregation.bench import NOW, Bench, make_bench
from tests.protocol.world import make_task


def ports_of(bench: Bench, **changes: Any) -> Ports:
    return replace(bench.machine._ports, **changes)


@pytest.mark.parametrize("planned", [4, 8, 100])
def test_a_roots_budget_covers_every_level_and_both_transfers(bench: Bench, planned: int) -> None:
    ports = ports_of(bench, settings=replace(LAN, link_bytes_per_s=10.0))
    state = at_root(ports, bench.task, bench.model, planned, NOW)
    levels = height(0, planned, bench.task.branching, bench.task.collusion_threshold)
    vector = encoding_of(bench.task, RoundKind.GRADIENT, planned).nbytes
    assert state.deadline - NOW == pytest.approx(
        LAN.round_budget_s + levels * (LAN.hop_allowance_s + 2 * vector / 10.0)
    )
    assert (state.depth, state.cap, state.cohort_cap, state.parent, state.offer) == (0, planned, planned, None, None)
    assert (state.age, state.digest, state.checkpoint) == (0, bench.model.digest, bench.checkpoint)


def test_no_round_lasts_longer_than_its_journal_entry(bench: Bench) -> None:
    """The journal forgets a round after ``MAX_BUDGET_S``: a longer one could be entered twice."""
    slow = ports_of(bench, settings=replace(LAN, link_bytes_per_s=1e-3))
    assert at_root(slow, bench.task, bench.model, 8, NOW).deadline == NOW + MAX_BUDGET_S
    offer = bench.offer(1, budget_s=1e9)
    invited = at_invitee(ports_of(bench), bench.members[1].descriptor, offer, bench.task, None, NOW)
    assert invited.deadline < NOW + MAX_BUDGET_S


@pytest.mark.parametrize("speed", [None, 1.0])
@pytest.mark.parametrize("times", [0.5, 1.0, PATIENCE, 2 * PATIENCE, 1e6])
def test_an_invitee_is_done_before_its_parent_by_a_hop_and_the_transfer_up(
    bench: Bench, speed: float | None, times: float
) -> None:
    """Unless its parent wants more than ``PATIENCE`` times what it would itself have given the whole round."""
    ports = ports_of(bench, link_speed=lambda peer: speed if peer == bench.members[1].descriptor.peer else None)
    own = budget_s(LAN, bench.task, encoding_of(bench.task, RoundKind.GRADIENT, bench.offer(1).cohort_cap))
    offer = bench.offer(1, budget_s=times * own)
    state = at_invitee(ports, bench.members[1].descriptor, offer, bench.task, None, NOW)
    parents_deadline = NOW + min(times, PATIENCE) * own
    transfer = state.encoding.nbytes / (speed or LAN.link_bytes_per_s)
    assert parents_deadline - state.deadline == pytest.approx(LAN.hop_allowance_s + transfer)
    assert (state.parent, state.offer, state.depth) == (bench.members[1].descriptor, offer, 1)


def test_parent_and_child_speak_the_same_fixed_point(bench: Bench) -> None:
    """It follows from the cohort of the whole round, not from what a subtree may hold."""
    root = at_root(ports_of(bench), bench.task, bench.model, 8, NOW)
    offer = bench.offer(1, cohort_cap=8, cap=2)
    child = at_invitee(ports_of(bench), bench.members[1].descriptor, offer, bench.task, None, NOW)
    assert child.encoding == root.encoding
    assert encoding_of(bench.task, RoundKind.GRADIENT, 9) != root.encoding


def test_the_first_rounds_of_a_task_with_statistics_are_of_that_kind() -> None:
    bench = make_bench(statistics_rounds=1)
    assert at_root(ports_of(bench), bench.task, bench.model, 8, NOW).kind is RoundKind.STATISTICS
    later = replace(bench.model, checkpoint=replace(bench.checkpoint, age=1))
    assert at_root(ports_of(bench), bench.task, later, 8, NOW).kind is RoundKind.GRADIENT


MISFITS: dict[str, dict[str, Any]] = {
    "another threshold": {"collusion_threshold": 2},
    "a smaller minimum": {"minimum_cohort": 3},
    "another branching": {"branching": 3},
    "another kind": {"kind": 0},
    "a root's own depth": {"depth": 0},
    "no contribution": {"cap": 0},
    "a leaf under the root": {"depth": 1, "cap": 1},
    "a subtree too small for its depth": {"depth": 1, "cap": 2},
    "a leaf one level too high": {"depth": 2, "cap": 1},
    "a subtree as large as the round": {"cap": 8, "cohort_cap": 8},
    "a round larger than the task's": {"cohort_cap": 1001},
    "a slice the wrong way round": {"slice_low": 2, "slice_high": 1},
    "a slice beyond the ring": {"slice_high": RING + 1},
}


def test_an_honest_offer_fits(bench: Bench) -> None:
    assert fits(bench.offer(1, cap=3), bench.task)


@given(st.integers(2, MAX_COLLUSION_THRESHOLD), st.integers(1, 5), st.integers(0, 4), st.integers(0, 60))
def test_every_offer_of_a_planned_tree_fits(s: int, b: int, over: int, more: int) -> None:
    """Of the smallest networks, whose trees have a trunk of single children, as of larger ones."""
    task = make_task(collusion_threshold=s, minimum_cohort=s + 1 + over, branching=b)
    planned = planned_cohort(s + 1 + more, task.cohort, task.minimum_cohort, b)
    blank = make_bench().offer(1, collusion_threshold=s, minimum_cohort=s + 1 + over, branching=b, cohort_cap=planned)
    places = [(0, planned)]
    while places:
        depth, cap = places.pop()
        below = [(depth + 1, c) for c in child_caps(depth, cap, b, s)]
        assert below or depth >= s
        assert all(fits(replace(blank, depth=k, cap=c), task) for k, c in below)
        places += below


@pytest.mark.parametrize("what", MISFITS)
def test_an_offer_whose_numbers_are_not_the_tasks_does_not_fit(bench: Bench, what: str) -> None:
    assert not fits(replace(bench.offer(1, cap=3), **MISFITS[what]), bench.task)
