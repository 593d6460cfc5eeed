"""One round machine, message by message: what it says, when, to whom, and what it refuses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.aggregation.machine import RoundMachine
from protocol.aggregation.phases import AbstainReason, DeclineReason, Phase
from protocol.aggregation.round import Round
from protocol.aggregation.shape import child_caps, height
from protocol.application import Freshness
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import RoundId
from protocol.base.limits import MAX_BUDGET_S, MAX_DEPTH, MAX_ROUNDS_AT_ONCE, MAX_ROUNDS_OF_ONE_PARENT
from protocol.base.settings import LAN
from protocol.effects import Effect, PersistRound, PersistUse, Send, Work
from protocol.identity.sealing import seal_seed
from protocol.masking.prg import add_masks
from protocol.training.state import digest
from protocol.training.task import RoundKind
from protocol.wire.messages import (
    Abstain,
    Accept,
    Checkpoint,
    Decline,
    Offer,
    Parameters,
    Partial,
    SealedSeed,
)
from protocol.work import RoundStep, RoundWork
from tests.protocol.aggregation.bench import NOW, Bench, make_bench, said, told

ROUND = RoundId(b"r" * 16)


def kinds(effects: list[Effect]) -> list[str]:
    """What an effect is, in one word each, in order."""
    return [
        type(e.message).__name__ if isinstance(e, Send) else e.purpose.step if isinstance(e, Work) else type(e).__name__
        for e in effects
    ]


def do(bench: Bench, work: Effect) -> list[Effect]:
    """What a job of a round leads to."""
    assert isinstance(work, Work)
    assert isinstance(work.purpose, RoundWork)
    return bench.machine.on_work_done(work.purpose, work.job.run(), NOW)


def state(bench: Bench, round_id: RoundId = ROUND) -> Round:
    return bench.machine._rounds[round_id]


def seed(bench: Bench, contributor: int, trustee: int, round_id: RoundId = ROUND) -> SealedSeed:
    peer, to = bench.members[contributor].descriptor.peer, bench.members[trustee].descriptor
    names = {"network": bench.network, "round": round_id, "contributor": peer, "trustee": to.peer}
    return SealedSeed(peer, seal_seed(bench.members[contributor].keyring, to, bytes([contributor]) * 32, **names))


def begin(bench: Bench, planned: int = 4) -> list[Effect]:
    """The machine's peer is root of a round."""
    return bench.machine.start(bench.task, bench.model, planned, NOW)


def root_round(bench: Bench) -> tuple[RoundId, Offer, int]:
    """Its id, the offer it made, and to which member."""
    effects = begin(bench)
    offers = [e for e in effects if isinstance(e, Send)]
    assert kinds(effects) == ["PersistRound", "Offer", "contribute"]
    bench.pending = [e for e in effects if isinstance(e, Work)]  # type: ignore[attr-defined]
    peers = [m.descriptor.peer for m in bench.members]
    return offers[0].message.round, offers[0].message, peers.index(offers[0].to.peer)


# --- an invitee -------------------------------------------------------------------------------------------------


def test_a_leaf_from_offer_to_partial() -> None:
    bench = make_bench()
    offer = bench.offer(1, 2, 3, cap=1)
    effects = bench.take(offer)
    # durable before anybody hears of it
    assert kinds(effects) == ["PersistRound", "Accept", "identify"]
    assert effects[0] == PersistRound(ROUND, NOW + MAX_BUDGET_S)
    assert said(effects) == [Accept(ROUND, False)]
    after = bench.finish(effects[2:])
    assert [type(e).__name__ for e in after] == ["Report", "Send", "Report"]
    (partial,) = said(after)
    assert isinstance(partial, Partial)
    assert (partial.round, partial.cohort, partial.min_neighbours) == (ROUND, 1, 3)
    assert [len(group) for group in partial.seeds] == [0, 1, 1]
    assert len(partial.vector) == 4 * 6
    assert bench.machine.idle
    record = told(after)[0].record
    assert record.sent_vector == bytes(partial.vector)
    assert list(record.ancestors) == [bench.members[i].descriptor.peer for i in (1, 2, 3)]
    assert set(record.masks) == {bench.members[i].descriptor.peer for i in (2, 3)}
    assert told(after)[1] == reports.Contributed(ROUND, bench.task.id, 1, 3)


def test_a_place_too_near_the_root_for_its_cap_is_declined_and_costs_nothing() -> None:
    """Two ancestors are two mask neighbours, and there is nobody below."""
    bench = make_bench()
    effects = bench.take(bench.offer(1, 2, cap=1))
    assert kinds(effects) == ["Report", "Decline"]
    assert said(effects) == [Decline(ROUND, DeclineReason.BAD_SHAPE)]


