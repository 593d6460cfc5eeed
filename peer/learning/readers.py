"""A user's own records from CSV, NPZ or LIBSVM files, and shards back into files.

Neighbours: ``peer.config`` says which file belongs to which schema; ``npz`` reads the binary format; ``trainer`` takes
``Table.X`` and ``Table.y``; ``deploy`` and the demo write shards with ``write_csv`` and ``write_npz``.
Invariants: no pickle; memory is bounded by ``MAX_CELLS`` whatever the file holds; every mistake in a file is a
``ConfigurationError`` whose sentences name the file, and the row (the line for text formats) and column where there is
one; what a cell says is in them only where the caller wants it ``quoted``.
"""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from peer.learning import npz
from protocol.base.errors import ConfigurationError
from protocol.base.printing import printable

MAX_CELLS = 50_000_000
"""Values in one table: 400 MB of float64."""
MAX_LINE = 16 * 2**20
"""Characters in one line of a text file."""
MAX_PROBLEMS = 10
"""After so many mistakes in a file the rest is not read."""

FORMATS = {".csv": "csv", ".npz": "npz", ".svm": "libsvm", ".libsvm": "libsvm", ".svmlight": "libsvm"}
"""File name endings and the formats they mean."""


@dataclass(frozen=True, slots=True)
class Table:
    """Records: ``X`` float64 (n, f), finite; ``y`` int64 class numbers (n,), or float64 values where there are no
    classes.
    """

    X: NDArray[np.float64] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    features: tuple[str, ...]


class Labels:
    """Turns what a file says of the target into numbers: class numbers, or values where ``classes`` is empty."""

    def __init__(self, classes: Sequence[str] | None) -> None:
        self.classes = tuple(classes or ())
        self._known = {label: k for k, label in enumerate(self.classes)}
        self._numbers: dict[float, int] = {}
        for k, label in enumerate(self.classes):
            value = number(label)
            if value is not None:
                self._numbers.setdefault(value, k)

    @property
    def dtype(self) -> type:
        """Of the finished target array."""
        return np.int64 if self.classes else np.float64

    def read(self, text: str) -> float:
        """The class number or value.  ``1``, ``+1`` and ``1.0`` are the same label.  Raises ``ValueError`` with the
        reason.
        """
        text = text.strip()
        if not self.classes:
            return finite(text)
        if text in self._known:
            return self._known[text]
        value = number(text)
        if value is None or value not in self._numbers:
            shown = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
            raise ValueError(f"is not one of the classes {shown}")
        return self._numbers[value]


class NoLabels(Labels):
    """For records whose target nobody asks for: whatever stands in its place is passed over."""

    def __init__(self) -> None:
        super().__init__(None)

    def read(self, text: str) -> float:
        """Zero."""
        return 0.0


class Problems:
    """Mistakes found in one file; stops the reading (by raising) when there are ``MAX_PROBLEMS``."""

    def __init__(self, path: str | Path, *, quotes: bool = True) -> None:
        """``quotes``: whether sentences may tell what a cell says."""
        self.path = str(path)
        self.quotes = quotes
        self.found: list[str] = []

    def say(self, sentence: str) -> None:
        """Note one mistake."""
        self.found.append(f"{self.path}: {sentence}")
        if len(self.found) == MAX_PROBLEMS:
            self.found.append(f"{self.path}: there may be more mistakes, the rest was not read")
            self.check()

    def say_cell(self, where: str, cell: str, what: object) -> None:
        """Note what is wrong with one cell."""
        shown = f"{quoted(cell)} " if self.quotes and cell.strip() else ""
        self.say(f"{where}: {shown}{what}")

    def fail(self, sentence: str) -> ConfigurationError:
        """The error to raise for a mistake after which nothing more can be read."""
        return ConfigurationError([*self.found, f"{self.path}: {sentence}"])

    def check(self) -> None:
        """Raise if anything was noted."""
        if self.found:
            raise ConfigurationError(self.found)


def read_table(
    path: str | Path,
    *,
    target: str | None,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    format: str | None = None,
    quotes: bool = True,
) -> Table:
    """The records of a file.

    ``target``: the CSV column to predict; None: there need be no target, and ``y`` is zeros.  ``features``: CSV columns
    to use, in order (None: all but the target); for the other formats their number must fit, and NPZ files that name
    their features are put in this order.  ``classes``: labels in order (None or empty: the target is a number).
    ``format``: ``csv``, ``npz`` (arrays ``X``, ``y``, perhaps ``features``) or ``libsvm``; None: by the file's ending.
    ``quotes``: whether sentences may tell what a cell says.  Raises ``ConfigurationError`` with a sentence for every
    mistake.
    """
    problems = Problems(path, quotes=quotes)
    kind = format or FORMATS.get(Path(path).suffix.lower())
    if kind not in ("csv", "npz", "libsvm"):
        wanted = f"format '{format}' is not known" if format else "the file's ending does not tell its format"
        raise problems.fail(f"{wanted}, use one of csv, npz, libsvm")
    labels = NoLabels() if target is None else Labels(classes)
    names = None if features is None else tuple(features)
    if kind == "npz":
        with _guarded(problems):
            x, y, found = npz.read(problems, labels, names, MAX_CELLS, targets=target is not None)
    else:
        with _open_text(problems, kind) as file:
            read = _read_csv if kind == "csv" else _read_libsvm
            x, y, found = read(file, problems, labels, names, target)
    problems.check()
    return Table(x, y.astype(labels.dtype), found)


