"""The audit's own arithmetic: vectors in the ring Z(2^w)^d and the expansion of mask seeds.

Neighbours: only ``checks`` uses it.  It is written from the specification and shares nothing with
``protocol.masking``, so that a mistake there shows here as a difference.
Invariants: vectors are little-endian words; inputs are never changed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

WORD_TYPES: dict[int, np.dtype[np.unsignedinteger[Any]]] = {
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}


def keystream(seed: bytes, length: int) -> bytes:
    """``length`` bytes of AES-256 in counter mode: key = ``seed`` (32 bytes), initial counter block zero."""
    return Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def combine(
    modulus_bits: int, length: int, plus: Iterable[bytes], *, add: Iterable[bytes] = (), subtract: Iterable[bytes] = ()
) -> bytes:
    """The sum of the vectors ``plus``, plus the masks of the seeds ``add``, minus those of ``subtract``, mod 2^w.

    ``length``: bytes of every vector.
    """
    word = WORD_TYPES[modulus_bits]
    total = np.zeros(length // word.itemsize, dtype=word)
    for vector in plus:
        total += np.frombuffer(vector, dtype=word)
    for seed in add:
        total += np.frombuffer(keystream(seed, length), dtype=word)
    for seed in subtract:
        total -= np.frombuffer(keystream(seed, length), dtype=word)
    return total.tobytes()
