"""Results as tables: one row for each row of each run, with its point, repeat and seed.

Neighbours: ``study`` writes them, ``summary`` makes means of the records.
Invariants: rows and columns stand in the order of the runs; floats are written so that reading gives them back.
"""

import csv
import io
from collections.abc import Sequence

from peer.laboratory.extras import found, needed
from peer.laboratory.kinds import Value
from peer.laboratory.runner import Results
from peer.laboratory.summary import Record, columns

CSV, PARQUET = "csv", "parquet"
REPEAT, SEED = "repeat", "seed"
_INT64 = 2**63


def formats(wanted: str | None) -> tuple[str, ...]:
    """The formats to write: CSV always, Parquet too if it is wanted or, without a wish, can be written.

    ``ConfigurationError`` if Parquet is wanted and cannot be written.
    """
    if wanted == PARQUET:
        needed("pyarrow.parquet", "data", "--format parquet")
    parquet = wanted == PARQUET or (wanted is None and found("pyarrow.parquet") is not None)
    return (CSV, PARQUET) if parquet else (CSV,)


def records(results: Results) -> list[Record]:
    """All rows with the values of their point in front.

    Where a kind reports a column by the name of a key of the sweep, it is left out if it says the same everywhere, else
    it is named ``result.NAME``.
    """
    rows = [(run, row) for run, rows in results.runs for row in rows]
    keys = [*results.experiment.sweep, REPEAT, SEED]
    points = [{**dict(run.point.values), REPEAT: run.repeat, SEED: run.seed} for run, _ in rows]
    differing = {k for k in keys if any(k in row and row[k] != p[k] for p, (_, row) in zip(points, rows, strict=True))}
    return [
        {
            **point,
            **{
                (f"result.{key}" if key in point else key): value
                for key, value in row.items()
                if key not in point or key in differing
            },
        }
        for point, (_, row) in zip(points, rows, strict=True)
    ]


def as_csv(rows: Sequence[Record]) -> bytes:
    """Comma-separated values, UTF-8, with a line of headings; None is an empty field."""
    names = columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_field(row.get(name)) for name in names] for row in rows)
    return text.getvalue().encode()


def as_parquet(rows: Sequence[Record]) -> bytes:
    """Parquet; a column is bool, int64, float64 or string, the least of them that holds all its values."""
    import pyarrow
    import pyarrow.parquet

    arrays = {}
    for name in columns(rows):
        values = [row.get(name) for row in rows]
        present = [value for value in values if value is not None]
        if all(isinstance(value, bool) for value in present):
            arrays[name] = pyarrow.array(values, pyarrow.bool_())
        elif any(isinstance(value, str) for value in present):
            arrays[name] = pyarrow.array([None if v is None else _field(v) for v in values], pyarrow.string())
        elif all(isinstance(value, int) and -_INT64 <= value < _INT64 for value in present):
            arrays[name] = pyarrow.array([None if v is None else int(v) for v in values], pyarrow.int64())
        else:
            arrays[name] = pyarrow.array([None if v is None else float(v) for v in values], pyarrow.float64())
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return bytes(sink.getvalue())


def _field(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case _:
            return str(value)
