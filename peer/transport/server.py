"""The HTTP server: two endpoints that take opaque bodies, and limits on whatever a stranger controls.

Neighbours: ``peer.driver`` passes the two callbacks; ``client`` is the other end.
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
from typing import Any

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from peer.transport.addresses import bind, counted_source
from peer.transport.exchange import BODY_TYPE, ENVELOPE_PATH, HELLO_PATH, Answer
from peer.transport.largebody import TAKE_OVER_FROM, BufferPool, LargeBody
from protocol.base.limits import MAX_BODY, MAX_CONTROL_BODY

__all__ = ["Answer", "Body", "Server", "ServerLimits"]

Body = bytes | bytearray | memoryview

_log = logging.getLogger("susurrus.transport")
_MAX_NOTED = 1024
"""(source, kind) pairs that have been logged once; beyond it refusals are only counted."""


_READ_SIZE = 64 * 2**10
"""What is set aside for one read of heads and small bodies."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what strangers may use of this server."""

    max_body: int = MAX_BODY
    """Bytes of one envelope."""
    max_hello: int = MAX_CONTROL_BODY
    """Bytes of one hello."""
    held_bytes: int = 4 * MAX_BODY
    """Bytes of all bodies that are arriving or whose callback has not returned."""
    connections: int = 512
    """Open connections in all: half of the usual 1,024 file descriptors."""
    connections_per_source: int = 256
    """Open connections of one source address (IPv6: of one /64); one machine may run many peers."""
    keepalive_s: float = 60.0
    """Silence between two requests, or time for one request's head, after which a connection is closed."""
    body_grace_s: float = 10.0
    """A body of n bytes must have arrived after ``body_grace_s + n / body_bytes_per_s``."""
    body_bytes_per_s: float = 64e3
    """Slowest rate at which a large body may arrive: a phone's uplink on a bad day."""
    linger_s: float = 1.0
    """How long a refused body is read and thrown away, so that the refusal arrives before the reset."""
    backlog: int = 512
    """Connections waiting to be accepted: a whole round may dial at once."""


class _Cut(Exception):
    """A body is not wanted any longer; ``status`` is what its sender is told."""

    def __init__(self, status: HTTPStatus, kind: str) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind


class _Reply(web.StreamResponse):
    """A response with the headers that matter and no others: no date, no server name, no cookies."""

    def __init__(self, status: int, body: bytes = b"", *, close: bool = False) -> None:
        super().__init__(status=status)
        self.sent = False
        """Whether it has left already, past aiohttp."""
        self._reply = body
        self._alive: bool | None = False if close else None
        self._out: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection outlives this response."""
        return self._alive

    def _head(self, request: web.BaseRequest) -> str:
        """Complete the headers; returns the status line."""
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(self._reply))
        if self._reply:
            headers[hdrs.CONTENT_TYPE] = BODY_TYPE
        if self._alive is None:
            self._alive = request.keep_alive
        if not self._alive:
            headers[hdrs.CONNECTION] = "close"
        return f"HTTP/1.1 {self.status} {self.reason}"

    def whole(self, request: web.BaseRequest) -> bytes:
        """The response as it goes over the wire."""
        lines = [self._head(request), *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + self._reply

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the head (the writer holds it back until ``write_eof``)."""
        if not self.sent:
            self._out = request.writer
            await self._out.write_headers(self._head(request), self.headers)
        return self._out

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Write the body; it leaves in one packet with the head."""
        if self._out is not None:
            await self._out.write_eof(self._reply)


class _Connection(web.RequestHandler):
    """One connection of a stranger: whatever is malformed is counted and answered, without traceback."""

    def __init__(self, http: "_Http", owner: "Server") -> None:
        limits = owner.limits
        super().__init__(
            http,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keepalive_s,
            lingering_time=limits.linger_s,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp's own runner passes for "none"
            logger=_log,
        )
        self._owner = owner
        self._unheard: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the first head its time (aiohttp does so between requests, and before the first since 3.14.5 only)."""
        super().connection_made(transport)
        self._unheard = asyncio.get_running_loop().call_later(self.keepalive_timeout, self.force_close)

    async def start(self) -> None:
        """Serve, if there is still anybody: one that was dropped at once, or has gone again, is lost before aiohttp's
        task gets to run (before Python 3.12), which it takes for a bug and so makes a traceback of."""
        if self.transport is not None:
            await super().start()

    def heard(self) -> None:
        """A head has arrived."""
        if self._unheard is not None:
            self._unheard.cancel()
            self._unheard = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end."""
        self.heard()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Bytes that are no HTTP (our callbacks' own exceptions never get here)."""
        self._owner._note(request.remote, "bytes that are not HTTP")
        return _Reply(status, close=True)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp's own surprises: counted, one line for each source, no traceback."""
        peer = self.peername
        self._owner._note(peer[0] if peer else None, "a connection that confused the HTTP library")
        _log.debug("the HTTP library gave up a connection: %r", kw.get("exc_info"))


