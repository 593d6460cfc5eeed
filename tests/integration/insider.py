"""An admitted member that does what it likes: it has real keys, seals with the library, and keeps what it is sent.

It answers gossip and pings, so that a running peer holds it for alive; when it goes it says goodbye.
"""

import asyncio
import io
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from peer.entropy import SystemEntropy
from peer.transport.server import Answer, Body, Server
from protocol.base.errors import Refused
from protocol.identity.admission import JoinToken, admit
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.wire import codec
from protocol.wire import messages as m
from protocol.wire.envelope import Opener, Sealer

PATIENCE_S = 20.0
TTL_S = 30.0


class Insider:
    """One member.  Everything it posts comes from ``source``; ``heard`` holds what it was sent, in order."""

    def __init__(self, token: JoinToken, session: aiohttp.ClientSession) -> None:
        now = time.time()
        signing = SigningKey(SystemEntropy().token(32))
        self.network = token.network
        self.chain = admit(token, signing.public_bytes, now)
        self.keyring = Keyring(signing, KemSuite.X25519, SystemEntropy())
        self.keyring.rotate(now)
        self.verifier = DescriptorVerifier(token.authority_key)
        self.sealer = Sealer(token.network, self.keyring, SystemEntropy())
        self.opener = Opener(token.network, self.keyring, self.verifier)
        self.heard: list[m.Message] = []
        self.nonces = itertools.count(1)
        self._session = session
        self._replies: set[asyncio.Task[int]] = set()
        self._address = ""

    def listens_on(self, address: str) -> None:
        now, self._address = time.time(), address
        self.descriptor = make_descriptor(
            self.keyring, self.chain, addresses=(address,), capabilities=(), incarnation=int(now * 1000), now=now,
            lifetime_s=1800.0,
        )  # fmt: skip

    async def meet(self, address: str) -> None:
        """Say hello to the peer that listens there: from now on it is the one that is written to."""
        self.target_address = address
        status, body = await self.post(self.descriptor.raw, "/v1/hello")
        assert status == 200
        self.target = self.verifier.verify(body, time.time())
        assert await self.send(self.ping()) == 202

    def ping(self) -> m.Ping:
        """One that no other is like."""
        return m.Ping(next(self.nonces))

    def seal(self, message: m.Message, to: Descriptor | None = None, *, late_s: float = 0.0) -> bytes:
        """An envelope as an honest peer would make it, ``late_s`` seconds ago."""
        head, tail = codec.encode(message)
        return self.seal_plain(head, tail, to, late_s=late_s)

    def seal_plain(self, head: bytes, tail: m.Buffer = b"", to: Descriptor | None = None, late_s: float = 0.0) -> bytes:
        """The same around any plaintext."""
        then = time.time() - late_s
        parts = self.sealer.seal(
            to or self.target, head, tail, now=then, ttl_s=TTL_S, own_descriptor=self.descriptor.raw
        )
        return b"".join(parts)

    async def send(self, message: m.Message) -> int:
        return (await self.post(self.seal(message)))[0]

    async def post(self, body: bytes | memoryview, path: str = "/v1/envelope") -> tuple[int, bytes]:
        content = io.BytesIO(body)  # aiohttp warns of large bytes
        async with self._session.post(f"http://{self.target_address}{path}", data=content) as response:
            return response.status, await response.read()

    async def answer(self, kind: type[m.Message], **fields: object) -> m.Message:
        """The first message of this kind and with these fields, once it is here."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for message in self.heard:
                    if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                        return message
                await asyncio.sleep(0.005)  # between two looks, not instead of one

    async def everything_is_answered(self) -> None:
        """Whatever the target was going to say to what it has been sent, it has said: it answers in order."""
        last = self.ping()
        assert await self.send(last) == 202
        await self.answer(m.Pong, nonce=last.nonce)

    # --- what it does without being told ----------------------------------------------------------------------

    async def on_envelope(self, body: Body, source: str) -> Answer:
        try:
            header = self.opener.inspect(body, time.time(), self._lookup)
            message = codec.decode(self.opener.decrypt(header, body))
        except Refused:
            return Answer(400)
        self.heard.append(message)
        reply: m.Message | None = None
        if isinstance(message, m.Gossip):
            reply = m.GossipReply(message.nonce, (self.descriptor.raw,), (), (), ())
        elif isinstance(message, m.Ping):
            reply = m.Pong(message.nonce, self.keyring.peer_id)
        if reply is not None and header.sender.peer == self.target.peer:
            task = asyncio.create_task(self.send(reply))
            self._replies.add(task)
            task.add_done_callback(self._replies.discard)
        return Answer(202)

    def on_hello(self, body: bytes, source: str) -> Answer:
        return Answer(200, self.descriptor.raw)

    def _lookup(self, peer: bytes) -> Descriptor | None:
        return self.target if peer == self.target.peer else None

    async def go(self) -> None:
        """Goodbye."""
        assert await self.send(m.Leave(self.descriptor.incarnation)) == 202
        await asyncio.gather(*self._replies)


@asynccontextmanager
async def insider(token: JoinToken, address: str) -> AsyncIterator[Insider]:
    """A new member of the token's network that has met the peer at ``address``."""
    async with aiohttp.ClientSession() as session:
        made = Insider(token, session)
        server = Server(made.on_envelope, made.on_hello)
        made.listens_on(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
        try:
            await made.meet(address)
            try:
                yield made
            finally:
                await made.go()
        finally:
            await server.stop(0.5)
