"""Around one driver: members of a network, a node that does what the test says, a network and a disk made of stubs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from peer.driver import Driver
from peer.observe.observer import Observer
from peer.transport.exchange import Answer, Unreachable
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import NetworkId
from protocol.effects import Effect
from protocol.events import Event
from protocol.identity.admission import Authority, JoinToken, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.wire import codec
from protocol.wire.envelope import Opener, Sealer
from protocol.wire.messages import Message

NOW = 1_800_000_000.0
FOREVER = float("inf")


class Time:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Member:
    """A peer of a network, with its keys and what it can open."""

    def __init__(
        self, keyring: Keyring, token: JoinToken, verifier: DescriptorVerifier, entropy: SeededEntropy
    ) -> None:
        self.keyring, self.verifier, self.entropy = keyring, verifier, entropy
        self.incarnation = 0
        self._token = token
        self.descriptor = self.describe()

    @property
    def network(self) -> NetworkId:
        return self.verifier.network

    def describe(self, *addresses: str, now: float = NOW) -> Descriptor:
        """Sign a newer descriptor; its address is 10.0.0.1:1 unless others are named."""
        self.incarnation += 1
        chain = admit(self._token, self.keyring.signing.public_bytes, NOW)
        self.descriptor = make_descriptor(
            self.keyring, chain, addresses=addresses or ("10.0.0.1:1",), incarnation=self.incarnation, now=now,
            lifetime_s=1800.0,
        )  # fmt: skip
        self.opener = Opener(self.network, self.keyring, self.verifier)
        return self.descriptor

    def restart(self) -> Descriptor:
        """A new life: the KEM keys of before are gone, and with them all that was remembered of others."""
        addresses, last = self.descriptor.addresses, self.keyring.current.epoch
        self.keyring = Keyring(self.keyring.signing, KemSuite.X25519, self.entropy, last)
        self.keyring.rotate(NOW)
        return self.describe(*addresses)

    def seal(self, to: "Member", message: Message, *, introduce: bool = False, now: float = NOW) -> bytes:
        """An envelope of this member."""
        head, tail = codec.encode(message)
        own = self.descriptor.raw if introduce else None
        sealer = Sealer(self.network, self.keyring, self.entropy)
        return b"".join(sealer.seal(to.descriptor, head, tail, now=now, ttl_s=30.0, own_descriptor=own))


def members(count: int, name: str = "driving") -> list[Member]:
    """``count`` members of the network called ``name``."""
    entropy = SeededEntropy(name)
    authority = Authority(SigningKey(entropy.token(32)))
    token = issue_token(authority, NOW, 1e6, (), entropy, name)
    verifier = DescriptorVerifier(authority.key.public_bytes)
    found = []
    for _ in range(count):
        keyring = Keyring(SigningKey(entropy.token(32)), KemSuite.X25519, entropy)
        keyring.rotate(NOW)
        found.append(Member(keyring, token, verifier, entropy))
    return found


Reply = Answer | Unreachable | Callable[[bytes], Answer | Awaitable[Answer]]


@dataclass
class Wire:
    """In the place of the client: every address answers as the test says, or nobody listens there."""

    replies: dict[tuple[str, str], Reply] = field(default_factory=dict)
    """By address and path."""
    posts: list[tuple[str, str, bytes, float]] = field(default_factory=list)
    """Address, path, body, time-out."""
    speeds: dict[str, float] = field(default_factory=dict)

    async def post(self, address: str, path: str, body: bytes, timeout_s: float) -> Answer:
        self.posts.append((address, path, bytes(body), timeout_s))
        reply = self.replies.get((address, path), Unreachable(address, "nobody listens there"))
        if isinstance(reply, Unreachable):
            raise reply
        if isinstance(reply, Answer):
            return reply
        answer = reply(bytes(body))
        return answer if isinstance(answer, Answer) else await answer

    def bytes_per_s(self, address: str) -> float | None:
        return self.speeds.get(address)


class Unused(ThreadPoolExecutor):
    """An executor that nothing may be given to."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"{fn} was put into a thread")


class Disk:
    """In the place of storage: what must be durable is so when the test says."""

    def __init__(self, trace: list[Any]) -> None:
        self.trace = trace
        self.pending: deque[asyncio.Future[None]] = deque()

    def _write(self, what: Any) -> asyncio.Future[None]:
        self.trace.append(("begun", what))
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending.append(written)
        return written

    def remember_round(self, round_id: bytes, expires: float) -> asyncio.Future[None]:
        return self._write(round_id)

    def remember_uses(self, keys: tuple[bytes, ...]) -> asyncio.Future[None]:
        return self._write(keys)

    def save_identity(self, incarnation: int, kem_epoch: int) -> asyncio.Future[None]:
        return self._write((incarnation, kem_epoch))

    def save_task(self, encoding: bytes, submitter: bytes, signature: bytes) -> asyncio.Future[None]:
        return self._write(encoding)

    def drop_task(self, task: bytes, encoding: bytes) -> asyncio.Future[None]:
        return self._write(task)

    def save_checkpoint(self, checkpoint: Any) -> None:
        self.trace.append(("kept", checkpoint.age))

    def add_contributions(self, count: int = 1) -> None:
        self.trace.append(("counted", count))

    async def durable(self) -> None:
        """The oldest write that is under way is durable now, and what waited for it has been set off."""
        self.pending.popleft().set_result(None)
        await turns()


class Puppet:
    """In the place of the node: hears every event and answers with the effects that the test gives for it."""

    def __init__(self, member: Member, known: list[Member]) -> None:
        self.heard: list[Event] = []
        self.answer: Callable[[Event], list[Effect]] = lambda event: []
        self.deadline = FOREVER
        self.idle = True
        self.descriptor = member.descriptor
        self.peer = member.descriptor.peer
        by_id = {m.descriptor.peer: m.descriptor for m in known}
        self.membership = SimpleNamespace(lookup=by_id.get)

    def handle(self, event: Event, now: float) -> list[Effect]:
        self.heard.append(event)
        return self.answer(event)

    def next_deadline(self, now: float) -> tuple[float, str]:
        return self.deadline, "the test says so"


class Stand:
    """One driver, that of ``members[0]``; it knows ``members[1]``, and of ``members[2]`` nothing."""

    def __init__(self) -> None:
        self.trace: list[Any] = []
        self.failures: list[BaseException] = []
        self.members = members(3)
        self.time, self.wire, self.disk = Time(), Wire(), Disk(self.trace)
        self.observer = Observer(self.disk, None)  # type: ignore[arg-type]
        self.observer.hook = lambda item: self.trace.append(("told", item))
        self.seeds: list[str] = []
        self.node = Puppet(self.members[0], self.members[1:2])
        me = self.members[0]
        self.driver = Driver(
            self.time, me.entropy, self.wire, self.disk, self.observer, me.verifier,  # type: ignore[arg-type]
            lambda: self.seeds, self.failures.append,
        )  # fmt: skip
        self.driver.attach(self.node, Sealer(me.network, me.keyring, me.entropy), me.opener)  # type: ignore[arg-type]
        self.node.heard.clear()

    def say(self, *effects: Effect) -> None:
        """Answer the next event with these effects, and the ones after it with none."""
        rest = [list(effects)]
        self.node.answer = lambda event: rest.pop() if rest else []


async def turns(count: int = 5) -> None:
    """Let everything that is ready run, and what that makes ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Let the event loop turn until it is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0)
