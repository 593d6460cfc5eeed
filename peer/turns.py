"""Turns: when a message may be sealed and posted, so that whoever takes nothing holds up nobody else.

Neighbours: ``delivery`` waits here before it seals, and holds its turn until the message is delivered or given up.
Invariants: what waits is not sealed yet, so that it costs no copy; messages to one peer, at all its addresses, share a
few turns and a few bytes; a small message waits for none but those to the same peer; sealed bytes of large ones are
bounded in all.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from peer.transport.exchange import Unreachable
from protocol.base.ids import PeerId
from protocol.base.limits import MAX_BODY, MAX_CONTROL_BODY

LEAST_S = 0.001
"""What is left to a message whose turn comes in the last moment."""


class Budget:
    """A number of things shared by whoever waits in line; a demand above the whole takes the whole."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def used(self) -> int:
        """How many are taken now."""
        return self._total - self._free

    @asynccontextmanager
    async def hold(self, size: int, end: float) -> AsyncIterator[None]:
        """Wait until ``size`` are free, and have them.  Raises ``TimeoutError`` at ``end`` (the event loop's time)."""
        size = min(size, self._total)
        if self._line or size > self._free:
            await self._queue(size, end)
        else:
            self._free -= size
        try:
            yield
        finally:
            self._give(size)

    async def _queue(self, size: int, end: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((turn, size))
        try:
            async with asyncio.timeout_at(end):
                await turn
        except (asyncio.CancelledError, TimeoutError):
            if turn.cancelled():
                self._next()  # A turn that was given up no longer holds up those behind it.
            else:
                self._give(size)  # It came in the same moment: pass it on.
            raise

    def _give(self, size: int) -> None:
        self._free += size
        self._next()

    def _next(self) -> None:
        while self._line and (self._line[0][0].done() or self._line[0][1] <= self._free):
            turn, size = self._line.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)


@dataclass(slots=True)
class _Peer:
    """Messages to one peer."""

    turns: Budget
    large: Budget
    """All turns but one: large messages that wait for bytes leave it to small ones."""
    bytes: Budget
    messages: int = 0
    """Under way or waiting."""


@dataclass(slots=True)
class Turns:
    """The turns of all messages that leave one peer."""

    at_once: int = 4
    """Messages to one peer that are under way at the same time, large ones one less."""
    bytes_to_one: int = MAX_BODY
    """Of large messages to one peer."""
    bytes_in_all: int = 4 * MAX_BODY
    """Of all large messages."""
    most_to_one: int = 256
    """Messages to one peer, those that wait included; more are given up at once."""
    small: int = MAX_CONTROL_BODY
    """Messages up to so many bytes are not counted in bytes."""
    _peers: dict[PeerId, _Peer] = field(default_factory=dict)
    _bytes: Budget = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = Budget(self.bytes_in_all)

    @property
    def bytes_under_way(self) -> int:
        """Bytes of the large messages that have their turn now."""
        return self._bytes.used

    @asynccontextmanager
    async def turn(self, to: PeerId, size: int, timeout_s: float) -> AsyncIterator[float]:
        """Wait for the turn of a message of ``size`` bytes, and have it; the seconds that are left of ``timeout_s``.

        Raises ``Unreachable`` when it has not come by then, or when too many wait already.
        """
        peer = self._peers.get(to)
        if peer is None:
            peer = self._peers[to] = _Peer(
                Budget(self.at_once), Budget(max(1, self.at_once - 1)), Budget(self.bytes_to_one)
            )
        if peer.messages >= self.most_to_one:
            raise Unreachable("the peer", "too many messages wait for it already")
        peer.messages += 1
        time = asyncio.get_running_loop().time
        end = time() + timeout_s
        try:
            if size <= self.small:
                async with peer.turns.hold(1, end):
                    yield max(end - time(), LEAST_S)
            else:
                # in this order: whoever waits for bytes has no turn yet
                async with (
                    peer.bytes.hold(size, end),
                    peer.large.hold(1, end),
                    self._bytes.hold(size, end),
                    peer.turns.hold(1, end),
                ):
                    yield max(end - time(), LEAST_S)
        except TimeoutError as error:
            raise Unreachable("the peer", f"its turn did not come within {timeout_s:g} s") from error
        finally:
            peer.messages -= 1
            if not peer.messages:
                del self._peers[to]
