"""The audit's own arithmetic: known keystream, and agreement with the protocol's at every word size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.audit.arithmetic import combine, keystream
from protocol.masking.prg import expand


def test_keystream_is_aes_256_counter_mode() -> None:
    """AES-256 of a zero block under a zero key (NIST's AESAVS, GFSbox/KeySbox style known answer)."""
    assert keystream(bytes(32), 16).hex() == "dc95c078a2408989ad48a21492842087"
    assert keystream(bytes(32), 40)[:16] == keystream(bytes(32), 16)


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_masks_agree_with_the_protocol(bits: int) -> None:
    for dimension in (1, 7, 1000):
        assert keystream(b"k" * 32, dimension * bits // 8) == expand(b"k" * 32, dimension, bits).tobytes()


@given(st.sampled_from([16, 32, 64]), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.data())
def test_combining_is_addition_modulo_the_ring(bits: int, numbers: list[int], data: st.DataObject) -> None:
    words = bits // 8
    vectors = [(n % 2**bits).to_bytes(words, "little") for n in numbers]
    add, subtract = (data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=2)) for _ in range(2))
    stream = [int.from_bytes(keystream(s, words), "little") for s in add + subtract]
    signs = [1] * len(add) + [-1] * len(subtract)
    expected = (sum(numbers) + sum(a * b for a, b in zip(signs, stream, strict=True))) % 2**bits
    result = combine(bits, words, vectors, add=add, subtract=subtract)
    assert int.from_bytes(result, "little") == expected


def test_nothing_combined_is_zero() -> None:
    assert combine(32, 12, []) == bytes(12)
    assert np.frombuffer(combine(16, 4, [b"\xff\xff\x01\x00", b"\x01\x00\x01\x00"]), "<u2").tolist() == [0, 2]
