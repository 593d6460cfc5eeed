"""One contribution of a large tree, over and over: an endless chain of nodes, each the parent of the one before.

What *average over the tree* means here.  In a tree so large that the few nodes near its root do not matter, every
contribution draws S - 1 seeds, exactly S - 1 seeds are opened and taken off for it somewhere above, one envelope
carries it to its parent, and the seed for its j-th ancestor crosses j edges, so an edge carries 2 + 3 + ... + S sealed
seeds on average.  A node of an endless chain does precisely that work at every step, whatever the branching: one step
is one contribution.  (A small tree costs less: near the root there are fewer ancestors to draw masks for.)

Neighbours: ``stages`` measures it; the work is ``protocol.aggregation`` (jobs, seeds), ``protocol.wire`` and
``protocol.masking`` as peers call them.
Invariants: S + 1 places take turns as nodes of the chain; whatever is under way can be checked: the vector less the
masks whose seeds are still in the partial is the sum of the contributions since the start.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.entropy import SystemEntropy
from protocol.aggregation.jobs import Absorb, Accumulator, AddOwn, SealSeeds
from protocol.aggregation.seeds import check_groups, forwarded
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.identity.sealing import open_seed
from protocol.masking import masks
from protocol.masking.prg import add_masks
from protocol.masking.ring import Encoding, Section, clip_l2
from protocol.wire import codec
from protocol.wire.envelope import Opener, Sealer
from protocol.wire.messages import Partial
from protocol.wire.replay import ReplayCache

TTL_S = 60.0
CLIP = 1.0
PLANNED_COHORT = 16
"""Fixes the levels of the encoding; the time does not depend on it."""
ROOMY = 4_000_000
"""Entries of a replay cache that a long measurement does not fill."""
_LIFETIME_S = 86_400.0

Carry = Callable[["Place", bytes], Awaitable[Partial]]
"""Takes an envelope to a place; gives back the partial as it was opened there."""


@dataclass(frozen=True, slots=True)
class Place:
    """One peer with its keys."""

    keyring: Keyring
    descriptor: Descriptor
    sealer: Sealer
    opener: Opener

    @property
    def peer(self) -> PeerId:
        """Its id."""
        return self.descriptor.peer

    def seal(self, partial: Partial, parent: Descriptor, now: float) -> bytes:
        """The HTTP body that takes a partial to ``parent``, as ``peer.delivery`` makes it."""
        head, tail = codec.encode(partial)
        return b"".join(self.sealer.seal(parent, head, tail, now=now, ttl_s=TTL_S))

    def open(self, envelope: Any, now: float, known: dict[PeerId, Descriptor]) -> Partial:
        """A child's partial, as ``peer.driver`` opens it."""
        header = self.opener.inspect(envelope, now, known.get)
        message = codec.decode(self.opener.decrypt(header, envelope))
        assert isinstance(message, Partial)
        return message


