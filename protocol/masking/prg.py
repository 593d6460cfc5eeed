"""The mask stream: a 32-byte seed expanded to ring words, and added to or taken off a vector in place.

``PRG(seed)`` is AES-256 in counter mode with key = seed and an initial counter block of zeros; its keystream is read
as little-endian words of 16, 32 or 64 bits.  A seed is a key that is used once: one contribution, one trustee.

**Two ways to the same stream.**  Galois/counter mode with a nonce of 12 zeros encrypts with the counter blocks 2, 3,
and so on (NIST SP 800-38D, 7.1): block j of its stream is block j + 2 of PRG(seed).  Where the processor has vector
instructions for AES, OpenSSL uses them for that mode and not for plain counter mode, and saves more than the
authentication costs that comes along; elsewhere it is the other way round.  ``set_way`` says which to take.

Neighbours: ``ring`` draws the dither of its rounding from ``Keystream``; ``masks`` draws the seeds; a daemon that knows
its machine calls ``set_way``.
Invariants: the stream is the same on every machine, either way and however it is cut into chunks; working memory is
one chunk per call, whatever the dimension; nothing that is written to is shared between calls.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM
from numpy.typing import NDArray

RingArray = NDArray[np.unsignedinteger[Any]]
"""A vector of ring words: one-dimensional, ``<u2``, ``<u4`` or ``<u8``; addition wraps modulo 2^w."""

SEED_BYTES: Final = 32
CHUNK_BYTES: Final = 2**18
"""Keystream made at a time: with the vectors' own chunks it stays in a core's second-level cache."""

_WORDS: Final[dict[int, np.dtype[np.unsignedinteger[Any]]]] = {
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
MAX_READ: Final = 2**19
"""Most bytes of one ``Keystream.read_into``."""
_ZEROS: Final = memoryview(bytes(MAX_READ))
_SPARE: Final = 15
"""``update_into`` wants a block less one byte beyond what it writes."""
_LINE: Final = 64
"""Bytes of a cache line."""
_FEW: Final = 2048
"""Below so many bytes an array costs more to align than it gains by it."""
_MODE: Final = CTR(bytes(16))
Buffer = bytes | bytearray | memoryview
T = TypeVar("T", bound=np.generic)


def word(modulus_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The numpy type of a ring word.  ``ValueError`` unless ``modulus_bits`` is 16, 32 or 64."""
    try:
        return _WORDS[modulus_bits]
    except KeyError:
        raise ValueError(f"modulus_bits must be 16, 32 or 64, not {modulus_bits}") from None


class Way(Enum):
    """How a long stream is computed; see above."""

    COUNTER = "counter mode"
    GALOIS = "Galois/counter mode"


Update = Callable[[Buffer, Buffer], int]
_way = Way.COUNTER
_LONG: Final = 2**18
"""Bytes from which on the second cipher object of ``Way.GALOIS`` is worth its making."""
_LEAD: Final = 32
"""Bytes of the blocks 0 and 1, which counter mode alone can make."""


def set_way(way: Way) -> None:
    """How this process computes long streams from now on: a matter of speed alone."""
    global _way
    _way = way