class _Http(web.Server):
    """aiohttp's low-level server (no router, no middleware) with a door that counts connections."""

    def __init__(self, owner: "Server", handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler)
        self._owner = owner
        self._sources: dict[web.RequestHandler, str] = {}
        self._open: Counter[str] = Counter()

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self, self._owner)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let a connection in, or drop it at once when there are too many."""
        super().connection_made(handler, transport)
        peername = transport.get_extra_info("peername")
        source = counted_source(peername[0] if peername else "")
        limits = self._owner.limits
        if len(self._sources) >= limits.connections or self._open[source] >= limits.connections_per_source:
            self._owner._note(source, "too many connections")
            transport.abort()
            return
        if hasattr(transport, "max_size"):  # asyncio's own: what it sets aside for one read, 256 KiB by default.
            transport.max_size = _READ_SIZE
        self._sources[handler] = source
        self._open[source] += 1

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Give the place back."""
        super().connection_lost(handler, exc)
        source = self._sources.pop(handler, None)
        if source is not None:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]


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
        self.refusals: Counter[str] = Counter()
        """How often the transport itself refused something, by kind."""
        self._on_envelope = on_envelope
        self._on_hello = on_hello
        self._held = 0
        self._pool = BufferPool()
        self._noted: set[tuple[str, str]] = set()
        self._http: _Http | None = None
        self._listener: asyncio.Server | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are arriving or being handled."""
        return self._held

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._http._sources) if self._http else 0

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host``: a name, an address, ``0.0.0.0`` or ``::`` for all interfaces; port 0: the system chooses.

        Returns the port really bound.  Raises ``ConfigurationError`` with one sentence when that cannot be had.
        """
        loop = asyncio.get_running_loop()
        listening = await bind(host, port, self.limits.backlog)
        self._http = _Http(self, self._serve)
        self._listener = await loop.create_server(self._http, sock=listening, backlog=self.limits.backlog)
        return int(listening.getsockname()[1])

    async def stop(self, grace_s: float = 2.0) -> None:
        """Close the door, let requests under way finish for ``grace_s`` seconds, then cut them off.  Idempotent."""
        listener, self._listener = self._listener, None
        http, self._http = self._http, None
        if listener is None or http is None:
            return
        listener.close()
        http.pre_shutdown()
        await http.shutdown(grace_s)
        await listener.wait_closed()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from head to reply."""
        if isinstance(request.protocol, _Connection):
            request.protocol.heard()
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
        return _Reply(answer.status, answer.body)

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
            reply = _Reply(answer.status, answer.body)
        finally:
            self._held -= large.got
        if large.taken_over:
            large.reply(reply.whole(request), self._http if reply.keep_alive is not False else None)
            reply.sent = True
        return reply

    def _refuse(self, request: web.BaseRequest, status: HTTPStatus, kind: str) -> _Reply:
        """Say no and close, since the body has not been read."""
        self._note(request.remote, kind)
        reply = _Reply(status, close=True)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            reply.headers[hdrs.RETRY_AFTER] = "1"
        return reply

    def _note(self, source: str | None, kind: str) -> None:
        """Count a refusal; log it once per source and kind."""
        self.refusals[kind] += 1
        key = (source or "", kind)
        if key not in self._noted and len(self._noted) < _MAX_NOTED:
            self._noted.add(key)
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
