"""The published vectors (``tests/vectors/masking.json``) against a slow reference and against the package.

The reference here shares no code with the package: Python integers, ``struct``, exact fractions, and AES-256-CTR in one
shot.  Run this file as a script to write the vectors anew: ``python tests/protocol/masking/test_vectors.py``.
"""

import hashlib
import json
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PUBLISHED = Path(__file__).resolve().parents[2] / "vectors" / "masking.json"
LAP = 2**15
FORMATS = {16: "H", 32: "I", 64: "Q"}
ABOUT = (
    "Masking. Hexadecimal strings are bytes; words are little-endian. prg: AES-256-CTR, key = seed, initial counter "
    "block zero; sha256 is over all bytes of the stream, head and tail are its ends. encoding: values are C99 "
    "hexadecimal floats; scale = levels / bound * 2^32; word i = round-half-even((clip(x) * scale + d) / 2^32) mod "
    "2^w, all in IEEE double, where d is 32-bit word i of the rounding seed's stream, or-ed with 1, read as signed; "
    "with q = floor(i / 2^15) > 0, word (i mod 2^15) xor word 2^15 + q - 1 takes the place of word i; decoded is the "
    "word read as signed, times (bound / levels). long_encoding: coordinate i of one section with bound 1 has the "
    "value ((i * 7919) mod 20011 - 10005) / 10007; sha256 is over the words. masks: masked = value + streams of plus - "
    "streams of minus, mod 2^w."
)


def keystream(seed: bytes, count: int) -> bytes:
    """The stream of ``seed``, in one shot."""
    encryptor = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(count)) + encryptor.finalize()


def words_of(raw: bytes, bits: int) -> list[int]:
    return list(struct.unpack(f"<{len(raw) * 8 // bits}{FORMATS[bits]}", raw))


def bytes_of(words: list[int], bits: int) -> bytes:
    return struct.pack(f"<{len(words)}{FORMATS[bits]}", *(word % 2**bits for word in words))


def levels_of(bits: int, cap: int) -> int:
    """The most levels for which every contribution, rounded up, leaves the signed range unfilled.

    With more than 16 bits the most that are a power of two.
    """
    top = 2 ** (bits - 1) - 1
    low, high = 0, 2**44
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cap * (middle + 1) <= top else (low, middle - 1)
    return low if bits == 16 else max(2**k for k in range(45) if 2**k <= low)