class Chain:
    """An endless chain that sums vectors of ``dimension`` coordinates, securely or plainly, a step at a time.

    ``now``: Unix seconds, held still.  Every contribution is the same float32 vector, just inside the clipping bound.
    """

    def __init__(self, dimension: int, threshold: int, modulus_bits: int, now: float) -> None:
        self.threshold, self.now = threshold, now
        self.entropy = SystemEntropy()
        authority = Authority(SigningKey(self.entropy.token(32)))
        self.network: NetworkId = authority.network
        self.round = RoundId(self.entropy.token(16))
        self.encoding = Encoding(modulus_bits, PLANNED_COHORT, (Section(dimension, CLIP),))
        gradient = np.random.default_rng(1).standard_normal(dimension).astype(np.float32)
        self.gradient: NDArray[np.float32] = gradient * np.float32(CLIP / (1.001 * float(np.sqrt(np.sum(gradient**2)))))
        self.places = [self._place(authority) for _ in range(threshold + 1)]
        self.known = {place.peer: place.descriptor for place in self.places}
        self.envelope_bytes = 0
        """HTTP body of the partial made last."""
        self._steps = self._plain_steps = 0
        self._secure: bytes | None = None
        self._plain: bytes | None = None

    def _place(self, authority: Authority) -> Place:
        ring = Keyring(SigningKey(self.entropy.token(32)), KemSuite.X25519, self.entropy)
        ring.rotate(self.now)
        token = issue_token(authority, self.now, _LIFETIME_S, (), self.entropy, "bench")
        chain = admit(token, ring.signing.public_bytes, self.now)
        descriptor = make_descriptor(
            ring, chain, addresses=["127.0.0.1:1"], incarnation=1, now=self.now, lifetime_s=_LIFETIME_S
        )
        opener = Opener(self.network, ring, DescriptorVerifier(authority.key.public_bytes), ReplayCache(ROOMY, ROOMY))
        return Place(ring, descriptor, Sealer(self.network, ring, self.entropy), opener)

    def at(self, step: int) -> Place:
        """The node of a step; its ancestors are those of the next S steps."""
        return self.places[step % len(self.places)]

    async def direct(self, place: Place, envelope: bytes) -> Partial:
        """No transport: opened where it was sealed."""
        return place.open(envelope, self.now, self.known)

    # --- the secure sum ---------------------------------------------------------------------------------------

    async def secure_step(self, carry: Carry) -> None:
        """One node's work: its own contribution under its masks, the child's partial, the envelope to its parent."""
        step, self._steps = self._steps, self._steps + 1
        place, total = self.at(step), Accumulator(self.encoding)
        clip_l2(self.gradient, CLIP)
        trustees = tuple(self.at(step + hop).descriptor for hop in range(2, self.threshold + 1))
        drawn = tuple(masks.draw(self.entropy, len(trustees)))
        AddOwn(total, (self.gradient,), self.encoding, self.entropy.token(masks.SEED_BYTES), drawn, False).run()
        below, count = [], 1
        if self._secure is not None:
            partial = await carry(place, self._secure)
            check_groups(self.at(step - 1).peer, self.threshold + 1, self.threshold, partial)
            Absorb(total, partial, self.encoding, place.keyring, self.network).run()
            below.append(partial.seeds)
            count = min(partial.cohort + 1, PLANNED_COHORT)
        own = SealSeeds(place.keyring, self.network, self.round, place.peer, trustees, drawn).run()
        groups = forwarded(below, list(own), self.threshold)
        sent = Partial(self.round, count, self.threshold, groups, total.vector.data.cast("B"))
        self._secure = place.seal(sent, self.at(step + 1).descriptor, self.now)
        self.envelope_bytes = len(self._secure)

    async def check(self) -> None:
        """End the chain: ``ArithmeticError`` unless what is under way is, without its masks, the sum since its start.

        The sum is known to within one level for each contribution (they are rounded at random), modulo 2^w.
        """
        assert self._secure is not None, "nothing is under way"
        steps, envelope = self._steps, self._secure
        self._steps, self._secure = 0, None
        partial = self.at(steps).open(envelope, self.now, self.known)
        total = np.frombuffer(partial.vector, self.encoding.dtype).copy()
        for hop, group in enumerate(partial.seeds):
            place = self.at(steps + hop)
            for seed in group:
                secret = open_seed(
                    place.keyring,
                    seed.sealed,
                    network=self.network,
                    round=self.round,
                    contributor=seed.contributor,
                    trustee=place.peer,
                )
                add_masks(total, [], [secret])
        wanted = np.rint(self.gradient.astype(np.float64) * (self.encoding.levels / CLIP)) * steps
        off = (total - wanted.astype(np.int64).astype(total.dtype)).view(f"<i{total.itemsize}").astype(np.int64)
        if np.abs(off).max() > 2 * steps:
            raise ArithmeticError("what the chain carries is not the sum of its contributions")

    # --- the plain sum ----------------------------------------------------------------------------------------

    async def plain_step(self, carry: Carry) -> None:
        """The same node summing float32 in the open: no encoding, no masks; the same envelope and hop."""
        step, self._plain_steps = self._plain_steps, self._plain_steps + 1
        place, vector, count = self.at(step), self.gradient, 1
        clip_l2(self.gradient, CLIP)
        if self._plain is not None:
            partial = await carry(place, self._plain)
            vector = np.add(self.gradient, np.frombuffer(partial.vector, np.float32))
            count = min(partial.cohort + 1, PLANNED_COHORT)
        sent = Partial(self.round, count, self.threshold, ((),) * self.threshold, vector.data.cast("B"))
        self._plain = place.seal(sent, self.at(step + 1).descriptor, self.now)
