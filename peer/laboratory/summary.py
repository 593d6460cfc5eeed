"""Means over repeats, with their standard errors.

Neighbours: ``plots``, ``report``, ``words`` and ``table`` summarise with it.
Invariants: groups stand in the order in which they first appear, so the order of rows alone decides.
"""

import math
from collections.abc import Iterable, Sequence

from peer.laboratory.kinds import Row, Value

Record = Row
"""A row of results together with the point of the sweep that it belongs to."""


def grouped(records: Iterable[Record], keys: Sequence[str]) -> list[tuple[tuple[Value, ...], list[Record]]]:
    """The rows by their values of ``keys``; a missing column counts as None."""
    # Values are told apart by type too: True is not 1 here.
    groups: dict[tuple[tuple[type, Value], ...], list[Record]] = {}
    for record in records:
        name = tuple((type(record.get(key)), record.get(key)) for key in keys)
        groups.setdefault(name, []).append(record)
    return [(tuple(value for _, value in name), rows) for name, rows in groups.items()]


def mean(values: Iterable[Value]) -> float | None:
    """The arithmetic mean of the numbers among ``values`` (yes and no count 1 and 0); None if there are none."""
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return math.fsum(numbers) / len(numbers) if numbers else None


def standard_error(values: Iterable[Value]) -> float | None:
    """The standard error of that mean, s / sqrt(n) with s of n - 1 degrees of freedom; None for fewer than two."""
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) < 2:
        return None
    middle = math.fsum(numbers) / len(numbers)
    squares = math.fsum((number - middle) ** 2 for number in numbers)
    return math.sqrt(squares / (len(numbers) - 1) / len(numbers))


def columns(records: Iterable[Record]) -> list[str]:
    """All columns, in the order in which they first appear."""
    return list(dict.fromkeys(key for record in records for key in record))


def is_text(records: Iterable[Record], column: str) -> bool:
    """Whether any value of the column is text."""
    return any(isinstance(record.get(column), str) for record in records)


def matching(records: Iterable[Record], where: Iterable[tuple[str, Value]]) -> list[Record]:
    """The rows that have these values."""
    conditions = list(where)
    return [r for r in records if all(key in r and r[key] == value for key, value in conditions)]


def summarise(records: Sequence[Record], by: Sequence[str], show: Sequence[str]) -> list[Record]:
    """One row for each group: its keys, ``rows`` (how many rows it sums up), and for each column the mean and, as
    ``COLUMN_error``, its standard error.
    """
    result = []
    for key, rows in grouped(records, by):
        line: Record = dict(zip(by, key, strict=True))
        line["rows"] = len(rows)
        for column in show:
            values = [row.get(column) for row in rows]
            line[column], line[f"{column}_error"] = mean(values), standard_error(values)
        result.append(line)
    return result
