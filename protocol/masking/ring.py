"""Fixed point: real numbers as words modulo 2^w, rounded without bias, summed without wrapping, and back.

A vector is a list of sections, each with its own bound.  With L levels a value x of a section with bound b is
clipped to [-b, b], scaled to v = x * L / b, and rounded at random to one of the integers next to v such that the
mean is v.  L leaves headroom for the whole cohort and for every rounding up: cohort_cap * (L + 1) <= 2^(w-1) - 1.
With w = 16, where levels are scarce, L is the greatest such number; else the greatest such power of two.

**The rounding.**  Every coordinate of the whole vector has a uniform 32-bit word r (below).  It becomes the
dither d = (r | 1, read as signed) / 2^32, symmetric about 0 in (-1/2, 1/2), and the result is the integer nearest to
v + d.  To get it in few passes, 2^32 * (v + d) is added to 1.5 * 2^84: a float64 of that size has units of 2^32, so the
addition itself rounds (half to even), and its bit pattern is that constant's plus the result: its low bits are the
result in two's complement.  Where 2^32 * L / b is a power of two, dithers and constant are divided by it instead of
every x being multiplied: everything is exactly the same but for exponents, and there is a pass less.

**The words.**  They come from the keystream of the rounding seed (AES-256-CTR as in ``prg``).  The first 2^15
coordinates, lap 0, take its first 2^15 words in order.  Every later lap q of 2^15 coordinates takes the same words
again, each xor word 2^15 + q - 1.  So every word is uniform and any two of them are independent: each rounding is
unbiased, and the variance of any weighted sum of roundings is that of independent ones.  (Three or more are not
independent, so the tails of such sums are a little heavier.  Drawing a word for every coordinate would take a third
more time, and privacy does not rest on the rounding.)  The xor is done on the bit patterns of the float64 numbers
3 * 2^32 + 2^32 * d: they hold r | 1 in their mantissas, above it a bit that is the inverse of bit 31, and are equal
elsewhere, so that the pattern of word r xor those of word k and word 0 is the pattern of word r xor k.

**How unbiased.**  With v the float64 product (within 2^-52 of the exact one, relatively), the mean of the result
differs from v by at most 2^-32 + 2^-52 * |v|: the resolution of the dither and of float64.  Integers v below 2^20
(zero above all) come out as they are.  Levels are capped at 2^44, so that with w = 64 float64 still suffices.

Neighbours: ``prg`` for the stream; ``aggregation`` for the sums; ``training`` for what the sections mean.
Invariants: a result never exceeds L + 1 in magnitude; nothing is written when the input is refused; how a vector is cut
into chunks, or whether it is short enough to go without, changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_COORDINATES
from protocol.masking.prg import Keystream, Masks, RingArray, aligned, check_ring_array, room_for, word

FloatArray = NDArray[np.float32] | NDArray[np.float64]
RealArray = NDArray[np.float64]
F = TypeVar("F", np.float32, np.float64)
_F32: Final = np.dtype(np.float32)
_F64: Final = np.dtype(np.float64)

MODULUS_BITS: Final = (16, 32, 64)
MAX_LEVELS: Final = 2**44
MIN_BOUND: Final = 2.0**-100
MAX_BOUND: Final = 2.0**100
"""Bounds outside [MIN_BOUND, MAX_BOUND] are mistakes; inside, no product or square overflows a float64."""

_NOT_FINITE: Final = "a value that is not a finite number cannot be contributed"
_LAP: Final = 2**15
"""Coordinates at a time: 256 KiB of float64, with as many dithers, so that all of a lap stays in a core's cache."""
_CHUNK: Final = 2**15
"""Coordinates at a time where there are no laps."""
_CENTRE: Final = 3.0 * 2.0**32
_NO_TURN: Final = np.float64(_CENTRE + 1.0).view(np.uint64)
"""The bit pattern of word 0."""
_ROW: Final = 2**8
_NORM_ERROR: Final = 2.0**-17
_DITHER_UNIT: Final = 2.0**32
_ROUNDER: Final = 1.5 * 2.0**84
_ROUNDER_LESS_CENTRE: Final = _ROUNDER - _CENTRE
"""Exact: the centre is a multiple of 2^32."""
_SHORT: Final = 2**5
"""A vector of up to so many coordinates is encoded number by number."""


