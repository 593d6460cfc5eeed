"""What is measured of one row: whole rounds of a tree, the pieces they consist of, and the floor.

Neighbours: ``tree`` runs the rounds, ``measure`` times these stages in turns, ``run`` makes rows of them.
Invariants: rounds go through the very jobs, codec, envelope and transport of peers; a piece is one call of what a
round calls many times, and a row weighs it with how often a contribution needs it in that tree.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer.bench.measure import Stage
from peer.bench.tree import TTL_S, Place, Tree
from peer.transport.client import Client
from peer.transport.exchange import ENVELOPE_PATH, Answer
from peer.transport.server import Server
from protocol.aggregation.jobs import AddOwn
from protocol.base.ids import RoundId
from protocol.identity.sealing import open_seed, seal_seed
from protocol.masking.prg import add_masks
from protocol.masking.ring import clip_l2
from protocol.wire.messages import Partial

FLOOR_CHUNK = 2**18
ZEROS = bytes(FLOOR_CHUNK)


class Hop:
    """One hop through the real transport, both ends in this process."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._place = tree.root
        self._arrived: asyncio.Queue[Partial] = asyncio.Queue()
        self._server = Server(self._take, lambda body, source: Answer(404))
        self._address = ""

    async def __aenter__(self) -> Self:
        self._client = await Client().__aenter__()
        self._address = f"127.0.0.1:{await self._server.start('127.0.0.1', 0)}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()
        await self._server.stop()

    async def _take(self, body: Any, source: str) -> Answer:
        self._arrived.put_nowait(self._place.open(body, self._tree.now, self._tree.known))
        return Answer(202)

    async def carry(self, place: Place, envelope: bytes) -> Partial:
        """Post an envelope to ``place``; the partial as it was opened there."""
        self._place = place
        answer = await self._client.post(self._address, ENVELOPE_PATH, envelope, TTL_S)
        if not answer.accepted:
            raise RuntimeError(f"the loopback hop answered {answer.status}")
        return await self._arrived.get()


def stages(tree: Tree, hop: Hop) -> dict[str, Stage]:
    """Everything to be timed of one row, by name."""
    return {**_pieces(tree), **_rounds(tree, hop), "floor": _stage(lambda: floor(tree))}


def _rounds(tree: Tree, hop: Hop) -> dict[str, Stage]:
    async def secure() -> None:
        await tree.secure_round(tree.direct)

    async def plain() -> None:
        await tree.plain_round(tree.direct)

    async def secure_http() -> None:
        await tree.secure_round(hop.carry)

    async def plain_http() -> None:
        await tree.plain_round(hop.carry)

    return {"secure": secure, "plain": plain, "secure_http": secure_http, "plain_http": plain_http}


def _pieces(tree: Tree) -> dict[str, Stage]:
    parent, child = tree.root, tree.root.children[0]
    round_id, vector = RoundId(tree.entropy.token(16)), tree.encoding.zeros()
    names = {
        "network": tree.network,
        "round": round_id,
        "contributor": child.keyring.peer_id,
        "trustee": parent.keyring.peer_id,
    }
    seed = tree.entropy.token(32)
    sealed = seal_seed(parent.descriptor, seed, **names)  # type: ignore[arg-type]
    partial = Partial(round_id, 1, tree.threshold, ((),), vector.tobytes())
    incoming = np.frombuffer(partial.vector, tree.encoding.dtype)

    def encode() -> None:
        clip_l2(tree.gradient, 1.0)
        AddOwn(vector, (tree.gradient,), tree.encoding, tree.entropy.token(32), False).run()

    return {
        "encode": _stage(encode),
        "mask": _stage(lambda: add_masks(vector, [tree.entropy.token(32)], [])),
        "unmask": _stage(lambda: add_masks(vector, [], [seed])),
        "seal_seed": _stage(lambda: seal_seed(parent.descriptor, seed, **names)),  # type: ignore[arg-type]
        "open_seed": _stage(lambda: open_seed(parent.keyring, sealed, **names)),  # type: ignore[arg-type]
        "seal": _stage(lambda: child.seal(partial, tree.now)),
        # opening needs a fresh envelope every time (replays are refused): the sealing is taken off again
        "seal_and_open": _stage(lambda: parent.open(child.seal(partial, tree.now), tree.now, tree.known)),
        "combine": _stage(lambda: np.add(vector, incoming, out=vector)),
    }


def _stage(function: Callable[[], Any]) -> Stage:
    async def stage() -> None:
        function()

    return stage


def floor(tree: Tree) -> None:
    """The least that one contribution could cost with these tools.

    One clip-scale-round pass in plain numpy, the library's AEAD over the vector once each way, 2(S - 1) bare
    keystreams, and the ring additions: one for the vector, one for every mask.
    """
    gradient, dtype = tree.gradient, tree.encoding.dtype
    wide = gradient.astype(np.float64)
    wide *= float(tree.encoding.levels) * min(1.0, 1.0 / float(np.linalg.norm(gradient)))
    wide += np.random.default_rng().random(gradient.size)
    np.floor(wide, out=wide)
    words = wide.astype(np.int64).astype(dtype)
    aead, nonce = AESGCM(AESGCM.generate_key(256)), bytes(12)
    vector = np.frombuffer(aead.decrypt(nonce, aead.encrypt(nonce, words.data.cast("B"), None), None), dtype)
    room = bytearray(FLOOR_CHUNK + 15)
    for _ in range(2 * (tree.threshold - 1)):
        stream = Cipher(algorithms.AES256(tree.entropy.token(32)), modes.CTR(bytes(16))).encryptor()
        for start in range(0, words.nbytes, FLOOR_CHUNK):
            size = min(FLOOR_CHUNK, words.nbytes - start)
            stream.update_into(memoryview(ZEROS)[:size], memoryview(room)[: size + 15])
        np.add(words, vector, out=words)
    np.add(words, vector, out=words)