class Keystream:
    """The stream of one seed, from its start, a piece at a time.  Not to be shared between threads."""

    __slots__ = ("_begin", "_update")

    def __init__(self, seed: bytes, size: int = 0, way: Way | None = None) -> None:
        """``size``: bytes that will be read, as far as is known; ``way``: if not the process's.  For speed alone."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        key = AES(seed)
        counter = Cipher(key, _MODE).encryptor().update_into
        self._begin: Update | None = None
        self._update: Update = counter
        if (way or _way) is Way.GALOIS and size >= _LONG:
            self._begin, self._update = counter, Cipher(key, GCM(bytes(12))).encryptor().update_into

    def xor_into(self, data: memoryview, room: memoryview) -> None:
        """Write ``data`` xor the next bytes of the stream to the start of ``room``, made by ``room_for``."""
        if self._begin is None:
            self._update(data, room)
            return
        counter, self._begin = self._begin, None
        if len(data) > _LEAD:
            counter(data[:_LEAD], room)
            self._update(data[_LEAD:], room[_LEAD:])
        else:  # shorter than what counter mode must make: it goes on alone
            self._update = counter
            counter(data, room)

    def read_into(self, room: memoryview, count: int) -> None:
        """Write the next ``count`` bytes (at most ``MAX_READ``) to the start of ``room``, made by ``room_for``."""
        self.xor_into(_ZEROS[:count], room)


def room_for(count: int) -> NDArray[np.uint8]:
    """A fresh buffer in which ``Keystream.read_into`` can write up to ``count`` bytes."""
    return aligned(count + _SPARE, np.dtype(np.uint8))


def aligned(count: int, dtype: np.dtype[T]) -> NDArray[T]:
    """A new array of ``count`` items, uninitialised; unless it is short, it starts at a multiple of ``_LINE`` bytes.

    numpy's own arrays start at any multiple of 16.  Vector instructions on those straddle cache lines, at a cost of up
    to a quarter of the time of an addition.
    """
    if count * dtype.itemsize < _FEW:
        return np.empty(count, dtype)
    raw = np.empty(count * dtype.itemsize + _LINE, dtype=np.uint8)
    start = -int(raw.__array_interface__["data"][0]) % _LINE
    return raw[start : start + count * dtype.itemsize].view(dtype)


def expand(seed: bytes, dimension: int, modulus_bits: int) -> RingArray:
    """The first ``dimension`` words of the seed's stream, as a new array (``dimension * modulus_bits / 8`` bytes)."""
    dtype = word(modulus_bits)
    size = dimension * dtype.itemsize
    stream = Keystream(seed, size)
    room = room_for(size)
    target = room.data
    for low in range(0, size, CHUNK_BYTES):
        stream.read_into(target[low:], min(CHUNK_BYTES, size - low))
    return room[:size].view(dtype)


class Masks:
    """The streams of some seeds, for the pieces of one vector one after the other.  Belongs to one thread."""

    __slots__ = ("_room", "_streams", "_words")

    def __init__(self, plus: Sequence[bytes], minus: Sequence[bytes], vector: RingArray, longest: int) -> None:
        """To be added and taken off.  ``longest``: words of the longest piece of ``vector`` (which stays as it is)."""
        self._streams: list[tuple[Callable[..., None], Callable[..., Any]]]
        self._streams = [(Keystream(seed, vector.nbytes).xor_into, np.add) for seed in plus]
        self._streams += [(Keystream(seed, vector.nbytes).xor_into, np.subtract) for seed in minus]
        size = min(longest, vector.size) * vector.itemsize if self._streams else 0
        room = room_for(size)
        self._room, self._words = room.data, room[:size].view(vector.dtype)

    def apply(self, piece: RingArray) -> None:
        """Add the streams to the next piece of the vector, or take them off."""
        words, zeros = self._words, _ZEROS[: piece.nbytes]
        if piece.size < words.size:
            words = words[: piece.size]
        for xor_into, apply in self._streams:
            xor_into(zeros, self._room)
            apply(piece, words, piece)


def add_masks(
    out: RingArray,
    plus: Sequence[bytes],
    minus: Sequence[bytes] = (),
    *,
    vector: RingArray | None = None,
    fresh: bool = False,
) -> None:
    """Add the streams of ``plus`` (and ``vector``) to ``out`` and take those of ``minus`` off it, in place, modulo 2^w.

    Everything is applied to one chunk before the next is touched, so that ``out`` travels through the cache once.
    With ``fresh``, ``out`` may hold anything: it is overwritten with ``vector``, which must be given, and goes on from
    there.
    ``out`` must be one-dimensional, contiguous and writable; its type gives w; ``vector`` has its size and type.
    ``ValueError`` for anything else or for a seed of the wrong length, before anything is written.
    """
    check_ring_array(out)
    if vector is not None and (vector.dtype != out.dtype or vector.shape != out.shape):
        raise ValueError("the vector to add must have the ring vector's size and type")
    if fresh and vector is None:
        raise ValueError("what is written afresh needs a vector to start from")
    begin = np.copyto if fresh else _add_to
    if not (plus or minus):
        if vector is not None:
            begin(out, vector)
        return
    step = CHUNK_BYTES // out.itemsize
    masks = Masks(plus, minus, out, step)
    for low in range(0, out.size, step):
        part = out[low : low + step]
        if vector is not None:
            begin(part, vector[low : low + step])
        masks.apply(part)


def _add_to(out: RingArray, vector: RingArray) -> None:
    np.add(out, vector, out)


def check_ring_array(array: RingArray) -> None:
    """``ValueError`` unless ``array`` is a one-dimensional, contiguous, writable vector of ring words."""
    if array.dtype not in _WORDS.values() or array.ndim != 1:
        raise ValueError("a ring vector is one-dimensional, of little-endian unsigned words of 16, 32 or 64 bits")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError("a ring vector that is changed in place must be contiguous and writable")
