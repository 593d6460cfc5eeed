"""Whom a parent invites: its place's own slice first, nobody twice, nobody above, and no longer than there is time."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.aggregation.inviting import LEAST_BUDGET_S, call, open_places, vacate
from protocol.aggregation.opening import at_root
from protocol.aggregation.phases import Place
from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Child, Round
from protocol.aggregation.shape import RING, position
from protocol.base.limits import MAX_INLINE_STATE
from protocol.base.settings import LAN
from protocol.effects import Send
from protocol.wire.messages import Checkpoint, Offer
from tests.protocol.aggregation.bench import NOW, Bench, make_bench


def ports_of(bench: Bench, **changes: Any) -> Ports:
    return replace(bench.machine._ports, **changes)


def root(bench: Bench, ports: Ports, planned: int = 10) -> Round:
    state = at_root(ports, bench.task, bench.model, planned, NOW)
    open_places(ports, state, 0, RING)
    return state


def offered(effects: list[Any]) -> tuple[bytes, Offer] | None:
    """To whom an offer went."""
    if not effects:
        return None
    (effect,) = effects
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Offer)
    return effect.to.peer, effect.message


def called(bench: Bench, ports: Ports, state: Round, child: Child, now: float = NOW) -> list[bytes]:
    """Everybody who is asked until the place is given up, each saying no."""
    asked, effects = [], call(ports, state, child, now)
    while (offer := offered(effects)) is not None:
        asked.append(offer[0])
        effects = vacate(ports, state, child, now)
    assert child.place is Place.GONE
    assert child.peer is None
    return asked


def inside(bench: Bench, state: Round, child: Child) -> set[bytes]:
    peers = [m.descriptor.peer for m in bench.members[1:]]
    return {p for p in peers if child.low <= position(state.id, p) < child.high}


def test_the_places_of_a_node_share_its_slice_and_its_cap(bench: Bench) -> None:
    state = root(bench, ports_of(bench))
    left, right = state.children
    assert left.cap + right.cap == state.cap - 1
    assert (left.low, left.high, right.high) == (0, right.low, RING)
    assert {c.place for c in state.children} == {Place.EMPTY}
    assert 3 <= len(inside(bench, state, left)) <= 4  # seven others, in proportion to the caps


def test_a_leaf_has_no_places(bench: Bench) -> None:
    state = at_root(ports_of(bench), bench.task, bench.model, 10, NOW)
    state.depth, state.cap = 3, 1
    open_places(ports_of(bench), state, 0, RING)
    assert state.children == []


def test_a_places_own_slice_comes_first_then_the_parents_and_nobody_twice() -> None:
    bench = make_bench(size=16)
    ports = ports_of(bench, settings=replace(LAN, offer_attempts=100))
    state = root(bench, ports)
    left, right = state.children
    own, others = inside(bench, state, left), inside(bench, state, right)
    asked = called(bench, ports, state, left)
    assert set(asked[: len(own)]) == own
    assert set(asked[len(own) :]) == others
    assert len(asked) == len(set(asked)) == 15
    assert called(bench, ports, state, right) == []  # everybody has been asked by this parent already


def test_whoever_is_preferred_comes_before_all_others_wherever_it_stands() -> None:
    bench = make_bench(size=32)
    first: set[bytes] = set()
    ports = ports_of(
        bench,
        settings=replace(LAN, offer_attempts=100),
        preferred=lambda: [m.descriptor for m in bench.members[1:] if m.descriptor.peer in first],
    )
    state = at_root(ports, bench.task, bench.model, 10, NOW)
    open_places(ports, state, 0, RING // 2)  # as of a node further down
    left, right = state.children
    own, others = inside(bench, state, left), inside(bench, state, right)
    far = {m.descriptor.peer for m in bench.members[1:]} - own - others
    assert min(len(own), len(others), len(far)) > 2
    first |= {min(own), max(others), *sorted(far)[:2]}
    asked = called(bench, ports, state, left)
    assert asked[:2] == [min(own), max(others)]
    assert set(asked[2:4]) == first & far
    assert set(asked[4 : 3 + len(own)]) == own - first
    assert set(asked[3 + len(own) :]) == others - first


def test_a_place_is_given_up_after_so_many_attempts() -> None:
    bench = make_bench(size=16)
    ports = ports_of(bench)
    state = root(bench, ports)
    assert len(called(bench, ports, state, state.children[0])) == LAN.offer_attempts


def test_whoever_stands_above_is_not_invited_below() -> None:
    bench = make_bench(size=5)
    ports = ports_of(bench, settings=replace(LAN, offer_attempts=100))
    state = root(bench, ports)
    above = bench.members[1].descriptor
    state.ancestors = (above,)
    assert set(called(bench, ports, state, state.children[0])) == {m.descriptor.peer for m in bench.members[2:]}


@pytest.mark.parametrize("why", ["no time", "closing"])
def test_an_offer_that_nobody_could_answer_in_time_is_not_made(bench: Bench, why: str) -> None:
    ports = ports_of(bench)
    state = root(bench, ports)
    state.closing = why == "closing"
    now = state.deadline - LEAST_BUDGET_S / 2 if why == "no time" else NOW
    assert call(ports, state, state.children[0], now) == []
    assert state.children[0].place is Place.GONE
    assert state.tried == set()


def test_an_offer_gives_what_is_left_of_the_time_and_waits_for_the_model_to_get_there(bench: Bench) -> None:
    ports = ports_of(bench, link_speed=lambda peer: 10.0)
    state = root(bench, ports)
    child = state.children[1]
    found = offered(call(ports, state, child, NOW + 2))
    assert found is not None
    to, offer = found
    assert offer.budget_s == pytest.approx(state.deadline - NOW - 2)
    assert (offer.depth, offer.cap, offer.cohort_cap) == (1, child.cap, 10)
    assert (offer.slice_low, offer.slice_high) == (child.low, child.high)
    assert offer.state == bench.checkpoint.state
    assert child.place is Place.CALLING
    assert child.answer_by - NOW - 2 == pytest.approx(LAN.answer_timeout_s + len(offer.state) / 10.0)
    assert state.tried == {to}


def test_a_large_model_does_not_travel_in_offers(bench: Bench) -> None:
    ports = ports_of(bench)
    state = root(bench, ports)
    for size, travels in ((MAX_INLINE_STATE, True), (MAX_INLINE_STATE + 1, False)):
        state.checkpoint = Checkpoint(bench.task.id, 0, bytes(size))
        child = Child(1, 0, RING)
        state.children.append(child)
        found = offered(call(ports, state, child, NOW))
        assert found is not None
        assert found[1].state == (state.checkpoint.state if travels else b"")


def test_what_came_with_the_own_offer_is_passed_on_before_it_is_checked(bench: Bench) -> None:
    ports = ports_of(bench)
    state = root(bench, ports)
    state.checkpoint, state.offer, state.depth = None, bench.offer(1, state=b"unchecked"), 1
    found = offered(call(ports, state, state.children[0], NOW))
    assert found is not None
    assert found[1].state == b"unchecked"
