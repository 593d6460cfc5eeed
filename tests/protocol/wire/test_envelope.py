"""Envelopes: the way through, rotation and restarts, the replay cache in use, costs, and a fuzz test."""

import os
import random
import tracemalloc
from dataclasses import replace

import pytest

from protocol.base.errors import Refusal, Refused
from protocol.base.limits import CLOCK_TOLERANCE_S, KEM_KEEP_S, MAX_BODY, MAX_DESCRIPTOR
from protocol.identity.keys import KemSuite
from protocol.wire import codec
from protocol.wire.envelope import _FIXED
from protocol.wire.messages import Ping
from tests.protocol.wire.forging import (
    EPOCH,
    NOW,
    SENDER,
    SIGNATURE,
    SUITE,
    SUITES,
    forge,
    reason,
    with_field,
)


@pytest.mark.parametrize("suite", SUITES)
def test_through(network, suite):
    alice, bob = network.member(), network.member(suite)
    bob.meets(alice)
    head, tail = codec.encode(Ping(5))
    envelope = alice.seal(bob, head, tail)
    sender, plaintext = bob.open(envelope)
    assert sender == alice.descriptor
    assert codec.decode(plaintext) == Ping(5)
    assert len(envelope) == _FIXED.size + SIGNATURE + len(head) + suite.overhead


def test_two_buffers_in_two_steps(pair):
    alice, bob = pair
    tail = bytearray(b"vector" * 1000)
    buffers = alice.sealer.seal(bob.descriptor, b"h" * 16, memoryview(tail), now=NOW, ttl_s=30)
    envelope = bytearray(b"".join(buffers))
    header = bob.opener.inspect(memoryview(envelope), NOW, bob.known.get)
    assert header.sender == alice.descriptor
    bob.ring.rotate(NOW + 1)
    bob.ring.prune(NOW + 1e6)  # between the two steps: the header still holds its key
    assert bob.opener.decrypt(header, envelope) == b"h" * 16 + tail
    assert repr(header.key) not in repr(header)


def test_a_stranger_may_introduce_itself(network):
    alice, bob = network.member(), network.member()
    assert reason(bob.open, alice.seal(bob)) is Refusal.UNKNOWN_SENDER
    sender, plaintext = bob.open(alice.seal(bob, introduce=True))
    assert (sender, plaintext) == (alice.descriptor, b"head")


def test_the_newer_descriptor_is_used(network, pair):
    alice, bob = pair
    old, new = alice.descriptor, network.describe(alice.ring, incarnation=9)
    alice.descriptor = new
    assert bob.open(alice.seal(bob, introduce=True))[0] == new
    bob.meets(alice)
    alice.descriptor = old
    assert bob.open(alice.seal(bob, introduce=True))[0] == new


# --- epochs and restarts ------------------------------------------------------------------------------------


def test_epochs(network, pair):
    alice, bob = pair
    envelope = alice.seal(bob)
    assert reason(bob.open, with_field(envelope, EPOCH, 1)) is Refusal.UNKNOWN_EPOCH
    assert reason(bob.open, with_field(envelope, SUITE, 2)) is Refusal.UNKNOWN_EPOCH
    before = alice.seal(bob)
    bob.ring.rotate(NOW)
    assert bob.open(before)[1] == b"head"
    late = alice.seal(bob, now=NOW + KEM_KEEP_S, ttl_s=60)  # alice has not heard of the new key
    assert bob.open(late, NOW + KEM_KEEP_S)[1] == b"head"
    later = NOW + KEM_KEEP_S + 1
    bob.ring.prune(later)
    assert reason(bob.open, alice.seal(bob, now=later), later) is Refusal.UNKNOWN_EPOCH
    bob.descriptor = network.describe(bob.ring, later, incarnation=2)
    assert bob.open(alice.seal(bob, now=later), later)[1] == b"head"


def test_nothing_from_before_a_restart_is_taken_again(pair):
    alice, bob = pair
    taken, waiting = alice.seal(bob), alice.seal(bob)
    bob.open(taken)
    bob.restarts(NOW + 1)
    bob.meets(alice)
    assert reason(bob.open, taken, NOW + 1) is Refusal.UNKNOWN_EPOCH
    assert reason(bob.open, waiting, NOW + 1) is Refusal.UNKNOWN_EPOCH
    assert bob.open(alice.seal(bob), NOW + 1)[1] == b"head"


# --- the replay cache in use --------------------------------------------------------------------------------