@dataclass(frozen=True, slots=True)
class Section:
    """``length`` coordinates, each within [-bound, bound] (in the caller's unit)."""

    length: int
    bound: float


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the vectors of one round are written: ring, planned cohort and sections.  Equal at every participant.

    ``ConfigurationError`` when it is impossible, with a sentence for every mistake.
    """

    modulus_bits: int
    cohort_cap: int
    """Most contributions that will ever be added up: fixes the levels."""
    sections: tuple[Section, ...]
    dimension: int = field(init=False, compare=False, repr=False)
    """Coordinates of all sections."""
    levels: int = field(init=False, compare=False, repr=False)
    """L: a value at its section's bound is written as L (before rounding)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", sum([section.length for section in self.sections]))
        object.__setattr__(self, "levels", _levels(self.modulus_bits, self.cohort_cap))
        problems: list[str] = []
        if self.modulus_bits not in MODULUS_BITS:
            problems.append(f"modulus_bits must be 16, 32 or 64, not {self.modulus_bits}")
        elif self.cohort_cap < 1:
            problems.append(f"cohort_cap must be at least 1, not {self.cohort_cap}")
        elif self.levels < 1:
            problems.append(f"{self.cohort_cap} contributions leave no level at modulus_bits = {self.modulus_bits}")
        if not self.sections or any(section.length < 1 for section in self.sections):
            problems.append("an encoding needs at least one section, and every section at least one coordinate")
        elif self.dimension > MAX_COORDINATES:
            problems.append(f"a vector has at most {MAX_COORDINATES} coordinates, not {self.dimension}")
        if not all(MIN_BOUND <= section.bound <= MAX_BOUND for section in self.sections):
            problems.append("the bound of a section must be a positive number, neither tiny nor huge")
        if problems:
            raise ConfigurationError(problems)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The ring word: ``<u2``, ``<u4`` or ``<u8``."""
        return word(self.modulus_bits)

    @property
    def nbytes(self) -> int:
        """Bytes of one encoded vector."""
        return self.dimension * self.modulus_bits // 8

    def zeros(self) -> RingArray:
        """An all-zero ring vector of ``dimension`` words."""
        vector = self.empty()
        vector.fill(0)
        return vector

    def empty(self) -> RingArray:
        """A new ring vector of ``dimension`` words, uninitialised."""
        return aligned(self.dimension, self.dtype)

    def add_encoded(
        self, values: Sequence[FloatArray], out: RingArray, seed: bytes, masks: Sequence[bytes] = ()
    ) -> None:
        """Encode ``values`` (one array per section) and add them to ``out`` in place, modulo 2^w.

        ``values[k]`` has shape ``(sections[k].length,)`` and type float32 or float64; what lies outside the bound is
        clipped to it.  ``out`` has ``dimension`` words of ``dtype``.  ``seed`` (32 bytes) must be fresh and secret:
        it fixes the rounding.  The streams of ``masks`` are added as by ``prg.add_masks``, while the words are still in
        the cache.  ``ValueError`` for NaN, infinity, a wrong shape, type or seed: ``out`` untouched.
        """
        self._encode(values, out, seed, masks, fresh=False)

    def put_encoded(
        self, values: Sequence[FloatArray], out: RingArray, seed: bytes, masks: Sequence[bytes] = ()
    ) -> None:
        """As ``add_encoded`` to zeros, but ``out`` need not hold them: whatever it holds is overwritten."""
        self._encode(values, out, seed, masks, fresh=True)

    def _encode(
        self, values: Sequence[FloatArray], out: RingArray, seed: bytes, masks: Sequence[bytes], *, fresh: bool
    ) -> None:
        check_ring_array(out)
        if out.dtype != self.dtype or out.size != self.dimension:
            raise ValueError(f"the ring vector must have {self.dimension} words of {self.modulus_bits} bits")
        if len(values) != len(self.sections):
            raise ValueError(f"{len(self.sections)} sections need as many arrays, not {len(values)}")
        streams = Masks(masks, (), out, _LAP) if masks else None
        if self.dimension <= _SHORT:
            self._write_short(values, out, Keystream(seed), fresh=fresh)
            if streams is not None:
                streams.apply(out)
            return
        beyond = [_exceeds(array, section) for array, section in zip(values, self.sections, strict=True)]
        rounder = _Rounder(Keystream(seed), self.dimension, self.dtype, streams, fresh=fresh)
        start = 0
        for array, section, clip in zip(values, self.sections, beyond, strict=True):
            rounder.scale(self.levels / section.bound * _DITHER_UNIT)
            rounder.write(array, out[start : start + section.length], section.bound if clip else None)
            start += section.length

    def _write_short(self, values: Sequence[FloatArray], out: RingArray, stream: Keystream, *, fresh: bool) -> None:
        """What a ``_Rounder`` does, number by number: of a short vector it is the calls of numpy that cost.

        The same operations of float64 in the same order, so the same integers.
        """
        dithers = iter(_words(stream, self.dimension).tolist())
        sums: list[float] = []
        for array, section in zip(values, self.sections, strict=True):
            _check(array, section)
            bound = section.bound
            scale = self.levels / bound * _DITHER_UNIT
            for value, dither in zip(array.tolist(), dithers, strict=False):
                if not math.isfinite(value):
                    raise ValueError(_NOT_FINITE)
                clipped = min(max(value, -bound), bound)
                sums.append(clipped * scale + (dither + _CENTRE) + _ROUNDER_LESS_CENTRE)
        words = (np.array(sums).view("<u8") - np.float64(_ROUNDER).view(np.uint64)).astype(out.dtype)
        if fresh:
            out[:] = words
        else:
            np.add(out, words, out=out)

    @overload
    def decode(self, total: RingArray) -> list[NDArray[np.float64]]: ...

    @overload
    def decode(self, total: RingArray, dtype: type[F]) -> list[NDArray[F]]: ...

    def decode(self, total: RingArray, dtype: type[Any] = np.float64) -> list[NDArray[Any]]:
        """The real numbers of a sum: one new array per section, of ``dtype`` (float64, or float32 to save memory).

        ``total`` has ``dimension`` words of ``dtype``; each is read as a signed number and scaled by bound / L.
        """
        if total.dtype != self.dtype or total.shape != (self.dimension,):
            raise ValueError(f"the ring vector must have {self.dimension} words of {self.modulus_bits} bits")
        signed = total.view(f"<i{total.itemsize}")
        sections: list[NDArray[Any]] = []
        start = 0
        for section in self.sections:
            unit = section.bound / self.levels
            result = np.empty(section.length, dtype=dtype)
            for low in range(0, section.length, _CHUNK):
                part = signed[start + low : start + min(low + _CHUNK, section.length)]
                result[low : low + part.size] = np.multiply(part, unit, dtype=np.float64)
            sections.append(result)
            start += section.length
        return sections


class _Rounder:
    """The working memory of one encoding, and its inner step: sections one after the other, in order, lap by lap."""

    __slots__ = (
        "_at", "_dtype", "_factor", "_fresh", "_lap", "_masks", "_patterns", "_real", "_rounder", "_table", "_turns",
        "_unit", "_words",
    )  # fmt: skip

    def __init__(
        self,
        stream: Keystream,
        dimension: int,
        dtype: np.dtype[np.unsignedinteger[Any]],
        masks: Masks | None = None,
        *,
        fresh: bool,
    ) -> None:
        self._at = 0
        """Coordinates done."""
        self._dtype = dtype
        self._fresh = fresh
        self._masks = masks
        self._lap = lap = min(_LAP, dimension)
        dithers = _dithers(stream, lap + (dimension - 1) // _LAP)
        self._table = dithers[:lap]
        """The dithers of the lap under way, times ``_unit``."""
        self._patterns = self._table.view("<u8")
        self._turns = dithers[lap:].view("<u8")
        """What turns the bit patterns of each lap's predecessor into its own; from lap 1 on.  Lap 0 has the word 0."""
        self._turns[1:] ^= self._turns[:-1].copy()
        self._turns[:1] ^= _NO_TURN
        self._real = aligned(lap, _F64)
        self._words = aligned(0 if fresh else lap, dtype)
        self._unit = 1.0
        self._rounder = np.array(_ROUNDER_LESS_CENTRE)
        self._factor: float | None = None
        """What values are multiplied by; None: nothing."""

    def scale(self, scale: float) -> None:
        """From now on ``values * scale / 2^32`` is rounded."""
        power_of_two = math.frexp(scale)[0] == 0.5
        self._factor = None if power_of_two else scale
        unit = 1.0 / scale if power_of_two else 1.0
        if unit != self._unit:  # exact, both being powers of two
            np.multiply(self._table, unit / self._unit, out=self._table)
            self._unit = unit
            self._rounder = np.array(_ROUNDER_LESS_CENTRE * unit)

    def write(self, values: FloatArray, out: RingArray, limit: float | None) -> None:
        """Add the rounded values, clipped to ``limit`` beforehand, to ``out``; or put them there."""
        low, size = 0, values.size
        while low < size:
            lap, inside = divmod(self._at, self._lap)
            if lap and not inside:
                np.bitwise_xor(self._patterns, self._turns[lap - 1 : lap], self._patterns)
            high = min(low + self._lap - inside, size)
            words = out[low:high]
            self._piece(values[low:high], self._table[inside : inside + high - low], words, limit)
            if self._masks is not None:
                self._masks.apply(words)
            self._at += high - low
            low = high

    def _piece(self, part: FloatArray, dither: RealArray, out: RingArray, limit: float | None) -> None:
        # Results go to a positional argument, constants are arrays: of a lap, numpy's calls are a good tenth.
        real = self._real if part.size == self._lap else self._real[: part.size]
        real[...] = part  # one call that converts on the way to the sum takes longer, by numpy's casting buffer
        if limit is not None:
            np.clip(real, -limit, limit, real)
        if self._factor is not None:
            np.multiply(real, self._factor, real)
        np.add(real, dither, real)
        np.add(real, self._rounder, real)
        bits = real.view("<u8")
        words = out if self._fresh else self._words[: part.size]
        if self._dtype.itemsize == 8:
            np.subtract(bits, np.float64(_ROUNDER * self._unit).view(np.uint64), words)
        else:
            words[...] = bits  # their low bits
        if not self._fresh:
            np.add(out, words, out)


