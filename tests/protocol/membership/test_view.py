"""The view: bounds, tombstones, fresher descriptors only, swapping, round robin, the size of the network."""

from collections import Counter

import pytest

from protocol.base.ids import PeerId
from protocol.base.limits import CLOCK_TOLERANCE_S
from protocol.identity.descriptor import Descriptor
from protocol.membership.view import EXPIRY_STEP_S, Learned, Liveness, View
from tests.protocol.membership.world import START, Peer, World

NOW = START


@pytest.fixture(scope="module")
def people() -> list[Peer]:
    world = World("view")
    peers = world.add(13)
    for peer in peers:
        peer.sign()
    return peers


def view_of(people: list[Peer], capacity: int, count: int) -> View:
    view = View(people[0].id, capacity, people[0].world.entropy.fork("view"))
    for peer in people[1 : count + 1]:
        assert view.learn(peer.own, NOW, []) is Learned.NEW
    return view


def again(peer: Peer, incarnation: int, issued: float) -> Descriptor:
    """Another descriptor of the same peer, signed at another time."""
    world, before = peer.world, (peer.own, peer.incarnation, peer.world.now)
    peer.incarnation, world.now = incarnation, issued
    descriptor = peer.sign()
    peer.own, peer.incarnation, world.now = before
    return descriptor


def test_a_view_never_holds_its_owner(people: list[Peer]) -> None:
    view = view_of(people, 4, 0)
    assert view.learn(people[0].own, NOW, []) is Learned.NOTHING
    assert len(view) == 0
    assert view.size_estimate() == 1


def test_only_a_fresher_descriptor_replaces_a_known_one(people: list[Peer]) -> None:
    peer = people[1]
    view = view_of(people, 4, 1)
    assert view.learn(peer.own, NOW, []) is Learned.NOTHING
    fresher = again(peer, 1, NOW + 5)
    assert view.learn(fresher, NOW + 5, []) is Learned.REFRESHED
    assert view.learn(peer.own, NOW + 5, []) is Learned.NOTHING
    assert view.learn(again(peer, 0, NOW + 9), NOW + 9, []) is Learned.NOTHING
    assert view.alive() == [fresher]


def test_a_higher_incarnation_clears_suspicion_and_a_fresher_descriptor_does_not(people: list[Peer]) -> None:
    peer = people[1]
    view = view_of(people, 4, 1)
    entry = view.member(peer.id)
    assert entry is not None
    view.set_state(entry, Liveness.SUSPECT, 1, NOW)
    assert view.alive() == []
    assert view.learn(again(peer, 1, NOW + 5), NOW + 5, []) is Learned.REFRESHED
    assert view.alive() == []
    reborn = again(peer, 2, NOW + 6)
    assert view.learn(reborn, NOW + 6, []) is Learned.REBORN
    assert view.alive() == [reborn]
    assert entry.incarnation == 2


@pytest.mark.parametrize("end", [Liveness.DEAD, Liveness.LEFT])
def test_the_dead_rise_with_a_higher_incarnation_only(people: list[Peer], end: Liveness) -> None:
    peer = people[1]
    view = view_of(people, 4, 2)
    entry = view.member(peer.id)
    assert entry is not None
    view.set_state(entry, end, 1, NOW)
    assert view.member(peer.id) is None
    assert view.entry(peer.id) is entry
    assert view.learn(again(peer, 1, NOW + 5), NOW + 5, []) is Learned.BURIED
    assert view.learn(again(peer, 2, NOW + 5), NOW + 5, []) is Learned.REBORN
    assert view.member(peer.id) is view.entry(peer.id)


def test_expired_members_and_tombstones_are_dropped(people: list[Peer]) -> None:
    view = view_of(people, 4, 2)
    entry = view.member(people[1].id)
    assert entry is not None
    view.set_state(entry, Liveness.DEAD, 1, NOW)
    end = people[1].own.expires + CLOCK_TOLERANCE_S
    assert view.expire(end - EXPIRY_STEP_S - 1) == []
    assert len(list(view.entries())) == 2
    assert view.expire(end - 1.5) == []  # looked a moment ago
    assert view.expire(end - 1) == [people[2].id]  # before anybody refuses it
    assert [entry.descriptor.peer for entry in view.entries()] == [people[1].id]  # nobody takes the dead for alive
    assert view.expire(end - 1 + EXPIRY_STEP_S) == []
    assert list(view.entries()) == []
    assert view.learn(people[1].own, end + 1, []) is Learned.NOTHING  # expired: not even as a stranger


