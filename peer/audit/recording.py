"""Recordings: one JSON line for every round in which a peer took part, and reading them back strictly.

Neighbours: the driver hands a ``Recorder`` the ``RoundRecord`` of a round before its partial, abstention or
publication leaves; ``run`` reads.  The format is the one that the user documentation gives for ``--audit``.
Invariants: a line is handed to the operating system whole before ``write`` returns, so it survives the death of the
process; what a death left of a line is cut off before the next one is written; a file holds one peer.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from peer.audit.arithmetic import WORD_TYPES
from peer.errors import PeerError
from peer.files import use_directory, why
from protocol.base.errors import ConfigurationError
from protocol.base.ids import ID_BYTES, PeerId, RoundId, text
from protocol.base.limits import MAX_COHORT, MAX_COLLUSION_THRESHOLD, MAX_COORDINATES
from protocol.privacy.record import RoundRecord
from protocol.wire.messages import Buffer

SUFFIX = ".jsonl"
SEED_BYTES = 32
_FIELDS = tuple(f.name for f in fields(RoundRecord))
_BLOCK = 64 * 2**10


class Unreadable(Exception):
    """The recordings cannot be audited at all; one human sentence."""


class BadLine(ValueError):
    """A line is not a recording; says why."""


class Recorder:
    """Appends one peer's recordings to ``DIRECTORY/<peer id>.jsonl``; made for public data only.

    Raises ``ConfigurationError`` when the directory cannot be used and ``PeerError`` when the file cannot be opened or
    written; a disk that is full must stop the peer from going on as if it were recorded.
    """

    def __init__(self, directory: Path, peer: PeerId) -> None:
        use_directory(directory, "--audit")
        self._peer = peer
        self.path = directory / (text(peer) + SUFFIX)
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _cut_torn_line(self._file)
        except OSError as error:
            raise PeerError(f"cannot write the recording {self.path}: {why(error)}") from error

    def write(self, record: RoundRecord) -> None:
        """Append the record's line; when this returns it survives the death of this process."""
        if record.peer != self._peer:
            raise ValueError("a recorder writes the rounds of its own peer only")
        rest = memoryview(encode_record(record))
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise PeerError(f"cannot write the recording {self.path}: {why(error)}") from error

    def close(self) -> None:
        """Close the file.  Twice is harmless."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def encode_record(record: RoundRecord) -> bytes:
    """The record as one line of JSON, newline included."""

    def plain(value: Any) -> Any:
        match value:
            case bytes() | bytearray() | memoryview():
                return _base64(value)
            case _:
                return value

    line: dict[str, Any] = {name: plain(getattr(record, name)) for name in _FIELDS}
    line["round"] = text(record.round)
    line["peer"] = text(record.peer)
    line["parent"] = None if record.parent is None else text(record.parent)
    line["ancestors"] = [text(p) for p in record.ancestors]
    line["children"] = [text(p) for p in record.children]
    for name in ("masks", "opened", "received"):
        line[name] = {text(p): _base64(b) for p, b in getattr(record, name).items()}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def parse_record(line: bytes) -> RoundRecord:
    """The record of one line.  Raises ``BadLine`` for anything that ``encode_record`` would not have written.

    Only the form is checked here (types, lengths, exact fields); whether it is true is the audit's business.
    """
    try:
        raw = json.loads(line, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"it is not JSON ({error})") from None
    if not isinstance(raw, dict) or tuple(sorted(raw)) != tuple(sorted(_FIELDS)):
        raise BadLine("it has not exactly the fields of a recording")
    bits = _integer(raw, "modulus_bits", 16, 64)
    if bits not in WORD_TYPES:
        raise BadLine("modulus_bits is not 16, 32 or 64")
    return RoundRecord(
        round=RoundId(_identifier(raw["round"], "round")),
        peer=PeerId(_identifier(raw["peer"], "peer")),
        parent=None if raw["parent"] is None else PeerId(_identifier(raw["parent"], "parent")),
        ancestors=_peers(raw, "ancestors"),
        collusion_threshold=_integer(raw, "collusion_threshold", 2, MAX_COLLUSION_THRESHOLD),
        modulus_bits=bits,
        contributed=_flag(raw, "contributed"),
        sent=_flag(raw, "sent"),
        children=_peers(raw, "children"),
        value=_optional_vector(raw, "value", bits),
        masks=_seeds(raw, "masks"),
        opened=_seeds(raw, "opened"),
        received={p: _vector(b, "received", bits) for p, b in _mapping(raw, "received").items()},
        sent_vector=_optional_vector(raw, "sent_vector", bits),
        cohort=_integer(raw, "cohort", 0, MAX_COHORT),
        total=_optional_vector(raw, "total", bits),
        published=_flag(raw, "published"),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file: where it is, and its record or what is wrong with it."""

    path: Path
    number: int
    offset: int
    length: int
    record: RoundRecord | BadLine
    torn: bool
    """The last of its file, and without an end: left by a peer that died while it wrote."""

    def again(self) -> RoundRecord:
        """Read the record anew (so that nobody has to keep its vectors)."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return parse_record(file.read(self.length))


def recording_files(directory: Path) -> list[Path]:
    """The recordings in a directory, by name.  Raises ``Unreadable`` when there is none."""
    try:
        found = sorted(p for p in directory.iterdir() if p.suffix == SUFFIX and p.is_file())
    except OSError as error:
        raise Unreadable(f"{directory} cannot be read: {why(error)}.") from error
    if not found:
        raise Unreadable(f"{directory} holds no recordings (<peer id>{SUFFIX}).")
    return found


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of one file, one in memory at a time.  Raises ``Unreadable`` when the file cannot be read."""
    try:
        with path.open("rb") as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                record: RoundRecord | BadLine
                try:
                    record = parse_record(line)
                except BadLine as error:
                    record = error
                torn = isinstance(record, BadLine) and not line.endswith(b"\n")
                yield Line(path, number, offset, len(line), record, torn)
                offset += len(line)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {why(error)}.") from error


