"""Whole networks in virtual time: joining, crashing, pausing, leaving, restarting, losing messages, parting."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.base.limits import MAX_GOSSIP_DESCRIPTORS, MAX_RUMOURS
from protocol.base.settings import LAN, LOCAL, WAN
from protocol.membership import Liveness
from protocol.membership.dialling import FEW, LONELY_PERIODS
from protocol.wire.messages import Gossip, GossipReply, Message, ProbeRequest
from tests.protocol.membership.world import START, Peer, World, joined

SUSPICION_S = LAN.suspicion_periods * LAN.gossip_period_s
NOTICED_S = 3 * LAN.gossip_period_s + 3 * LAN.probe_timeout_s + SUSPICION_S + 4 * LAN.gossip_period_s
"""Somebody's turn, a probe, the suspicion, and the way of the rumour to the last of a dozen."""
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_twelve_peers_find_each_other_through_one_seed(seed: int) -> None:
    world = World(seed)
    world.seeds = world.add(12)[:1]
    for peer in world.peers:
        peer.start()
    assert world.run_until(world.complete, within=60) <= 4 * LAN.gossip_period_s
    assert {peer.members.size_estimate() for peer in world.peers} == {12}
    world.run(60)
    assert world.complete()
    assert all(state is Liveness.ALIVE for peer in world.peers for _, state in peer.members.peers())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_thirteenth_is_known_to_all_within_three_periods(seed: int) -> None:
    world = joined(12, seed)
    world.run(30)
    (newcomer,) = world.add(1)
    newcomer.start()
    assert world.run_until(world.complete, within=60) <= 4 * LAN.gossip_period_s


def test_a_peer_without_seeds_in_reach_keeps_calling_and_joins_when_one_appears() -> None:
    world = World()
    first, second = world.add(2)
    world.seeds = [first]
    second.start()
    world.run(20)
    assert [round(at - START) for at, _ in world.dials] == [0, 1, 3, 7, 15]
    first.start()
    assert world.run_until(world.complete, within=30) < 16.5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("noticed", [True, False])
def test_a_crash_is_noticed_by_all(seed: int, noticed: bool) -> None:
    world = joined(12, seed)
    world.run(20)
    world.unreachable_fails = noticed
    victim = world.peers[5]
    victim.crash()
    assert world.run_until(lambda: world.all_say(victim, Liveness.DEAD), within=60) <= NOTICED_S
    world.run(60)
    assert world.complete()
    assert all(peer.members.size_estimate() == 11 for peer in world.running())


def test_half_of_the_network_crashes_and_the_rest_goes_on() -> None:
    world = joined(12)
    for victim in world.peers[6:]:
        victim.crash()
    world.run_until(world.complete, within=2 * NOTICED_S)
    world.run(60)
    assert world.complete()


def test_the_cost_of_a_crash_is_bounded() -> None:
    world = joined(12)
    world.run(20)
    begin = world.now
    world.peers[5].crash()
    world.run(20)
    requests = world.messages(begin)["ProbeRequest"]
    assert 0 < requests <= 12 * LAN.indirect_probes
    # besides, whoever heard the victim just before asks it once when it hears of its death
    assert world.messages(begin)["Ping"] <= requests + 11


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("seconds", [2.0, 30.0, 200.0])
def test_a_paused_peer_refutes_when_it_returns(seed: int, seconds: float) -> None:
    world = joined(12, seed)
    world.run(10)
    sleeper = world.peers[4]
    sleeper.paused = True
    world.run(seconds)
    if seconds >= 30:
        assert world.all_say(sleeper, Liveness.DEAD)
    sleeper.resume()
    world.run_until(world.complete, within=10 * LAN.gossip_period_s)
    if seconds >= 30:
        assert sleeper.incarnation > 1
    world.run(30)
    assert world.complete()
    # It slept itself: nobody else was taken for dead, or had to refute.
    assert all(peer.incarnation == 1 for peer in world.peers if peer is not sleeper)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clean_leave_is_known_at_once(seed: int) -> None:
    world = joined(12, seed)
    leaver = world.peers[3]
    leaver.leave()
    world.run(0.05)
    assert world.all_say(leaver, Liveness.LEFT)
    world.run(60)
    assert world.complete()
    assert world.all_say(leaver, Liveness.LEFT)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_leave_reaches_also_those_that_were_not_told(noticed: bool) -> None:
    world = joined(30)
    world.unreachable_fails = noticed
    leaver = world.peers[3]
    for peer in world.running():
        if peer is not leaver:
            peer.members.heard(leaver.own, world.now)  # and would not believe others at once
    leaver.leave()
    world.run_until(lambda: world.all_say(leaver, Liveness.LEFT), within=6 * LAN.gossip_period_s)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("down", [0.5, 4.0, 40.0])
