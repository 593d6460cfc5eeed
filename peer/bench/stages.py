"""What is measured of one row: whole contributions, the pieces they consist of, and the floor.

Neighbours: ``chain`` has the contributions, ``floor`` the floor, ``measure`` times these stages in turns, ``run`` makes
rows of them.
Invariants: contributions go through the very jobs, codec, envelope and transport of peers; a piece is one call of what
a contribution calls once or S - 1 times, and ``run`` weighs it so.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from peer.bench.chain import CLIP, TTL_S, Chain, Place
from peer.bench.floor import Floor
from peer.bench.measure import Stage
from peer.transport.client import Client
from peer.transport.exchange import ENVELOPE_PATH, Answer
from peer.transport.server import Server
from protocol.aggregation.jobs import Accumulator, AddOwn
from protocol.identity.sealing import open_seed, seal_seed
from protocol.masking import masks
from protocol.masking.prg import add_masks
from protocol.masking.ring import clip_l2
from protocol.wire.messages import Partial, SealedSeed


class Hop:
    """One hop through the real transport over loopback, kept alive, both ends in this process."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._place = chain.places[0]
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
        self._arrived.put_nowait(self._place.open(body, self._chain.now, self._chain.known))
        return Answer(202)

    async def carry(self, place: Place, envelope: bytes) -> Partial:
        """Post an envelope to ``place``; the partial as it was opened there."""
        self._place = place
        answer = await self._client.post(self._address, ENVELOPE_PATH, envelope, TTL_S)
        if not answer.accepted:
            raise RuntimeError(f"the loopback hop answered {answer.status}")
        return await self._arrived.get()


def stages(chain: Chain, hop: Hop) -> dict[str, Stage]:
    """Everything to be timed of one row, by name.  What is compared stands side by side, so that it is timed so."""

    async def secure() -> None:
        await chain.secure_step(chain.direct)

    async def plain() -> None:
        await chain.plain_step(chain.direct)

    async def secure_http() -> None:
        await chain.secure_step(hop.carry)

    async def plain_http() -> None:
        await chain.plain_step(hop.carry)

    return {
        "secure_http": secure_http,
        "plain_http": plain_http,
        "plain": plain,
        "secure": secure,
        "floor": _stage(Floor(chain.gradient, chain.encoding, chain.threshold).run),
        **_pieces(chain),
    }


def _pieces(chain: Chain) -> dict[str, Stage]:
    child, parent, vector = chain.at(0), chain.at(1), chain.encoding.zeros()
    names: dict[str, Any] = {
        "network": chain.network,
        "round": chain.round,
        "contributor": child.peer,
        "trustee": parent.peer,
    }
    seed = chain.entropy.token(masks.SEED_BYTES)
    sealed = seal_seed(child.keyring, parent.descriptor, seed, **names)
    below = SealedSeed(child.peer, sealed)
    groups = tuple((below,) * count for count in seeds_by_hop(chain.threshold))
    partial = Partial(chain.round, 1, chain.threshold, groups, vector.tobytes())
    incoming = np.frombuffer(partial.vector, chain.encoding.dtype)
    seeds = [chain.entropy.token(masks.SEED_BYTES) for _ in range(chain.threshold - 1)]

    def encode() -> None:
        clip_l2(chain.gradient, CLIP)
        rounding = chain.entropy.token(masks.SEED_BYTES)
        AddOwn(Accumulator(chain.encoding), (chain.gradient,), chain.encoding, rounding, (), False).run()

    def seal() -> bytes:
        return child.seal(partial, parent.descriptor, chain.now)

    return {
        "encode": _stage(encode),
        "mask": _stage(lambda: add_masks(vector, masks.draw(chain.entropy, chain.threshold - 1))),
        "unmask": _stage(lambda: add_masks(vector, [], seeds)),
        "seal_seed": _stage(lambda: seal_seed(child.keyring, parent.descriptor, seed, **names)),
        "open_seed": _stage(lambda: open_seed(parent.keyring, sealed, **names)),
        "seal": _stage(seal),
        # opening needs a fresh envelope every time (replays are refused): the sealing is taken off again
        "seal_and_open": _stage(lambda: parent.open(seal(), chain.now, chain.known)),
        "combine": _stage(lambda: np.add(vector, incoming, out=vector)),
    }


def seeds_by_hop(threshold: int) -> tuple[int, ...]:
    """Sealed seeds on an edge of a large tree, on average, by how far above the sender they are addressed (1..S)."""
    return (threshold - 1, *(threshold - hop + 1 for hop in range(2, threshold + 1)))


def _stage(function: Callable[[], Any]) -> Stage:
    async def stage() -> None:
        function()

    return stage
