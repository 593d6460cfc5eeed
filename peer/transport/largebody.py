"""A large request body, received straight into its buffer.

aiohttp's way costs two copies and some Python per 256 KiB: the parser cuts every packet into pieces, and the pieces are
joined.  Here the connection is taken over from aiohttp with asyncio's own ``set_protocol`` once the head of the request
is known, the kernel writes the rest of the body where it belongs, and a fresh HTTP protocol takes the connection back
for the next request.

Neighbours: ``server`` alone uses it, for bodies from ``TAKE_OVER_FROM`` bytes on.
Invariants: not one byte beyond the body is read, so the next request is whole; a buffer of the claimed length is set
aside only for a sender that has delivered ``TRUSTED_FROM`` bytes; the connection's place is given back exactly once.
"""

import asyncio
import weakref
from collections.abc import Callable
from typing import cast

import numpy as np
from aiohttp import web

TAKE_OVER_FROM = 256 * 2**10
"""Below this, changing protocols costs more than it saves."""
TRUSTED_FROM = 2**20
"""Bytes that a sender must have delivered before a buffer of the length that it claims is set aside."""
KEEP_BYTES = 16 * 2**20
"""What a pool keeps for the next bodies; larger ones come in huge pages anyway."""
_GRAIN = 256 * 2**10
"""Sizes are rounded up to this, so that bodies of nearly the same size share buffers."""
_AT_ONCE = 2**20
"""At most this is read in one turn of the event loop: about 0.2 ms."""


Array = np.ndarray[tuple[int], np.dtype[np.uint8]]


class BufferPool:
    """Keeps the memory of a few received bodies for the next ones.

    Fresh memory costs the kernel a page fault per 4 KiB, more than the copy itself.  A buffer comes back by itself when
    the last view of it is gone, wherever and in whichever thread that was; hence no lock (a finaliser may run in the
    middle of anything) but single operations of ``dict``, which nothing interrupts.
    """

    def __init__(self, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep = keep_bytes
        self._free: dict[int, Array] = {}  # by id, longest unused first

    @property
    def kept_bytes(self) -> int:
        """Bytes of the buffers that nobody uses now."""
        return sum(whole.nbytes for whole in self._free.copy().values())

    def take(self, size: int) -> memoryview:
        """``size`` writable bytes with any content; new ones are committed by the system as they are written."""
        rounded = -(-size // _GRAIN) * _GRAIN
        whole = next((kept for kept in self._free.copy().values() if kept.nbytes == rounded), None)
        if whole is None or self._free.pop(id(whole), None) is None:
            whole = np.empty(rounded, dtype=np.uint8)
        part = whole[:size]
        weakref.finalize(part, self._back, whole).atexit = False
        return memoryview(cast("bytes", part))

    def _back(self, whole: Array) -> None:
        self._free[id(whole)] = whole
        excess = self.kept_bytes - self._keep
        for key, kept in self._free.copy().items():
            if excess <= 0:
                break
            if self._free.pop(key, None) is not None:
                excess -= kept.nbytes


class LargeBody(asyncio.BufferedProtocol):
    """One request's body of ``length`` bytes.  ``arrived(n)`` hears of every ``n`` bytes and says whether to go on."""

    def __init__(self, request: web.BaseRequest, length: int, pool: BufferPool, arrived: Callable[[int], bool]) -> None:
        self.got = 0
        """Bytes of the body that have arrived."""
        self.taken_over = False
        """Whether the reply must go through ``reply``; else aiohttp still has the connection."""
        self._handler = request.protocol
        self._content = request.content
        self._keep_alive = request.keep_alive
        self._transport = request.transport
        self._length = length
        self._arrived = arrived
        self._buffer = pool.take(min(length, TRUSTED_FROM))
        self._pool = pool
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> memoryview:
        """Wait for the whole body, taking the connection over unless everything is here already.

        Raises ``ConnectionError`` when the sender goes away, ``BufferError`` when ``arrived`` said no.
        """
        # What aiohttp has parsed.  Reading may make it parse what it had put off, hence until nothing is left.
        while piece := self._content.read_nowait(-1):
            self._room(len(piece))[: len(piece)] = piece
            self._advance(len(piece))
        if self._done.done():
            await self._done
            return self._buffer
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self.taken_over = True
        transport.set_protocol(self)
        if not transport.is_reading():
            transport.resume_reading()
        await self._done
        return self._buffer

    def reply(self, response: bytes, fresh: Callable[[], asyncio.Protocol] | None) -> None:
        """Write a whole response; then ``fresh()`` serves the connection, or it is closed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(response)
        if fresh is None or not self._keep_alive or self.got != self._length:
            transport.close()
            return
        # aiohttp's old protocol must neither close the transport nor keep its place.
        self._handler.transport = None
        self._handler.connection_lost(None)
        protocol = fresh()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_closing():
            transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the kernel writes next: never past the body's end."""
        return self._room(1)[:_AT_ONCE]

    def buffer_updated(self, nbytes: int) -> None:
        """``nbytes`` have been written there."""
        self._advance(nbytes)

    def connection_lost(self, exc: Exception | None) -> None:
        """The sender is gone, or we closed: aiohttp's protocol gives its place back."""
        self._handler.connection_lost(exc)
        if not self._done.done():
            self._done.set_exception(ConnectionResetError())

    def _room(self, wanted: int) -> memoryview:
        """The unwritten part of the buffer, at least ``wanted`` bytes, after letting it grow to its full length."""
        if self.got + wanted > len(self._buffer):
            whole = self._pool.take(self._length)
            whole[: self.got] = self._buffer[: self.got]
            self._buffer = whole
        return self._buffer[self.got :]

    def _advance(self, nbytes: int) -> None:
        self.got += nbytes
        wanted = self._arrived(nbytes)
        if wanted and self.got < self._length:
            return
        if self.taken_over and self._transport is not None:
            self._transport.pause_reading()
        if self._done.done():
            return
        if wanted:
            self._done.set_result(None)
        else:
            self._done.set_exception(BufferError())