def test_a_restart_under_a_new_incarnation_and_address(seed: int, down: float) -> None:
    world = joined(12, seed)
    world.run(10)
    restarted = world.peers[7]
    restarted.crash()
    world.run(down)
    restarted.restart("elsewhere.example:7001")

    def everywhere() -> bool:
        others = (peer for peer in world.peers if peer is not restarted)
        return world.complete() and all(peer.members.lookup(restarted.id) == restarted.own for peer in others)

    assert world.run_until(everywhere, within=60) <= 5 * LAN.gossip_period_s
    world.run(40)
    assert everywhere()


@pytest.mark.parametrize("after", ["leave", "crash"])
def test_who_left_or_died_can_come_back(after: str) -> None:
    world = joined(6)
    peer = world.peers[2]
    if after == "leave":
        peer.leave()
    else:
        peer.crash()
    world.run_until(lambda: world.all_say(peer, Liveness.LEFT, Liveness.DEAD), within=30)
    peer.restart(peer.address)
    world.run_until(world.complete, within=10)


def test_old_gossip_does_not_bring_the_dead_back() -> None:
    world = joined(6)
    leaver = world.peers[2]
    grave_robber = world.peers[3]
    leaver.leave()
    world.run(5)
    message = Gossip(1, (leaver.own.raw,), (), (), ())
    for peer in world.running():
        peer.members.on_gossip(grave_robber.own, message, world.now, (), ())
    assert world.all_say(leaver, Liveness.LEFT)
    world.run(30)
    assert world.complete()


def test_one_dead_link_makes_no_one_suspect() -> None:
    world = joined(12)
    world.run(10)
    pair = {world.peers[2], world.peers[9]}
    world.lost = lambda sender, to, message: {sender, to} == pair
    begin = world.now
    world.run(120)
    assert world.complete()
    assert all(peer.incarnation == 1 for peer in world.peers)
    assert world.messages(begin)["ProbeRequest"] > 0  # the link was tried, and helpers bridged it


@pytest.mark.parametrize("seed", SEEDS)
def test_one_message_in_ten_lost_kills_nobody(seed: int) -> None:
    world = joined(12, seed)
    world.run(10)
    world.lost = lambda sender, to, message: world.entropy.uniform() < 0.1
    for _ in range(60):
        world.run(2)
        assert not any(s is Liveness.DEAD for peer in world.peers for _, s in peer.members.peers())
    world.lost = lambda sender, to, message: False
    world.run_until(world.complete, within=10)


def test_two_halves_find_each_other_after_a_partition() -> None:
    world = joined(12)
    left = set(world.peers[:6])
    world.lost = lambda sender, to, message: (sender in left) != (to in left)
    world.run(60)
    assert all(peer.members.size_estimate() == 6 for peer in world.peers)
    world.lost = lambda sender, to, message: False
    world.run_until(world.complete, within=20 * LAN.gossip_period_s)


def test_descriptors_are_renewed_and_forgotten_when_they_are_not() -> None:
    world = World(settings=replace(LAN, descriptor_lifetime_s=60.0))
    world.seeds = world.add(8)[:1]
    for peer in world.peers:
        peer.start()
    for _ in range(20):
        world.run(25)
        for peer in world.running():
            peer.members.set_own(peer.sign())
    assert world.complete()
    victim = world.peers[3]
    victim.crash()
    world.run(60)
    assert world.all_say(victim, Liveness.DEAD)
    for _ in range(6):
        world.run(25)
        for peer in world.running():
            peer.members.set_own(peer.sign())
    assert world.all_say(victim, None)
    assert world.complete()