@pytest.mark.parametrize("held", [True, False])
def test_a_round_that_is_over_at_once_makes_no_work(held: bool) -> None:
    """The only members are this peer and those above it."""
    bench = make_bench(size=3)
    effects = bench.take(bench.offer(1, 2, cap=2), held=bench.checkpoint if held else None)
    assert said(effects) == [Accept(ROUND, False), Abstain(ROUND, AbstainReason.TOO_FEW_NEIGHBOURS)]
    assert not any(isinstance(e, Work) for e in effects)
    assert bench.machine.idle
    ended = make_bench(size=1)
    assert kinds(begin(ended)) == ["PersistRound", "Report", "Report"]
    assert ended.machine.idle


def test_the_same_round_is_entered_once() -> None:
    bench = make_bench()
    offer = bench.offer(1, 2, 3)
    effects = bench.take(offer)
    assert said(bench.take(bench.offer(4, 2, 3))) == [Decline(ROUND, DeclineReason.ALREADY_IN_ROUND)]
    bench.finish(effects)
    assert said(bench.take(bench.offer(4, 2, 3))) == [Decline(ROUND, DeclineReason.ALREADY_IN_ROUND)]


def test_a_round_from_before_a_restart_is_not_entered() -> None:
    bench = make_bench()
    bench.machine = RoundMachine(bench.machine._ports, {ROUND: NOW + 10}, set())
    assert said(bench.take(bench.offer(1, 2, 3))) == [Decline(ROUND, DeclineReason.ALREADY_IN_ROUND)]
    bench.machine.tick(NOW + 11)
    bench.machine.tick(NOW + 11 + MAX_BUDGET_S)
    assert bench.machine._taken == {}


def test_every_reason_to_decline() -> None:
    def reason(how: Any = None, application: Any = None, **changes: Any) -> DeclineReason:
        bench = make_bench(fresh=changes.pop("fresh", Freshness.FRESH))
        if application is not None:
            application(bench)
        effects = bench.take(bench.offer(1, 2, 3, **changes), **(how or {}))
        assert kinds(effects) == ["Report", "Decline"]
        (decline,) = said(effects)
        (report,) = told(effects)
        assert report.reason == DeclineReason(decline.reason).sentence
        assert bench.machine.idle
        return DeclineReason(decline.reason)

    def closed(bench: Bench) -> None:
        bench.application.closed = "on battery"

    def full(bench: Bench) -> None:
        for i in range(MAX_ROUNDS_AT_ONCE):
            bench.take(bench.offer(4 + i % 2, 2, 3, round_id=bytes([i]) * 16))

    def spent(bench: Bench) -> None:
        bench.machine._uses.add(b"model" + bench.model.digest)

    assert reason({"task": None}) is DeclineReason.UNKNOWN_TASK
    assert reason({"agreed": False}) is DeclineReason.TASK_REFUSED
    assert reason(application=closed) is DeclineReason.GATE_CLOSED
    assert reason(fresh=Freshness.NONE) is DeclineReason.NO_RECORDS
    assert reason(fresh=Freshness.DETERMINISTIC, application=spent) is DeclineReason.NO_FRESH_RECORDS
    assert reason(budget_s=LAN.hop_allowance_s) is DeclineReason.TOO_LATE
    assert reason(collusion_threshold=2) is DeclineReason.BAD_SHAPE
    assert reason(minimum_cohort=3) is DeclineReason.BAD_SHAPE
    assert reason(branching=5) is DeclineReason.BAD_SHAPE
    assert reason(kind=int(RoundKind.STATISTICS)) is DeclineReason.BAD_SHAPE
    assert reason(cap=8) is DeclineReason.BAD_SHAPE
    assert reason(depth=2) is DeclineReason.BAD_SHAPE
    assert reason(cohort_cap=1001) is DeclineReason.BAD_SHAPE
    assert reason(slice_low=2, slice_high=1) is DeclineReason.BAD_SHAPE
    assert reason(depth=4) is DeclineReason.BAD_ANCESTORS
    bench = make_bench()
    bench.machine.leave(NOW)
    assert said(bench.take(bench.offer(1, 2, 3))) == [Decline(ROUND, DeclineReason.LEAVING)]
    bench = make_bench()
    full(bench)
    assert said(bench.take(bench.offer(1, 2, 3))) == [Decline(ROUND, DeclineReason.BUSY)]


