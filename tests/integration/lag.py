"""How long the event loop was away: a ticker that notices when it is called late.

Neighbours: ``test_event_loop`` watches a peer with it.
Invariants: it costs one timer a millisecond while it is entered and nothing afterwards; what it reports is the loop's
absence as callbacks see it, whatever the reason: a slow callback, the interpreter lock held by a thread, or, unless
``granted_clock`` is its clock, a machine that is busy with something else.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

TICK_S = 1e-3


def granted_clock() -> float:
    """A steady clock, in seconds, that stands still while the calling thread is ready to run but gets no CPU.

    Gaps by this clock are the process's own doing: that the scheduler gave the CPU to somebody else is not in them.
    Where the kernel does not say how long a thread has waited (Linux does, in ``schedstat``), it is ``perf_counter``.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            waited_ns = int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        waited_ns = 0
    return time.perf_counter() - waited_ns * 1e-9


class LoopLag:
    """``async with LoopLag() as lag: ...`` and then ``lag.longest_ms``: the largest gap beyond the tick.

    ``clock`` (seconds, steady) and ``tick_s`` are for tests.  The gap under way at the end counts too, so a loop that
    is blocked right up to the end of the block is noticed.  One use at a time.
    """

    def __init__(self, *, tick_s: float = TICK_S, clock: Callable[[], float] = time.perf_counter) -> None:
        self.longest_ms = 0.0
        """Milliseconds; 0 if every tick came in time."""
        self.ticks = 0
        """Ticks that came: too few say that the measurement itself is not to be trusted."""
        self._tick_s = tick_s
        self._clock = clock
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._timer is not None:
            raise RuntimeError("a LoopLag watches one block at a time")
        self._last = self._clock()
        self._arm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._note()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._ticked)

    def _ticked(self) -> None:
        self.ticks += 1
        self._note()
        self._arm()

    def _note(self) -> None:
        now = self._clock()
        self.longest_ms = max(self.longest_ms, (now - self._last - self._tick_s) * 1e3)
        self._last = now
