"""The work of a round that costs O(d): absorbing a partial, adding the own contribution, masking, publishing.

Neighbours: ``machine`` orders these jobs one after another per round; a driver runs them in a thread.
Invariants: they change only the round's accumulator, in place, in chunks; memory stays near one vector.  A job that
raises has left the accumulator as it was: whatever can fail comes before the first addition.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Opened:
    """What absorbing a partial found: the seeds addressed to this node, in the partial's order."""

    seeds: tuple[tuple[PeerId, bytes], ...]


@dataclass(frozen=True, slots=True)
class Absorb:
    """Open every seed addressed to this node, then add the child's vector and take those masks off.

    Raises ``Refused(BAD_SEEDS)`` with nothing added if one of them does not open.
    """

    accumulator: Ring
    partial: Partial
    encoding: Encoding
    keyring: Keyring
    network: NetworkId

    @property
    def cost_bytes(self) -> int:
        """Vector and keystreams."""
        return int(self.accumulator.nbytes * (1 + len(self.partial.seeds[0])))

    def run(self) -> Opened:
        """Open, then add."""
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
        vector = np.frombuffer(self.partial.vector, dtype=self.encoding.dtype)
        add_masks(self.accumulator, [], [secret for _, secret in opened], vector=vector)
        return Opened(tuple(opened))


@dataclass(frozen=True, slots=True)
class AddOwn:
    """Encode the own contribution and add it.  Result: the encoded value, if it is to be recorded, else None."""

    accumulator: Ring
    values: tuple[NDArray[Any], ...]
    encoding: Encoding
    rounding_seed: bytes
    record: bool

    @property
    def cost_bytes(self) -> int:
        """The vector, several times over."""
        return int(self.accumulator.nbytes * 6)

    def run(self) -> bytes | None:
        """Encode into the accumulator.  Raises ``ValueError`` for values that are not finite."""
        if not self.record:
            self.encoding.add_encoded(self.values, self.accumulator, self.rounding_seed)
            return None
        value = np.zeros(self.encoding.dimension, dtype=self.encoding.dtype)
        self.encoding.add_encoded(self.values, value, self.rounding_seed)
        np.add(self.accumulator, value, out=self.accumulator)
        return value.tobytes()


@dataclass(frozen=True, slots=True)
class Mask:
    """Add a mask for every ancestor but the parent, and seal its seed to that ancestor.

    ``trustees``: ancestors 2..S, nearest first; ``seeds``: one fresh seed each.  Result: the sealed seeds, in order.
    """

    accumulator: Ring
    encoding: Encoding
    network: NetworkId
    round: RoundId
    contributor: PeerId
    trustees: tuple[Descriptor, ...]
    seeds: tuple[bytes, ...]

    @property
    def cost_bytes(self) -> int:
        """One keystream per trustee."""
        return int(self.accumulator.nbytes * (1 + len(self.seeds)))

    def run(self) -> tuple[SealedSeed, ...]:
        """Seal, then mask."""
        sealed = tuple(
            SealedSeed(
                self.contributor,
                seal_seed(
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
        add_masks(self.accumulator, list(self.seeds), [])
        return sealed
