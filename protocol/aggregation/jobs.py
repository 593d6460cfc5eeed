"""The costly work of a round: absorbing a partial, adding the own contribution under its masks, sealing their seeds.

Neighbours: ``machine`` orders these jobs one after another per round; a driver runs them in a thread.
Invariants: they change only the round's accumulator, in place, in chunks; memory stays near one vector.  A job that
raises has left the accumulator as it was: whatever can fail comes before the first addition.  No value and no seed is
in a repr: jobs and results pass through drivers, which may log what went wrong with them.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.identity.descriptor import Descriptor
from protocol.identity.keys import Keyring
from protocol.identity.sealing import open_seed, seal_seed
from protocol.masking.prg import add_masks
from protocol.masking.ring import Encoding
from protocol.wire.messages import Partial, SealedSeed

Ring = NDArray[Any]


class Accumulator:
    """The vector of a round at one node; not even zeros are written before the first addition.

    ``vector`` is valid from the moment on that ``empty`` is false.  One job at a time may touch it.
    """

    __slots__ = ("empty", "vector")

    def __init__(self, encoding: Encoding) -> None:
        self.vector: Ring = encoding.empty()
        self.empty = True


@dataclass(frozen=True, slots=True)
class Opened:
    """What absorbing a partial found: the seeds addressed to this node, in the partial's order."""

    seeds: tuple[tuple[PeerId, bytes], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Absorb:
    """Open every seed addressed to this node, then add the child's vector and take those masks off.

    Raises ``Refused(BAD_SEEDS)`` with nothing added if one of them does not open.
    """

    accumulator: Accumulator
    partial: Partial
    encoding: Encoding
    keyring: Keyring
    network: NetworkId

    @property
    def cost_bytes(self) -> int:
        """Vector and keystreams."""
        return self.encoding.nbytes * (1 + len(self.partial.seeds[0]))

    def open(self) -> Opened:
        """The seeds addressed to this node."""
        own = self.keyring.signing.peer_id
        opened = []
        for seed in self.partial.seeds[0]:
            try:
                secret = open_seed(
                    self.keyring,
                    seed.sealed,
                    network=self.network,
                    round=self.partial.round,
                    contributor=seed.contributor,
                    trustee=own,
                )
            except Refused as error:
                raise Refused(Refusal.BAD_SEEDS, "a seed cannot be opened") from error
            opened.append((seed.contributor, secret))
        return Opened(tuple(opened))

    def run(self) -> Opened:
        """Open, then add."""
        opened = self.open()
        vector = np.frombuffer(self.partial.vector, dtype=self.encoding.dtype)
        secrets = [secret for _, secret in opened.seeds]
        add_masks(self.accumulator.vector, [], secrets, vector=vector, fresh=self.accumulator.empty)
        self.accumulator.empty = False
        return opened


@dataclass(frozen=True, slots=True)
class AddOwn:
    """Encode the own contribution and add it, with a mask for every ancestor but the parent.

    ``seeds``: one fresh seed for each of the ancestors 2..S, nearest first (none at a root).  Result: the encoded value
    without its masks, if it is to be recorded, else None.
    """

    accumulator: Accumulator
    values: tuple[NDArray[Any], ...] = field(repr=False)
    encoding: Encoding
    rounding_seed: bytes = field(repr=False)
    seeds: tuple[bytes, ...] = field(repr=False)
    record: bool

    @property
    def cost_bytes(self) -> int:
        """The vector, several times over, and a keystream per seed."""
        return self.encoding.nbytes * (6 + len(self.seeds))

    def run(self) -> bytes | None:
        """Encode into the accumulator.  Raises ``ValueError`` for values that are not finite."""
        total = self.accumulator
        if self.record:
            value = self.encoding.empty()
            self.encoding.put_encoded(self.values, value, self.rounding_seed)
            if total.empty:
                np.copyto(total.vector, value)
            else:
                np.add(total.vector, value, out=total.vector)
            add_masks(total.vector, self.seeds)
            total.empty = False
            return value.tobytes()
        encode = self.encoding.put_encoded if total.empty else self.encoding.add_encoded
        encode(self.values, total.vector, self.rounding_seed, self.seeds)
        total.empty = False
        return None


@dataclass(frozen=True, slots=True)
class SealSeeds:
    """Seal the seed of every mask of the own contribution to the ancestor that will take it off.

    ``trustees``: ancestors 2..S, nearest first; ``seeds``: one each, as given to ``AddOwn``.  Result: in their order.
    """

    keyring: Keyring
    network: NetworkId
    round: RoundId
    contributor: PeerId
    trustees: tuple[Descriptor, ...]
    seeds: tuple[bytes, ...] = field(repr=False)

    @property
    def cost_bytes(self) -> int:
        """Nothing that grows with the vector."""
        return 0

    def run(self) -> tuple[SealedSeed, ...]:
        """Seal."""
        return tuple(
            SealedSeed(
                self.contributor,
                seal_seed(
                    self.keyring,
                    trustee,
                    seed,
                    network=self.network,
                    round=self.round,
                    contributor=self.contributor,
                    trustee=trustee.peer,
                ),
            )
            for trustee, seed in zip(self.trustees, self.seeds, strict=True)
        )