def read_header(path: str | Path) -> tuple[str, ...]:
    """The names of a CSV file's columns.  Raises ``ConfigurationError``."""
    problems = Problems(path)
    with _open_text(problems, "csv") as file:
        return tuple(_header(_csv_rows(file, problems), problems))


def infer_classes(path: str | Path, target: str, most: int = 100) -> tuple[str, ...]:
    """The labels in a CSV file's target column, in numerical or else alphabetical order.

    Empty, which means regression, if all are numbers and there are fractions or more than ``most`` different ones; text
    labels may not be more than that.  Raises ``ConfigurationError``.
    """
    problems = Problems(path)
    seen: dict[str, float | None] = {}
    with _open_text(problems, "csv") as file:
        rows = _csv_rows(file, problems)
        header = _header(rows, problems)
        if target not in header:
            raise problems.fail(f"row 1 has no column called '{target}'")
        column = header.index(target)
        for line, row in rows:
            if len(row) != len(header):
                continue  # for read_table to tell, with whatever else is wrong
            label = row[column].strip()
            value = number(label)
            if not label:
                problems.say(f"row {line}, column '{target}': is empty")
            if value is None and len(seen) > most:
                raise problems.fail(
                    f"row {line}, column '{target}': {quoted(label)} is one label too many ({most} will do)"
                )
            if len(seen) <= most:
                seen[label] = value
    problems.check()
    numbers = {label: value for label, value in seen.items() if value is not None}
    if len(numbers) < len(seen):
        return tuple(sorted(seen))
    if len(seen) > most or not all(value.is_integer() for value in numbers.values()):
        return ()
    return tuple(sorted(numbers, key=numbers.__getitem__))


def finite(text: str) -> float:
    """The number that ``text`` says.  Raises ``ValueError`` with the reason if it is none, NaN or infinite."""
    try:
        value = float(text)
    except ValueError:
        empty = not text.strip()
        raise ValueError("is empty, a number is needed" if empty else "is not a number") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def quoted(text: str) -> str:
    """What a file says, as a sentence quotes it: short, on one line, and harmless to a terminal."""
    text = text.strip()
    shown = printable(text[:40])
    return f"'{shown}...'" if len(text) > 40 else f"'{shown}'"


def number(text: str) -> float | None:
    """Like ``finite``, but None instead of an error."""
    try:
        return finite(text)
    except ValueError:
        return None


