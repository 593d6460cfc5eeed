"""Stand-ins for cryptography: the same keys, ids, sizes and refusals at a hundredth of the cost.  They protect nothing.

Neighbours: ``world`` gives them to its nodes where cryptography is modelled; they take the places of
``identity.keys.Keyring`` and ``identity.descriptor.DescriptorVerifier``.
Invariants: what a stand-in refuses, the original refuses (another peer's signature, a text sealed to another key or
for another purpose); every length is that of the original, and so is every draw of entropy: a world's trace is the same
with either.  Signing keys are real, for the sake of the ids.
"""

import hashlib

from protocol.base.entropy import Entropy
from protocol.base.errors import Refusal, Refused
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import (
    SIGNATURE_BYTES,
    TAG_BYTES,
    Buffer,
    KemKey,
    KemSuite,
    Keyring,
    SigningKey,
)

_KEY_BYTES = 32
_TAG = bytes(TAG_BYTES)


def _signature(public: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=public, digest_size=SIGNATURE_BYTES).digest()


def _binding(public: bytes, info: bytes) -> bytes:
    return hashlib.blake2b(info, key=public, digest_size=_KEY_BYTES).digest()


class StandInSigningKey(SigningKey):
    """Signs with a digest that anybody could make."""

    __slots__ = ()

    def sign(self, data: bytes) -> bytes:
        """64 bytes that tell whose they are and what was signed."""
        return _signature(self.public_bytes, data)


class StandInKemKey(KemKey):
    """Opens what names it; hides nothing."""

    __slots__ = ()

    def __init__(self, suite: KemSuite, epoch: int, expires: float, public_bytes: bytes) -> None:
        self.suite, self.epoch, self.expires, self.public_bytes = suite, epoch, expires, public_bytes

    def open(self, sealed: Buffer, info: bytes) -> bytes:
        """The plaintext of ``binding || plaintext || tag``; ``Refused(BAD_SEAL)`` if it is for something else."""
        text = bytes(sealed)
        if len(text) < _KEY_BYTES + TAG_BYTES or text[:_KEY_BYTES] != _binding(self.public_bytes, info):
            raise Refused(Refusal.BAD_SEAL)
        return text[_KEY_BYTES:-TAG_BYTES]


class StandInKeyring(Keyring):
    """A keyring of stand-ins.  X25519's lengths only."""

    __slots__ = ()

    def __init__(self, signing: StandInSigningKey, entropy: Entropy, last_epoch: int = 0) -> None:
        super().__init__(signing, KemSuite.X25519, entropy, last_epoch)

    def seal(self, public: bytes, suite: KemSuite, plaintext: Buffer, info: bytes) -> bytes:
        """The plaintext, marked with whose key it is for and what it is bound to."""
        return _binding(public, info) + bytes(plaintext) + _TAG

    def _generate(self, epoch: int, expires: float) -> KemKey:
        public = hashlib.blake2b(self._entropy.token(_KEY_BYTES), digest_size=_KEY_BYTES).digest()
        return StandInKemKey(self.suite, epoch, expires, public)


class StandInVerifier(DescriptorVerifier):
    """Believes stand-in signatures.  One serves a whole world: what one peer has checked, all have."""

    def know(self, descriptor: Descriptor) -> None:
        """A peer of this world has just made it: nobody need read it again."""
        self._remember(descriptor)

    def check_signature(self, public_key: bytes, signature: bytes, data: bytes) -> None:
        """Raise ``Refused(BAD_SIGNATURE)`` unless ``public_key``'s stand-in signed ``data``."""
        if signature != _signature(public_key, data):
            raise Refused(Refusal.BAD_SIGNATURE)

    def _check_forever(self, descriptor: Descriptor) -> None:
        if descriptor.chain.authority_key != self.authority_key:
            raise Refused(Refusal.NOT_A_MEMBER, "another network's certificate")
        self._check_own_signature(descriptor)
