"""Rounds and totals as people ask for them: plain rows, the last ten thousand of them.

Neighbours: ``store`` gathers rows and writes them in batches with these functions, ``peer.observe`` and ``susurrus
rounds`` read.
Invariants: functions of a connection, each inside one transaction; bounded; nothing here is needed for the protocol.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

MAX_ROUNDS = 10_000

Row = Mapping[str, Any]

COLUMNS = (
    "round",
    "task",
    "kind",
    "age",
    "started",
    "finished",
    "role",
    "planned",
    "cohort",
    "published",
    "reason",
    "loss",
    "accuracy",
    "min_mask_neighbours",
    "bytes",
)
"""``round``, ``task`` in hexadecimal; times in Unix seconds; ``role`` ``root`` or ``member``; ``published`` a bool."""

OPTIONAL = ("role", "reason", "loss", "accuracy", "min_mask_neighbours", "bytes")
_DEFAULTS: Row = {"role": "root", "reason": ""}

TOTALS = ("rounds_published", "rounds_failed", "contributions")

# S608: made of the constants above alone.
_INSERT = f"INSERT INTO rounds ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_LIST = f"SELECT {', '.join(COLUMNS)} FROM rounds ORDER BY number DESC LIMIT ?"  # noqa: S608


def checked(row: Row) -> tuple[Any, ...]:
    """The values of ``row`` in the order of ``COLUMNS``.  Raises ``ValueError`` for unknown or missing columns."""
    unknown = [name for name in row if name not in COLUMNS]
    missing = [name for name in COLUMNS if name not in row and name not in OPTIONAL]
    if unknown or missing:
        raise ValueError(f"a round's row has unknown columns {unknown} or lacks {missing}")
    return tuple(row.get(name, _DEFAULTS.get(name)) for name in COLUMNS)


def write_rounds(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Append rows as ``checked`` returns them; forget all but the last ``MAX_ROUNDS``."""
    connection.executemany(_INSERT, rows)
    connection.execute("DELETE FROM rounds WHERE number <= (SELECT max(number) FROM rounds) - ?", (MAX_ROUNDS,))


def read_rounds(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The newest rounds first."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(_LIST, (limit,))]
    for row in rows:
        row["published"] = bool(row["published"])
    return rows


def add_totals(connection: sqlite3.Connection, amounts: Mapping[str, int]) -> None:
    """Add to running totals."""
    connection.executemany(
        "INSERT INTO counters (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        [(f"total_{name}", amount) for name, amount in amounts.items()],
    )


def read_totals(connection: sqlite3.Connection) -> dict[str, int]:
    """All totals, zero where nothing was counted."""
    found = dict(
        connection.execute("SELECT name, value FROM counters WHERE name LIKE 'total@_%' ESCAPE '@'").fetchall()
    )
    return {name: found.get(f"total_{name}", 0) for name in TOTALS}