@pytest.mark.parametrize("settings", [LOCAL, LAN, WAN], ids=["local", "lan", "wan"])
def test_every_preset_joins_and_notices(settings: object) -> None:
    assert isinstance(settings, type(LAN))
    world = joined(8, settings=settings, settle=4 * settings.gossip_period_s)
    victim = world.peers[1]
    victim.crash()
    bound = (8 + settings.suspicion_periods) * settings.gossip_period_s + 3 * settings.probe_timeout_s
    world.run_until(lambda: world.all_say(victim, Liveness.DEAD), within=bound)


def test_traffic_per_peer_does_not_grow_with_the_network() -> None:
    rates = {}
    for count in (6, 24):
        world = joined(count)
        world.run(30)
        begin = world.now
        world.run(30)
        rates[count] = sum(world.messages(begin).values()) / count / 30
        for settled in world.trace:
            message = settled.message
            if isinstance(message, Gossip | GossipReply):
                assert len(message.descriptors) <= MAX_GOSSIP_DESCRIPTORS
                assert len(message.rumours) <= MAX_RUMOURS
                if settled.at > begin:
                    assert len(message.descriptors) <= max(LAN.gossip_descriptors, min(count, MAX_GOSSIP_DESCRIPTORS))
    assert rates[6] == pytest.approx(2.0, rel=0.05)
    assert rates[24] == pytest.approx(2.0, rel=0.05)


def eventful(seed: int) -> list[str]:
    """The whole trace of a network with a crash, a restart, a leave and losses."""
    world = World(seed)
    world.seeds = world.add(9)[:1]
    for peer in world.peers:
        peer.start()

    def lose(sender: Peer, to: Peer, message: Message) -> bool:
        return world.entropy.uniform() < 0.05 and not isinstance(message, ProbeRequest)

    world.lost = lose
    world.run(10)
    world.peers[4].crash()
    world.peers[5].leave()
    world.run(12)
    world.peers[4].restart("again.example:7002")
    world.run(10)
    return [f"{s.at!r} {s.sender.hex()} {s.to.hex()} {s.message!r}" for s in world.trace]


def test_one_seed_gives_one_trace_whatever_the_hash_seed() -> None:
    program = (
        "import hashlib; from tests.protocol.membership.test_network import eventful;"
        "print(hashlib.sha256(repr(eventful(5)).encode()).hexdigest())"
    )
    root = Path(__file__).parents[3]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(digests) == 1
    assert eventful(5) != eventful(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_parts_that_were_never_joined_find_each_other(seed: int) -> None:
    """Each has found a seed, and enough peers to feel at home, before the seeds have found each other."""
    world = World(seed)
    peers = world.add(10)
    for part in (peers[:5], peers[5:]):
        world.seeds = part[:1]
        for peer in part:
            peer.start()
        world.run(10)
        assert all(peer.known() == {other.id for other in part} - {peer.id} for peer in part)
    world.seeds = [peers[0], peers[5]]
    assert world.run_until(world.complete, within=120) <= 120
    before = len(world.dials)
    world.run(600)
    asked = len(world.dials) - before
    assert 0 < asked <= 2 * FEW * 600 / (LONELY_PERIODS * LAN.gossip_period_s), f"the seeds are asked {asked} times"


@pytest.mark.parametrize("seed", SEEDS)
def test_two_parts_with_full_views_find_each_other(seed: int) -> None:
    """As above, where every peer knows more of its own part than its view has room for."""
    world = World(seed, replace(LAN, view_capacity=12))
    peers = world.add(60)
    parts = peers[:30], peers[30:]
    for part in parts:
        world.seeds = part[:1]
        for peer in part:
            peer.start()
        world.run(20)
        assert all(len(peer.known()) == 12 for peer in part)
    ids = [{peer.id for peer in part} for part in parts]
    world.seeds = [peers[0], peers[30]]
    world.run_until(lambda: all(peer.known() & ids[peer in parts[0]] for peer in peers), within=240)
    assert all(len(peer.known()) == 12 for peer in peers)
