"""Independent random streams, named by a seed and labels: what one peer draws does not depend on the others.

Neighbours: every model of this room takes its streams from here.
Invariants: a stream depends on its seed and labels alone; different labels give unrelated streams.
"""

import hashlib

from numpy.random import PCG64, Generator

Label = str | int


def number(seed: int, *labels: Label, bits: int = 64) -> int:
    """A uniform integer in ``[0, 2**bits)`` that belongs to these labels; ``bits`` a multiple of 8, at most 512."""
    name = "\0".join((str(seed), *map(str, labels)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=bits // 8).digest(), "little")


def share(seed: int, *labels: Label) -> float:
    """A uniform float strictly between 0 and 1 that belongs to these labels."""
    return ((number(seed, *labels) >> 12) + 0.5) * 2.0**-52


def generator(seed: int, *labels: Label) -> Generator:
    """The random stream that belongs to these labels."""
    return Generator(PCG64(number(seed, *labels, bits=128)))
