"""The grid of the bench: rows, progress, output.

Neighbours: ``stages`` has the work, ``measure`` the clock.
Invariants: progress goes to standard error; with ``--json`` the document alone goes to standard output.
"""

import asyncio
import json
import platform
import sys
import time
from typing import Any

from peer.bench.measure import medians_ms
from peer.bench.stages import Hop, stages
from peer.bench.tree import Tree
from peer.memory import keep_freed_memory

DIMENSIONS = (1_000, 10_000, 100_000, 1_000_000)
THRESHOLDS = (2, 3, 4)
BRANCHING = 2
COHORT = 16
"""Contributions of the tree that is measured.  In a far larger tree a contribution needs S - 1 masks instead of the
fewer of this one (nodes near the root have fewer ancestors); a row says which tree it is of."""
MODULI = (16, 32)
SECONDS = {1_000: 2.0, 10_000: 2.0, 100_000: 4.0, 1_000_000: 10.0}
"""About how long one row of a dimension is measured."""

COLUMNS = {
    "dimension": "coordinates of the vector",
    "collusion_threshold": "S",
    "modulus_bits": "bits of one coordinate on the wire",
    "encode_ms": "clip, scale, round, add",
    "mask_ms": "draw and add the masks",
    "seal_ms": "seal the seeds and the envelope",
    "open_ms": "open the envelope and the seeds",
    "combine_ms": "add the vector",
    "unmask_ms": "take the masks off",
    "total_ms": "all of it",
    "ratio_to_floor": "total beside one numpy pass, one AEAD each way, bare keystreams and additions",
    "ratio_to_plain": "total beside a float32 sum through the same envelope",
    "ratio_to_plain_with_http": "the same with one hop of the real transport, both ends",
    "bytes_per_contribution": "HTTP body of one partial",
    "plain_bytes": "float32 vector",
}
"""What the table shows, and what it means.  Times are CPU milliseconds per contribution."""


def run_bench(as_json: bool) -> int:
    """Measure every row and print them; always 0."""
    keep_freed_memory()
    rows = asyncio.run(_rows())
    document = {"machine": _machine(), "rows": rows}
    if as_json:
        print(json.dumps(document), flush=True)
    else:
        _print_table(document)
    return 0


async def measure_row(
    dimension: int, threshold: int, modulus_bits: int, seconds: float, cohort: int = COHORT
) -> dict[str, Any]:
    """One row, keys as in the README."""
    tree = Tree(dimension, cohort, threshold, BRANCHING, modulus_bits, time.time())
    async with Hop(tree) as hop:
        found = await medians_ms(stages(tree, hop), seconds)
    # of one contribution: how many seeds it has drawn (and somebody takes off), how many envelopes carry it
    seeds, edges = tree.seeds / cohort, (cohort - 1) / cohort
    total, plain = found["secure"] / cohort, found["plain"] / cohort
    with_http, plain_with_http = found["secure_http"] / cohort, found["plain_http"] / cohort
    times = {
        "encode_ms": found["encode"],
        "mask_ms": seeds * found["mask"],
        "seal_ms": edges * found["seal"] + seeds * found["seal_seed"],
        "open_ms": edges * max(0.0, found["seal_and_open"] - found["seal"]) + seeds * found["open_seed"],
        "combine_ms": edges * found["combine"],
        "unmask_ms": seeds * found["unmask"],
        "total_ms": total,
        "plain_ms": plain,
        "floor_ms": found["floor"],
        "ratio_to_floor": total / found["floor"],
        "ratio_to_plain": total / plain,
        "with_http_ms": with_http,
        "plain_with_http_ms": plain_with_http,
        "ratio_to_plain_with_http": with_http / plain_with_http,
    }
    return {
        "dimension": dimension,
        "collusion_threshold": threshold,
        "branching": BRANCHING,
        "modulus_bits": modulus_bits,
        **{name: round(value, 4) for name, value in times.items()},
        "bytes_per_contribution": round(tree.envelope_bytes / (cohort - 1)),
        "plain_bytes": 4 * dimension,
        "cohort": cohort,
    }


async def _rows() -> list[dict[str, Any]]:
    rows = []
    grid = [(d, s, w) for d in DIMENSIONS for s in THRESHOLDS for w in MODULI]
    for done, (dimension, threshold, bits) in enumerate(grid, start=1):
        print(f"bench {done}/{len(grid)}: d = {dimension}, S = {threshold}, w = {bits}", file=sys.stderr, flush=True)
        rows.append(await measure_row(dimension, threshold, bits, SECONDS[dimension]))
    return rows


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {_processor()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or "unknown processor"


def _print_table(document: dict[str, Any]) -> None:
    print(document["machine"])
    widths = {name: max(len(name), 9) for name in COLUMNS}
    print("  ".join(name.rjust(width) for name, width in widths.items()))
    for row in document["rows"]:
        print("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()))
    print(f"\nCPU milliseconds per contribution (medians), averaged over a tree of {COHORT}, B = {BRANCHING}:")
    for name, meaning in COLUMNS.items():
        print(f"  {name}: {meaning}")
