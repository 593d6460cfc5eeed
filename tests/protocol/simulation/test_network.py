"""One world's network: delays, queues, losses, set-up, NAT, partitions; repeatable, its memory bounded."""

import math
import random
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest

from protocol.simulation.distributions import Constant, Exponential, Lognormal, Uniform, Weibull
from protocol.simulation.network import LOST, TRIES, Delivery, Lane, Network
from protocol.simulation.network import _draws as draws
from protocol.simulation.network_model import (
    CAN_DIAL,
    MEASURED_SETUP,
    PRESETS,
    Connections,
    NatClass,
    NatShares,
    NetworkModel,
)
from protocol.simulation.streams import generator

PLAIN = NetworkModel(latency_s=Constant(0.1))
MB = 1_000_000


def arrival(delivery: Delivery) -> float:
    assert delivery.failed_at is None
    (at,) = delivery.arrivals
    return at


# --- latency ------------------------------------------------------------------------------------------------------


def test_a_pair_has_one_base_latency_both_ways_and_pairs_follow_the_distribution() -> None:
    latency = Lognormal(0.05, 0.5)
    network = Network(NetworkModel(latency_s=latency), seed=1)
    bases = []
    for a, b in combinations(range(300), 2):
        base = arrival(network.send(0.0, a, b, 100))
        assert base == arrival(network.send(0.0, b, a, 100))
        bases.append(base)
    assert len(set(bases)) > 4000, "nearly all of the table's 4,096 places are in use"
    bases.sort()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        expected = latency.quantile(share)
        assert abs(bases[int(share * len(bases))] / expected - 1) < 0.06, share
    # A peer is not near to everybody or far from everybody: its mean over 299 others is that of all.
    mean = sum(bases) / len(bases)
    for a in range(20):
        own = [arrival(network.send(0.0, a, b, 100)) for b in range(300) if b != a]
        assert abs(sum(own) / 299 / mean - 1) < 6 * 0.53 / math.sqrt(299)


@pytest.mark.parametrize("name", ["ideal", "wan", "smartphones"])
def test_how_many_draws_are_made_at_once_changes_none(name: str) -> None:
    model = PRESETS[name]
    setup = (model.connections or Connections()).setup_s
    for distribution in (model.jitter_s, setup, Lognormal(0.04, 0.6), Weibull(2.0, 0.7), Uniform(0.0, 1.0)):
        few, many = draws(distribution, 3, "x"), distribution.sampler(generator(3, "x"))
        assert [few() for _ in range(5000)] == [many() for _ in range(5000)]


def test_jitter_is_drawn_for_each_message() -> None:
    network = Network(replace(PLAIN, jitter_s=Exponential(0.02)), seed=1)
    delays = [arrival(network.send(5.0, 0, 1, 100)) - 5.1 for _ in range(20_000)]
    assert min(delays) > -1e-9
    assert abs(sum(delays) / 20_000 - 0.02) < 6 * 0.02 / math.sqrt(20_000)


def test_what_a_peer_is_given_depends_on_its_index_and_the_seed_alone() -> None:
    model = replace(PRESETS["wan"], jitter_s=Constant(0.0), loss=0.0)
    large, small = Network(model, seed=7), Network(model, seed=7)
    for peer in reversed(range(500)):
        large.send(0.0, peer, peer + 1, 100)
    for a, b in combinations(range(5), 2):
        assert large.send(1.0, a, b, 10**6) == small.send(1.0, a, b, 10**6)
    other = Network(model, seed=8)
    assert other.send(1.0, 0, 1, 10**6) != Network(model, seed=7).send(1.0, 0, 1, 10**6)


@pytest.mark.parametrize("name", PRESETS)
def test_one_seed_gives_one_sequence_of_deliveries(name: str) -> None:
    def run(seed: int) -> list[Delivery]:
        network, script = Network(PRESETS[name], seed), random.Random(3)
        found = []
        for i in range(2000):
            a, b = script.sample(range(40), 2)
            found.append(network.send(i * 0.1, a, b, script.choice([200, 20_000, 2_000_000])))
            if i % 100 == 0:
                network.peer_started(a)
        return found

    assert run(1) == run(1)
    assert name == "ideal" or run(1) != run(2)


# --- loss and doubles ---------------------------------------------------------------------------------------------


def test_loss_and_doubles_come_as_often_as_said() -> None:
    network = Network(replace(PLAIN, loss=0.1, duplication=0.05), seed=4)
    found = [network.send(0.0, i % 7, 8, 100) for i in range(50_000)]
    lost, doubled = found.count(LOST), sum(len(d.arrivals) == 2 for d in found)
    assert all(d.failed_at is None for d in found)
    assert abs(lost / 50_000 - 0.1) < 6 * math.sqrt(0.1 * 0.9 / 50_000)
    assert abs(doubled / 50_000 - 0.05) < 6 * math.sqrt(0.05 * 0.95 / 50_000)
    assert all(d.arrivals == (0.1, 0.2) for d in found if len(d.arrivals) == 2)


