"""The HTTP client: posts opaque bodies over pooled keep-alive connections.

Neighbours: ``peer.session`` owns one, ``peer.delivery`` posts what it sealed, in turns; ``server`` is the other end.
Invariants: connections to one destination are bounded (a post waits for one), those in use, and those kept for later;
no redirect, cookie, proxy or compression is ever taken up; an answer's body is bounded; a body is sent again only when
a connection broke, before or after it had arrived (harmless: envelopes are replay-protected), or when too much was
under way at the other end, and a bounded number of times; whom no connection can be made to is given up at once.
"""

import asyncio
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import hdrs, payload
from aiohttp.abc import AbstractStreamWriter, ResolveResult
from yarl import URL

from peer.transport.addresses import parse_address
from peer.transport.exchange import BODY_TYPE, MAX_ANSWER, Answer, Unreachable
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_ADDRESSES

__all__ = ["Answer", "Client", "ClientLimits", "Unreachable"]

Body = bytes | bytearray | memoryview

_HEAD_CHUNK = 16 * 2**10
"""The first piece of a large body is joined with the HTTP head (a copy), so it is small."""
_CHUNK = 2**20
"""What one write hands to the kernel: about 0.2 ms.  What it does not take at once is copied by asyncio."""
_MAX_KNOWN = 4096
"""Destinations whose speed and URLs are remembered."""
_SPEED_WEIGHT = 0.3
"""Weight of the newest measurement in the moving average of a link's speed."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds on what this peer's own posts use."""

    posts_per_destination: int = 4
    """Simultaneous posts to one ``host:port``; more wait for their turn."""
    posts: int = 256
    """Simultaneous posts in all, and so connections in use."""
    idle: int = 128
    """Connections kept for later posts; beyond it the one idle longest is closed.  With ``posts`` and the server's own
    connections it stays below the usual 1,024 file descriptors."""
    keepalive_s: float = 45.0
    """An idle connection is dropped after this: before the server's own time-out."""
    connect_s: float = 5.0
    """Time for one connection to be made, name resolution included."""
    unacknowledged_s: float = 10.0
    """A connection over which nothing gets through for so long is given up (Linux and Android; elsewhere it is the
    system that decides, after minutes): its other end has moved, or a router on the way has forgotten it."""
    dns_s: float = 30.0
    """How long a resolved name is believed."""
    retry_pauses_s: tuple[float, ...] = (0.1, 0.5, 2.0)
    """Before a body is sent again whose connection broke (a phone has changed its network, a router has forgotten), or
    for which there was no room."""
    measured_bytes: int = 128 * 2**10
    """Bodies from this size on tell how fast a link is; smaller ones tell its latency."""


