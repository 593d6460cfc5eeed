"""The entropy port: every random choice of the protocol is drawn from an object passed in.

Neighbours: the daemon passes one backed by the operating system (``peer.entropy``), tests and the simulator pass
``SeededEntropy``.  Invariants: all draws derive from ``token``; no module of ``protocol`` draws randomness
elsewhere (the one exception is the ephemeral key inside the library's HPKE, which decides nothing).
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

T = TypeVar("T")
_BLOCK_BYTES = 4096
_FIRST_BYTES = 512


class Entropy(ABC):
    """A source of uniform bytes and what follows from them."""

    @abstractmethod
    def token(self, length: int) -> bytes:
        """``length`` uniform, unpredictable bytes."""

    def below(self, bound: int) -> int:
        """A uniform integer in ``[0, bound)``; ``bound`` at least 1.  Unbiased (by rejection)."""
        if bound < 1:
            raise ValueError("bound must be at least 1")
        bits = (bound - 1).bit_length()
        if not bits:
            return 0
        size, mask, token = (bits + 7) // 8, (1 << bits) - 1, self.token
        while True:
            draw = int.from_bytes(token(size), "little") & mask
            if draw < bound:
                return draw

    def uniform(self) -> float:
        """A uniform float in ``[0, 1)`` with 53 random bits."""
        return (int.from_bytes(self.token(7), "little") >> 3) * 2.0**-53

    def exponential(self, mean: float) -> float:
        """An exponentially distributed waiting time with the given mean (same unit)."""
        return -mean * math.log(1.0 - self.uniform())

    def choice(self, items: Sequence[T]) -> T:
        """One item, uniformly; ``items`` must not be empty."""
        return items[self.below(len(items))]

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Shuffle in place (Fisher-Yates)."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """Up to ``count`` distinct positions of ``items``, in random order."""
        pool = list(items)
        count = min(count, len(pool))
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]


class SeededEntropy(Entropy):
    """Repeatable entropy for tests and simulation: SHAKE-256 over (seed, block number).  Never for a real peer."""

    def __init__(self, seed: bytes | int | str) -> None:
        match seed:
            case int():
                self._seed = b"i" + str(seed).encode()
            case str():
                self._seed = b"s" + seed.encode()
            case _:
                self._seed = b"b" + bytes(seed)
        self._block = 0
        self._pool = b""
        self._used = 0
        self._begun = False
        """The pool holds no more than the first bytes of block 0, which are all that many streams are asked for."""

    def token(self, length: int) -> bytes:
        """``length`` bytes of the seeded stream."""
        used = self._used
        if len(self._pool) - used < length:
            self._refill(length)
            used = 0
        self._used = used + length
        return self._pool[used : used + length]

    def below(self, bound: int) -> int:
        """As ``Entropy.below``, of the same bytes: small bounds, which are most, without a detour."""
        if not 1 < bound <= 256:
            return super().below(bound)
        mask = (1 << (bound - 1).bit_length()) - 1
        while True:
            used = self._used
            if used == len(self._pool):
                self._refill(1)
                used = 0
            self._used = used + 1
            draw = self._pool[used] & mask
            if draw < bound:
                return draw

    def _refill(self, length: int) -> None:
        """Drop what is used up, and make at least ``length`` bytes ready."""
        if not (self._block or self._begun) and length <= _FIRST_BYTES:
            self._begun, self._pool = True, self._digest(_FIRST_BYTES)
            return
        if self._begun:
            self._begun, self._pool, self._block = False, self._digest(_BLOCK_BYTES), 1
        self._pool = self._pool[self._used :]
        if len(self._pool) < length:
            self._pool += self._digest(max(_BLOCK_BYTES, length))
            self._block += 1

    def _digest(self, size: int) -> bytes:
        return hashlib.shake_256(self._seed + b"|" + str(self._block).encode()).digest(size)

    def fork(self, label: bytes | int | str) -> "SeededEntropy":
        """An independent stream named by ``label``."""
        tag = label if isinstance(label, bytes) else str(label).encode()
        return SeededEntropy(self._seed + b"/" + tag)