def test_what_is_lost_is_sent_again_so_often() -> None:
    network = Network(replace(PLAIN, loss=0.5, resend_s=3.0), seed=5)
    found = Counter(network.send(10.0, i % 7, 8, 100) for i in range(10_000))
    arrived = [Delivery((10.1 + 3.0 * tries,)) for tries in range(TRIES)]
    assert set(found) == {*arrived, Delivery((), 10.0 + 3.0 * TRIES)}
    for number, delivery in enumerate(arrived, start=1):
        assert abs(found[delivery] - 10_000 / 2**number) < 6 * math.sqrt(10_000 / 2**number)


# --- bandwidth ----------------------------------------------------------------------------------------------------

LIMITED = replace(PLAIN, up_bytes_per_s=Constant(1e6), down_bytes_per_s=Constant(4e6), interleaved_bytes=0)


def test_a_vector_takes_its_size_over_the_slower_end() -> None:
    assert arrival(Network(LIMITED, 1).send(3.0, 0, 1, 4 * MB)) == pytest.approx(3.0 + 4.0 + 0.1)
    narrow = replace(LIMITED, down_bytes_per_s=Constant(0.5e6))
    assert arrival(Network(narrow, 1).send(3.0, 0, 1, 4 * MB)) == pytest.approx(3.0 + 8.0 + 0.1)


def test_messages_of_one_peer_queue_behind_each_other() -> None:
    network = Network(LIMITED, 1)
    arrivals = [arrival(network.send(0.0, 0, peer, MB)) for peer in (1, 2, 3)]
    assert arrivals == pytest.approx([1.1, 2.1, 3.1])
    assert arrival(network.send(10.0, 0, 1, MB)) == pytest.approx(11.1), "the queue is empty again"
    network.send(20.0, 0, 1, 50 * MB)
    network.peer_started(0)
    assert arrival(network.send(20.0, 0, 2, MB)) == pytest.approx(21.1), "a new session has an empty queue"


def test_messages_to_one_peer_share_its_downlink() -> None:
    network = Network(LIMITED, 1)
    arrivals = [arrival(network.send(0.0, peer, 9, MB)) for peer in range(8)]
    # Eight uplinks of 1 MB/s into a downlink of 4 MB/s: no faster than it takes them, none slower than all of them.
    assert max(arrivals) == pytest.approx(8 / 4 + 0.1)
    assert min(arrivals) == pytest.approx(1.1)


def test_a_queue_at_one_sender_does_not_block_others_messages_to_the_same_peer() -> None:
    network = Network(LIMITED, 1)
    for _ in range(100):
        network.send(0.0, 0, 9, MB)
    assert arrival(network.send(0.0, 1, 9, MB)) == pytest.approx(1.1, abs=0.3)


def test_what_is_sent_again_takes_its_time_again() -> None:
    network = Network(replace(LIMITED, loss=1.0, resend_s=3.0), 1)
    assert network.send(0.0, 0, 1, 1_000_000) == Delivery((), 3.0 * TRIES)
    network.model = LIMITED
    assert network.send(0.0, 0, 2, 1_000_000).arrivals == (pytest.approx(2.1),)


def test_short_messages_pass_between_the_packets_of_long_ones() -> None:
    network = Network(replace(LIMITED, interleaved_bytes=1000), 1)
    network.send(0.0, 0, 1, 100 * MB)
    assert arrival(network.send(0.0, 0, 1, 1000)) == pytest.approx(0.101)
    assert arrival(network.send(0.0, 0, 1, 1001)) > 100


def test_peers_have_bandwidths_of_their_own() -> None:
    up = Uniform(1e6, 9e6)
    network = Network(replace(PLAIN, up_bytes_per_s=up), 5)
    rates = sorted(MB / (arrival(network.send(0.0, peer, 9999, MB)) - 0.1) for peer in range(2000))
    assert abs(sum(rates) / 2000 / 5e6 - 1) < 6 * (8 / math.sqrt(12) / 5) / math.sqrt(2000)
    assert rates[0] < 1.1e6
    assert rates[-1] > 8.9e6


def test_a_lane_is_never_taken_twice() -> None:
    """Against a list of all that was ever reserved: no overlap, no sooner gap that would have fitted."""
    rng, lane = random.Random(1), Lane()
    taken: list[tuple[float, float]] = []
    now = 0.0
    for _ in range(2000):
        now += rng.choice([0.0, 0.5, 1.0])
        earliest, length = now + rng.choice([0.0, 0.0, 1.0, 8.0]), rng.choice([0.125, 0.25, 1.0])
        end = lane.reserve(now, earliest, length)
        begins = [earliest, *(e for _, e in taken if e > earliest)]
        fits = [b for b in begins if all(e <= b or s >= b + length for s, e in taken)]
        assert end == min(fits) + length
        taken = [(s, e) for s, e in taken if e > now] + [(end - length, end)]
    assert len(lane._starts) <= len(taken)


# --- connections --------------------------------------------------------------------------------------------------


def setup(success: float = 1.0, nat: NatShares | None = None) -> NetworkModel:
    return replace(PLAIN, connections=Connections(Constant(2.0), success, Constant(15.0), nat))


