"""Saying hello: what the answers of whoever listens at a seed's address come to, however strange they are."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from peer.delivery import Delivery, hello_refusal
from peer.transport.exchange import Answer
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey

NOW = 1_700_000_000.0
AUTHORITY = Authority(SigningKey.from_seed(b"\1" * 32))
TOKEN = issue_token(AUTHORITY, NOW, 86_400.0, (), SeededEntropy(1))


def descriptor(seed: int, authority: Authority = AUTHORITY) -> Descriptor:
    token = issue_token(authority, NOW, 86_400.0, (), SeededEntropy(seed))
    signing = SigningKey.from_seed(bytes([seed]) * 32)
    keyring = Keyring(signing, KemSuite.X25519, SeededEntropy(seed))
    keyring.rotate(NOW)
    chain = admit(token, signing.public_bytes, NOW)
    return make_descriptor(
        keyring, chain, addresses=("127.0.0.1:9",), capabilities=(), incarnation=1, now=NOW, lifetime_s=1800.0
    )


OWN, OTHER = descriptor(2), descriptor(3)
FOREIGN = descriptor(4, Authority(SigningKey.from_seed(b"\5" * 32)))


@dataclass
class World:
    """Answers every post with ``answer``, and keeps what is observed."""

    answer: Answer
    found: list[Descriptor] = field(default_factory=list)
    told: list[tuple[bool, list[str]]] = field(default_factory=list)

    async def post(self, address: str, path: str, body: bytes, timeout_s: float) -> Answer:
        return self.answer

    def dialled(self, answered: bool, tried: list[str]) -> None:
        self.told.append((answered, tried))


async def said(answer: Answer) -> str:
    """What is told of a seed that answers so; empty if it was taken for a member."""
    world: Any = World(answer)
    delivery = Delivery(
        client=world, sealer=world, verifier=DescriptorVerifier(AUTHORITY.key.public_bytes), observer=world,
        clock=lambda: NOW, own=lambda: OWN, found=world.found.append, in_thread=world.post, introduced={},
    )  # fmt: skip
    await delivery.dial(["127.0.0.1:9"])
    ((answered, tried),) = world.told
    assert answered == bool(world.found) == (not tried)
    return "; ".join(tried)


@pytest.mark.parametrize(
    ("ahead_s", "sentence"),
    [
        (3 * 3600.0, "; this machine's clock is 3.0 hours behind the other's: set it"),
        (-90 * 60.0, "; this machine's clock is 1.5 hours ahead of the other's: set it"),
        (-59.0, ""),
        (0.0, ""),
    ],
)
async def test_a_refusal_tells_by_how_much_the_clock_is_wrong(ahead_s: float, sentence: str) -> None:
    refused = Refused(Refusal.DESCRIPTOR_EXPIRED)
    told = await said(hello_refusal(refused, NOW + ahead_s))
    assert told == f"127.0.0.1:9 cannot be reached: refuses this peer: {Refusal.DESCRIPTOR_EXPIRED.value}{sentence}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"reason"',
        b'{"time": 1}',
        b'{"reason": "NO_SUCH", "time": 1}',
        b'{"reason": ["EXPIRED"], "time": 1}',
        b'{"reason": "EXPIRED", "time": {}}',
        b'{"reason": "EXPIRED", "time": 1' + b"0" * 400 + b"}",
        b'{"reason": "EXPIRED", "time": 1' + b"0" * 5000 + b"}",
        b"[" * 60_000,
        b'{"reason":' * 10_000,
        OWN.raw,
    ],
    ids=range(14),
)
async def test_a_refusal_that_is_none_is_told_as_such(body: bytes) -> None:
    assert await said(Answer(403, body)) == "127.0.0.1:9 cannot be reached: refuses this peer (status 403)"


@pytest.mark.parametrize("time", [b"NaN", b"Infinity", b"-Infinity", b"1e300", b"-1e300"])
async def test_a_time_that_is_none_is_not_told(time: bytes) -> None:
    told = await said(Answer(403, b'{"reason": "EXPIRED", "time": ' + time + b"}"))
    assert told.endswith(Refusal.EXPIRED.value)


async def test_only_a_member_of_this_network_is_found() -> None:
    assert await said(Answer(200, OTHER.raw)) == ""
    assert "is this peer itself" in await said(Answer(200, OWN.raw))
    assert Refusal.NOT_A_MEMBER.value in await said(Answer(200, FOREIGN.raw))
    assert Refusal.MALFORMED.value in await said(Answer(200, b"hello " * 20))
    assert Refusal.MALFORMED.value in await said(Answer(204))
    assert json.loads(hello_refusal(Refused(Refusal.EXPIRED), NOW).body) == {"reason": "EXPIRED", "time": NOW}
