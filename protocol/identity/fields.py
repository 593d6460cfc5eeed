"""Bounded msgpack: small combinators that read, check and write one field each.

Neighbours: ``descriptor`` and ``wire.codec`` describe what they carry with these; msgpack itself is called here only.
Invariants: a schema drives the reading, so a stranger's bytes never choose a type, a nesting or a count; nothing is
allocated for a claimed length before it is checked; a bad byte is ``Refused``, a bad value of our own a ``ValueError``.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import msgpack

from protocol.base.errors import Refusal, Refused

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

U63 = 2**63 - 1
U64 = 2**64 - 1
MAX_TIME = 2.0**40
"""Unix seconds: far beyond any real date, and exact in a float."""


class Reader:
    """A cursor over one msgpack text, and the uncopied bulk that travels behind it (``tail``; taken once)."""

    __slots__ = ("_length", "_unpacker", "count", "tail", "value")

    def __init__(self, data: Buffer, tail: memoryview | None = None) -> None:
        size = len(data)
        # Arrays are opened by ``count`` alone (the schema asks for them), so inside a value none is allowed: nested
        # headers that each claim a long array would else make msgpack allocate megabytes for a few bytes.
        self._unpacker = msgpack.Unpacker(
            None,
            read_size=max(size, 1),
            max_buffer_size=max(size, 1),
            max_str_len=size,
            max_bin_len=size,
            max_array_len=0,
            max_map_len=0,
            max_ext_len=0,
            use_list=False,
            raw=False,
            strict_map_key=True,
        )
        self._unpacker.feed(data)
        self._length = size
        self.value: Callable[[], object] = self._unpacker.unpack
        self.count: Callable[[], int] = self._unpacker.read_array_header
        self.tail = tail

    def finished(self) -> bool:
        """Whether everything has been read, the bulk included."""
        return bool(self._unpacker.tell() == self._length) and not self.tail


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """How one field is read (raises ``Refused``, or anything on bad bytes) and written (raises ``ValueError``).

    ``write`` returns what msgpack packs; a bulk field appends to its second argument instead.
    """

    read: Callable[[Reader], T]
    write: Callable[[Any, list[Buffer]], object]
    is_bulk: bool = False
    """Stands in the tail and has no place in the msgpack text."""


def malformed(what: str) -> Refused:
    """The refusal for a field that is not what the schema says."""
    return Refused(Refusal.MALFORMED, what)


def integer(low: int, high: int) -> Field[int]:
    """An integer of ``[low, high]``; a boolean is none."""

    def read(reader: Reader) -> int:
        value = reader.value()
        if type(value) is not int or not low <= value <= high:
            raise malformed("integer")
        return value

    def write(value: Any, _: list[Buffer]) -> int:
        if isinstance(value, bool) or not low <= (number := operator.index(value)) <= high:
            raise ValueError(f"{value!r} is not an integer of {low} to {high}")
        return int(number)

    return Field(read, write)


def number(low: float, high: float) -> Field[float]:
    """A finite float of ``[low, high]``, 64 bits on the wire."""

    def read(reader: Reader) -> float:
        value = reader.value()
        if type(value) is not float or not low <= value <= high:  # a NaN is never between two bounds
            raise malformed("number")
        return value

    def write(value: Any, _: list[Buffer]) -> float:
        if isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{value!r} is not a number of {low} to {high}")
        return float(value)

    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("bounds must be finite")
    return Field(read, write)


def _read_flag(reader: Reader) -> bool:
    value = reader.value()
    if type(value) is not bool:
        raise malformed("flag")
    return value


def _write_flag(value: Any, _: list[Buffer]) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not a flag")
    return value


FLAG: Field[bool] = Field(_read_flag, _write_flag)


def blob(low: int, high: int) -> Field[bytes]:
    """Between ``low`` and ``high`` bytes."""

    def read(reader: Reader) -> bytes:
        value = reader.value()
        if type(value) is not bytes:
            raise malformed("bytes")
        if not low <= len(value) <= high:
            raise Refused(Refusal.OVERSIZED if len(value) > high else Refusal.MALFORMED, "bytes")
        return value

    def write(value: Any, _: list[Buffer]) -> bytes:
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise ValueError(f"not {low} to {high} bytes")
        return value

    return Field(read, write)


def fixed(length: int) -> Field[Any]:
    """Exactly ``length`` bytes: ids, keys, digests, signatures."""
    return blob(length, length)


def text(high: int, allowed: Callable[[str], bool]) -> Field[str]:
    """1 to ``high`` characters for which ``allowed`` holds."""

    def check(value: object) -> bool:
        return isinstance(value, str) and 0 < len(value) <= high and allowed(value)

    def read(reader: Reader) -> str:
        value = reader.value()
        if not isinstance(value, str) or not check(value):
            raise malformed("text")
        return value

    def write(value: Any, _: list[Buffer]) -> str:
        if not check(value):
            raise ValueError(f"{value!r} is not acceptable text here")
        return str(value)

    return Field(read, write)


def array(item: Field[T], low: int, high: int) -> Field[tuple[T, ...]]:
    """Between ``low`` and ``high`` items, as a tuple."""
    read_item, write_item = item.read, item.write

    def read(reader: Reader) -> tuple[T, ...]:
        count = reader.count()
        if not low <= count <= high:
            raise Refused(Refusal.OVERSIZED if count > high else Refusal.MALFORMED, "count")
        return tuple([read_item(reader) for _ in range(count)])

    def write(value: Any, tails: list[Buffer]) -> list[object]:
        if not low <= len(value) <= high:
            raise ValueError(f"{len(value)} items are not {low} to {high}")
        return [write_item(v, tails) for v in value]

    return Field(read, write)


def bulk(unit: int, low: int, high: int) -> Field[memoryview]:
    """The message's one bulk field: ``low`` to ``high`` bytes, a multiple of ``unit``; a read-only view when read."""

    def read(reader: Reader) -> memoryview:
        tail = reader.tail
        if tail is None or tail.nbytes % unit or tail.nbytes < low:
            raise malformed("bulk")
        if tail.nbytes > high:
            raise Refused(Refusal.OVERSIZED, "bulk")
        reader.tail = None
        return tail

    def write(value: Any, tails: list[Buffer]) -> None:
        view = memoryview(value)
        if not view.c_contiguous or view.nbytes % unit or not low <= view.nbytes <= high:
            raise ValueError(f"a bulk of {view.nbytes} bytes is not {low} to {high} in units of {unit}")
        # An array's view counts elements; the envelope counts bytes.  (An empty view cannot be cast.)
        tails.append(value if isinstance(value, bytes) else view.cast("B") if view.nbytes else b"")

    return Field(read, write, is_bulk=True)


