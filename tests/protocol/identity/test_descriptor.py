"""Descriptors: a peer's own signed word, believed only as long as everything in it holds."""

import pytest

from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.limits import CLOCK_TOLERANCE_S, MAX_DESCRIPTOR
from protocol.identity.admission import admit
from protocol.identity.descriptor import DescriptorVerifier, make_descriptor, parse_descriptor
from protocol.identity.keys import KemSuite, hybrid_available

NOW = 1_700_000_000.0
SUITES = [
    KemSuite.X25519,
    pytest.param(KemSuite.HYBRID, marks=pytest.mark.skipif(not hybrid_available(), reason="no ML-KEM in this library")),
]


def reason(call, *args, **kwargs) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("suite", SUITES)
def test_round_trip(world, suite):
    ring = world.ring(suite)
    made = world.descriptor(ring)
    read = parse_descriptor(made.raw)
    for name in made.__dataclass_fields__:
        assert getattr(read, name) == getattr(made, name), name
    assert read.peer == ring.peer_id
    assert read.network == world.authority.network
    assert world.verifier.verify(made.raw, NOW) == made
    assert len(made.raw) < MAX_DESCRIPTOR


def test_compared_by_their_bytes(world):
    ring = world.ring()
    one, two = world.descriptor(ring), world.descriptor(ring, incarnation=2)
    assert one == parse_descriptor(one.raw)
    assert hash(one) == hash(parse_descriptor(one.raw))
    assert one != two
    assert two.supersedes(one)
    assert not one.supersedes(two)
    assert world.descriptor(ring, now=NOW + 1).supersedes(one)


def test_any_touched_byte_is_refused(world):
    raw = world.descriptor(world.ring()).raw
    for place in range(len(raw)):
        touched = bytearray(raw)
        touched[place] ^= 1
        with pytest.raises(Refused):
            world.verifier.verify(bytes(touched), NOW)
    for length in range(len(raw)):
        assert reason(world.verifier.verify, raw[:length], NOW) in (
            Refusal.MALFORMED,
            Refusal.OVERSIZED,
            Refusal.BAD_SIGNATURE,
        )
    assert reason(world.verifier.verify, bytes(MAX_DESCRIPTOR + 1), NOW) is Refusal.OVERSIZED


def test_foreign_network(world, other_world):
    raw = other_world.descriptor(other_world.ring()).raw
    assert reason(world.verifier.verify, raw, NOW) is Refusal.NOT_A_MEMBER


def test_anothers_chain(world):
    member, thief = world.ring(), world.ring()
    chain = admit(world.token, member.signing.public_bytes, NOW)
    stolen = make_descriptor(thief, chain, addresses=[], incarnation=1, now=NOW, lifetime_s=60)
    assert reason(world.verifier.verify, stolen.raw, NOW) is Refusal.NOT_A_MEMBER


def test_expiry_is_checked_on_every_call(world):
    made = world.descriptor(world.ring())
    world.verifier.verify(made.raw, NOW)
    edge = made.expires + CLOCK_TOLERANCE_S
    world.verifier.verify(made.raw, edge)
    assert reason(world.verifier.verify, made.raw, edge + 1) is Refusal.DESCRIPTOR_EXPIRED
    ring = world.ring()
    chain = admit(world.token, ring.signing.public_bytes, NOW)
    early = make_descriptor(ring, chain, addresses=[], incarnation=1, now=NOW + 3600, lifetime_s=60)
    assert reason(world.verifier.verify, early.raw, NOW) is Refusal.DESCRIPTOR_EXPIRED
    assert world.verifier.verify(early.raw, NOW + 3600) == early


def test_never_outlives_its_chain(world):
    made = world.descriptor(world.ring(), lifetime_s=1e6)
    assert made.expires == made.chain.expires
    world.verifier.verify(made.raw, NOW)
    late = made.expires + CLOCK_TOLERANCE_S + 1
    assert reason(world.verifier.verify, made.raw, late) is Refusal.CERTIFICATE_EXPIRED
    ring = world.ring()
    chain = admit(world.token, ring.signing.public_bytes, NOW)
    with pytest.raises(ConfigurationError, match="new join token"):
        make_descriptor(ring, chain, addresses=[], incarnation=1, now=chain.expires + 1, lifetime_s=60)


def test_revocation_hook(world):
    made = world.descriptor(world.ring())
    world.verifier.verify(made.raw, NOW)
    world.verifier.revoked = frozenset([made.peer])
    assert reason(world.verifier.verify, made.raw, NOW) is Refusal.NOT_A_MEMBER
    world.verifier.revoked = frozenset([made.chain.token.token_key])
    assert reason(world.verifier.verify, made.raw, NOW) is Refusal.NOT_A_MEMBER


def test_cache_is_bounded_and_holds_only_what_verified(world):
    verifier = DescriptorVerifier(world.verifier.authority_key, kept=4)
    ring = world.ring()
    for incarnation in range(9):
        verifier.verify(world.descriptor(ring, incarnation=incarnation).raw, NOW)
    assert len(verifier._verified) == 4
    bad = world.descriptor(ring, incarnation=99).raw[:-1] + b"\0"
    with pytest.raises(Refused):
        verifier.verify(bad, NOW)
    assert bad not in verifier._verified


def test_unusable_kem_key(world):
    """A member that publishes a point of low order is not believed: nothing could be sealed to it."""
    ring = world.ring()
    ring.current.public_bytes = bytes(32)
    assert reason(world.verifier.verify, world.descriptor(ring).raw, NOW) is Refusal.BAD_SEAL


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": ["no port"]},
        {"addresses": ["a:1"] * 9},
        {"capabilities": ["a b"]},
        {"incarnation": -1},
        {"capabilities": [""]},
    ],
)
def test_what_cannot_be_described(world, change):
    ring = world.ring()
    chain = admit(world.token, ring.signing.public_bytes, NOW)
    values = {"addresses": ["a:1"], "capabilities": [], "incarnation": 1, "now": NOW, "lifetime_s": 60.0} | change
    with pytest.raises(ConfigurationError):
        make_descriptor(ring, chain, **values)
