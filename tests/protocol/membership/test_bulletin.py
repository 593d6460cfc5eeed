"""What a message says: own descriptor, news before the random part, budgets, and the truth to whoever is accused."""

import pytest

from protocol.base.ids import PeerId
from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS
from protocol.base.settings import LAN
from protocol.membership.bulletin import Bulletin
from protocol.membership.view import Liveness, View
from protocol.wire.messages import Rumour
from tests.protocol.membership.world import START, Peer, World

Setup = tuple[Bulletin, View, list[Peer]]


def made(count: int, capacity: int = 64) -> Setup:
    world = World("bulletin")
    peers = world.add(count + 1)
    for peer in peers:
        peer.sign()
    view = View(peers[0].id, capacity, world.entropy)
    for peer in peers[1:]:
        view.learn(peer.own, START, [])
    return Bulletin(peers[0].own, view, LAN), view, peers


def pick(
    bulletin: Bulletin, partner: PeerId, *, with_own: bool, much: bool = False
) -> tuple[list[PeerId], list[PeerId]]:
    """Who is told of, and who may be given up."""
    told = bulletin.pick(partner, with_own=with_own, much=much)
    return [descriptor.peer for descriptor in told.descriptors], told.exchangeable


@pytest.fixture
def setup() -> Setup:
    return made(30)


def test_an_opening_names_this_peer_first_and_keeps_to_the_budget(setup: Setup) -> None:
    bulletin, _, peers = setup
    for _ in range(50):
        picked = pick(bulletin, peers[1].id, with_own=True)[0]
        assert picked[0] == peers[0].id
        assert len(picked) == len(set(picked)) == LAN.gossip_descriptors
        assert peers[1].id not in picked
    told = bulletin.pick(peers[1].id, with_own=True).descriptors
    assert all(descriptor in [peer.own for peer in peers] for descriptor in told)


def test_an_answer_names_this_peer_while_that_is_news(setup: Setup) -> None:
    bulletin, _, peers = setup
    said = [peers[0].id in pick(bulletin, peers[1].id, with_own=False)[0] for _ in range(40)]
    assert said == [True] * 15 + [False] * 25  # 3 log2(32)


def test_news_goes_before_the_random_part(setup: Setup) -> None:
    bulletin, _, peers = setup
    bulletin.announce(peers[7].id)
    assert all(pick(bulletin, peers[1].id, with_own=True)[0][1] == peers[7].id for _ in range(15))


def test_a_newcomer_and_a_crowd_are_served_with_more(setup: Setup) -> None:
    bulletin, _, peers = setup
    assert len(pick(bulletin, peers[1].id, with_own=False, much=True)[0]) == MAX_GOSSIP_DESCRIPTORS
    for peer in peers[1:]:
        bulletin.announce(peer.id)
    assert len(pick(bulletin, peers[1].id, with_own=True)[0]) == MAX_GOSSIP_DESCRIPTORS


def test_in_a_partial_view_news_takes_no_more_than_half() -> None:
    for capacity, share in ((64, 9), (24, LAN.gossip_descriptors // 2)):
        bulletin, view, peers = made(30, capacity)
        assert view.partial == (capacity < 30)
        news = [peer.id for peer in peers[2:11]]
        for peer in news:
            bulletin.announce(peer)
        picked = pick(bulletin, peers[1].id, with_own=True)[0]
        assert picked[1 : share + 1] == news[:share]
        assert (picked[1:8] == news[:7]) == (share > 4)


def test_in_a_partial_view_callers_are_copied_so_often_and_the_rest_moves() -> None:
    bulletin, view, peers = made(30, 24)
    bulletin.outgrown()
    calling = peers[2].id
    bulletin.introduce(calling)
    for turn in range(LAN.gossip_descriptors):
        told, exchangeable = pick(bulletin, peers[1].id, with_own=True)
        assert told[:2] == [peers[0].id, calling]
        assert exchangeable[:6] == told[2:]
        assert len(exchangeable) == len(set(exchangeable)) == 7  # and the partner, for this peer itself
        assert not {calling, peers[1].id} & set(exchangeable)
        assert all(view.member(peer) for peer in exchangeable)
        if turn < 5:
            bulletin.introduce(calling)  # under way already: its count goes on
    told, exchangeable = pick(bulletin, peers[1].id, with_own=False)
    assert told == exchangeable


def test_callers_take_what_news_leaves_of_half_and_nothing_of_a_whole_view() -> None:
    for capacity, callers in ((64, 0), (24, LAN.gossip_descriptors // 2 - 1)):
        bulletin, _, peers = made(30, capacity)
        bulletin.outgrown()
        bulletin.announce(peers[2].id)
        calling = [peer.id for peer in peers[3:10]]
        for peer in calling:
            bulletin.introduce(peer)
        told, exchangeable = pick(bulletin, peers[1].id, with_own=False)
        assert told[0] == peers[2].id
        assert peers[2].id in exchangeable  # news moves
        assert len(set(exchangeable)) == len(told)
        assert told[1 : callers + 1] == calling[:callers]
        assert pick(bulletin, calling[callers], with_own=False)[0].count(calling[callers]) == 0


def test_suspects_are_not_passed_on(setup: Setup) -> None:
    bulletin, view, peers = setup
    entry = view.member(peers[7].id)
    assert entry is not None
    bulletin.announce(peers[7].id)
    view.set_state(entry, Liveness.SUSPECT, 1, START)
    assert not any(peers[7].id in pick(bulletin, peers[1].id, with_own=True)[0] for _ in range(60))


def test_the_accused_is_told_always_and_others_for_a_while(setup: Setup) -> None:
    bulletin, view, peers = setup
    entry = view.member(peers[7].id)
    assert entry is not None
    view.set_state(entry, Liveness.SUSPECT, 3, START)
    bulletin.accuse(entry)
    rumour = Rumour(peers[7].id, 3, Liveness.SUSPECT)
    assert [bulletin.rumours(peers[7].id) for _ in range(20)] == [(rumour,)] * 20
    assert [bulletin.rumours(peers[1].id) for _ in range(16)] == [(rumour,)] * 15 + [()]
    bulletin.remind(entry)
    bulletin.rumours(peers[1].id)
    bulletin.remind(entry)  # under way already: its count goes on
    assert [bulletin.rumours(peers[1].id) for _ in range(15)] == [(rumour,)] * 14 + [()]