def test_one_record_answers_one_model_once_rounds_under_way_included() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    effects = bench.take(bench.offer(1, 2, 3))
    second = bench.take(bench.offer(1, 2, 3, round_id=b"q" * 16))
    assert said(second) == [Decline(b"q" * 16, DeclineReason.NO_FRESH_RECORDS)]
    after = bench.finish(effects)
    uses = [i for i, e in enumerate(after) if isinstance(e, PersistUse)]
    sends = [i for i, e in enumerate(after) if isinstance(e, Send) and isinstance(e.message, Partial)]
    assert uses[0] < sends[0]
    assert said(bench.take(bench.offer(1, 2, 3, round_id=b"q" * 16))) == [
        Decline(b"q" * 16, DeclineReason.NO_FRESH_RECORDS)
    ]
    other = Checkpoint(bench.task.id, 0, np.ones(3, "<f4").tobytes())
    another = bench.offer(1, 2, 3, round_id=b"p" * 16, digest=digest(other), state=other.state)
    assert isinstance(said(bench.take(another))[0], Accept)


def test_one_record_is_not_used_up_by_a_round_that_sent_nothing() -> None:
    bench = make_bench(fresh=Freshness.DETERMINISTIC)
    child = bench.members[parent_of_one(bench)].descriptor
    effects = bench.machine.on_abstain(child, Abstain(ROUND, 0), NOW)
    assert kinds(effects) == ["Report", "Report", "Abstain"]
    assert isinstance(said(bench.take(bench.offer(1, 2, 3, round_id=b"q" * 16)))[0], Accept)


def test_the_model_may_follow_acceptance() -> None:
    bench = make_bench()
    offer = bench.offer(1, 2, 3, state=b"")
    effects = bench.take(offer)
    assert said(effects) == [Accept(ROUND, True)]
    parent = bench.members[1].descriptor
    assert bench.machine.held(ROUND) is None
    with pytest.raises(Refused, match="parameters"):
        bench.machine.on_parameters(bench.members[2].descriptor, Parameters(ROUND, bench.checkpoint), NOW)
    with pytest.raises(Refused, match="another model"):
        bench.machine.on_parameters(parent, Parameters(ROUND, replace(bench.checkpoint, age=1)), NOW)
    after = bench.machine.on_parameters(parent, Parameters(ROUND, bench.checkpoint), NOW)
    assert kinds(after) == ["identify"]
    with pytest.raises(Refused, match="parameters"):  # one is being checked already
        bench.machine.on_parameters(parent, Parameters(ROUND, bench.checkpoint), NOW)
    assert kinds(said_or_work := bench.finish(after))[-2:] == ["Partial", "Report"], said_or_work


def test_a_model_that_is_not_the_one_announced() -> None:
    bench = make_bench()
    for i, wrong in enumerate((np.ones(3, "<f4"), np.full(3, np.nan, "<f4"), np.ones(4, "<f4"))):
        round_id = bytes([i]) * 16
        effects = bench.finish(bench.take(bench.offer(1, 2, 3, round_id=round_id, state=wrong.tobytes())))
        assert said(effects)[-1] == Abstain(RoundId(round_id), AbstainReason.NO_PARAMETERS)
    assert bench.machine.idle


def test_what_this_peer_holds_is_not_asked_for_and_passed_on() -> None:
    bench = make_bench()
    effects = bench.take(bench.offer(1, 2, 3, state=b"", cap=2), held=bench.checkpoint)
    assert said(effects)[0] == Accept(ROUND, False)
    offer = said(effects)[1]
    assert isinstance(offer, Offer)
    assert offer.state == bench.checkpoint.state


def test_a_slow_contribution_is_not_waited_for_beyond_the_deadline() -> None:
    bench = make_bench()
    bench.take(bench.offer(1, 2, 3))
    deadline, why = bench.machine.next_deadline()
    assert NOW + 6.9 < deadline < NOW + 7.0
    assert why == "round deadline"
    assert bench.machine.tick(deadline - 0.01) == []
    assert said(bench.machine.tick(deadline)) == [Abstain(ROUND, AbstainReason.NO_PARAMETERS)]
    assert bench.machine.idle
    assert bench.machine.next_deadline()[0] == float("inf")


@pytest.mark.parametrize("budget", [8.0, 600.0])
def test_no_parent_keeps_a_peer_for_longer_than_its_own_settings_ask_for(budget: float) -> None:
    bench = make_bench()
    bench.take(bench.offer(1, 2, 3, state=b"", budget_s=budget))
    levels = height(0, 8, 2, 3)
    own = LAN.round_budget_s + levels * LAN.hop_allowance_s
    transfer = 24 / LAN.link_bytes_per_s
    expected = min(budget, 2 * (own + 2 * levels * transfer)) - LAN.hop_allowance_s - transfer
    assert bench.machine.next_deadline()[0] == pytest.approx(NOW + expected)


# --- a parent ---------------------------------------------------------------------------------------------------