def test_the_first_message_of_a_session_waits_for_the_connection() -> None:
    network = Network(setup(), 1)
    assert arrival(network.send(10.0, 0, 1, 100)) == pytest.approx(12.1)
    assert arrival(network.send(11.0, 1, 0, 100)) == pytest.approx(12.1), "joins the set-up that is going on"
    assert arrival(network.send(12.5, 0, 1, 100)) == pytest.approx(12.6)
    network.peer_started(1)
    assert arrival(network.send(20.0, 0, 1, 100)) == pytest.approx(22.1)
    network.peer_started(0)
    assert arrival(network.send(30.0, 0, 1, 100)) == pytest.approx(32.1)


def test_a_failed_set_up_lasts_for_the_session_of_either() -> None:
    network = Network(setup(success=0.5), 3)
    pairs = list(combinations(range(60), 2))
    failed = [pair for pair in pairs if network.send(0.0, *pair, 100).failed_at is not None]
    assert abs(len(failed) / len(pairs) - 0.5) < 6 * 0.5 / math.sqrt(len(pairs))
    for a, b in failed:
        assert network.send(5.0, a, b, 100) == Delivery((), 15.0), "the attempt is still going on"
        assert network.send(5.0, b, a, 100) == Delivery((), 15.0), "in both directions"
    for a, b in failed:
        assert network.send(100.0, a, b, 100) == Delivery((), 115.0), "trying again takes as long, and is as hopeless"
    network.peer_started(0)
    mine = [pair for pair in failed if pair[0] == 0]
    again = [pair for pair in mine if network.send(200.0, *pair, 100).failed_at is None]
    assert 0 < len(again) < len(mine), "a new session is a new chance"
    others = [pair for pair in failed if 0 not in pair]
    assert all(network.send(200.0, *pair, 100).failed_at is not None for pair in others)


def test_measured_set_up_of_smartphones() -> None:
    model = replace(PLAIN, connections=MEASURED_SETUP)
    network = Network(model, 11)
    found = [network.send(0.0, a, b, 100) for a, b in combinations(range(300), 2)]
    up = sorted(arrival(d) - 0.1 for d in found if d.arrivals)
    down = sorted(d.failed_at for d in found if d.failed_at is not None)
    assert len(up) + len(down) == len(found)
    assert abs(len(up) / len(found) - 0.431) < 6 * 0.5 / math.sqrt(len(found))
    assert abs(up[len(up) // 2] - 6.6) < 0.2
    assert abs(up[len(up) * 9 // 10] - 14.2) < 0.4
    assert abs(down[len(down) // 2] - 15.3) < 0.2


def test_memory_holds_live_connections_only() -> None:
    network = Network(setup(success=0.5), 1)
    for a, b in combinations(range(50), 2):
        network.send(0.0, a, b, 100)
    for peer in range(49):
        network.peer_stopped(peer)
    assert all(not p.ready and not p.failed for p in network._peers.values())


def test_who_dials_matters_until_a_connection_stands() -> None:
    network = Network(setup(nat=NatShares(0.25, 0.25, 0.25, 0.25)), 2)
    members: dict[NatClass, list[int]] = {nat: [] for nat in NatClass}
    for peer in range(200):
        members[network._peers[peer].nat].append(peer)
    assert all(25 < len(peers) < 75 for peers in members.values())
    for one in NatClass:
        for other in NatClass:
            a, b = members[one][0], members[other][1]
            network.peer_started(a)
            network.peer_started(b)
            dialled = network.send(0.0, a, b, 100)
            assert (dialled.failed_at is None) == CAN_DIAL[one][other], (one, other)
            back = network.send(50.0, b, a, 100)
            assert (back.failed_at is None) == (CAN_DIAL[one][other] or CAN_DIAL[other][one]), (one, other)
    blocked, public = members[NatClass.BLOCKED][2], members[NatClass.OPEN][2]
    assert network.send(0.0, public, blocked, 100) == Delivery((), 15.0)
    assert arrival(network.send(20.0, blocked, public, 100)) == pytest.approx(22.1)
    assert arrival(network.send(30.0, public, blocked, 100)) == pytest.approx(30.1)


# --- partitions ---------------------------------------------------------------------------------------------------


def test_partitions_and_cuts() -> None:
    network = Network(replace(PLAIN, silence_s=Constant(3.0)), 1)
    network.partition([[0, 1], [2, 3]])
    reached = {(a, b) for a in range(6) for b in range(6) if network.send(1.0, a, b, 9).failed_at is None and a != b}
    assert reached == {(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)}
    assert network.send(1.0, 0, 2, 9) == Delivery((), 4.0)
    network.heal()
    assert arrival(network.send(1.0, 0, 2, 9)) == pytest.approx(1.1)
    network.cut(0)
    network.cut(0)
    network.mend(0)
    assert network.send(1.0, 0, 1, 9) == network.send(1.0, 1, 0, 9) == Delivery((), 4.0)
    assert arrival(network.send(1.0, 1, 2, 9)) == pytest.approx(1.1)
    network.mend(0)
    assert arrival(network.send(1.0, 0, 1, 9)) == pytest.approx(1.1)
    assert network.no_answer(7.0) == Delivery((), 10.0)
