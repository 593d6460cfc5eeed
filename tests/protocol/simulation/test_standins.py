"""Stand-ins for cryptography refuse what the originals refuse, and are as long."""

from dataclasses import dataclass
from typing import Any

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.identity.sealing import open_seed, seal_seed
from protocol.simulation.standins import StandInKeyring, StandInSigningKey, StandInVerifier

NOW = 1_800_000_000.0
SEED = bytes(range(32))


@dataclass
class Pair:
    """Two members of one network."""

    verifier: DescriptorVerifier
    rings: list[Keyring]
    descriptors: list[Descriptor]

    def ids(self, **changes: Any) -> dict[str, Any]:
        ids = {
            "network": NetworkId(self.verifier.network),
            "round": RoundId(b"r" * 16),
            "contributor": self.rings[0].peer_id,
            "trustee": self.rings[1].peer_id,
        }
        return ids | changes


def make_pair(stand_ins: bool) -> Pair:
    entropy = SeededEntropy("pair")
    authority = Authority(SigningKey(entropy.token(32)))
    token = issue_token(authority, NOW, 1e6, (), entropy, "test")
    verifier = (StandInVerifier if stand_ins else DescriptorVerifier)(authority.key.public_bytes)
    rings: list[Keyring] = []
    for _ in range(2):
        seed = entropy.token(32)
        if stand_ins:
            rings.append(StandInKeyring(StandInSigningKey(seed), entropy))
        else:
            rings.append(Keyring(SigningKey(seed), KemSuite.X25519, entropy))
        rings[-1].rotate(NOW)
    descriptors = [
        make_descriptor(
            ring,
            admit(token, ring.signing.public_bytes, NOW),
            addresses=["h:1"],
            incarnation=1,
            now=NOW,
            lifetime_s=600.0,
        )
        for ring in rings
    ]
    return Pair(verifier, rings, descriptors)


@pytest.fixture(params=[False, True], ids=["original", "stand-in"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return make_pair(request.param)


def reason(call: Any, *arguments: Any, **named: Any) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.reason


def test_a_seed_opens_for_its_trustee_and_under_its_four_ids_alone(pair: Pair) -> None:
    sealed = seal_seed(pair.rings[0], pair.descriptors[1], SEED, **pair.ids())
    assert open_seed(pair.rings[1], sealed, **pair.ids()) == SEED
    assert len(sealed) == 80
    assert reason(open_seed, pair.rings[0], sealed, **pair.ids()) is Refusal.BAD_SEAL
    for name in ("network", "round", "contributor", "trustee"):
        assert reason(open_seed, pair.rings[1], sealed, **pair.ids(**{name: PeerId(b"x" * 16)})) is Refusal.BAD_SEAL
    assert reason(open_seed, pair.rings[1], sealed[1:] + sealed[:1], **pair.ids()) is Refusal.BAD_SEAL


def test_a_descriptor_is_believed_as_its_peer_signed_it(pair: Pair) -> None:
    raw = pair.descriptors[0].raw
    assert pair.verifier.verify(raw, NOW).peer == pair.rings[0].peer_id
    assert reason(pair.verifier.verify, raw[:-1] + bytes([raw[-1] ^ 1]), NOW) is Refusal.BAD_SIGNATURE
    assert reason(pair.verifier.verify, raw, NOW + 1e5) is Refusal.DESCRIPTOR_EXPIRED


def test_a_signature_is_its_signers_and_its_texts(pair: Pair) -> None:
    one, other = (ring.signing for ring in pair.rings)
    signature = one.sign(b"text")
    pair.verifier.check_signature(one.public_bytes, signature, b"text")
    assert len(signature) == 64
    assert reason(pair.verifier.check_signature, other.public_bytes, signature, b"text") is Refusal.BAD_SIGNATURE
    assert reason(pair.verifier.check_signature, one.public_bytes, signature, b"texts") is Refusal.BAD_SIGNATURE


def test_ids_and_lengths_are_those_of_the_originals() -> None:
    original, stand_in = make_pair(False), make_pair(True)
    assert [d.peer for d in original.descriptors] == [d.peer for d in stand_in.descriptors]
    assert [len(d.raw) for d in original.descriptors] == [len(d.raw) for d in stand_in.descriptors]
    assert [d.kem_epoch for d in original.descriptors] == [d.kem_epoch for d in stand_in.descriptors]


def test_stand_ins_and_originals_do_not_mix() -> None:
    """A stand-in that got into a real network would be refused by everybody."""
    original, stand_in = make_pair(False), make_pair(True)
    assert reason(original.verifier.verify, stand_in.descriptors[0].raw, NOW) is Refusal.BAD_SIGNATURE
    assert reason(stand_in.verifier.verify, original.descriptors[0].raw, NOW) is Refusal.BAD_SIGNATURE
