"""The bench as a table for people: on a terminal with ``rich``, plain columns elsewhere.

Neighbours: ``run`` makes the document.
Invariants: every column is explained in one line; plain output has no control characters.
"""

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the row's key, the heading, how a number is written, what it means."""

    key: str
    heading: str
    form: str
    meaning: str


COLUMNS = (
    Column("dimension", "d", "d", "coordinates of the vector"),
    Column("collusion_threshold", "S", "d", "collusion threshold: fewer colluding peers learn no value"),
    Column("modulus_bits", "w", "d", "bits of one coordinate on the wire"),
    Column("encode_ms", "encode", ".3f", "clip, scale, round at random, write"),
    Column("mask_ms", "mask", ".3f", "draw S - 1 masks and add them"),
    Column("seal_ms", "seal", ".3f", "seal S - 1 seeds, and the partial for its parent"),
    Column("open_ms", "open", ".3f", "check, open and read the partial, and open S - 1 seeds"),
    Column("combine_ms", "combine", ".3f", "add the child's vector"),
    Column("unmask_ms", "unmask", ".3f", "take S - 1 masks off"),
    Column("total_ms", "total", ".3f", "all of it, measured as a whole"),
    Column("plain_ms", "plain", ".3f", "the same for a float32 sum without masks, in the same envelope"),
    Column("floor_ms", "floor", ".3f", "one numpy pass, the AEAD each way, 2(S - 1) bare keystreams, the additions"),
    Column("ratio_to_floor", "/floor", ".2f", "total / floor"),
    Column("ratio_to_plain", "/plain", ".2f", "total / plain"),
    Column("with_http_ms", "http", ".3f", "total with one hop of the real transport, both ends"),
    Column("plain_with_http_ms", "plain http", ".3f", "plain with the same hop"),
    Column("ratio_to_plain_with_http", "/plain http", ".2f", "http / plain http"),
    Column("bytes_per_contribution", "bytes", "d", "HTTP body of one partial"),
    Column("plain_bytes", "plain bytes", "d", "float32 vector alone"),
)
ABOUT = (
    "CPU milliseconds of one contribution (medians), the work that others do for it included,\n"
    "as in a large tree: S - 1 seeds drawn, S - 1 opened and taken off, one envelope to the parent."
)


def show(document: dict[str, Any]) -> None:
    """Print the document on standard output."""
    if sys.stdout.isatty():
        _rich(document)
        return
    print(document["machine"])
    print(plain_table(document["rows"]))
    print(f"\n{ABOUT}")
    for column in COLUMNS:
        print(f"  {column.heading}: {column.meaning}")


def plain_table(rows: list[dict[str, Any]]) -> str:
    """Right-aligned columns under their headings."""
    lines = [[column.heading for column in COLUMNS], *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    return [format(row[column.key], column.form) for column in COLUMNS]


def _rich(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=document["machine"], caption=ABOUT, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column.heading, justify="right", no_wrap=True)
    last = None
    for row in document["rows"]:
        if last not in (None, row["dimension"]):
            table.add_section()
        last = row["dimension"]
        table.add_row(*_cells(row))
    console = Console()
    if console.measure(table).minimum > console.width:  # a row cut off says nothing: let the terminal wrap it
        console.width = console.measure(table).minimum
    console.print(table)
    for column in COLUMNS:
        console.print(f"  [bold]{column.heading}[/bold]: {column.meaning}", highlight=False)
