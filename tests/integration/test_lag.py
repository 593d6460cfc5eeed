"""The ticker notices a blocked loop, by its own clock or a given one, and leaves nothing running."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.lag import LoopLag, granted_clock


class Clock:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def ticked(lag: LoopLag, count: int) -> None:
    """Let the loop turn until ``count`` more ticks have come."""
    wanted = lag.ticks + count
    while lag.ticks < wanted:  # noqa: ASYNC110  (the loop's turns are what is waited for)
        await asyncio.sleep(0)


async def test_a_blocked_loop_is_noticed() -> None:
    async with LoopLag() as lag:
        await ticked(lag, 3)
        time.sleep(0.08)
        await ticked(lag, 1)
    assert lag.longest_ms > 75


async def test_the_largest_gap_beyond_the_tick_is_kept() -> None:
    clock = Clock()
    async with LoopLag(tick_s=0.001, clock=clock) as lag:
        for gap_ms in (1, 31, 11, 21):
            clock.now += gap_ms / 1e3
            await ticked(lag, 1)
    assert lag.longest_ms == pytest.approx(30.0)
    assert lag.ticks == 4


async def test_nothing_late_is_nothing() -> None:
    clock = Clock()
    async with LoopLag(clock=clock) as lag:
        await ticked(lag, 5)
    assert lag.longest_ms == 0.0


async def test_a_gap_that_lasts_to_the_end_counts() -> None:
    clock = Clock()
    async with LoopLag(tick_s=0.001, clock=clock) as lag:
        await ticked(lag, 1)
        clock.now += 0.061
    assert lag.longest_ms == pytest.approx(60.0)


async def test_it_stops_when_the_block_ends_even_by_an_error() -> None:
    lag = LoopLag()
    with pytest.raises(KeyError):
        async with lag:
            raise KeyError
    before = lag.ticks
    async with LoopLag() as other:
        await ticked(other, 5)
    assert lag.ticks == before


async def test_it_watches_one_block_at_a_time() -> None:
    async with LoopLag() as lag:
        with pytest.raises(RuntimeError, match="one block"):
            await lag.__aenter__()
    async with lag:  # and again afterwards
        await ticked(lag, 1)


async def test_the_granted_clock_sees_a_loop_that_blocks_itself() -> None:
    async with LoopLag(clock=granted_clock) as lag:
        await ticked(lag, 3)
        time.sleep(0.08)
        await ticked(lag, 1)
    assert lag.longest_ms > 75


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="this kernel does not count waiting")
def test_the_granted_clock_stands_still_while_another_process_has_the_cpu() -> None:
    before = os.sched_getaffinity(0)
    cpu = min(before)
    spin = f"import os; os.sched_setaffinity(0, {{{cpu}}}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            os.sched_setaffinity(0, {cpu})
            wall, granted, busy = time.perf_counter(), granted_clock(), time.thread_time()
            while time.thread_time() - busy < 0.2:
                pass
            waited = (time.perf_counter() - wall) - (granted_clock() - granted)
        finally:
            os.sched_setaffinity(0, before)
            other.kill()
    assert waited > 0.05  # about half of the time went to the other process
    assert granted_clock() - granted >= 0.2