def record(cls: type[T], *parts: Field[Any]) -> Field[T]:
    """A dataclass as an array of exactly its fields, in order; a bulk field stands outside the array."""
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    if len(names) != len(parts):
        raise TypeError(f"{cls.__name__} has {len(names)} fields, not {len(parts)}")
    readers = [part.read for part in parts]
    writers = [(name, part.write, part.is_bulk) for name, part in zip(names, parts, strict=True)]
    expected = sum(not part.is_bulk for part in parts)

    def read(reader: Reader) -> T:
        if reader.count() != expected:
            raise malformed(cls.__name__)
        return cls(*[part(reader) for part in readers])

    def write(value: Any, tails: list[Buffer]) -> list[object]:
        if type(value) is not cls:
            raise ValueError(f"{type(value).__name__} is not {cls.__name__}")
        plain: list[object] = []
        for name, part, is_bulk in writers:
            try:
                packed = part(getattr(value, name), tails)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{cls.__name__}.{name}: {error}") from error
            if not is_bulk:
                plain.append(packed)
        return plain

    return Field(read, write)


def pack(plain: object) -> bytes:
    """msgpack of what ``write`` returned."""
    return bytes(msgpack.packb(plain, use_bin_type=True))


def unpack(field: Field[T], data: Buffer, tail: memoryview | None = None) -> T:
    """Read exactly one ``field`` from all of ``data`` (and all of ``tail``).  Raises ``Refused`` and nothing else."""
    try:
        reader = Reader(data, tail)
        value = field.read(reader)
        if not reader.finished():
            raise malformed("surplus bytes")
    except Refused:
        raise
    except Exception as error:  # whatever a stranger's bytes provoke in msgpack is their mistake
        raise malformed(type(error).__name__) from error
    return value
