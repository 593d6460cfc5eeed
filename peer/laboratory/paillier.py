"""What the paper's primitive costs: S additively homomorphic ciphertexts per coordinate, by measured figures.

Neighbours: ``overhead`` sets it beside what this protocol was seen to cost.
Invariants: pure arithmetic on recorded figures; importing this module needs no cryptography, only ``measure`` does.

The scheme.  A value is split into S additive shares, one for each of S ancestors, each encrypted under that ancestor's
key; a node multiplies the ciphertexts of its children (which adds the shares) and decrypts those that are its own.  So
a contribution of d coordinates takes S d encryptions; a partial carries S d ciphertexts up one edge, whatever it holds,
since those for one ancestor are added up on the way; combining one partial takes S d additions, and every node decrypts
d coordinates, once.  Nothing is packed: one share of one coordinate in one ciphertext.  The model is linear in S and d.
Packed p to a ciphertext, all four figures are divided by p; ``slots`` says how many fit.

The figures were measured once, with the PyPI package ``phe`` (Paillier), whole numbers as plaintexts, with and without
``gmpy2``, which ``phe`` computes with where it is installed.  The model takes those with it, in favour of the paper.
To measure again: ``pip install 'susurrus[paillier]' && python -m peer.laboratory.paillier``.
"""

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

from peer.process import processor

KEY_BITS = 2048
"""Of the modulus n; about 112 bits of security (NIST SP 800-57, part 1)."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """Seconds of one core for one operation on one ciphertext, and where that was measured."""

    encrypt_s: float
    add_s: float
    decrypt_s: float
    ciphertext_bytes: int
    provenance: str


MEASURED = Primitive(
    encrypt_s=0.0089,
    add_s=7.4e-6,
    decrypt_s=0.0025,
    ciphertext_bytes=512,
    provenance="phe 1.5.0 with gmpy2 2.3.2, 2048-bit keys, Python 3.11.7, one core of an AMD EPYC",
)
PURE_PYTHON = Primitive(
    encrypt_s=0.075,
    add_s=3.5e-5,
    decrypt_s=0.0206,
    ciphertext_bytes=512,
    provenance="phe 1.5.0 without gmpy2, 2048-bit keys, Python 3.11.7, one core of an AMD EPYC",
)
"""On a machine without a compiled library for long integers."""


def slots(modulus_bits: int, key_bits: int = KEY_BITS) -> int:
    """Coordinates that one plaintext holds side by side; a share is uniform in ``modulus_bits``, and 32 further bits
    leave room for sums of up to 2**32 of them."""
    return max(1, (key_bits - 1) // (modulus_bits + 32))


def vector_bytes(dimension: int, shares: int, packed: int = 1, primitive: Primitive = MEASURED) -> int:
    """Of the ciphertexts in one partial: ``shares`` for every ``packed`` of ``dimension`` coordinates."""
    return shares * -(-dimension // packed) * primitive.ciphertext_bytes


def measure(repeats: int = 30, clock: Callable[[], float] = time.process_time) -> Primitive:
    """Measure the primitive here: medians of ``repeats`` (of additions, a hundred at a time).

    Raises ``ImportError`` with one sentence where ``phe`` is missing.
    """
    try:
        phe: Any = import_module("phe")
    except ImportError as error:
        raise ImportError("phe is not installed: pip install 'susurrus[paillier]'") from error
    public, private = phe.generate_paillier_keypair(n_length=KEY_BITS)

    def seconds(action: Callable[[], Any], times: int = 1) -> float:
        taken = []
        for _ in range(repeats):
            begin = clock()
            for _ in range(times):
                action()
            taken.append((clock() - begin) / times)
        return median(taken)

    one, two = public.encrypt(3**19), public.encrypt(2**31)
    if private.decrypt(one + two) != 3**19 + 2**31:
        raise ArithmeticError("phe adds wrongly")
    return Primitive(
        encrypt_s=seconds(lambda: public.encrypt(3**19)),
        add_s=seconds(lambda: one + two, 100),
        decrypt_s=seconds(lambda: private.decrypt(one)),
        ciphertext_bytes=(public.nsquare.bit_length() + 7) // 8,
        provenance=f"phe {import_module('phe.__about__').__version__}, "
        f"{'with' if import_module('phe.util').HAVE_GMP else 'without'} gmpy2, {KEY_BITS}-bit keys, "
        f"Python {platform.python_version()}, {processor()}",
    )


if __name__ == "__main__":
    try:
        print(measure())
    except ImportError as problem:
        sys.exit(str(problem))