def read_rounds(path: Path) -> dict[RoundId, list[RoundRecord]]:
    """The records of every round, rounds by id, without their vectors and seeds: who took part, and what went where.

    ``path``: a directory of recordings, or one file with those of any number of peers.  Lines that a death cut short
    are passed over.  Raises ``Unreadable`` where nothing can be read and ``ConfigurationError`` with all bad lines.
    """
    rounds: dict[RoundId, list[RoundRecord]] = {}
    problems = []
    for line in (line for file in ([path] if path.is_file() else recording_files(path)) for line in read_lines(file)):
        if isinstance(line.record, BadLine):
            if not line.torn:
                problems.append(f"{line.path}, line {line.number} is not a recording: {line.record}")
            continue
        rounds.setdefault(line.record.round, []).append(_without_vectors(line.record))
    if problems:
        raise ConfigurationError(problems)
    if not rounds:
        raise Unreadable(f"{path} holds no complete record.")
    return {round_id: rounds[round_id] for round_id in sorted(rounds)}


def _without_vectors(record: RoundRecord) -> RoundRecord:
    return replace(
        record,
        value=None,
        masks=dict.fromkeys(record.masks, b""),
        opened=dict.fromkeys(record.opened, b""),
        received=dict.fromkeys(record.received, b""),
        sent_vector=None,
        total=None,
    )


def _cut_torn_line(file: int) -> None:
    """Cut off what follows the last newline: its round never went on, and the next line must start clean."""
    end = position = os.fstat(file).st_size
    while position:
        start = max(0, position - _BLOCK)
        newline = os.pread(file, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position < end:
        os.ftruncate(file, position)


def _base64(data: Buffer) -> str:
    return base64.b64encode(data).decode("ascii")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadLine("a name stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadLine(f"{name} is no JSON")


def _integer(raw: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = raw[name]
    if type(value) is not int or not low <= value <= high:
        raise BadLine(f"{name} is not an integer from {low} to {high}")
    return value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    if type(raw[name]) is not bool:
        raise BadLine(f"{name} is not true or false")
    return bool(raw[name])


def _identifier(value: object, name: str) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * ID_BYTES or value.strip("0123456789abcdef"):
        raise BadLine(f"{name} is not {2 * ID_BYTES} lower-case hexadecimal digits")
    return bytes.fromhex(value)


def _peers(raw: Mapping[str, Any], name: str) -> tuple[PeerId, ...]:
    if not isinstance(raw[name], list):
        raise BadLine(f"{name} is not a list")
    return tuple(PeerId(_identifier(value, name)) for value in raw[name])


def _mapping(raw: Mapping[str, Any], name: str) -> dict[PeerId, bytes]:
    if not isinstance(raw[name], dict):
        raise BadLine(f"{name} is not an object")
    return {PeerId(_identifier(key, name)): _bytes(value, name) for key, value in raw[name].items()}


def _bytes(value: object, name: str) -> bytes:
    try:
        if not isinstance(value, str):
            raise BadLine(f"{name} is not base64 text")
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadLine(f"{name} is not base64 text") from None


def _seeds(raw: Mapping[str, Any], name: str) -> dict[PeerId, bytes]:
    seeds = _mapping(raw, name)
    if any(len(seed) != SEED_BYTES for seed in seeds.values()):
        raise BadLine(f"{name} holds a seed that is not {SEED_BYTES} bytes")
    return seeds


def _vector(data: bytes, name: str, bits: int) -> bytes:
    word = bits // 8
    if not data or len(data) % word or len(data) > word * MAX_COORDINATES:
        raise BadLine(f"{name} is not a vector of {bits}-bit words")
    return data


def _optional_vector(raw: Mapping[str, Any], name: str, bits: int) -> bytes | None:
    return None if raw[name] is None else _vector(_bytes(raw[name], name), name, bits)