def test_members_and_tombstones_are_bounded(people: list[Peer]) -> None:
    view = view_of(people, 3, 0)
    for peer in people[1:]:
        view.learn(peer.own, NOW, [])
        assert len(view) <= 3
        entry = view.member(peer.id)
        if entry is not None:
            view.set_state(entry, Liveness.DEAD, 1, NOW)
    assert [entry.descriptor.peer for entry in view.entries()] == [peer.id for peer in people[-3:]]


def test_a_full_view_swaps_what_may_be_given_up_and_nothing_else(people: list[Peer]) -> None:
    view = view_of(people, 3, 3)
    assert not view.partial
    assert view.learn(people[4].own, NOW, []) is Learned.NOTHING
    assert view.partial
    spare = [people[9].id, people[2].id, people[1].id]  # the first is not held
    assert view.learn(people[5].own, NOW, spare) is Learned.NEW
    assert spare == [people[1].id]
    assert {d.peer for d in view.alive()} == {people[1].id, people[3].id, people[5].id}


def test_what_is_alive_comes_in_id_order(people: list[Peer]) -> None:
    ids = [descriptor.peer for descriptor in view_of(people, 20, 12).alive()]
    assert ids == sorted(peer.id for peer in people[1:])


def test_samples_are_distinct_exclude_and_cover_uniformly(people: list[Peer]) -> None:
    view = view_of(people, 20, 12)
    out = {people[1].id, people[2].id}
    seen: Counter[PeerId] = Counter()
    for _ in range(1000):
        sample = [descriptor.peer for descriptor in view.sample(3, out)]
        assert len(set(sample)) == 3
        seen.update(sample)
    assert set(seen) == {peer.id for peer in people[3:]}
    chi_square = sum((count - 300) ** 2 / 300 for count in seen.values())
    assert chi_square < 27.9  # 0.1 % of 9 degrees of freedom
    assert len(view.sample(99)) == 12


def test_one_lap_of_the_round_robin_visits_everybody_once(people: list[Peer]) -> None:
    view = view_of(people, 20, 10)
    first = [view.next_partner() for _ in range(5)]
    view.learn(people[11].own, NOW, [])  # joins this lap
    gone = view.member(people[12].id)
    assert gone is None
    rest = [view.next_partner() for _ in range(6)]
    visited = [entry.descriptor.peer for entry in first + rest if entry is not None]
    assert sorted(visited) == sorted(peer.id for peer in people[1:12])
    second = [view.next_partner() for _ in range(11)]
    third = [view.next_partner() for _ in range(11)]
    assert {e.descriptor.peer for e in second if e} == set(visited)
    assert {e.descriptor.peer for e in third if e} == set(visited)
    assert [e.descriptor.peer for e in second if e] != [e.descriptor.peer for e in third if e]


def test_the_lap_skips_who_was_removed(people: list[Peer]) -> None:
    view = view_of(people, 20, 3)
    first = view.next_partner()
    assert first is not None
    for entry in [e for e in view.entries() if e is not first]:
        view.set_state(entry, Liveness.DEAD, 1, NOW)
    assert view.next_partner() is first


def test_size_is_a_count_until_the_view_overflows_and_then_an_estimate(people: list[Peer]) -> None:
    view = view_of(people, 4, 4)
    view.observe(people[9].id)
    assert view.size_estimate() == 5  # whole: observations do not matter
    view.learn(people[9].own, NOW, [])
    for _ in range(400):  # one in three is a hit: twelve others
        for number in (1, 8, 9):
            view.observe(people[number].id)
    assert view.size_estimate() == pytest.approx(13, abs=1)


def test_a_shrunken_network_is_counted_again(people: list[Peer]) -> None:
    view = view_of(people, 4, 4)
    view.learn(people[9].own, NOW, [])
    assert view.partial
    entry = view.member(people[1].id)
    assert entry is not None
    view.set_state(entry, Liveness.DEAD, 1, NOW)
    view.expire(NOW)
    assert not view.partial
    assert view.size_estimate() == 4
