"""CPU time of several pieces of work, measured in turns.

Neighbours: ``run`` gives it the stages of one row.
Invariants: process CPU time (all threads, both ends of a loopback hop); medians; every round of the turn runs every
stage once, so a slow moment of the machine hits all of them.
"""

import statistics
import time
from collections.abc import Awaitable, Callable

Stage = Callable[[], Awaitable[None]]

LEAST_ROUNDS = 5
MOST_ROUNDS = 200
GRAIN_S = 2e-3
"""Short work is repeated to last about this long: far above the grain of the clock."""


async def medians_ms(stages: dict[str, Stage], seconds: float) -> dict[str, float]:
    """Median CPU milliseconds of one call of every stage, from rounds that take about ``seconds`` altogether."""
    samples: dict[str, list[float]] = {name: [] for name in stages}
    repeats: dict[str, int] = {}
    for name, stage in stages.items():  # once unmeasured: caches, pools, connections as in a peer that runs for a while
        await stage()
        before = time.process_time()
        await stage()
        repeats[name] = max(1, int(GRAIN_S / max(1e-6, time.process_time() - before)))
    end = time.monotonic() + seconds
    rounds = 0
    while rounds < LEAST_ROUNDS or (time.monotonic() < end and rounds < MOST_ROUNDS):
        # there and back again: nobody always runs after the same neighbour, with what that left in the caches
        for name, stage in list(stages.items())[:: 1 if rounds % 2 == 0 else -1]:
            before = time.process_time()
            for _ in range(repeats[name]):
                await stage()
            samples[name].append((time.process_time() - before) * 1e3 / repeats[name])
        rounds += 1
    return {name: statistics.median(values) for name, values in samples.items()}
