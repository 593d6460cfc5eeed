"""Figures of a run, against what can be counted by hand; and views, against those drawn at random."""

import math
from dataclasses import replace
from typing import Any

import pytest

from protocol import reports
from protocol.base.ids import RoundId, TaskId
from protocol.base.settings import LAN
from protocol.simulation import network_model
from protocol.simulation.measures import Degrees, Measures, summarise, view_degrees
from protocol.simulation.network import Network
from protocol.simulation.run import finish, prepare
from protocol.simulation.scenario import Scenario, plain_task
from protocol.simulation.world import Making, World
from protocol.training.task import RoundKind
from protocol.wire.messages import Accept, Gossip, Offer


def offer(round_id: bytes, depth: int, planned: int) -> Offer:
    return Offer(
        RoundId(round_id * 16), TaskId(bytes(16)), 1, 0, bytes(32), 3, 4, 2, depth, 1, planned, 1.0, 0, 1, 0,  # type: ignore[arg-type]
        bytes(8), (),  # type: ignore[arg-type]
    )  # fmt: skip


def ended(round_id: bytes, cohort: int, published: bool, seconds: float, now: float) -> reports.RoundEnded:
    return reports.RoundEnded(
        RoundId(round_id * 16), TaskId(bytes(16)), RoundKind.GRADIENT, 4, 0, now - seconds, now, 8, cohort, published,
        "" if published else "why", None, None, 3,
    )  # fmt: skip


@pytest.fixture
def watched() -> tuple[World, Measures]:
    world = World(3, "measures", Network(network_model.PRESETS["ideal"], 1), Making(exact_cryptography=False))
    return world, Measures(world.now)


def test_rounds_are_counted(watched: tuple[World, Measures]) -> None:
    """One publishes 5 of 6 that accepted and the root; one fails; one has lost its root; one has just begun."""
    world, measures = watched
    peer, other = world.peers[0], world.peers[1].id
    for name, accepts in ((b"a", 6), (b"b", 2), (b"c", 1)):
        measures.sent(world, peer, other, offer(name, 1, 8), 100)
        measures.sent(world, peer, other, offer(name, 2, 8), 100)
        for _ in range(accepts):
            measures.sent(world, peer, other, Accept(RoundId(name * 16), False), 10)
    world.now += 10.0
    measures.reported(world, peer, ended(b"a", 6, True, 10.0, world.now))
    measures.reported(world, peer, ended(b"b", 2, False, 10.0, world.now))
    world.now += 990.0
    measures.sent(world, peer, other, offer(b"d", 1, 8), 100)
    measures.sent(world, peer, other, Gossip(1, (), (), (), ()), 400)
    found = summarise(world, measures, 1000.0, 2000.0, [5, 4, 5]).flat()
    assert (found["rounds_started"], found["rounds_published"]) == (3, 1)
    assert found["publish_share"] == pytest.approx(1 / 3)
    assert (found["accepted"], found["accepted_share"]) == (6, pytest.approx(5 / 6))
    assert found["accepted_share_of_started"] == pytest.approx(5 / 9)
    assert found["planned_share"] == pytest.approx(6 / 8)
    assert found["seconds_per_round_mean"] == pytest.approx(10.0)
    assert found["gossip_bytes_per_peer_second"] == pytest.approx(400 / 2000)
    assert found["bytes"] == 7 * 100 + 9 * 10 + 400
    assert (found["steps"], found["age_median"], found["age_min"]) == (5, 5, 4)
    assert found["online_mean"] == 2.0


def test_nothing_counts_before_the_begin(watched: tuple[World, Measures]) -> None:
    world, measures = watched
    measures.begin = world.now + 5
    measures.sent(world, world.peers[0], world.peers[1].id, offer(b"a", 1, 8), 100)
    measures.reported(world, world.peers[0], ended(b"a", 6, True, 1.0, world.now))
    found = summarise(world, measures, 10.0, 30.0, []).flat()
    assert (found["messages"], found["rounds_started"], found["publish_share"]) == (0, 0, None)


def test_peers_that_go_offline_count_while_they_are_online() -> None:
    scenario = Scenario(10, 40.0, plain_task(cohort=6), 5.0, LAN, join_s=1.0)
    run = prepare(scenario, 1)
    for peer in run.world.peers[5:]:
        run.world.at(run.world.making.start + 25.0, run.world.stop, peer)
    found = finish(run).flat()
    assert found["online_mean"] == pytest.approx(7.5)


@pytest.mark.parametrize(("squared", "z"), [(61.918, -3.090), (99.334, 0.0), (149.449, 3.090)])
def test_chi_squares_are_told_in_standard_deviations(squared: float, z: float) -> None:
    """Against tables of the distribution with 100 degrees of freedom: its 0.1, 50 and 99.9 % points."""
    found = Degrees(101, 1.0, 1.0, 1.0, 0.0, squared).chi_square_z
    assert found == pytest.approx(z, abs=0.02)


def test_views_of_a_large_network_hold_everybody_about_as_often() -> None:
    """Near those drawn at random; and a network whose views are all alike is told from it."""
    scenario = Scenario(400, 1.0, plain_task(cohort=6), 90.0, LAN)
    small: dict[str, Any] = {"view_capacity": 48}

    run = prepare(replace(scenario, settings=replace(LAN, **small)), 3)
    run.world.run(90.0)
    found = view_degrees(run.world)
    assert found is not None
    assert found.mean == pytest.approx(48, rel=0.02)
    assert found.uniform_deviation == pytest.approx(math.sqrt(48 * (1 - 48 / 399)), rel=0.02)
    assert found.deviation < 1.3 * found.uniform_deviation
    assert abs(found.chi_square_z) < 3.5
    favourite = run.world.peers[0].node
    assert favourite is not None
    skewed = [run.world.peers[i] for i in range(1, 400)]
    for peer in skewed:
        assert peer.node is not None
        view = peer.node.membership._view
        for entry in list(view._members.values())[4:]:
            view._remove(entry.descriptor.peer)
        view.learn(favourite.descriptor, run.world.now, [])
    worse = view_degrees(run.world)
    assert worse is not None
    assert worse.deviation > 3 * worse.uniform_deviation
    assert worse.chi_square_z > 10
