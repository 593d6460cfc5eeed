"""A response to whoever posted: no more than what its reader needs.

Neighbours: ``server`` answers with it, ``door`` refuses with it.
Invariants: no date, no server name, no cookies; head and body leave in one packet.
"""

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from peer.transport.exchange import BODY_TYPE


class Reply(web.StreamResponse):
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
