"""Envelopes: every refusal by name; theft, redirection and reflection of a body."""

import pytest

from protocol.base.errors import Refusal
from protocol.base.limits import CLOCK_TOLERANCE_S, MAX_BODY, MAX_DESCRIPTOR, MAX_ENVELOPE_TTL_S
from protocol.identity.keys import KemSuite
from protocol.wire.envelope import _FIXED, _SIGNATURE_TAG, Opener, Sealer
from tests.protocol.wire.forging import (
    EXPIRES,
    LENGTH,
    MAGIC,
    MESSAGE_ID,
    NOW,
    RECIPIENT,
    SENDER,
    SIGNATURE,
    SUITES,
    VERSION,
    forge,
    reason,
    with_field,
)


def test_sizes_and_shape(pair):
    alice, bob = pair
    envelope = alice.seal(bob)
    assert reason(bob.open, bytes(MAX_BODY + 1)) is Refusal.OVERSIZED
    for length in range(len(envelope)):
        assert reason(bob.open, envelope[:length]) in (Refusal.MALFORMED, Refusal.BAD_SIGNATURE), length
    assert reason(bob.open, envelope + b"\0") is Refusal.BAD_SIGNATURE
    assert reason(bob.open, with_field(envelope, MAGIC, b"http")) is Refusal.MALFORMED
    assert reason(bob.open, with_field(envelope, VERSION, 2)) is Refusal.VERSION
    big = with_field(envelope, LENGTH, MAX_DESCRIPTOR + 1) + bytes(MAX_DESCRIPTOR)
    assert reason(bob.open, big) is Refusal.MALFORMED
    assert bob.open(envelope)[1] == b"head"  # and none of this changed anything


def test_wrong_network(network, foreign, pair):
    alice, _ = pair
    eve = foreign.member()
    eve.meets(alice)
    fields = (
        b"susu",
        1,
        1,
        0,
        network.authority.network,
        alice.ring.peer_id,
        eve.ring.peer_id,
        b"m" * 16,
        eve.ring.current.epoch,
        int(NOW * 1000),
    )
    assert reason(eve.open, forge(alice.ring.signing, fields, eve.descriptor)) is Refusal.WRONG_NETWORK
    with pytest.raises(ValueError, match="another network"):
        alice.seal(eve)
    with pytest.raises(ValueError, match="another network"):
        Opener(network.authority.network, eve.ring, eve.verifier)


def test_member_of_another_network(network, foreign):
    """Right network id in the header, but certificates of another: known or introduced, it is no member."""
    bob, eve = network.member(), foreign.member()
    eve.sealer = Sealer(network.authority.network, eve.ring, network.entropy)
    bob.meets(eve)
    assert reason(bob.open, eve.seal(bob)) is Refusal.NOT_A_MEMBER
    assert reason(bob.open, eve.seal(bob, introduce=True)) is Refusal.NOT_A_MEMBER


def test_wrong_recipient(network, pair):
    alice, bob = pair
    carol = network.member()
    carol.meets(alice)
    assert reason(carol.open, alice.seal(bob)) is Refusal.WRONG_RECIPIENT
    with pytest.raises(ValueError, match="itself"):
        alice.seal(alice)


def test_redirected(network, pair):
    """Another recipient in the header: the signature covers it."""
    alice, bob = pair
    carol = network.member()
    carol.meets(alice)
    carol.ring._keys = bob.ring._keys  # even if she had bob's KEM key
    redirected = with_field(alice.seal(bob), RECIPIENT, carol.ring.peer_id)
    assert reason(carol.open, redirected) is Refusal.BAD_SIGNATURE


def test_reflected(pair):
    alice, bob = pair
    alice.meets(bob)
    assert reason(alice.open, alice.seal(bob)) is Refusal.WRONG_RECIPIENT
    fields = (
        b"susu",
        1,
        1,
        0,
        alice.network.authority.network,
        bob.ring.peer_id,
        bob.ring.peer_id,
        b"m" * 16,
        bob.ring.current.epoch,
        int(NOW * 1000),
    )
    bob.meets(bob)
    assert reason(bob.open, forge(bob.ring.signing, fields, bob.descriptor)) is Refusal.MALFORMED


