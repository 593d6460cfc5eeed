"""Keys, ids, the keyring's epochs, and the sealing primitive with both suites."""

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.limits import KEM_EPOCH_S, KEM_KEEP_S
from protocol.identity.keys import (
    KemKey,
    KemSuite,
    Keyring,
    SigningKey,
    hybrid_available,
    load_public,
    network_id,
    peer_id,
    verify,
)
from protocol.identity.sealing import seal

NOW = 1_700_000_000.0
SUITES = [
    KemSuite.X25519,
    pytest.param(KemSuite.HYBRID, marks=pytest.mark.skipif(not hybrid_available(), reason="no ML-KEM in this library")),
]


def signing(name: str = "a") -> SigningKey:
    return SigningKey(SeededEntropy(name).token(32))


def keyring(suite: KemSuite = KemSuite.X25519, name: str = "ring") -> Keyring:
    entropy = SeededEntropy(name)
    return Keyring(SigningKey(entropy.token(32)), suite, entropy)


def reason(call, *args, **kwargs) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.reason


def test_ids_are_digests_with_their_own_domain():
    key = signing().public_bytes
    assert len(peer_id(key)) == len(network_id(key)) == 16
    assert peer_id(key) != network_id(key)
    assert signing().peer_id == peer_id(key)


def test_signature_known_answer():
    """RFC 8032, section 7.1, test 2."""
    key = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")


def test_verify_refuses_everything_but_the_signature():
    key, data = signing(), b"domain\0data"
    signature = key.sign(data)
    verify(key.public_bytes, signature, data)
    for bad in [
        (signing("b").public_bytes, signature, data),
        (key.public_bytes, signature, data + b"x"),
        (key.public_bytes, bytes([signature[0] ^ 1]) + signature[1:], data),
        (key.public_bytes, signature[:-1], data),
        (key.public_bytes, b"", data),
        (key.public_bytes[:-1], signature, data),
        (b"\xff" * 32, signature, data),
    ]:
        assert reason(verify, *bad) is Refusal.BAD_SIGNATURE


def test_no_repr_shows_a_secret():
    key = signing()
    ring = keyring()
    ring.rotate(NOW)
    shown = repr(key) + repr(ring) + repr(ring.current)
    assert key.seed.hex() not in shown
    assert repr(key.seed) not in shown
    assert "private" not in shown.lower()


def test_seed_of_wrong_length():
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey(b"short")


@pytest.mark.parametrize("suite", SUITES)
def test_seal_and_open(suite):
    key = KemKey.generate(suite, 7, NOW, SeededEntropy(1))
    again = KemKey.generate(suite, 7, NOW, SeededEntropy(1))
    assert key.public_bytes == again.public_bytes
    assert len(key.public_bytes) == suite.public_length
    sealed = seal(key.public_bytes, suite, b"text", b"info")
    assert len(sealed) == 4 + suite.overhead
    assert again.open(memoryview(sealed), b"info") == b"text"
    assert seal(key.public_bytes, suite, b"text", b"info") != sealed


@pytest.mark.parametrize("suite", SUITES)
def test_open_refuses_whatever_was_touched(suite):
    key = KemKey.generate(suite, 7, NOW, SeededEntropy(1))
    other = KemKey.generate(suite, 7, NOW, SeededEntropy(2))
    sealed = seal(key.public_bytes, suite, b"text", b"info")
    assert reason(key.open, sealed, b"other info") is Refusal.BAD_SEAL
    assert reason(other.open, sealed, b"info") is Refusal.BAD_SEAL
    for place in (0, suite.enc_length - 1, suite.enc_length, len(sealed) - 1):
        touched = bytearray(sealed)
        touched[place] ^= 1
        assert reason(key.open, touched, b"info") is Refusal.BAD_SEAL, place
    for length in (0, 1, suite.enc_length, len(sealed) - 1):
        assert reason(key.open, sealed[:length], b"info") is Refusal.BAD_SEAL, length


@pytest.mark.parametrize("suite", SUITES)
def test_unusable_public_keys(suite):
    assert reason(seal, bytes(suite.public_length), suite, b"", b"i") is Refusal.BAD_SEAL  # low order
    assert reason(seal, b"\1" * 31, suite, b"", b"i") is Refusal.BAD_SEAL
    with pytest.raises(ValueError, match="bytes"):
        load_public(suite, b"")


def test_rotation_keeps_the_old_key_for_one_budget():
    ring = keyring()
    with pytest.raises(RuntimeError, match="rotate"):
        _ = ring.current
    assert ring.rotation_due(NOW)
    first = ring.rotate(NOW)
    assert first.expires == NOW + KEM_EPOCH_S
    assert not ring.rotation_due(NOW + KEM_EPOCH_S - 1)
    assert ring.rotation_due(NOW + KEM_EPOCH_S)
    later = NOW + KEM_EPOCH_S
    second = ring.rotate(later)
    assert ring.current is second
    assert ring.find(first.epoch) is first
    assert ring.prune_at == later + KEM_KEEP_S
    ring.prune(later + KEM_KEEP_S - 1)
    assert ring.find(first.epoch) is first
    ring.prune(later + KEM_KEEP_S)
    assert ring.find(first.epoch) is None
    assert ring.prune_at == float("inf")
    ring.prune(later + 10 * KEM_EPOCH_S)
    assert ring.current is second


def test_rotating_again_does_not_lengthen_an_old_keys_life():
    ring = keyring()
    first = ring.rotate(NOW)
    ring.rotate(NOW + 1)
    ring.rotate(NOW + KEM_KEEP_S)
    assert ring.find(first.epoch) is first
    assert ring.prune_at == NOW + 1 + KEM_KEEP_S
    ring.rotate(NOW + KEM_KEEP_S + 2)
    assert ring.find(first.epoch) is None


def test_epochs_grow_at_once_and_across_restarts():
    ring = keyring()
    epochs = [ring.rotate(NOW).epoch for _ in range(3)]
    assert epochs == sorted(set(epochs))
    assert keyring().rotate(NOW + 1).epoch > epochs[-1]
    entropy = SeededEntropy(3)
    set_back = Keyring(signing(), KemSuite.X25519, entropy, last_epoch=epochs[-1])
    assert set_back.rotate(NOW - 86400).epoch > epochs[-1]
