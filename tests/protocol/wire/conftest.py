"""A network with members that can seal envelopes to one another, repeatable."""

from dataclasses import dataclass, field

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.wire.envelope import Opener, Sealer
from protocol.wire.replay import ReplayCache

NOW = 1_700_000_000.0


@dataclass
class Member:
    network: "Network"
    ring: Keyring
    descriptor: Descriptor
    replay: ReplayCache = field(default_factory=ReplayCache)
    known: dict[PeerId, Descriptor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.verifier = DescriptorVerifier(self.network.authority.key.public_bytes)
        self.sealer = Sealer(self.network.authority.network, self.ring, self.network.entropy)
        self.opener = Opener(self.network.authority.network, self.ring, self.verifier, self.replay)

    def seal(
        self,
        to: "Member",
        head: bytes = b"head",
        tail: bytes = b"",
        *,
        now: float = NOW,
        ttl_s: float = 30.0,
        introduce: bool = False,
    ) -> bytes:
        own = self.descriptor.raw if introduce else None
        return b"".join(self.sealer.seal(to.descriptor, head, tail, now=now, ttl_s=ttl_s, own_descriptor=own))

    def open(self, envelope: bytes, now: float = NOW) -> tuple[Descriptor, bytes]:
        header = self.opener.inspect(envelope, now, self.known.get)
        return header.sender, self.opener.decrypt(header, envelope)

    def meets(self, *others: "Member") -> None:
        for other in others:
            self.known[other.descriptor.peer] = other.descriptor

    def restarts(self, now: float) -> None:
        """The same identity with a new keyring, as after a crash: nothing remembered."""
        self.ring = Keyring(self.ring.signing, self.ring.suite, self.network.entropy)
        self.ring.rotate(now)
        self.descriptor = self.network.describe(self.ring, now, incarnation=self.descriptor.incarnation + 1)
        self.replay = ReplayCache()
        self.__post_init__()


class Network:
    def __init__(self, name: str) -> None:
        self.entropy = SeededEntropy(name)
        self.authority = Authority(SigningKey(self.entropy.token(32)))
        self.token = issue_token(self.authority, NOW, 86400.0, (), self.entropy, "test")

    def describe(self, ring: Keyring, now: float = NOW, incarnation: int = 1, lifetime_s: float = 1800.0) -> Descriptor:
        chain = admit(self.token, ring.signing.public_bytes, now)
        return make_descriptor(
            ring, chain, addresses=["10.0.0.1:9400"], incarnation=incarnation, now=now, lifetime_s=lifetime_s
        )

    def member(self, suite: KemSuite = KemSuite.X25519, **cache: int) -> Member:
        ring = Keyring(SigningKey(self.entropy.token(32)), suite, self.entropy)
        ring.rotate(NOW)
        return Member(self, ring, self.describe(ring), ReplayCache(**cache))


@pytest.fixture
def network() -> Network:
    return Network("one")


@pytest.fixture
def foreign() -> Network:
    return Network("two")


@pytest.fixture
def pair(network: Network) -> tuple[Member, Member]:
    """Two members that know each other."""
    alice, bob = network.member(), network.member()
    bob.meets(alice)
    alice.meets(bob)
    return alice, bob
