"""A network far larger than the view: samples stay near uniform, traffic constant, the size known, the dead go.

Figures of comparison: with views drawn uniformly at random, the number of views that hold a peer (its in-degree) has
the standard deviation sqrt(c (1 - c / n)).
"""

import math
from collections import Counter
from dataclasses import replace

import pytest

from protocol.base.ids import PeerId
from protocol.base.settings import LAN
from protocol.wire.messages import Message
from tests.protocol.membership.world import START, Peer, World

PEERS = 300
CAPACITY = 32
UNIFORM_SD = math.sqrt(CAPACITY * (1 - CAPACITY / PEERS))


@pytest.fixture(scope="module")
def crowd() -> World:
    """300 peers that joined through three seeds within six seconds, 30 seconds later."""
    world = World("crowd", replace(LAN, view_capacity=CAPACITY))
    world.seeds = world.add(PEERS)[:3]
    for number, peer in enumerate(world.peers):
        world.at(START + number * 0.02, peer.start)
    world.run(36)
    return world


@pytest.fixture(scope="module")
def rush() -> World:
    """400 peers that joined through three seeds within two seconds, half a lap of their views later."""
    world = World("rush", replace(LAN, view_capacity=48))
    world.seeds = world.add(400)[:3]
    for number, peer in enumerate(world.peers):
        world.at(START + number * 0.005, peer.start)
    world.run(26)
    return world


def test_views_soon_forget_how_they_were_filled(rush: World) -> None:
    """Those who came first were in nearly every view; now nobody's in-degree tells when it came."""
    found = degrees(rush)
    uniform = math.sqrt(48 * (1 - 48 / 400))
    assert sum(found) == 48 * 400
    assert math.sqrt(sum((degree - 48) ** 2 for degree in found) / 400) < 1.2 * uniform
    for first in range(0, 400, 100):
        mean = sum(found[first : first + 100]) / 100
        assert mean == pytest.approx(48, abs=4 * uniform / 10)
    assert max(found[:3]) < 48 + 4 * uniform


def degrees(world: World) -> list[int]:
    held = Counter(descriptor.peer for peer in world.running() for descriptor in peer.members.alive())
    return [held[peer.id] for peer in world.running()]


def test_every_view_is_full_and_no_fuller(crowd: World) -> None:
    assert {len(peer.members.peers()) for peer in crowd.peers} == {CAPACITY}


def test_in_degrees_spread_no_more_than_uniformly(crowd: World) -> None:
    found = degrees(crowd)
    mean = sum(found) / PEERS
    deviation = math.sqrt(sum((degree - mean) ** 2 for degree in found) / PEERS)
    assert mean == CAPACITY
    assert deviation < 1.3 * UNIFORM_SD
    assert min(found) > CAPACITY / 3
    assert max(found) < CAPACITY * 2


def test_the_overlay_is_in_one_piece(crowd: World) -> None:
    reached: set[PeerId] = set()
    edge = [crowd.peers[0]]
    while edge:
        peer = edge.pop()
        if peer.id not in reached:
            reached.add(peer.id)
            edge += [crowd.by_id[descriptor.peer] for descriptor in peer.members.alive()]
    assert len(reached) == PEERS


def test_samples_pass_a_chi_square_test_over_peers_and_over_time(crowd: World) -> None:
    """Each of 300 peers draws one other at 8 moments; each of 20 draws 4 at each of 24 moments."""
    drawn: Counter[PeerId] = Counter()
    by_each: list[set[PeerId]] = [set() for _ in range(20)]
    begin = crowd.now
    for moment in range(24):
        crowd.run(1)
        for number, hit in enumerate(by_each):
            hit.update(descriptor.peer for descriptor in crowd.peers[number].members.sample(4))
        if moment % 3 == 0:
            drawn.update(peer.members.sample(1)[0].peer for peer in crowd.peers)
    expected = 8 * PEERS / PEERS
    chi_square = sum((drawn[peer.id] - expected) ** 2 / expected for peer in crowd.peers)
    freedom = PEERS - 1
    assert chi_square < freedom + 3.1 * math.sqrt(2 * freedom)  # 0.1 %
    # 96 uniform draws from 299 hit 82 different ones; a view of 32 that is renewed within 8 periods costs a tenth.
    assert sum(map(len, by_each)) / len(by_each) > 70
    rate = sum(crowd.messages(begin).values()) / PEERS / 24
    assert rate == pytest.approx(2.0, rel=0.05)


def test_the_size_is_estimated(crowd: World) -> None:
    estimates = sorted(peer.members.size_estimate() for peer in crowd.peers)
    assert estimates[PEERS // 2] == pytest.approx(PEERS, rel=0.15)
    assert estimates[15] > PEERS / 2
    assert estimates[-15] < PEERS * 2


def test_newcomers_become_known_and_the_dead_disappear(crowd: World) -> None:
    dead = {peer.id for peer in crowd.peers[::10]}
    for peer in crowd.peers[::10]:
        peer.crash()
    newcomers: list[Peer] = crowd.add(10)
    crowd.seeds = [crowd.peers[1]]
    for peer in newcomers:
        peer.start()
    crowd.run(40)
    views = [peer.members.alive() for peer in crowd.running()]
    stale = sum(descriptor.peer in dead for view in views for descriptor in view)
    assert stale < 0.02 * sum(len(view) for view in views)
    fresh = {peer.id for peer in newcomers}
    held = sum(descriptor.peer in fresh for view in views for descriptor in view) / len(fresh)
    assert held == pytest.approx(CAPACITY, rel=0.3)


def test_nobody_is_everywhere_where_half_of_the_pairs_cannot_connect_and_peers_restart() -> None:
    """Silence and suspicion, refutations and restarts are news time and again: news must not be copied."""
    world = World("pairs", replace(LAN, view_capacity=32))
    seeds = world.seeds = world.add(300)[:3]

    def apart(sender: Peer, to: Peer, message: Message) -> bool:
        low, high = sorted((sender.id, to.id))
        return sender not in seeds and to not in seeds and (low[0] ^ high[1]) % 2 == 0

    world.lost = apart
    for number, peer in enumerate(world.peers):
        world.at(START + number * 0.02, peer.start)
    for second in range(20, 90):
        restarts = world.peers[3 + world.entropy.below(297)]
        world.at(START + second, restarts.crash)
        world.at(START + second + 10, lambda peer=restarts: peer.running or peer.restart(peer.address))  # type: ignore[misc]
    world.run(100)
    found = degrees(world)
    mean = sum(found) / len(found)
    assert mean > 0.9 * 32
    assert max(found) < 2 * mean
    assert math.sqrt(sum((degree - mean) ** 2 for degree in found) / len(found)) < 1.6 * UNIFORM_SD
