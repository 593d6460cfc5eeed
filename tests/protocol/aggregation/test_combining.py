"""From gathered partials to one partial sent: one job at a time, the guard on a frozen set, durable before visible."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.aggregation import combining
from protocol.aggregation.jobs import Opened
from protocol.aggregation.opening import at_invitee, at_root
from protocol.aggregation.phases import AbstainReason, Phase, Place
from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Child, Recording, Round
from protocol.application import Contribution
from protocol.effects import PersistUse, Report, Send, Work
from protocol.wire.messages import Abstain, Partial
from protocol.work import RoundWork
from tests.protocol.aggregation.bench import NOW, Bench, make_bench, said, told


@dataclass
class Job:
    """Stands for any job."""

    name: str
    cost_bytes: int = 0

    def run(self) -> str:
        return self.name


def invitee(bench: Bench, *above: int) -> Round:
    """A round below the members ``above``; the model is here."""
    offer = bench.offer(*above)
    state = at_invitee(ports(bench), bench.members[above[0]].descriptor, offer, bench.task, bench.checkpoint, NOW)
    state.ancestors = tuple(bench.members[i].descriptor for i in above)
    return state


def ports(bench: Bench) -> Ports:
    return bench.machine._ports


def child(bench: Bench, member: int, place: Place, cohort: int = 1, neighbours: int = 3) -> Child:
    return Child(4, 0, 9, place, bench.members[member].descriptor, cohort=cohort, min_neighbours=neighbours)


def with_own(bench: Bench, state: Round) -> Round:
    """The own contribution is in the sum."""
    made = bench.application.contribution_job(bench.task, state.kind, bench.checkpoint).run()
    (work,) = combining.contributed(ports(bench), state, made)
    assert isinstance(work, Work)
    work.job.run()
    state.busy, state.own_added = False, True
    return state


def ready(state: Round) -> list[str]:
    """The names of the jobs started."""
    return [effect.purpose.step for effect in combining.pump(state) if isinstance(effect, Work)]


# --- one job at a time --------------------------------------------------------------------------------------------


def test_jobs_on_the_sum_stand_in_line(bench: Bench) -> None:
    state = invitee(bench, 1)
    (first,) = combining.enqueue(state, "own", Job("a"))
    assert isinstance(first, Work)
    assert first.purpose == RoundWork(state.id, "own")
    assert combining.enqueue(state, "absorb", Job("b"), 1) == []
    assert combining.enqueue(state, "absorb", Job("c"), 0) == []
    assert combining.pump(state) == []  # the first one is under way
    for place, name in ((1, "b"), (0, "c")):
        state.busy = False
        (work,) = combining.pump(state)
        assert isinstance(work, Work)
        assert (work.purpose, work.job.run()) == (RoundWork(state.id, "absorb", place), name)
    state.busy = False
    assert ready(state) == []


def test_a_childs_partial_counts_once_it_is_in_the_sum(bench: Bench) -> None:
    state = invitee(bench, 1)
    state.children = [child(bench, 2, Place.JOINED), child(bench, 3, Place.JOINED)]
    for place in (0, 1):
        partial = Partial(state.id, 5, 4, (), bytes(state.encoding.nbytes))
        combining.absorb(ports(bench), state, place, partial)
        assert (state.children[place].place, state.cohort) == (Place.ABSORBING, 1 + 5 * place)
        seeds = {bench.members[4].descriptor.peer: b"s" * 32}
        combining.absorbed(state, place, Opened(seeds) if place == 0 else None)  # the second one's seed does not open
    first, second = state.children
    assert (first.place, first.cohort, first.opened) == (Place.DELIVERED, 5, 1)
    assert (second.place, second.cohort) == (Place.GONE, 0)
    assert state.cohort == 6


# --- when to combine, and when not --------------------------------------------------------------------------------


def test_nothing_is_combined_before_everything_is_here(bench: Bench) -> None:
    state = invitee(bench, 1, 2, 3)
    state.children = [child(bench, 4, Place.JOINED)]
    assert combining.settle(ports(bench), state, NOW) == ([], None)
    with_own(bench, state)
    assert combining.settle(ports(bench), state, NOW) == ([], None)
    state.children[0].place = Place.GONE
    state.busy = True
    assert combining.settle(ports(bench), state, NOW) == ([], None)
    state.busy = False
    effects, reason = combining.settle(ports(bench), state, NOW)
    assert reason is None
    assert [e.purpose.step for e in effects if isinstance(e, Work)] == ["seal"]
    assert state.phase is Phase.COMBINING
    assert combining.settle(ports(bench), state, NOW) == ([], None)  # once


def test_masks_are_shared_with_every_ancestor_within_the_threshold_but_the_parent() -> None:
    """The parent needs none: the partial goes to it and to nobody else."""
    bench = make_bench()
    state = with_own(bench, invitee(bench, 1, 2, 3, 4))
    state.ancestors = tuple(bench.members[i].descriptor for i in (1, 2, 3, 4))
    (work,), _ = combining.settle(ports(bench), state, NOW)
    assert isinstance(work, Work)
    mask: Any = work.job
    assert mask.trustees == (bench.members[2].descriptor, bench.members[3].descriptor)
    assert len(set(mask.seeds)) == 2  # a fresh one each


def test_the_seeds_that_are_sealed_and_recorded_are_those_of_the_masks_that_were_added() -> None:
    bench = make_bench()
    state = invitee(bench, 1, 2, 3)
    state.recording = Recording()
    (added,) = combining.contributed(ports(bench), state, Contribution((np.zeros(3),)))
    assert isinstance(added, Work)
    own: Any = added.job
    assert len(set(own.seeds)) == 2
    state.busy, state.own_added = False, True
    assert state.recording.masks == {}  # nothing is told of masks that never left
    (work,), _ = combining.settle(ports(bench), state, NOW)
    assert isinstance(work, Work)
    seal: Any = work.job
    assert seal.seeds == own.seeds
    assert state.recording.masks == {d.peer: s for d, s in zip(seal.trustees, own.seeds, strict=True)}


def test_after_the_deadline_what_is_missing_is_gone_but_work_under_way_is_waited_for(bench: Bench) -> None:
    state = with_own(bench, invitee(bench, 1, 2, 3))
    state.closing = True
    places = (Place.EMPTY, Place.CALLING, Place.JOINED, Place.ABSORBING, Place.DELIVERED)
    state.children = [child(bench, 4, place) for place in places]
    assert combining.settle(ports(bench), state, NOW) == ([], None)
    left = [c.place for c in state.children]
    assert left == [Place.GONE, Place.GONE, Place.GONE, Place.ABSORBING, Place.DELIVERED]
    combining.absorbed(state, 3, None)
    effects, _ = combining.settle(ports(bench), state, NOW)
    assert len(effects) == 1


@pytest.mark.parametrize(
    ("above", "closing", "model", "own", "reason"),
    [
        ((1,), False, True, True, AbstainReason.TOO_FEW_NEIGHBOURS),
        ((1, 2, 3), True, True, False, AbstainReason.NO_CONTRIBUTION),
        ((1, 2, 3), True, False, False, AbstainReason.NO_PARAMETERS),
        ((1, 2, 3), False, True, False, None),
    ],
)
def test_why_a_node_abstains(
    bench: Bench, above: tuple[int, ...], closing: bool, model: bool, own: bool, reason: AbstainReason | None
) -> None:
    state = invitee(bench, *above)
    if own:
        with_own(bench, state)
    state.closing = closing
    if not model:
        state.checkpoint = None
    assert combining.settle(ports(bench), state, NOW) == ([], reason)
    assert state.phase is Phase.GATHERING


@pytest.mark.parametrize("cohort", [3, 4])
def test_a_root_publishes_no_fewer_than_the_minimum_cohort(bench: Bench, cohort: int) -> None:
    state = with_own(bench, at_root(ports(bench), bench.task, bench.model, 8, NOW))
    delivered = child(bench, 1, Place.DELIVERED, cohort=cohort - 1)
    delivered.opened = 2
    state.children = [delivered]
    effects, reason = combining.settle(ports(bench), state, NOW)
    if cohort < bench.task.minimum_cohort:
        assert (effects, reason) == ([], AbstainReason.COHORT_TOO_SMALL)
    else:
        assert reason is None
        assert [e.purpose.step for e in effects if isinstance(e, Work)] == ["publish"]


# --- what leaves, and what is durable before ----------------------------------------------------------------------


@pytest.mark.parametrize("uses", [(), (b"model",), (b"model", b"parameters")])
def test_what_a_contribution_uses_up_is_durable_before_the_partial_leaves(
    bench: Bench, uses: tuple[bytes, ...]
) -> None:
    state = with_own(bench, invitee(bench, 1, 2, 3))
    state.uses, state.recording, state.phase = uses, Recording(), Phase.COMBINING
    effects = combining.sealed(ports(bench), state, (), NOW)
    kinds = [type(e.item if isinstance(e, Report) else e) for e in effects]
    assert kinds == [*([PersistUse] if uses else []), reports.Recorded, Send, reports.Contributed]
    assert [e for e in effects if isinstance(e, PersistUse)] == ([PersistUse(uses)] if uses else [])  # all at once
    (partial,) = said(effects)
    assert (partial.cohort, partial.min_neighbours) == (1, 3)
    assert bytes(partial.vector) == state.vector().tobytes()
    assert next(e.to for e in effects if isinstance(e, Send)) == bench.members[1].descriptor
    assert state.phase is Phase.SENT


def test_a_sum_that_was_rejected_has_used_up_the_contribution_all_the_same(bench: Bench) -> None:
    """The total was opened: the values in it have been seen, whatever becomes of the model."""
    state = with_own(bench, at_root(ports(bench), bench.task, bench.model, 8, NOW))
    state.uses, state.phase = (b"model", b"parameters"), Phase.COMBINING
    effects = combining.published(ports(bench), state, None, NOW + 1)
    assert effects[0] == PersistUse((b"model", b"parameters"))
    (ended,) = told(effects)
    assert (ended.published, ended.loss) == (False, None)
    assert ended.reason == AbstainReason.SUM_REJECTED.sentence
    assert state.phase is Phase.ABSTAINED


def test_whoever_abstains_says_so_to_its_parent_unless_that_is_the_one_that_is_lost(bench: Bench) -> None:
    for reason in AbstainReason:
        state = invitee(bench, 1)
        effects = combining.abstain(ports(bench), state, reason, NOW)
        words = [] if reason is AbstainReason.PARENT_LOST else [Abstain(state.id, int(reason))]
        assert said(effects) == words
        assert told(effects) == [reports.Abstained(state.id, bench.task.id, reason.sentence)]
        assert not any(isinstance(e, PersistUse) for e in effects)  # nothing was seen: it may be given to another round
    root = at_root(ports(bench), bench.task, bench.model, 8, NOW)
    effects = combining.abstain(ports(bench), root, AbstainReason.COHORT_TOO_SMALL, NOW)
    assert said(effects) == []
    assert [item.reason for item in told(effects)] == ["fewer contributions than the minimum cohort"]
