"""What is finished of an experiment, one line of JSON for each run, durable before anybody is told of it.

Neighbours: ``runner`` reads it at the start and appends to it; nobody else writes in the directory meanwhile.
Invariants: a line is whole or not at all: what a crash left of the last one is cut off; a journal holds runs of one
experiment, seed, scale and version only; one process at a time holds it, by a lock that the kernel gives back.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from peer.errors import PeerError
from peer.files import use_directory, why
from peer.laboratory.kinds import Row
from protocol.base.errors import ConfigurationError

FILE = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Header:
    """Whose journal it is: its first line."""

    experiment: str
    kind: str
    scale: str
    seed: int
    version: str
    runs: str
    """The digest of all runs."""


class Journal:
    """An open journal; a context manager."""

    def __init__(self, stream: BinaryIO, path: Path, finished: dict[str, list[Row]]) -> None:
        self.path = path
        self.finished = finished
        """Rows by the id of their run."""
        self._stream = stream

    def append(self, run: str, rows: list[Row]) -> None:
        """Keep the rows of a run; they are on the disk when this returns."""
        _write(self._stream, {"run": run, "rows": rows})
        self.finished[run] = rows

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def seed_of(directory: Path) -> int | None:
    """The seed of the journal in a directory, if there is one."""
    try:
        with (directory / FILE).open("rb") as stream:
            seed = json.loads(stream.readline()).get("seed")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return seed if isinstance(seed, int) else None


def open_journal(directory: Path, header: Header) -> Journal:
    """The journal in ``directory``, which is made if there is none.

    Raises ``ConfigurationError`` if the directory holds something else, another experiment's journal or a damaged one,
    ``PeerError`` if another process holds it.
    """
    path = directory / FILE
    use_directory(directory, "--out", empty=not path.exists())
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise PeerError(f"cannot write {path}: {why(error)}") from error
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PeerError(f"another process is writing {path}; wait for it, or name another --out") from None
        return Journal(stream, path, _read(stream, path, header))
    except BaseException:
        stream.close()
        raise


def _read(stream: BinaryIO, path: Path, header: Header) -> dict[str, list[Row]]:
    stream.seek(0)
    lines = stream.read().splitlines(keepends=True)
    if lines and _parsed(lines[-1]) is None:  # the process that wrote it was killed
        stream.truncate(sum(map(len, lines[:-1])))
        lines.pop()
    if not lines:
        _write(stream, asdict(header))
        return {}
    _check_header(_parsed(lines[0]), path, header)
    finished: dict[str, list[Row]] = {}
    for number, line in enumerate(lines[1:], 2):
        entry = _parsed(line)
        if entry is None or not isinstance(entry.get("rows"), list) or not isinstance(entry.get("run"), str):
            raise ConfigurationError(
                [f"{path}, line {number}: is damaged; delete that line, and its run is done again"]
            )
        finished[entry["run"]] = entry["rows"]
    return finished


def _check_header(found: Mapping[str, Any] | None, path: Path, header: Header) -> None:
    wanted = asdict(header)
    if found is None or found.keys() != wanted.keys():
        raise ConfigurationError([f"{path} is not the journal of an experiment; name another --out"])
    differing = [key for key in wanted if found[key] != wanted[key]]
    if differing == ["runs"]:
        raise ConfigurationError(
            [f"{path} is of the same experiment with other parameters; name another --out, or delete the old results"]
        )
    if differing:
        told = ", ".join(f"{key} {found[key]} instead of {wanted[key]}" for key in differing if key != "runs")
        raise ConfigurationError(
            [f"{path} belongs to another experiment: {told}; name another --out, or delete the old results"]
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The table in a whole line."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _write(stream: BinaryIO, entry: Mapping[str, Any]) -> None:
    stream.write(json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n")
    stream.flush()
    os.fsync(stream.fileno())
