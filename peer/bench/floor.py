"""The floor: the least that one contribution could cost with the same libraries.

Neighbours: ``stages`` times it beside the real thing.
Invariants: plain calls of numpy and ``cryptography``, nothing of the protocol; what a peer would do once (keys,
buffers, a random generator) is done once.
"""

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from protocol.masking.ring import Encoding

CHUNK = 2**18
"""Bytes of keystream at a time: the quickest on the machines tried."""
_BLOCK_LESS_ONE = 15


class Floor:
    """One clip-scale-round pass in plain numpy, the AEAD over the vector once each way, 2(S - 1) bare keystreams, and
    the ring additions: one for every mask, one for the vector.
    """

    def __init__(self, gradient: NDArray[np.float32], encoding: Encoding, threshold: int) -> None:
        self._gradient, self._levels, self._masks = gradient, float(encoding.levels), 2 * (threshold - 1)
        self._signed, self._word = np.dtype(f"<i{encoding.dtype.itemsize}"), encoding.dtype
        self._generator = np.random.default_rng()
        self._key = AESGCM.generate_key(256)
        self._aead, self._nonce = AESGCM(self._key), bytes(12)
        self._zeros, self._room = bytes(CHUNK), bytearray(CHUNK + _BLOCK_LESS_ONE)

    def run(self) -> NDArray[Any]:
        """All of it; the vector with the additions."""
        words = self.encode()
        box = self._aead.encrypt(self._nonce, words.data.cast("B"), None)
        vector = np.frombuffer(self._aead.decrypt(self._nonce, box, None), self._word)
        for _ in range(self._masks):
            self._keystream(words.nbytes)
            np.add(words, vector, out=words)
        np.add(words, vector, out=words)
        return words

    def encode(self) -> NDArray[Any]:
        """Clipped to the norm 1, scaled to the levels, rounded at random: ring words."""
        gradient = self._gradient
        norm = float(np.sqrt(np.einsum("i,i->", gradient, gradient)))  # no BLAS: its idle threads would count as cost
        wide = gradient.astype(np.float64)
        wide *= self._levels * min(1.0, 1.0 / norm)
        wide += self._generator.random(gradient.size)
        np.floor(wide, out=wide)
        return wide.astype(self._signed).view(self._word)

    def _keystream(self, size: int) -> None:
        update_into = Cipher(algorithms.AES256(self._key), modes.CTR(bytes(16))).encryptor().update_into
        for start in range(0, size, CHUNK):
            part = min(CHUNK, size - start)
            update_into(memoryview(self._zeros)[:part], memoryview(self._room)[: part + _BLOCK_LESS_ONE])