def encode(bits: int, cap: int, sections: list[tuple[int, float]], values: list[list[float]], seed: bytes) -> list[int]:
    """The encoded integers, not yet reduced modulo 2^w."""
    dimension = sum(length for length, _ in sections)
    stream = words_of(keystream(seed, 4 * (LAP + dimension // LAP + 1)), 32)
    dither = [(stream[i % LAP] ^ (stream[LAP + i // LAP - 1] if i >= LAP else 0)) | 1 for i in range(dimension)]
    out: list[int] = []
    for (_, bound), numbers in zip(sections, values, strict=True):
        scale = levels_of(bits, cap) / bound * 2.0**32
        for x in numbers:
            d = dither[len(out)]
            real = max(-bound, min(bound, x)) * scale + float(d - 2**32 if d >= 2**31 else d)
            out.append(round(Fraction(real) / 2**32))
    return out


LONG = 100_001


def long_values() -> list[float]:
    return [((i * 7919) % 20011 - 10005) / 10007 for i in range(LONG)]


def make_vectors() -> dict[str, Any]:
    """All vectors, from the reference alone."""
    seeds = [hashlib.sha256(f"masking vector {i}".encode()).digest() for i in range(6)]
    counting = bytes(range(32))
    prg = []
    for seed, bits, dimension in (
        (bytes(32), 16, 8),
        (bytes(32), 32, 1),
        (counting, 32, 650),
        (counting, 64, 5),
        (seeds[0], 16, 131_073),
        (seeds[0], 32, 1_000_003),
        (seeds[0], 64, 32_769),
    ):
        raw = keystream(seed, dimension * bits // 8)
        prg.append(
            {
                "seed": seed.hex(),
                "modulus_bits": bits,
                "dimension": dimension,
                "head": raw[:16].hex(),
                "tail": raw[-16:].hex(),
                "sha256": hashlib.sha256(raw).hexdigest(),
            }
        )
    encoding = []
    numbers = [0.0, 1.0, -1.0, 0.5, -0.3, 1e-9, -1e-30, 1.7, -2.5e7, 0.333251953125, -0.0]
    for bits, cap in ((16, 1), (16, 12), (32, 16), (32, 100_000), (64, 16), (64, 1_000_000)):
        sections = [(len(numbers), 1.0), (3, 0.1), (2, 32.0)]
        values = [numbers, [0.0999, -0.1, 0.05], [32.0, 17.0]]
        words = encode(bits, cap, sections, values, seeds[1])
        unit = [bound / levels_of(bits, cap) for length, bound in sections for _ in range(length)]
        encoding.append(
            {
                "modulus_bits": bits,
                "cohort_cap": cap,
                "sections": [[length, bound.hex()] for length, bound in sections],
                "levels": levels_of(bits, cap),
                "values": [[x.hex() for x in numbers] for numbers in values],
                "rounding_seed": seeds[1].hex(),
                "words": bytes_of(words, bits).hex(),
                "decoded": [(word * scale).hex() for word, scale in zip(words, unit, strict=True)],
            }
        )
    long_encoding = []
    for bits in (16, 32, 64):
        words = encode(bits, 16, [(LONG, 1.0)], [long_values()], seeds[1])
        digest = hashlib.sha256(bytes_of(words, bits)).hexdigest()
        long_encoding.append(
            {
                "modulus_bits": bits,
                "cohort_cap": 16,
                "dimension": LONG,
                "rounding_seed": seeds[1].hex(),
                "sha256": digest,
            }
        )
    masks = []
    for bits in (16, 32, 64):
        value = [0, 1, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1, 12_345, 54_321]
        for plus, minus in ((seeds[2:4], []), ([], seeds[4:5]), (seeds[2:4], seeds[4:6]), (seeds[2:3], seeds[2:3])):
            masked = list(value)
            for sign, seed in [(1, s) for s in plus] + [(-1, s) for s in minus]:
                stream = words_of(keystream(seed, len(value) * bits // 8), bits)
                masked = [a + sign * b for a, b in zip(masked, stream, strict=True)]
            masks.append(
                {
                    "modulus_bits": bits,
                    "value": bytes_of(value, bits).hex(),
                    "plus": [seed.hex() for seed in plus],
                    "minus": [seed.hex() for seed in minus],
                    "masked": bytes_of(masked, bits).hex(),
                }
            )
    return {"about": ABOUT, "prg": prg, "encoding": encoding, "long_encoding": long_encoding, "masks": masks}


def published() -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads(PUBLISHED.read_text())
    return vectors


def test_the_published_vectors_are_those_of_the_reference() -> None:
    assert published() == make_vectors()


def test_aes_256_of_the_zero_block_is_the_well_known_one() -> None:
    assert keystream(bytes(32), 16).hex() == "dc95c078a2408989ad48a21492842087"


@pytest.mark.parametrize("index", range(7))
def test_prg(index: int) -> None:
    from protocol.masking import prg

    vector = published()["prg"][index]
    raw = prg.expand(bytes.fromhex(vector["seed"]), vector["dimension"], vector["modulus_bits"]).tobytes()
    assert len(raw) == vector["dimension"] * vector["modulus_bits"] // 8
    assert (raw[:16].hex(), raw[-16:].hex()) == (vector["head"], vector["tail"])
    assert hashlib.sha256(raw).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("index", range(6))
def test_encoding(index: int) -> None:
    from protocol.masking.ring import Encoding, Section

    vector = published()["encoding"][index]
    sections = tuple(Section(length, float.fromhex(bound)) for length, bound in vector["sections"])
    encoding = Encoding(vector["modulus_bits"], vector["cohort_cap"], sections)
    assert encoding.levels == vector["levels"]
    values = [np.array([float.fromhex(x) for x in numbers]) for numbers in vector["values"]]
    out = encoding.zeros()
    encoding.add_encoded(values, out, bytes.fromhex(vector["rounding_seed"]))
    assert out.tobytes().hex() == vector["words"]
    decoded = [float(x).hex() for section in encoding.decode(out) for x in section]
    assert [float.fromhex(x) for x in decoded] == [float.fromhex(x) for x in vector["decoded"]]


@pytest.mark.parametrize("index", range(3))
def test_long_encoding(index: int) -> None:
    from protocol.masking.ring import Encoding, Section

    vector = published()["long_encoding"][index]
    encoding = Encoding(vector["modulus_bits"], vector["cohort_cap"], (Section(vector["dimension"], 1.0),))
    out = encoding.zeros()
    encoding.add_encoded([np.array(long_values())], out, bytes.fromhex(vector["rounding_seed"]))
    assert hashlib.sha256(out.tobytes()).hexdigest() == vector["sha256"]


@pytest.mark.parametrize("index", range(12))
def test_masks(index: int) -> None:
    from protocol.masking import prg

    vector = published()["masks"][index]
    out = np.frombuffer(bytes.fromhex(vector["value"]), dtype=prg.word(vector["modulus_bits"])).copy()
    prg.add_masks(out, [bytes.fromhex(s) for s in vector["plus"]], [bytes.fromhex(s) for s in vector["minus"]])
    assert out.tobytes().hex() == vector["masked"]


if __name__ == "__main__":
    PUBLISHED.parent.mkdir(parents=True, exist_ok=True)
    PUBLISHED.write_text(json.dumps(make_vectors(), indent=1) + "\n")
