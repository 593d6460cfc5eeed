"""What a node counts of its round: delivered children only, the fewest mask neighbours of anybody inside."""

from dataclasses import replace

import pytest

from protocol.aggregation.opening import at_root
from protocol.aggregation.phases import Place
from protocol.aggregation.round import Child, Round
from protocol.base.settings import LAN
from tests.protocol.aggregation.bench import NOW, Bench


@pytest.fixture
def state(bench: Bench) -> Round:
    """A node at depth 2 with a child in every kind of place; two of them have delivered."""
    made = at_root(bench.machine._ports, bench.task, bench.model, 8, NOW)
    made.depth = 2
    for i, place in enumerate(Place):
        made.children.append(Child(4, 0, 9, place, bench.members[1 + i].descriptor, cohort=100, opened=100))
    delivered = next(c for c in made.children if c.place is Place.DELIVERED)
    delivered.cohort, delivered.opened, delivered.min_neighbours = 3, 2, 4
    last = bench.members[7].descriptor
    made.children.append(Child(4, 0, 9, Place.DELIVERED, last, cohort=1, opened=0, min_neighbours=9))
    return made


def test_only_delivered_children_count(state: Round) -> None:
    assert [child.cohort for child in state.delivered] == [3, 1]
    assert state.cohort == 1 + 3 + 1
    assert state.neighbours == 2 + 2 + 2  # two ancestors, two children, two seeds opened
    assert state.allowed


def test_the_fewest_neighbours_are_of_anybody_inside(state: Round) -> None:
    assert state.min_neighbours == 4  # somebody below the first child has fewest
    state.delivered[0].min_neighbours = 8
    assert state.min_neighbours == 6  # now it is the node itself


def test_without_enough_neighbours_nothing_may_leave(state: Round) -> None:
    state.children = [Child(4, 0, 9, Place.GONE, cohort=5, opened=5)]
    assert (state.cohort, state.neighbours, state.allowed) == (1, 2, False)
    state.depth = 3
    assert state.allowed


def test_children_are_found_by_who_sits_there(bench: Bench, state: Round) -> None:
    assert state.child_of(bench.members[7].descriptor.peer) is state.children[-1]
    assert state.child_of(bench.members[0].descriptor.peer) is None
    state.children[-1].peer = None
    assert state.child_of(bench.members[7].descriptor.peer) is None


def test_a_place_is_settled_when_nothing_more_will_come(state: Round) -> None:
    assert {child.place for child in state.children if child.settled} == {Place.DELIVERED, Place.GONE}


def test_the_sum_is_not_looked_at_before_the_own_contribution_is_in_it(state: Round) -> None:
    with pytest.raises(AssertionError, match="its own contribution"):
        state.vector()


def test_a_round_that_sent_nothing_is_recorded_as_such(bench: Bench, state: Round) -> None:
    own = bench.members[0].descriptor.peer
    nothing = state.record(own, sent=None, total=None, published=False)
    assert (nothing.contributed, nothing.sent, nothing.children, nothing.cohort) == (False, False, (), 0)
    sent = state.record(own, sent=b"vector", total=None, published=False)
    assert (sent.contributed, sent.sent, sent.cohort, sent.sent_vector) == (True, True, 5, b"vector")
    assert sent.children == tuple(child.peer.peer for child in state.delivered if child.peer is not None)
    total = state.record(own, sent=None, total=b"vector", published=True)
    assert (total.contributed, total.sent, total.total, total.published) == (True, False, b"vector", True)


def test_a_transfer_takes_as_long_as_measured_or_else_as_assumed(bench: Bench) -> None:
    fast, slow = bench.members[1].descriptor.peer, bench.members[2].descriptor.peer
    speeds = {fast: 1e6}
    ports = replace(bench.machine._ports, link_speed=speeds.get, settings=replace(LAN, link_bytes_per_s=1e3))
    assert ports.transfer_s(fast, 2_000_000) == 2.0
    assert ports.transfer_s(slow, 2_000) == 2.0