def write_csv(
    path: str | Path,
    X: NDArray[np.floating],
    y: NDArray[Any],
    *,
    features: Sequence[str],
    target: str,
    classes: Sequence[str] = (),
) -> None:
    """Write records as CSV with a header row, the target last; numbers are written so that they read back exactly."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*features, target])
        for row, goal in zip(X.tolist(), y.tolist(), strict=True):
            last = classes[int(goal)] if classes else _write_number(goal)
            writer.writerow([*map(_write_number, row), last])


def write_npz(
    path: str | Path, X: NDArray[np.floating], y: NDArray[Any], *, features: Sequence[str], classes: Sequence[str] = ()
) -> None:
    """Write records as a compressed NPZ file: ``X``, ``y`` (labels as text, or values) and ``features``."""
    goals = np.array([classes[int(k)] for k in y], dtype=np.str_) if classes else np.asarray(y, dtype=np.float64)
    with open(path, "wb") as file:
        np.savez_compressed(file, X=X, y=goals, features=np.array(features, dtype=np.str_))


def _write_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))


@contextmanager
def _guarded(problems: Problems) -> Iterator[None]:
    """Turns what the system says of the file into sentences."""
    path = Path(problems.path)
    if path.exists() and not path.is_file():
        raise problems.fail("is not a regular file")
    try:
        yield
    except FileNotFoundError as error:
        raise problems.fail("there is no such file") from error
    except OSError as error:
        raise problems.fail(f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise problems.fail("is not UTF-8 text") from error


@contextmanager
def _open_text(problems: Problems, kind: str) -> Iterator[TextIO]:
    newline = "" if kind == "csv" else None
    with _guarded(problems), open(problems.path, encoding="utf-8-sig", newline=newline) as file:
        yield file


def _lines(file: TextIO, problems: Problems) -> Iterator[str]:
    row = 0
    while line := file.readline(MAX_LINE + 1):
        row += 1
        if len(line) > MAX_LINE:
            raise problems.fail(f"row {row} is longer than {MAX_LINE} characters")
        yield line


def _csv_rows(file: TextIO, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every row that is not blank."""
    reader = csv.reader(_lines(file, problems), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise problems.fail(f"row {reader.line_num} is not valid CSV ({error})") from error


def _read_csv(
    file: TextIO, problems: Problems, labels: Labels, names: tuple[str, ...] | None, target: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    rows = _csv_rows(file, problems)
    header = _header(rows, problems)
    if names is None:
        names = tuple(name for name in header if name != target)
        for place in [place for place, name in enumerate(header, start=1) if not name]:
            problems.say(f"row 1 has no name for column {place}")
        problems.check()
    wanted = names if target is None else (*names, target)
    twice = sorted({name for name in wanted if header.count(name) > 1})
    for name in twice:
        problems.say(f"row 1 names column '{name}' more than once")
    for name in wanted:
        if name not in header:
            problems.say(f"row 1 has no column called '{name}'")
    problems.check()
    if not names:
        raise problems.fail("row 1 names no column besides the target")
    columns, goal = [header.index(name) for name in names], None if target is None else header.index(target)
    cells, goals = array("d"), array("d")
    for line, row in rows:
        if len(row) != len(header):
            problems.say(f"row {line} has {len(row)} cells, the header has {len(header)}")
            continue
        try:
            cells.extend([float(row[column]) for column in columns])
        except ValueError:
            _say_cells(problems, line, [(header[column], row[column]) for column in columns])
        said = "" if goal is None else row[goal]
        try:
            goals.append(labels.read(said))
        except ValueError as error:
            problems.say_cell(f"row {line}, column '{target}'", said, error)
        if len(cells) > MAX_CELLS:
            raise problems.fail(f"has more than {MAX_CELLS} values, split it over several peers")
    problems.check()
    if not goals:
        raise problems.fail("has a header row but no records")
    x = np.frombuffer(cells, dtype=np.float64).reshape(len(goals), len(names))
    if not np.isfinite(x).all():
        file.seek(0)
        _say_infinite(file, problems, header, columns)
    return x, np.frombuffer(goals, dtype=np.float64), names


def _header(rows: Iterator[tuple[int, list[str]]], problems: Problems) -> list[str]:
    for _, row in rows:
        if len(row) == 1 and (";" in row[0] or "\t" in row[0]):
            shown = f", {quoted(row[0])}" if problems.quotes else ""
            raise problems.fail(f"row 1 is one column{shown}; commas must stand between the columns")
        return [cell.strip() for cell in row]
    raise problems.fail("is empty, a header row with the names of the columns is needed")


def _say_cells(problems: Problems, line: int, cells: list[tuple[str, str]]) -> None:
    for name, cell in cells:
        try:
            finite(cell)
        except ValueError as error:
            problems.say_cell(f"row {line}, column '{name}'", cell, error)


def _say_infinite(file: TextIO, problems: Problems, header: list[str], columns: list[int]) -> None:
    """Second pass, only taken when there are NaNs or infinities, to say where they are."""
    rows = _csv_rows(file, problems)
    next(rows)
    for line, row in rows:
        _say_cells(problems, line, [(header[column], row[column]) for column in columns])


def _read_libsvm(
    file: TextIO, problems: Problems, labels: Labels, names: tuple[str, ...] | None, target: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """``label index:value ...`` by lines, indices from 1 and growing; ``#`` starts a comment, ``qid:`` is passed
    over.
    """
    goals, places, positions, values = array("d"), array("q"), array("q"), array("d")
    width, most = len(names or ()), len(names or ()) or MAX_CELLS
    for line, text in enumerate(_lines(file, problems), start=1):
        tokens = text.partition("#")[0].split()
        if not tokens:
            continue
        row, last = len(goals), 0
        if target is None and ":" in tokens[0]:
            tokens.insert(0, "0")  # records to predict may come without labels
        try:
            goals.append(labels.read(tokens[0]))
        except ValueError as error:
            problems.say_cell(f"row {line}, label", tokens[0], error)
            goals.append(0.0)
        for token in tokens[1:]:
            index, colon, value = token.partition(":")
            if index == "qid":
                continue
            at = int(index) if index.isascii() and index.isdigit() and len(index) < 10 else 0
            if not colon or not last < at <= most:
                problems.say_cell(f"row {line}", token, f"must be index:value, indices growing, 1 to {most}")
                break
            try:
                values.append(finite(value))
            except ValueError as error:
                problems.say_cell(f"row {line}, column {at}", value, error)
                break
            places.append(row)
            positions.append(at - 1)
            last = at
        width = max(width, last)
        if len(goals) * max(width, 1) > MAX_CELLS:
            raise problems.fail(f"row {line}: more than {MAX_CELLS} values, split the file over several peers")
    problems.check()
    if not goals:
        raise problems.fail("is empty, it holds no records")
    if not width:
        raise problems.fail("holds no values, only labels")
    x = np.zeros((len(goals), width), dtype=np.float64)
    x[np.frombuffer(places, dtype=np.int64), np.frombuffer(positions, dtype=np.int64)] = np.frombuffer(values)
    return x, np.frombuffer(goals, dtype=np.float64), names or tuple(f"f{i}" for i in range(1, width + 1))
