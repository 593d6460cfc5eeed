"""The HTTP server: two endpoints that take opaque bodies, and limits on whatever a stranger controls.

Neighbours: ``peer.driver`` passes the two callbacks; ``door`` keeps the connections; ``client`` is the other end.
Invariants: a body is never larger than ``limits.MAX_BODY``; memory grows with the bytes that have arrived, never with
what a ``Content-Length`` claims; a body that arrives too slowly is cut off; what all unfinished and unanswered
bodies hold together is bounded; nothing that a stranger sends makes a traceback.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import StreamReader, hdrs, web

from peer.transport.door import Door, DoorLimits
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, Answer
from peer.transport.largebody import TAKE_OVER_FROM, BufferPool, LargeBody
from peer.transport.once import OncePer
from peer.transport.reply import Reply
from protocol.base.limits import MAX_BODY, MAX_CONTROL_BODY

__all__ = ["Answer", "Body", "Server", "ServerLimits"]

Body = bytes | bytearray | memoryview

_log = logging.getLogger("susurrus.transport")


@dataclass(frozen=True, slots=True)
class ServerLimits(DoorLimits):
    """Bounds on what strangers may use of this server."""

    max_body: int = MAX_BODY
    """Bytes of one envelope."""
    max_hello: int = MAX_CONTROL_BODY
    """Bytes of one hello."""
    held_bytes: int = 4 * MAX_BODY
    """Bytes of all bodies that are arriving or whose callback has not returned."""
    body_grace_s: float = 10.0
    """A body of n bytes must have arrived after ``body_grace_s + n / body_bytes_per_s``."""
    body_bytes_per_s: float = 64e3
    """Slowest rate at which a large body may arrive: a phone's uplink on a bad day."""


class _Cut(Exception):
    """A body is not wanted any longer; ``status`` is what its sender is told."""

    def __init__(self, status: HTTPStatus, kind: str) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind


