"""The mask stream: a 32-byte seed expanded to ring words, and added to or taken off a vector in place.

``PRG(seed)`` is AES-256 in counter mode with key = seed and an initial counter block of zeros; its keystream is read
as little-endian words of 16, 32 or 64 bits.  A seed is a key that is used once: one contribution, one trustee.

Neighbours: ``ring`` draws the dither of its rounding from ``Keystream``; ``masks`` draws the seeds.
Invariants: the stream is the same on every machine and however it is cut into chunks; working memory is one chunk
per call, whatever the dimension; nothing that is written to is shared between calls.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

RingArray = NDArray[np.unsignedinteger[Any]]
"""A vector of ring words: one-dimensional, ``<u2``, ``<u4`` or ``<u8``; addition wraps modulo 2^w."""

SEED_BYTES: Final = 32
CHUNK_BYTES: Final = 2**18
"""Keystream made at a time: with the vector's own chunk it stays in a core's second-level cache."""

_WORDS: Final[dict[int, np.dtype[np.unsignedinteger[Any]]]] = {
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
MAX_READ: Final = 2**19
"""Most bytes of one ``Keystream.read_into``."""
_ZEROS: Final = bytes(MAX_READ)
_SPARE: Final = 15
"""``update_into`` wants a block less one byte beyond what it writes."""


def word(modulus_bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The numpy type of a ring word.  ``ValueError`` unless ``modulus_bits`` is 16, 32 or 64."""
    try:
        return _WORDS[modulus_bits]
    except KeyError:
        raise ValueError(f"modulus_bits must be 16, 32 or 64, not {modulus_bits}") from None


class Keystream:
    """The stream of one seed, from its start, a piece at a time.  Not to be shared between threads."""

    __slots__ = ("xor_into",)

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.xor_into = Cipher(AES(seed), CTR(bytes(16))).encryptor().update_into
        """The cipher itself: ``xor_into(data, room)`` writes ``data`` xor the next bytes of the stream to ``room``."""

    def read_into(self, room: memoryview, count: int) -> None:
        """Write the next ``count`` bytes (at most ``MAX_READ``) to the start of ``room``, made by ``room_for``."""
        self.xor_into(_ZEROS if count == len(_ZEROS) else memoryview(_ZEROS)[:count], room)


def room_for(count: int) -> NDArray[np.uint8]:
    """A fresh buffer in which ``Keystream.read_into`` can write up to ``count`` bytes."""
    return np.empty(count + _SPARE, dtype=np.uint8)


def expand(seed: bytes, dimension: int, modulus_bits: int) -> RingArray:
    """The first ``dimension`` words of the seed's stream, as a new array (``dimension * modulus_bits / 8`` bytes)."""
    dtype = word(modulus_bits)
    stream = Keystream(seed)
    size = dimension * dtype.itemsize
    room = room_for(size)
    target = room.data
    for low in range(0, size, CHUNK_BYTES):
        stream.read_into(target[low:], min(CHUNK_BYTES, size - low))
    return room[:size].view(dtype)


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
    streams: list[tuple[Callable[..., Any], Callable[..., Any]]] = [(Keystream(s).xor_into, np.add) for s in plus]
    streams += [(Keystream(s).xor_into, np.subtract) for s in minus]
    begin = np.copyto if fresh else _add_to
    if not streams:
        if vector is not None:
            begin(out, vector)
        return
    step = CHUNK_BYTES // out.itemsize
    room = room_for(min(CHUNK_BYTES, out.nbytes))
    target, zeros = room.data, memoryview(_ZEROS)[: room.size - _SPARE]
    words = room[: room.size - _SPARE].view(out.dtype)
    for low in range(0, out.size, step):
        part, mask = out[low : low + step], words
        if part.size < mask.size:  # the last piece
            zeros, mask = zeros[: part.nbytes], words[: part.size]
        if vector is not None:
            begin(part, vector[low : low + step])
        for xor_into, apply in streams:
            xor_into(zeros, target)
            apply(part, mask, part)


def _add_to(out: RingArray, vector: RingArray) -> None:
    np.add(out, vector, out)


def check_ring_array(array: RingArray) -> None:
    """``ValueError`` unless ``array`` is a one-dimensional, contiguous, writable vector of ring words."""
    if array.dtype not in _WORDS.values() or array.ndim != 1:
        raise ValueError("a ring vector is one-dimensional, of little-endian unsigned words of 16, 32 or 64 bits")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError("a ring vector that is changed in place must be contiguous and writable")
