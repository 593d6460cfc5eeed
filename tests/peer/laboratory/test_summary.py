"""Means, standard errors, groups, and tables of them."""

import csv
import io
import math
import statistics

import pytest

from peer.laboratory.summary import Record, grouped, mean, standard_error, summarise
from peer.laboratory.table import as_csv, as_parquet


def test_mean_and_standard_error() -> None:
    values = [1.5, 2.0, 7.25, 3.0]
    assert mean([*values, None]) == statistics.fmean(values)
    error = standard_error([None, *values])
    assert error is not None
    assert math.isclose(error, statistics.stdev(values) / 2)
    assert mean([None]) is None
    assert mean([]) is None
    assert standard_error([3]) is None
    assert mean([True, False, False, True]) == 0.5


def test_groups_tell_types_apart_and_keep_their_order() -> None:
    rows: list[Record] = [{"k": 2}, {"k": True}, {"k": 1}, {}, {"k": "1"}, {"k": None}, {"k": 2}]
    assert [(key, len(members)) for key, members in grouped(rows, ["k"])] == [
        ((2,), 2),
        ((True,), 1),
        ((1,), 1),
        ((None,), 2),
        (("1",), 1),
    ]


def test_summary() -> None:
    rows: list[Record] = [{"k": 1, "x": 1.0}, {"k": 2, "x": 5}, {"k": 1, "x": 3.0}, {"k": 2}]
    assert summarise(rows, ["k"], ["x"]) == [
        {"k": 1, "rows": 2, "x": 2.0, "x_error": 1.0},
        {"k": 2, "rows": 2, "x": 5.0, "x_error": None},
    ]


ROWS: list[Record] = [
    {"i": 1, "f": 0.1, "s": 'a,"b"\n', "b": True, "mixed": 1, "big": 2**63, "none": None},
    {"i": None, "f": 1e-300, "s": None, "b": None, "mixed": "x", "big": 1, "late": -3},
]


def test_csv_gives_back_what_was_written() -> None:
    found = list(csv.DictReader(io.StringIO(as_csv(ROWS).decode(), newline="")))
    assert list(found[0]) == ["i", "f", "s", "b", "mixed", "big", "none", "late"]
    assert [float(row["f"]) for row in found] == [0.1, 1e-300]
    assert (found[0]["s"], found[1]["s"], found[0]["b"], found[1]["i"]) == ('a,"b"\n', "", "true", "")


def test_parquet_gives_back_what_was_written() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = parquet.read_table(pyarrow.BufferReader(as_parquet(ROWS)))
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "i": "int64",
        "f": "double",
        "s": "string",
        "b": "bool",
        "mixed": "string",
        "big": "double",
        "none": "bool",
        "late": "int64",
    }
    first, second = table.to_pylist()
    assert first == {**ROWS[0], "mixed": "1", "big": 2.0**63, "late": None}
    assert second == {**ROWS[1], "none": None}
