"""The door: lets strangers' connections in, counts them, and shows everybody out at the end.

Neighbours: ``server`` stands behind one; ``peer.observe.admin`` behind another.
Invariants: open connections are bounded, in all and for each source; one that says nothing is closed; whatever is
malformed is counted and answered, without traceback; closing takes a bounded time, whatever anybody has sent or does
not read.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from peer.transport.addresses import bind, counted_source
from peer.transport.reply import Reply

_log = logging.getLogger("susurrus.transport")
_READ_SIZE = 64 * 2**10
"""What is set aside for one read of heads and small bodies."""


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Bounds on the connections of strangers."""

    connections: int = 512
    """Open connections in all: half of the usual 1,024 file descriptors."""
    connections_per_source: int = 256
    """Open connections of one source address (IPv6: of one /64); one machine may run many peers."""
    keepalive_s: float = 60.0
    """Silence between two requests, or time for one request's head, after which a connection is closed."""
    linger_s: float = 1.0
    """How long a refused body is read and thrown away, so that the refusal arrives before the reset."""
    backlog: int = 512
    """Connections waiting to be accepted: a whole round may dial at once."""


class _Connection(web.RequestHandler):
    """One connection of a stranger: whatever is malformed is counted and answered, without traceback."""

    def __init__(self, door: "Door") -> None:
        super().__init__(
            door,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=door.limits.keepalive_s,
            lingering_time=door.limits.linger_s,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # what aiohttp's own runner passes for "none"
            logger=_log,
        )
        self._note = door.note
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
        """Bytes that are no HTTP (our handlers' own exceptions never get here)."""
        self._note(request.remote, "bytes that are not HTTP")
        return Reply(status, close=True)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp's own surprises: counted, one line for each source, no traceback."""
        peer = self.peername
        self._note(peer[0] if peer else None, "a connection that confused the HTTP library")
        _log.debug("the HTTP library gave up a connection: %r", kw.get("exc_info"))


class Door(web.Server):
    """aiohttp's low-level server (no router, no middleware) on one socket.

    ``handler`` answers a request and raises nothing; ``note(source, kind)`` hears of every refusal.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limits: DoorLimits,
        note: Callable[[str | None, str], None],
    ) -> None:
        super().__init__(self._heard)
        self.limits = limits
        self.note = note
        self.closed = True
        """Nobody is let in: not opened yet, or closed again."""
        self._handler = handler
        self._inside: dict[web.RequestHandler, tuple[str, asyncio.Transport]] = {}
        """Connections with source and transport, until they are lost."""
        self._by_source: Counter[str] = Counter()
        self._listener: asyncio.Server | None = None

    @property
    def count(self) -> int:
        """Open connections."""
        return len(self._inside)

    async def open(self, host: str, port: int) -> int:
        """Listen; see ``addresses.bind``.  Returns the port really bound."""
        listening = await bind(host, port, self.limits.backlog)
        self.closed = False
        self._listener = await asyncio.get_running_loop().create_server(
            self, sock=listening, backlog=self.limits.backlog
        )
        return int(listening.getsockname()[1])

    async def close(self, grace_s: float) -> None:
        """Let nobody in, let requests under way finish for ``grace_s`` seconds, then cut them off.

        Takes three times ``grace_s`` at most.  Idempotent.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.closed = True
        listener.close()
        self.pre_shutdown()
        await self.shutdown(grace_s)
        for _, transport in list(self._inside.values()):
            transport.abort()  # closed it is by now, but answers that nobody reads would keep it, and what waits for it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await listener.wait_closed()

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let a connection in, or drop it at once when there are too many or the door has been closed meanwhile."""
        super().connection_made(handler, transport)
        peername = transport.get_extra_info("peername")
        source = counted_source(peername[0] if peername else "")
        limits = self.limits
        if self.closed:
            transport.abort()
            return
        if len(self._inside) >= limits.connections or self._by_source[source] >= limits.connections_per_source:
            self.note(source, "too many connections")
            transport.abort()
            return
        if hasattr(transport, "max_size"):  # asyncio's own: what it sets aside for one read, 256 KiB by default.
            transport.max_size = _READ_SIZE
        self._inside[handler] = source, transport
        self._by_source[source] += 1

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Give the place back."""
        super().connection_lost(handler, exc)
        if handler not in self._inside:
            return
        source, _ = self._inside.pop(handler)
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, _Connection):
            request.protocol.heard()
        return await self._handler(request)