def _levels(modulus_bits: int, cohort_cap: int) -> int:
    if modulus_bits not in MODULUS_BITS:
        return 0
    most = int(min((2 ** (modulus_bits - 1) - 1) // max(1, cohort_cap) - 1, MAX_LEVELS))
    return most if modulus_bits == 16 or most < 1 else 1 << most.bit_length() - 1


def _dithers(stream: Keystream, count: int) -> RealArray:
    """The next ``count`` words as dithers times 2^32, about ``_CENTRE``."""
    dithers = aligned(count, _F64)
    np.add(_words(stream, count), _CENTRE, out=dithers)
    return dithers


def _words(stream: Keystream, count: int) -> NDArray[np.int32]:
    """The next ``count`` words r, as r | 1 read as signed."""
    room = room_for(4 * count)
    stream.read_into(room.data, 4 * count)
    words = room[: 4 * count].view("<i4")
    np.bitwise_or(words, 1, out=words)
    return words


def _exceeds(array: FloatArray, section: Section) -> bool:
    """Whether a value lies outside the section's bound.  ``ValueError`` for what cannot be encoded."""
    _check(array, section)
    low, high = float(np.minimum.reduce(array)), float(np.maximum.reduce(array))  # NaN comes through either
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(_NOT_FINITE)
    return low < -section.bound or high > section.bound


def _check(array: FloatArray, section: Section) -> None:
    """``ValueError`` for an array that is none of this section."""
    if array.dtype not in (_F64, _F32) or array.shape != (section.length,):
        raise ValueError(f"a section of {section.length} values needs a float32 or float64 array of that shape")


def clip_l2(vector: FloatArray, bound: float) -> float:
    """Scale ``vector`` (one-dimensional, float32 or float64) in place so that its L2 norm is at most ``bound``.

    Returns the norm before, within 2^-17 of it relatively.  A vector found within the bound is left as it is.
    ``ValueError`` for NaN, infinity, a norm beyond float64 or a bound that is not positive; nothing is changed then.
    """
    if vector.dtype not in (np.float32, np.float64) or vector.ndim != 1:
        raise ValueError("clip_l2 needs a one-dimensional float32 or float64 array")
    if not bound > 0:
        raise ValueError("the bound of a norm must be positive")
    norm = math.sqrt(_sum_of_squares(vector))
    if not math.isfinite(norm):
        raise ValueError("a vector with values that are not finite numbers, or absurdly large, cannot be clipped")
    if norm * (1.0 + _NORM_ERROR) > bound:
        # A little less than bound / norm: neither the error of the norm nor the rounding of the products to float32
        # may leave the result above the bound.
        factor = bound / norm * (1.0 - 2.0 * _NORM_ERROR)
        if factor > 2.0**-100:
            np.multiply(vector, vector.dtype.type(factor), out=vector)
        else:  # float32 could not hold the factor itself precisely
            np.multiply(vector, factor, out=vector, dtype=np.float64, casting="same_kind")
    return norm


def _sum_of_squares(vector: FloatArray) -> float:
    """The sum of squares within 2^-16, relatively; infinite or NaN if a value is."""
    if vector.flags.c_contiguous:
        # In the array's own type, but only over short rows: whatever the order, _ROW additions of non-negative
        # float32 err by less than _ROW * 2^-24 = 2^-16.  (Not BLAS: it would start threads that cost more than this.)
        rows = vector[: vector.size - vector.size % _ROW].reshape(-1, _ROW)
        rest = vector[rows.size :]
        with np.errstate(all="ignore"):
            total = float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64)) + float(
                np.einsum("i,i->", rest, rest)
            )
        if vector.dtype == np.float64 or 2.0**-60 < total < 2.0**120:  # no float32 square over- or underflowed
            return total
    total = 0.0
    for low in range(0, vector.size, _CHUNK):
        part = vector[low : low + _CHUNK].astype(np.float64)
        with np.errstate(all="ignore"):
            total += float(np.einsum("i,i->", part, part))
    return total
