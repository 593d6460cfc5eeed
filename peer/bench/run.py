"""The grid of the bench: rows, progress, output.

Neighbours: ``stages`` has the work, ``measure`` the clock, ``table`` the human output.
Invariants: progress goes to standard error; with ``--json`` the document alone goes to standard output.
"""

import asyncio
import json
import os
import platform
import sys
import time
from typing import Any

from peer import progress
from peer.bench.chain import Chain
from peer.bench.measure import medians_ms
from peer.bench.stages import Hop, stages
from peer.bench.table import show
from peer.process import processor, tune_process

DIMENSIONS = (1_000, 10_000, 100_000, 1_000_000)
THRESHOLDS = (2, 3, 4)
BRANCHING = 2
MODULI = (16, 32)
SECONDS = {1_000: 2.0, 10_000: 2.0, 100_000: 4.0, 1_000_000: 12.0}
"""About how long one row of a dimension is measured: two minutes for all."""


def run_bench(as_json: bool) -> int:
    """Measure every row and print them; always 0."""
    tune_process()
    document = {"machine": _machine(), "rows": asyncio.run(_rows())}
    if as_json:
        print(json.dumps(document), flush=True)
    else:
        show(document)
    return 0


async def measure_row(dimension: int, threshold: int, modulus_bits: int, seconds: float) -> dict[str, Any]:
    """One row, keys as in the README.  Raises ``ArithmeticError`` if the sums that are timed are wrong."""
    chain = Chain(dimension, threshold, modulus_bits, time.time())
    for _ in range(3 * threshold):
        await chain.secure_step(chain.direct)
    await chain.check()
    async with Hop(chain) as hop:
        found = await medians_ms(stages(chain, hop), seconds)
    seeds = threshold - 1  # of one contribution, drawn by it and opened by others
    times = {
        "encode_ms": found["encode"],
        "mask_ms": found["mask"],
        "seal_ms": found["seal"] + seeds * found["seal_seed"],
        "open_ms": max(0.0, found["seal_and_open"] - found["seal"]) + seeds * found["open_seed"],
        "combine_ms": found["combine"],
        "unmask_ms": found["unmask"],
        "total_ms": found["secure"],
        "plain_ms": found["plain"],
        "floor_ms": found["floor"],
        "ratio_to_floor": found["secure"] / found["floor"],
        "ratio_to_plain": found["secure"] / found["plain"],
        "with_http_ms": found["secure_http"],
        "plain_with_http_ms": found["plain_http"],
        "ratio_to_plain_with_http": found["secure_http"] / found["plain_http"],
    }
    return {
        "dimension": dimension,
        "collusion_threshold": threshold,
        "branching": BRANCHING,
        "modulus_bits": modulus_bits,
        **{name: round(value, 4) for name, value in times.items()},
        "bytes_per_contribution": chain.envelope_bytes,
        "plain_bytes": 4 * dimension,
    }


async def _rows() -> list[dict[str, Any]]:
    rows = []
    grid = [(d, s, w) for d in DIMENSIONS for s in THRESHOLDS for w in MODULI]
    # process time is measured, and must not be that of drawing
    with progress.bar(sum(SECONDS[d] for d, _, _ in grid), ticking=False) as bar:
        bar.about("bench")
        past = 0.0
        for done, (dimension, threshold, bits) in enumerate(grid, start=1):
            line = f"bench {done}/{len(grid)}: d = {dimension}, S = {threshold}, w = {bits}"
            print(line, file=sys.stderr, flush=True)
            rows.append(await measure_row(dimension, threshold, bits, SECONDS[dimension]))
            past += SECONDS[dimension]
            bar.move(past)
    return rows


def _machine() -> str:
    processors = f"{os.cpu_count()} x {processor()}"
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {processors}"