def test_replay_bounds(network):
    alice, carol = network.member(), network.member()
    bob = network.member(capacity=4, per_sender=3)
    bob.meets(alice, carol)
    for _ in range(3):
        bob.open(alice.seal(bob))
    assert reason(bob.open, alice.seal(bob)) is Refusal.BUSY
    bob.open(carol.seal(bob))
    assert reason(bob.open, carol.seal(bob)) is Refusal.BUSY
    later = NOW + 30 + CLOCK_TOLERANCE_S + 1
    assert bob.open(carol.seal(bob, now=later), later)[1] == b"head"


def test_unauthenticated_ids_are_not_remembered(network, pair):
    """Else a stranger who saw an envelope could block it, or fill the cache."""
    alice, bob = pair
    envelope = alice.seal(bob)
    bad = bytearray(envelope)
    bad[_FIXED.size] ^= 1
    assert reason(bob.open, bytes(bad)) is Refusal.BAD_SIGNATURE
    assert len(bob.replay) == 0
    mallory = network.member()
    bob.meets(mallory)
    fields = list(_FIXED.unpack_from(envelope))
    fields[SENDER] = mallory.ring.peer_id  # the same message id under another name blocks nobody
    bob.open(forge(mallory.ring.signing, tuple(fields), bob.descriptor))
    assert bob.open(envelope)[1] == b"head"


# --- cost ---------------------------------------------------------------------------------------------------


def test_a_large_body_is_copied_little(pair):
    """Sealing holds one joined copy and one output; inspecting and opening no copy but the plaintext."""
    alice, bob = pair
    size = 8 * 2**20
    tail = bytes(size)
    slack = 256 * 1024

    def peak(call):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return result, tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        buffers, sealing = peak(lambda: alice.sealer.seal(bob.descriptor, b"h" * 16, tail, now=NOW, ttl_s=30))
        envelope = b"".join(buffers)
        header, inspecting = peak(lambda: bob.opener.inspect(envelope, NOW, bob.known.get))
        plaintext, opening = peak(lambda: bob.opener.decrypt(header, envelope))
    finally:
        tracemalloc.stop()
    assert sealing < 2 * size + slack
    assert inspecting < slack
    assert opening < size + slack
    assert len(plaintext) == size + 16


def test_too_large(pair):
    alice, bob = pair
    room = MAX_BODY - _FIXED.size - SIGNATURE - KemSuite.X25519.overhead
    with pytest.raises(ValueError, match="too large"):
        alice.seal(bob, b"h" * 16, bytes(room - 15))
    with pytest.raises(ValueError, match="too long"):
        alice.sealer.seal(bob.descriptor, b"h", b"", now=NOW, ttl_s=30, own_descriptor=bytes(MAX_DESCRIPTOR + 1))


def test_a_recipient_nothing_can_be_sealed_to(pair):
    alice, bob = pair
    bob.descriptor = replace(bob.descriptor, kem_key=bytes(32))
    assert reason(alice.seal, bob) is Refusal.BAD_SEAL


# --- fuzz ---------------------------------------------------------------------------------------------------


def test_fuzz(network, pair):
    """Whatever the bytes: ``Refused``, and nothing remembered."""
    alice, bob = pair
    carol = network.member()
    rng = random.Random(3)
    seeds = [alice.seal(bob), alice.seal(bob, introduce=True), carol.seal(bob, introduce=True)]
    for i in range(int(os.environ.get("SUSURRUS_FUZZ", "20000")) // 10):
        data = bytearray(seeds[i % 3])
        match rng.randrange(5):
            case 0:
                data = bytearray(rng.randbytes(rng.randint(0, 400)))
            case 1:
                data[: _FIXED.size] = rng.randbytes(_FIXED.size)
            case 2:
                at = rng.randrange(len(data))
                del data[at : at + rng.randint(1, 50)]
            case 3:
                at = rng.randrange(len(data))
                data[at:at] = rng.randbytes(rng.randint(1, 50))
            case 4:
                data[rng.randrange(len(data) - 40)] ^= 1 << rng.randrange(8)
        if bytes(data) in seeds:
            continue
        try:
            bob.open(bytes(data))
        except Refused as refusal:
            if refusal.reason is Refusal.BAD_SEAL:
                bob.replay.__init__()  # the ciphertext was touched: the id is remembered, by design
        else:
            pytest.fail("a mutated envelope was taken")
    assert len(bob.replay) == 0