def test_replayed(pair):
    alice, bob = pair
    envelope = alice.seal(bob)
    bob.open(envelope)
    for later in (0, 29, 30 + CLOCK_TOLERANCE_S):
        assert reason(bob.open, envelope, NOW + later) is Refusal.REPLAYED
    assert reason(bob.open, envelope, NOW + 30 + CLOCK_TOLERANCE_S + 0.01) is Refusal.EXPIRED
    assert bob.open(alice.seal(bob, now=NOW + 200), NOW + 200)[1] == b"head"
    assert len(bob.replay) == 1
    assert reason(bob.open, envelope, NOW + 200) is Refusal.EXPIRED  # forgotten only when it no longer matters


def test_two_messages_are_not_a_replay(pair):
    alice, bob = pair
    assert alice.seal(bob) != alice.seal(bob)
    for _ in range(3):
        bob.open(alice.seal(bob))


def test_times(pair):
    alice, bob = pair
    envelope = alice.seal(bob, ttl_s=10)
    assert reason(bob.open, envelope, NOW + 10 + CLOCK_TOLERANCE_S + 1) is Refusal.EXPIRED
    assert bob.open(envelope, NOW + 10 + CLOCK_TOLERANCE_S)[1] == b"head"
    ahead = MAX_ENVELOPE_TTL_S + CLOCK_TOLERANCE_S
    assert reason(bob.open, alice.seal(bob, now=NOW + ahead, ttl_s=1)) is Refusal.FAR_FUTURE
    assert bob.open(alice.seal(bob, now=NOW + ahead - 1, ttl_s=1))[1] == b"head"
    assert reason(bob.open, with_field(envelope, EXPIRES, 2**64 - 1)) is Refusal.FAR_FUTURE
    for ttl in (0, -1, MAX_ENVELOPE_TTL_S + 1, float("nan")):
        with pytest.raises(ValueError, match="lives for at most"):
            alice.seal(bob, ttl_s=ttl)


def test_membership_that_ended_meanwhile(network, pair):
    alice, bob = pair
    later = alice.descriptor.expires + CLOCK_TOLERANCE_S + 1
    assert reason(bob.open, alice.seal(bob, now=later), later) is Refusal.DESCRIPTOR_EXPIRED
    bob.verifier.revoked = frozenset([alice.ring.peer_id])
    assert reason(bob.open, alice.seal(bob)) is Refusal.NOT_A_MEMBER
    bob.verifier.revoked = frozenset()
    alice.descriptor = network.describe(alice.ring, lifetime_s=1e9)
    bob.meets(alice)
    gone = network.token.expires + CLOCK_TOLERANCE_S + 1
    assert reason(bob.open, alice.seal(bob, now=gone), gone) is Refusal.CERTIFICATE_EXPIRED


def test_anothers_introduction(network, pair):
    """A third member puts alice's name over its own work, or her descriptor under its own name."""
    alice, bob = pair
    mallory = network.member()
    mallory_as_alice = with_field(mallory.seal(bob), SENDER, alice.ring.peer_id)
    assert reason(bob.open, mallory_as_alice) is Refusal.BAD_SIGNATURE
    buffers = mallory.sealer.seal(bob.descriptor, b"head", b"", now=NOW, ttl_s=30, own_descriptor=alice.descriptor.raw)
    assert reason(bob.open, b"".join(buffers)) is Refusal.UNKNOWN_SENDER
    expired = network.describe(mallory.ring, lifetime_s=0.0).raw
    buffers = mallory.sealer.seal(bob.descriptor, b"head", b"", now=NOW + 125, ttl_s=30, own_descriptor=expired)
    assert reason(bob.open, b"".join(buffers), NOW + 125) is Refusal.DESCRIPTOR_EXPIRED


def test_lookup_that_answers_with_another_peer(network, pair):
    alice, bob = pair
    bob.known[alice.ring.peer_id] = network.member().descriptor
    assert reason(bob.open, alice.seal(bob)) is Refusal.UNKNOWN_SENDER