class _Payload(payload.Payload):
    """A body that goes out in pieces, without being joined to its head or copied as a whole."""

    def __init__(self, body: Body, sent: Callable[[int], None], taken: Callable[[asyncio.BaseTransport], None]) -> None:
        super().__init__(body, content_type=BODY_TYPE)
        self._size = len(body)
        self._sent = sent
        self._taken = taken
        self.transport: asyncio.BaseTransport | None = None
        """The connection that it goes out over."""
        self.started = 0.0
        """When the first byte was handed to the kernel (``time.monotonic``)."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Demanded by the base class; a sealed body is no text."""
        raise TypeError("an opaque body cannot be decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand the body to the kernel piece by piece; waits while the socket is full."""
        self.started = time.monotonic()
        self.transport = getattr(writer, "transport", None)  # of aiohttp's one writer, if not of the abstract one
        if self.transport is not None:
            self._taken(self.transport)
        body = self._value
        size = len(body)
        if size <= 2 * _HEAD_CHUNK:
            await writer.write(body)
            self._sent(size)
            return
        view = memoryview(body)
        start, stop = 0, _HEAD_CHUNK
        while start < size:
            await writer.write(view[start:stop])
            self._sent(min(stop, size) - start)
            start, stop = stop, stop + _CHUNK

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """As ``write``: the length announced is always the body's."""
        await self.write(writer)


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver, with a bound on how many addresses of one name are tried."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """At most ``MAX_ADDRESSES`` results."""
        return (await super().resolve(host, port, family))[:MAX_ADDRESSES]


@dataclass(slots=True)
class _Destination:
    """What is known about one ``host:port``."""

    urls: dict[str, URL]
    reused: bool = False
    """Whether a connection was ever pooled, so that the next one may be stale."""
    bytes_per_s: float | None = None


class Client:
    """Posts bodies.  Made inside a running event loop; ``async with`` or ``close`` ends it."""

    def __init__(self, *, limits: ClientLimits | None = None) -> None:
        self.limits = limits or ClientLimits()
        self.bytes_out = 0
        """Bytes of HTTP bodies handed to the network, failed and repeated posts included."""
        self._known: OrderedDict[str, _Destination] = OrderedDict()
        self._idle: OrderedDict[asyncio.BaseTransport, None] = OrderedDict()
        """Connections that aiohttp keeps, the one idle longest first; some may have been closed meanwhile."""
        self._session = self._connect()

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.limits.posts,
                limit_per_host=self.limits.posts_per_destination,
                keepalive_timeout=self.limits.keepalive_s,
                ttl_dns_cache=self.limits.dns_s,  # type: ignore[arg-type]  # any number of seconds
                resolver=_Resolver(),
                socket_factory=self._socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.limits.connect_s),
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING),
            auto_decompress=False,
            trust_env=False,
        )

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        if sys.platform in ("linux", "android"):
            limit = int(self.limits.unacknowledged_s * 1000)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def renew(self) -> None:
        """Give up every connection, also those that posts are using: this machine is somewhere else now."""
        old, self._session = self._session, self._connect()
        self._idle.clear()
        for known in self._known.values():
            known.reused = False
            known.bytes_per_s = None
        await old.close()

    async def close(self) -> None:
        """Close every connection; posts under way end with ``Unreachable``.  Idempotent."""
        await self._session.close()

    def bytes_per_s(self, address: str) -> float | None:
        """Measured speed of the link to ``address``: bytes per second, first byte to answer; ``None``: not known."""
        known = self._known.get(address)
        return known.bytes_per_s if known else None

    async def post(self, address: str, path: str, body: Body, timeout_s: float) -> Answer:
        """POST ``body`` to ``path`` at ``address`` (``host:port``); the answer, whatever its status.

        ``timeout_s`` covers everything, waiting for one's turn included.  The body must not change until this returns.
        Raises ``Unreachable`` when no answer came.
        """
        if isinstance(body, memoryview) and (body.ndim != 1 or body.itemsize != 1):
            body = body.cast("B")
        destination = self._destination(address)
        url = destination.urls.get(path)
        if url is None:
            url = destination.urls[path] = URL(f"http://{address}{path}", encoded=True)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._insist(destination, url, body)
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            raise Unreachable(address, _sentence(error, timeout_s)) from error

    async def _insist(self, destination: _Destination, url: URL, body: Body) -> Answer:
        """An exchange, again after a pause if its connection broke or too much was under way at the other end."""
        pauses = iter(self.limits.retry_pauses_s)
        stale = destination.reused
        while True:
            session = self._session
            try:
                answer = await self._exchange(destination, url, body)
                if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or (pause := next(pauses, None)) is None:
                    return answer
            except aiohttp.ClientConnectionError as error:
                if isinstance(error, aiohttp.ClientConnectorError | TimeoutError) or self._session.closed:
                    raise
                if stale or session is not self._session:  # closed meanwhile: that says nothing about the link
                    pause = 0.0
                    stale = destination.reused = False
                elif (pause := next(pauses, None)) is None:
                    raise
            await asyncio.sleep(pause)

    async def _exchange(self, destination: _Destination, url: URL, body: Body) -> Answer:
        """One request and its answer."""
        data = _Payload(body, self._count, self._taken)
        async with self._session.post(url, data=data, allow_redirects=False) as response:
            content = response.content
            answer = bytearray()
            while chunk := await content.readany():
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    response.close()
                    raise ValueError("its answer is too long")
            if len(body) >= self.limits.measured_bytes and response.status < 300:
                self._measure(destination, len(body), time.monotonic() - data.started)
            destination.reused = True
            if data.transport is not None:
                self._rests(data.transport)
            return Answer(response.status, bytes(answer))

    def _taken(self, transport: asyncio.BaseTransport) -> None:
        self._idle.pop(transport, None)

    def _rests(self, transport: asyncio.BaseTransport) -> None:
        """aiohttp bounds the connections in use, and keeps all others until they have been idle for too long."""
        self._idle[transport] = None
        if len(self._idle) > self.limits.idle:
            longest, _ = self._idle.popitem(last=False)
            longest.close()

    def _count(self, size: int) -> None:
        self.bytes_out += size

    @staticmethod
    def _measure(destination: _Destination, size: int, seconds: float) -> None:
        speed = size / max(seconds, 1e-6)
        old = destination.bytes_per_s
        destination.bytes_per_s = speed if old is None else old + _SPEED_WEIGHT * (speed - old)

    def _destination(self, address: str) -> _Destination:
        """What is known of ``address``; the longest unused one is forgotten when there are too many."""
        known = self._known.get(address)
        if known is None:
            try:
                parse_address(address)
            except ConfigurationError as error:
                raise Unreachable(address, str(error)) from error
            known = self._known[address] = _Destination({})
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(address)
        return known


def _sentence(error: BaseException, timeout_s: float) -> str:
    """One human sentence for why no answer came."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name does not resolve"
        case aiohttp.ConnectionTimeoutError():
            return "no connection could be made in time"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case ConnectionRefusedError():
            return "nobody listens there"
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return "nobody listens there"
        case aiohttp.ClientConnectorError():
            return (error.os_error.strerror or "no connection").lower()
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError() | aiohttp.ClientOSError():
            return "the connection broke before an answer came"
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return "its answer is not proper HTTP"
        case ValueError():
            return str(error)
        case _:
            return "the connection failed"