def parent_of_one(bench: Bench) -> int:
    """The machine's peer, child of the root's child, has one child's place; returns who was invited."""
    effects = bench.finish(bench.take(bench.offer(1, 2, cap=2)))
    (offer,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    message = offer.message
    assert (message.depth, message.cap, message.cohort_cap) == (3, 1, 8)
    assert len(message.ancestors) == 3
    return [m.descriptor.peer for m in bench.members].index(offer.to.peer)


def childs_partial(bench: Bench, child: int, **changes: Any) -> Partial:
    """What an honest leaf under the machine's peer (depth 3, S = 3) sends: seeds for ancestors 2 and 3."""
    groups = ((), (seed(bench, child, 1),), (seed(bench, child, 2),))
    return replace(Partial(ROUND, 1, 3, groups, np.arange(6, dtype="<u4").tobytes()), **changes)


def test_a_parent_waits_for_its_child_and_sends_both() -> None:
    bench = make_bench()
    child = parent_of_one(bench)
    descriptor = bench.members[child].descriptor
    assert bench.machine.on_accept(descriptor, Accept(ROUND, False), NOW) == []
    effects = bench.finish(bench.machine.on_partial(descriptor, childs_partial(bench, child), NOW))
    (partial,) = said(effects)
    assert isinstance(partial, Partial)
    assert (partial.cohort, partial.min_neighbours) == (2, 3)
    own, below = bench.members[0].descriptor.peer, descriptor.peer
    assert [[s.contributor for s in group] for group in partial.seeds] == [[below], [below, own]]


def test_a_child_that_needs_the_model_gets_it_when_it_is_here() -> None:
    bench = make_bench()
    effects = bench.take(bench.offer(1, 2, cap=2, state=b""))
    (offer,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    assert bench.machine.on_accept(offer.to, Accept(ROUND, True), NOW) == []
    parent = bench.members[1].descriptor
    after = bench.finish(bench.machine.on_parameters(parent, Parameters(ROUND, bench.checkpoint), NOW))
    assert said(after) == [Parameters(ROUND, bench.checkpoint)]
    assert [e.to.peer for e in after if isinstance(e, Send)] == [offer.to.peer]


FAULTS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "over its cap": ({"cohort": 2}, Refusal.OVER_CAP),
    "counts nobody": ({"cohort": 0}, Refusal.OVER_CAP),
    "short": ({"vector": bytes(20)}, Refusal.WRONG_LENGTH),
    "long": ({"vector": bytes(28)}, Refusal.WRONG_LENGTH),
    "no seeds": ({"seeds": ((), (), ())}, Refusal.BAD_SEEDS),
    "a group too few": ({"seeds": ((), ())}, Refusal.BAD_SEEDS),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_partial_that_cannot_be_one_costs_its_subtree_and_nothing_else(fault: str) -> None:
    bench = make_bench()
    child = parent_of_one(bench)
    descriptor = bench.members[child].descriptor
    bench.machine.on_accept(descriptor, Accept(ROUND, False), NOW)
    before = state(bench).vector().copy()
    changes, reason = FAULTS[fault]
    kept = state(bench)
    effects = bench.machine.on_partial(descriptor, childs_partial(bench, child, **changes), NOW)
    assert told(effects)[0].reason is reason
    np.testing.assert_array_equal(kept.vector(), before)
    # two ancestors and no child left: too few
    assert said(effects) == [Abstain(ROUND, AbstainReason.TOO_FEW_NEIGHBOURS)]


def test_an_unopenable_seed_costs_its_subtree_and_nothing_else() -> None:
    bench = make_bench(branching=2)
    offer = bench.offer(1, 2, cap=5)
    effects = bench.finish(bench.take(offer))
    offers = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    assert [e.message.cap for e in offers] == [2, 2]
    peers = [m.descriptor.peer for m in bench.members]
    first, second = (peers.index(e.to.peer) for e in offers)
    grandchild = next(i for i in range(3, 8) if i not in (first, second))

    def partial(child: int, good: bool) -> Partial:
        below = seed(bench, grandchild, 0 if good else 5)
        groups = ((below,), (seed(bench, grandchild, 1), seed(bench, child, 1)), (seed(bench, child, 2),))
        return Partial(ROUND, 2, 3, groups, np.arange(6, dtype="<u4").tobytes())

    for e in offers:
        bench.machine.on_accept(e.to, Accept(ROUND, False), NOW)
    bad = bench.finish(bench.machine.on_partial(offers[0].to, partial(first, False), NOW))
    assert told(bad)[0].reason is Refusal.BAD_SEEDS
    assert said(bad) == []
    good = bench.finish(bench.machine.on_partial(offers[1].to, partial(second, True), NOW))
    (sent,) = said(good)
    assert (sent.cohort, sent.min_neighbours) == (3, 3)  # two above, the child; the grandchild makes four
    record = told(good)[0].record
    assert record.children == (offers[1].to.peer,)
    assert set(record.opened) == {bench.members[grandchild].descriptor.peer}


@pytest.mark.parametrize("stands", ["here", "above", "at the root", "as another child", "under another child"])
def test_a_contributor_that_stands_elsewhere_is_no_neighbour(stands: str) -> None:
    """Seeds in the name of somebody who is counted already would let a value out with too few true neighbours."""
    bench = make_bench(branching=2)
    effects = bench.finish(bench.take(bench.offer(1, 2, cap=5)))
    offers = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    peers = [m.descriptor.peer for m in bench.members]
    first, second = (peers.index(e.to.peer) for e in offers)
    third = next(i for i in range(3, 8) if i not in (first, second))
    for e in offers:
        bench.machine.on_accept(e.to, Accept(ROUND, False), NOW)

    def partial(child: int, below: int) -> Partial:
        groups = ((seed(bench, below, 0),), (seed(bench, below, 1), seed(bench, child, 1)), (seed(bench, child, 2),))
        return Partial(ROUND, 2, 3, groups, np.arange(6, dtype="<u4").tobytes())

    if stands == "under another child":
        bench.finish(bench.machine.on_partial(offers[1].to, partial(second, third), NOW))
    named = {"here": 0, "above": 1, "at the root": 2, "as another child": second, "under another child": third}[stands]
    refused = told(bench.finish(bench.machine.on_partial(offers[0].to, partial(first, named), NOW)))[0]
    assert (refused.reason, refused.detail) == (Refusal.BAD_SEEDS, "a contributor that stands elsewhere")


def test_who_did_not_answer_here_may_stand_below() -> None:
    """It was called, is slow to answer, and has joined one of this node's children meanwhile."""
    bench = make_bench(branching=2)
    effects = bench.finish(bench.take(bench.offer(1, 2, cap=5)))
    offers = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    peers = [m.descriptor.peer for m in bench.members]
    child, called = (peers.index(e.to.peer) for e in offers)
    bench.machine.on_accept(offers[0].to, Accept(ROUND, False), NOW)
    groups = ((seed(bench, called, 0),), (seed(bench, called, 1), seed(bench, child, 1)), (seed(bench, child, 2),))
    partial = Partial(ROUND, 2, 3, groups, np.arange(6, dtype="<u4").tobytes())
    bench.finish(bench.machine.on_partial(offers[0].to, partial, NOW))
    assert [c.opened for c in state(bench).delivered] == [1]


def test_doubled_foreign_and_late_partials_are_refused() -> None:
    bench = make_bench(branching=2)
    effects = bench.finish(bench.take(bench.offer(1, 2, cap=3)))
    offers = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
    peers = [m.descriptor.peer for m in bench.members]
    child = peers.index(offers[0].to.peer)
    partial = childs_partial(bench, child)
    with pytest.raises(Refused) as foreign:
        bench.machine.on_partial(bench.members[2].descriptor, partial, NOW)
    assert foreign.value.reason is Refusal.NOT_EXPECTED
    with pytest.raises(Refused) as elsewhere:
        bench.machine.on_partial(offers[0].to, replace(partial, round=RoundId(b"x" * 16)), NOW)
    assert elsewhere.value.reason is Refusal.NOT_EXPECTED
    # its accept was overtaken: no fault of the child
    bench.finish(bench.machine.on_partial(offers[0].to, partial, NOW))
    before = state(bench).vector().copy()
    with pytest.raises(Refused) as doubled:
        bench.machine.on_partial(offers[0].to, partial, NOW)
    assert doubled.value.reason is Refusal.OUT_OF_PHASE
    np.testing.assert_array_equal(state(bench).vector(), before)
    assert bench.machine.on_accept(offers[1].to, Accept(ROUND, False), NOW) == []
    kept = state(bench)
    after = bench.machine.tick(kept.deadline)  # the other place is given up, and combining begins
    assert kinds(after) == ["seal"]
    with pytest.raises(Refused) as late:
        bench.machine.on_partial(offers[1].to, childs_partial(bench, peers.index(offers[1].to.peer)), kept.deadline)
    assert late.value.reason is Refusal.OUT_OF_PHASE
    (sent,) = said(bench.finish(after))
    assert sent.cohort == 2
    with pytest.raises(Refused) as over:
        bench.machine.on_partial(offers[1].to, childs_partial(bench, peers.index(offers[1].to.peer)), kept.deadline)
    assert over.value.reason is Refusal.OUT_OF_PHASE


def test_a_silent_or_unwilling_candidate_is_replaced_until_attempts_run_out() -> None:
    bench = make_bench(size=12)
    effects = bench.finish(bench.take(bench.offer(1, 2, cap=2)))
    tried = []
    now = NOW
    for attempt in range(LAN.offer_attempts):
        (offer,) = [e for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
        assert offer.to.peer not in tried
        assert offer.to.peer not in {bench.members[i].descriptor.peer for i in (0, 1, 2)}
        tried.append(offer.to.peer)
        match attempt % 3:
            case 0:
                effects = bench.machine.on_decline(offer.to, Decline(ROUND, 1), now)
            case 1:
                effects = bench.machine.on_send_failed(offer.to.peer, offer.message, now)
            case _:
                now, why = bench.machine.next_deadline()
                assert why == "answer to an offer"
                assert bench.machine.tick(now - 0.01) == []
                effects = bench.machine.tick(now)
                with pytest.raises(Refused):  # its place is another's by now
                    bench.machine.on_accept(offer.to, Accept(ROUND, False), now)
    assert said(effects) == [Abstain(ROUND, AbstainReason.TOO_FEW_NEIGHBOURS)]


def test_an_abstaining_or_lost_child_is_not_waited_for() -> None:
    for how in ("abstain", "lost", "parameters undeliverable"):
        bench = make_bench()
        child = parent_of_one(bench)
        descriptor = bench.members[child].descriptor
        bench.machine.on_accept(descriptor, Accept(ROUND, False), NOW)
        match how:
            case "abstain":
                effects = bench.machine.on_abstain(descriptor, Abstain(ROUND, 0), NOW)
            case "lost":
                assert bench.machine.tick(NOW + 0.1) == []
                bench.lost.add(descriptor.peer)
                effects = bench.machine.tick(NOW + 0.2)
            case _:
                effects = bench.machine.on_send_failed(descriptor.peer, Parameters(ROUND, bench.checkpoint), NOW)
        assert said(effects) == [Abstain(ROUND, AbstainReason.TOO_FEW_NEIGHBOURS)], how
    bench = make_bench()
    parent_of_one(bench)
    with pytest.raises(Refused):  # it is not a child
        bench.machine.on_abstain(bench.members[1].descriptor, Abstain(ROUND, 0), NOW)


def test_a_parent_out_of_reach_ends_the_round_without_a_word() -> None:
    bench = make_bench()
    parent_of_one(bench)
    effects = bench.machine.on_send_failed(bench.members[1].descriptor.peer, Accept(ROUND, False), NOW)
    assert said(effects) == []
    assert bench.machine.idle


def test_peers_stand_between_two_parents_slices() -> None:
    """Siblings' offers name disjoint slices that make up their parent's."""
    bench = make_bench(size=20, branching=3)
    effects = bench.take(bench.offer(1, 2, cap=13, cohort_cap=30, slice_low=1 << 60, slice_high=1 << 62))
    offers = [m for m in said(effects) if isinstance(m, Offer)]
    assert [o.cap for o in offers] == [4, 4, 4]
    borders = [(o.slice_low, o.slice_high) for o in offers]
    assert borders[0][0] == 1 << 60
    assert borders[-1][1] == 1 << 62
    assert borders[0][1] == borders[1][0]
    assert borders[1][1] == borders[2][0]
    assert len({e.to.peer for e in effects if isinstance(e, Send)}) == 4


# --- a root -----------------------------------------------------------------------------------------------------


def chain_partial(bench: Bench, child: int, round_id: RoundId, cohort: int = 3) -> Partial:
    """What the root's only child sends for itself and a chain of two below it: no masks but those to the root."""
    below = [i for i in range(1, 8) if i != child][: cohort - 1]
    groups = (tuple(seed(bench, i, 0, round_id) for i in below),)
    encoding = bench.machine._rounds[round_id].encoding
    total = encoding.zeros()
    values = (np.full(3, 0.25), np.array([8.0]), np.array([4.0]), np.array([2.0]))
    for i in range(cohort):
        encoding.add_encoded(values, total, bytes([i]) * 32)
    add_masks(total, [bytes([i]) * 32 for i in below])
    return Partial(round_id, cohort, 3, groups, total.tobytes())


def test_a_root_publishes_the_exact_sum_and_hands_the_model_on() -> None:
    bench = make_bench()
    round_id, offer, child = root_round(bench)
    assert (offer.depth, offer.cap, offer.cohort_cap) == (1, 3, 4)
    assert bench.machine.running(bench.task.id, 0)
    descriptor = bench.members[child].descriptor
    assert said(bench.finish(bench.pending)) == []  # type: ignore[attr-defined]
    bench.machine.on_accept(descriptor, Accept(round_id, False), NOW)
    effects = bench.finish(bench.machine.on_partial(descriptor, chain_partial(bench, child, round_id), NOW), NOW + 0.5)
    ended = told(effects)[-1]
    assert isinstance(ended, reports.RoundEnded)
    assert (ended.published, ended.cohort, ended.planned, ended.finished) == (True, 4, 4, NOW + 0.5)
    (outcome,) = bench.machine.outcomes
    assert outcome.published is not None
    assert outcome.published.checkpoint.age == 1
    assert outcome.model.digest == bench.model.digest
    assert bench.machine.idle


def test_a_root_refuses_a_sum_that_cannot_be_one() -> None:
    bench = make_bench()
    round_id, _, child = root_round(bench)
    bench.finish(bench.pending)  # type: ignore[attr-defined]
    bench.machine.on_accept(bench.members[child].descriptor, Accept(round_id, False), NOW)
    partial = chain_partial(bench, child, round_id)
    noise = np.frombuffer(partial.vector, "<u4") + np.uint32(1 << 20)
    effects = bench.machine.on_partial(bench.members[child].descriptor, replace(partial, vector=noise.tobytes()), NOW)
    ended = told(bench.finish(effects))[-1]
    assert not ended.published
    assert ended.reason == AbstainReason.SUM_REJECTED.sentence
    assert bench.machine.outcomes[0].published is None


def test_a_root_with_too_few_publishes_nothing() -> None:
    bench = make_bench(minimum_cohort=5)
    effects = begin(bench, 5)
    (sent,) = [e for e in effects if isinstance(e, Send)]
    round_id, child = sent.message.round, [m.descriptor.peer for m in bench.members].index(sent.to.peer)
    bench.finish([e for e in effects if isinstance(e, Work)])
    bench.machine.on_accept(sent.to, Accept(round_id, False), NOW)
    ended = told(bench.finish(bench.machine.on_partial(sent.to, chain_partial(bench, child, round_id), NOW)))[-1]
    assert (ended.published, ended.reason) == (False, AbstainReason.COHORT_TOO_SMALL.sentence)


def test_a_root_that_cannot_contribute_starts_nothing() -> None:
    for fresh, used in ((Freshness.NONE, False), (Freshness.DETERMINISTIC, True)):
        bench = make_bench(fresh=fresh)
        if used:
            bench.machine._uses.add(b"model" + bench.model.digest)
        assert bench.machine.spent(bench.task, bench.model) is used
        effects = begin(bench)
        assert said(effects) == []
        assert told(effects)[0].reason == AbstainReason.NO_CONTRIBUTION.sentence
        assert bench.machine.outcomes[0].published is None


def test_leaving_ends_what_is_gathered_and_says_so() -> None:
    bench = make_bench()
    bench.take(bench.offer(1, 2, cap=2))
    begin(bench)
    effects = bench.machine.leave(NOW)
    assert said(effects) == [Abstain(ROUND, AbstainReason.LEAVING)]
    assert told(effects)[-1].reason == AbstainReason.LEAVING.sentence
    assert bench.machine.outcomes[0].published is None
    assert bench.machine.idle


def test_a_partial_under_way_is_not_called_back_by_leaving() -> None:
    """Combining has begun: the last work is waited for."""
    bench = make_bench()
    queue = bench.take(bench.offer(1, 2, 3))[2:]
    while kinds(queue) != ["seal"]:
        (work,) = [e for e in queue if isinstance(e, Work)]
        queue = do(bench, work)
    assert state(bench).phase is Phase.COMBINING
    assert bench.machine.leave(NOW) == []
    assert isinstance(said(bench.finish(queue))[0], Partial)


# --- work -------------------------------------------------------------------------------------------------------


def test_work_on_the_sum_is_done_one_after_another() -> None:
    bench = make_bench(branching=2)
    first = bench.take(bench.offer(1, 2, cap=3))
    offers = [e for e in first if isinstance(e, Send) and isinstance(e.message, Offer)]
    peers = [m.descriptor.peer for m in bench.members]
    contribute = do(bench, next(e for e in first if isinstance(e, Work)))
    one = bench.machine.on_partial(offers[0].to, childs_partial(bench, peers.index(offers[0].to.peer)), NOW)
    assert kinds(one) == ["absorb"]
    assert kinds(do(bench, contribute[0])) == []
    assert bench.machine.on_partial(offers[1].to, childs_partial(bench, peers.index(offers[1].to.peer)), NOW) == []
    second = do(bench, one[0])
    assert kinds(second) == ["own"]
    third = do(bench, second[0])
    assert kinds(third) == ["absorb"]
    assert kinds(do(bench, third[0])) == ["seal"]


def end_at_once(bench: Bench, parent: int, i: int) -> list[Effect]:
    """A round that ends as soon as it is entered, its parent being out of reach for the answer; what it began."""
    round_id = RoundId(bytes([i]) * 16)
    effects = bench.take(bench.offer(parent, 2, 3, round_id=round_id))
    bench.machine.on_send_failed(bench.members[parent].descriptor.peer, Accept(round_id, False), NOW)
    return effects


def busy(effects: list[Effect]) -> bool:
    (message,) = said(effects)
    return isinstance(message, Decline) and message.reason == DeclineReason.BUSY


def test_a_round_that_is_over_keeps_its_place_until_its_work_is_back() -> None:
    bench = make_bench()
    begun = [end_at_once(bench, 4 + i % 2, i) for i in range(MAX_ROUNDS_AT_ONCE)]
    assert all(kinds(effects) == ["PersistRound", "Accept", "identify"] for effects in begun)
    assert bench.machine.idle
    assert bench.machine.full  # a walk waits too
    assert all(busy(end_at_once(bench, 1, i)) for i in range(100, 200))
    assert bench.finish([e for e in begun[0] if isinstance(e, Work)]) == []
    assert not bench.machine.full
    assert not busy(end_at_once(bench, 1, 200))
    assert busy(end_at_once(bench, 1, 201))
    (failed,) = (e.purpose for e in begun[1] if isinstance(e, Work))
    assert isinstance(failed, RoundWork)
    assert bench.machine.on_work_failed(failed, MemoryError(), NOW) == []
    assert not busy(end_at_once(bench, 1, 202))


def test_a_place_is_given_up_with_the_last_of_several_jobs() -> None:
    """A sum under way and a contribution under way: both are waited for."""
    bench = make_bench()
    (identify,) = (e for e in bench.take(bench.offer(1, 2, cap=2)) if isinstance(e, Work))
    (contribute,) = do(bench, identify)
    child = state(bench).children[0].peer
    assert child is not None
    index = [m.descriptor.peer for m in bench.members].index(child.peer)
    (absorb,) = bench.machine.on_partial(child, childs_partial(bench, index), NOW)
    bench.machine.leave(NOW)
    assert list(bench.machine._ended) == [ROUND]
    assert do(bench, absorb) == []
    assert list(bench.machine._ended) == [ROUND]
    assert do(bench, contribute) == []
    assert not bench.machine._ended


def test_one_parent_never_takes_all_the_places() -> None:
    bench = make_bench()
    for i in range(MAX_ROUNDS_OF_ONE_PARENT // 2):  # some over, some under way
        end_at_once(bench, 1, i)
        assert isinstance(said(bench.take(bench.offer(1, 2, 3, round_id=bytes([100 + i]) * 16)))[0], Accept)
    assert busy(bench.take(bench.offer(1, 2, 3)))
    assert isinstance(said(bench.take(bench.offer(4, 2, 3)))[0], Accept)


@pytest.mark.parametrize("step", ["contribute", "own", "absorb", "seal", "identify"])
def test_work_that_fails_ends_the_round_here_and_the_parent_hears(step: RoundStep) -> None:
    bench = make_bench()
    bench.take(bench.offer(1, 2, 3))
    effects = bench.machine.on_work_failed(RoundWork(ROUND, step), MemoryError(), NOW)
    reason = AbstainReason.NO_PARAMETERS if step == "identify" else AbstainReason.WORK_FAILED
    assert said(effects) == [Abstain(ROUND, reason)]
    assert bench.machine.idle
    assert bench.machine.on_work_done(RoundWork(ROUND, step), None, NOW) == []
    assert bench.machine.on_work_failed(RoundWork(ROUND, step), MemoryError(), NOW) == []


def test_late_answers_to_a_round_that_is_over_are_no_fault() -> None:
    bench = make_bench()
    child = parent_of_one(bench)
    descriptor = bench.members[child].descriptor
    bench.machine.leave(NOW)
    assert bench.machine.on_accept(descriptor, Accept(ROUND, False), NOW) == []
    assert bench.machine.on_decline(descriptor, Decline(ROUND, 0), NOW) == []
    assert bench.machine.on_abstain(descriptor, Abstain(ROUND, 0), NOW) == []
    with pytest.raises(Refused):
        bench.machine.on_partial(descriptor, childs_partial(bench, child), NOW)


def test_the_deepest_level_that_an_offer_can_name_invites_nobody() -> None:
    """With branching 1 a large cohort is a long chain: it ends where offers end."""
    assert height(0, 500, 1, 3) == MAX_DEPTH
    assert child_caps(MAX_DEPTH, 100, 2, 3) == ()
