"""The detector's memory: deadlines, bounds, and that a peer that slept blames nobody."""

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId
from protocol.base.settings import LAN
from protocol.membership.detector import MAX_PROBES, MAX_RELAYS, MAX_RELAYS_PER_ASKER, Detector
from tests.protocol.membership.world import Peer, World

A, B = PeerId(b"a" * 16), PeerId(b"b" * 16)


@pytest.fixture
def detector() -> Detector:
    return Detector(LAN, SeededEntropy(1))


@pytest.fixture(scope="module")
def askers() -> list[Peer]:
    peers = World("askers").add(20)
    for peer in peers:
        peer.sign()
    return peers


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(16, "big"))


def test_a_probe_is_answered_by_its_target_and_nonce_alone(detector: Detector) -> None:
    nonce = detector.begin(A, [B], 0.0)
    assert nonce is not None
    assert detector.begin(A, [], 0.1) is None  # one at a time
    assert detector.answered(B, nonce) is None
    assert detector.answered(A, nonce ^ 1) is None
    probe = detector.answered(A, nonce)
    assert probe is not None
    assert probe.exchangeable == [B]
    assert detector.answered(A, nonce) is None
    assert detector.silent(99.0) == []


def test_silence_shows_at_the_deadline_directly_and_indirectly(detector: Detector) -> None:
    detector.begin(A, [], 10.0)
    assert detector.next_deadline() == (10.0 + LAN.probe_timeout_s, "probe")
    assert detector.silent(10.4) == []
    (probe,) = detector.silent(10.5)
    assert detector.probe_of(A) is None
    detector.ask(probe, (B,), 10.5)
    assert detector.next_deadline() == (11.5, "probe")
    assert detector.silent(11.5) == [probe]
    assert detector.next_deadline()[0] == float("inf")


def test_any_message_of_the_target_ends_the_probe_well(detector: Detector) -> None:
    nonce = detector.begin(A, [B], 0.0)
    assert nonce is not None
    detector.heard(A)
    assert detector.silent(5.0) == []
    assert detector.answered(A, nonce) is None


def test_suspicion_runs_out_once(detector: Detector) -> None:
    detector.suspect(A, 0.0)
    detector.suspect(B, 1.0)
    assert detector.next_deadline() == (4.0, "suspicion")
    assert detector.lapsed(3.9) == []
    assert detector.lapsed(4.0) == [A]
    detector.forget(B)
    assert detector.lapsed(99.0) == []


def test_time_slept_through_is_added_to_every_deadline(detector: Detector) -> None:
    detector.begin(A, [], 0.0)
    detector.suspect(B, 0.0)
    detector.postpone(100.0)
    assert detector.silent(100.4) == []
    assert detector.lapsed(103.9) == []
    assert len(detector.silent(100.5)) == 1
    assert detector.lapsed(104.0) == [B]


def test_probes_are_bounded(detector: Detector) -> None:
    nonces = [detector.begin(peer(number), [], 0.0) for number in range(MAX_PROBES + 5)]
    assert nonces[MAX_PROBES:] == [None] * 5
    assert None not in nonces[:MAX_PROBES]


def test_a_relay_is_found_by_nonce_and_target_and_while_it_lasts(detector: Detector, askers: list[Peer]) -> None:
    nonce = detector.relay(askers[0].own, 7, A, 0.0)
    assert nonce is not None
    assert detector.relaying(A, 0.9)
    assert not detector.relaying(A, 1.1)
    assert detector.relayed(nonce, B, 0.5) is None
    relay = detector.relayed(nonce, A, 0.5)
    assert relay is not None
    assert (relay.asker, relay.asker_nonce) == (askers[0].own, 7)
    assert detector.relayed(nonce, A, 0.5) is None
    late = detector.relay(askers[0].own, 8, A, 0.0)
    assert late is not None
    assert detector.relayed(late, A, 1.1) is None


def test_relays_are_bounded_for_each_asker_and_in_all(detector: Detector, askers: list[Peer]) -> None:
    made = 0
    for asker in askers:
        nonces = [detector.relay(asker.own, i, A, 0.0) for i in range(MAX_RELAYS_PER_ASKER + 3)]
        made += sum(nonce is not None for nonce in nonces)
        assert nonces[MAX_RELAYS_PER_ASKER:] == [None] * 3
    assert made == MAX_RELAYS
    assert detector.relay(askers[0].own, 0, A, 50.0) is not None  # the old ones have run out