class Server:
    """Listens for bodies and hands them to two callbacks.

    ``on_envelope(body, source)`` is awaited for every POST to ``/v1/envelope``: ``source`` is the sender's IP address;
    the body is ``bytes``, or a ``memoryview`` if large, which the callback may keep.  ``on_hello(body, source)``
    answers at once.  An exception in a callback is ours: it is logged with its traceback and answered with 500.
    """

    def __init__(
        self,
        on_envelope: Callable[[Body, str], Awaitable[Answer]],
        on_hello: Callable[[bytes, str], Answer],
        *,
        limits: ServerLimits | None = None,
    ) -> None:
        self.limits = limits or ServerLimits()
        self.bytes_in = 0
        """Bytes of HTTP bodies that arrived, refused ones included."""
        self._on_envelope = on_envelope
        self._on_hello = on_hello
        self._held = 0
        self._pool = BufferPool()
        self._once = OncePer()
        self._door: Door | None = None

    @property
    def refusals(self) -> Counter[str]:
        """How often the transport itself refused something, by kind."""
        return self._once.counts

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are arriving or being handled."""
        return self._held

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._door.count if self._door else 0

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``: a name, an address, ``0.0.0.0`` or ``::`` for all interfaces; port 0: the system chooses.

        Returns the port really bound.  Raises ``ConfigurationError`` with one sentence when that cannot be had.
        """
        self._door = Door(self._serve, self.limits, self._note)
        return await self._door.open(host, port)

    async def stop(self, grace_s: float = 2.0) -> None:
        """Close the door, let requests under way finish for ``grace_s`` seconds, then cut them off.  Idempotent."""
        if self._door is not None:
            await self._door.close(grace_s)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from head to reply."""
        path = request.raw_path
        if request.method != hdrs.METH_POST or path not in (ENVELOPE_PATH, HELLO_PATH):
            return self._refuse(request, HTTPStatus.NOT_FOUND, "unknown path or method")
        length = request.content_length
        if length is None:
            return self._refuse(request, HTTPStatus.LENGTH_REQUIRED, "no content length")
        envelope = path == ENVELOPE_PATH
        if length > (self.limits.max_body if envelope else self.limits.max_hello):
            return self._refuse(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "oversized body")
        if length and self._held + length > self.limits.held_bytes:
            return self._refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, "too much under way")
        source = request.remote or ""
        body: Body
        content = request.content
        if length >= TAKE_OVER_FROM and not content.is_eof():
            return await self._serve_large(request, length)
        if content.is_eof():  # A small body arrives in one packet with its head.
            body = content.read_nowait(-1)
            self._arrived(length)
        else:
            try:
                body = await self._receive(content, length)
            except _Cut as cut:
                return self._refuse(request, cut.status, cut.kind)
        try:
            answer = await self._handle(path, body, source)
        finally:
            self._held -= length
        return Reply(answer.status, answer.body)

    async def _handle(self, path: str, body: Body, source: str) -> Answer:
        """What the callbacks say."""
        try:
            if path == ENVELOPE_PATH:
                return await self._on_envelope(body, source)
            return self._on_hello(bytes(body), source)
        except Exception:
            _log.exception("handling a body failed")
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _arrived(self, count: int) -> bool:
        """Account for bytes that have arrived; whether there is room for more."""
        self.bytes_in += count
        self._held += count
        return self._held <= self.limits.held_bytes

    def _patience_s(self, length: int) -> float:
        """How long a body of ``length`` bytes may take to arrive."""
        return self.limits.body_grace_s + length / self.limits.body_bytes_per_s

    async def _receive(self, content: StreamReader, length: int) -> bytes:
        """A body that came in several packets; on failure everything held for it is given back."""
        pieces: list[bytes] = []
        got = 0
        try:
            async with asyncio.timeout(self._patience_s(length)):
                while piece := await content.readany():
                    pieces.append(piece)
                    got += len(piece)
                    if not self._arrived(len(piece)):
                        raise BufferError
            if got != length:
                raise ConnectionResetError
        except BaseException as error:
            self._held -= got
            raise _cut(error) from None
        return b"".join(pieces)

    async def _serve_large(self, request: web.BaseRequest, length: int) -> web.StreamResponse:
        """As ``_serve``, for a body that is received past aiohttp (see ``largebody``)."""
        large = LargeBody(request, length, self._pool, self._arrived)
        source, path = request.remote or "", request.raw_path
        try:
            async with asyncio.timeout(self._patience_s(length)):
                body = await large.receive()
            answer = await self._handle(path, body, source)
        except BaseException as error:
            cut = _cut(error)
            reply = self._refuse(request, cut.status, cut.kind)
        else:
            reply = Reply(answer.status, answer.body)
        finally:
            self._held -= large.got
        if large.taken_over:
            fresh = self._door if reply.keep_alive is not False and self._door and not self._door.closed else None
            large.reply(reply.whole(request), fresh)
            reply.sent = True
        return reply

    def _refuse(self, request: web.BaseRequest, status: HTTPStatus, kind: str) -> Reply:
        """Say no and close, since the body has not been read."""
        self._note(request.remote, kind)
        reply = Reply(status, close=True)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            reply.headers[hdrs.RETRY_AFTER] = "1"
        return reply

    def _note(self, source: str | None, kind: str) -> None:
        """Count a refusal; log it once a day per source and kind."""
        if self._once.first(source or "", kind):
            _log.info("refused %s from %s (further ones are counted only)", kind, source or "an unknown address")


def _cut(error: BaseException) -> _Cut:
    """Why a body did not arrive, as what its sender is told; raises what is not about the body."""
    match error:
        case TimeoutError():
            return _Cut(HTTPStatus.REQUEST_TIMEOUT, "slow body")
        case BufferError() | MemoryError():
            return _Cut(HTTPStatus.SERVICE_UNAVAILABLE, "too much under way")
        case Exception():  # The connection broke: aiohttp's payload and connection errors.
            return _Cut(HTTPStatus.BAD_REQUEST, "broken body")
    raise error
