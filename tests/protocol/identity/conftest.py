"""An authority, a token and members, repeatable."""

from dataclasses import dataclass

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.identity.admission import Authority, JoinToken, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey

NOW = 1_700_000_000.0


@dataclass
class World:
    entropy: SeededEntropy
    authority: Authority
    token: JoinToken
    verifier: DescriptorVerifier

    @classmethod
    def make(cls, name: str, lifetime_s: float = 86400.0) -> "World":
        entropy = SeededEntropy(name)
        authority = Authority(SigningKey(entropy.token(32)))
        token = issue_token(authority, NOW, lifetime_s, ("seed.example:9400",), entropy, "test")
        return cls(entropy, authority, token, DescriptorVerifier(authority.key.public_bytes))

    def ring(self, suite: KemSuite = KemSuite.X25519) -> Keyring:
        ring = Keyring(SigningKey(self.entropy.token(32)), suite, self.entropy)
        ring.rotate(NOW)
        return ring

    def descriptor(
        self, ring: Keyring, now: float = NOW, incarnation: int = 1, lifetime_s: float = 1800.0
    ) -> Descriptor:
        chain = admit(self.token, ring.signing.public_bytes, now)
        return make_descriptor(
            ring,
            chain,
            addresses=["10.0.0.1:9400"],
            capabilities=["relay"],
            incarnation=incarnation,
            now=now,
            lifetime_s=lifetime_s,
        )


@pytest.fixture
def world() -> World:
    return World.make("network one")


@pytest.fixture
def other_world() -> World:
    return World.make("network two")