@pytest.mark.parametrize("suite", SUITES)
def test_every_touched_byte_is_refused(network, suite):
    """Header, introduction, signature, encapsulated key and tag by ``inspect``; the ciphertext by ``decrypt``."""
    alice, bob = network.member(), network.member(suite)
    envelope = alice.seal(bob, b"h" * 32, introduce=True)
    enc = _FIXED.size + len(alice.descriptor.raw) + SIGNATURE
    body = range(enc + suite.enc_length, len(envelope) - 16)
    step = 1 if suite is KemSuite.X25519 else 7
    for place in [*range(0, len(envelope), step), *body]:
        touched = bytearray(envelope)
        touched[place] ^= 1
        if place in body:
            header = bob.opener.inspect(touched, NOW, bob.known.get)
            assert reason(bob.opener.decrypt, header, touched) is Refusal.BAD_SEAL
            bob.opener._replay.__init__()
        else:
            assert reason(bob.opener.inspect, touched, NOW, bob.known.get) is not Refusal.BAD_SEAL, place
    assert bob.open(envelope)[1] == b"h" * 32


def test_regions_name_their_refusal(pair):
    alice, bob = pair
    envelope = alice.seal(bob, b"h" * 32)
    enc = _FIXED.size + SIGNATURE

    def touched(place: int) -> bytes:
        out = bytearray(envelope)
        out[place] ^= 1
        return bytes(out)

    assert reason(bob.open, touched(_FIXED.size + 3)) is Refusal.BAD_SIGNATURE  # signature
    assert reason(bob.open, touched(enc)) is Refusal.BAD_SIGNATURE  # encapsulated key
    assert reason(bob.open, touched(len(envelope) - 1)) is Refusal.BAD_SIGNATURE  # tag
    assert reason(bob.open, with_field(envelope, MESSAGE_ID, b"n" * 16)) is Refusal.BAD_SIGNATURE
    assert reason(bob.open, with_field(envelope, EXPIRES, int(NOW * 1000) + 60_000)) is Refusal.BAD_SIGNATURE
    assert reason(bob.open, touched(enc + 32)) is Refusal.BAD_SEAL  # ciphertext


def test_a_stolen_body_cannot_be_signed_by_another(network, pair):
    """A third member takes alice's sealed body and signs it as its own, in every way it could.

    The sender is part of the HPKE info, so bob derives another key and the body does not open.
    """
    alice, bob = pair
    mallory = network.member()
    bob.meets(mallory)
    envelope = alice.seal(bob, b"alice's gradient")
    sealed = envelope[_FIXED.size + SIGNATURE :]
    original = list(_FIXED.unpack_from(envelope))
    for change in ({}, {MESSAGE_ID: b"n" * 16}, {EXPIRES: original[EXPIRES] + 1000}):
        fields = list(original)
        for field, value in ({SENDER: mallory.ring.peer_id} | change).items():
            fields[field] = value
        header = _FIXED.pack(*fields)
        signed = _SIGNATURE_TAG + header + sealed[:32] + sealed[-16:]
        stolen = header + mallory.ring.signing.sign(signed) + sealed
        inspected = bob.opener.inspect(stolen, NOW, bob.known.get)
        assert inspected.sender == mallory.descriptor  # the signature itself is right
        assert reason(bob.opener.decrypt, inspected, stolen) is Refusal.BAD_SEAL
        bob.replay.__init__()
    assert bob.open(envelope) == (alice.descriptor, b"alice's gradient")


def test_signature_of_another_purpose(pair):
    """A signature over the same bytes without the envelope's domain tag is none."""
    alice, bob = pair
    fields = (
        b"susu",
        1,
        1,
        0,
        alice.network.authority.network,
        alice.ring.peer_id,
        bob.ring.peer_id,
        b"m" * 16,
        bob.ring.current.epoch,
        int(NOW * 1000),
    )
    right = forge(alice.ring.signing, fields, bob.descriptor)
    sealed = right[_FIXED.size + SIGNATURE :]
    wrong = alice.ring.signing.sign(right[: _FIXED.size] + sealed[:32] + sealed[-16:])
    assert reason(bob.open, right[: _FIXED.size] + wrong + sealed) is Refusal.BAD_SIGNATURE
    assert bob.open(right)[1] == b"head"
