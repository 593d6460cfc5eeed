"""One whole round of a small tree, in one process: the work that peers do, and the same tree summing plainly.

Neighbours: ``stages`` measures it, ``protocol.aggregation`` (shape, jobs, seeds) is what it runs.
Invariants: the tree is the one the planner makes for the cohort; every node runs the jobs, codec and envelope that a
peer runs, one node after the other; what reaches the root is checked to be the sum.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peer.entropy import SystemEntropy
from protocol.aggregation.jobs import Absorb, AddOwn, Mask
from protocol.aggregation.seeds import forwarded
from protocol.aggregation.shape import child_caps
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.identity.admission import Authority, Chain, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.masking.masks import draw
from protocol.masking.ring import Encoding, Section, clip_l2
from protocol.wire import codec
from protocol.wire.envelope import Opener, Sealer
from protocol.wire.messages import Partial
from protocol.wire.replay import ReplayCache

TTL_S = 60.0
ROOMY = 4_000_000
"""Entries of a replay cache that a long measurement does not fill."""

Carry = Callable[["Place", bytes], Awaitable[Partial]]
"""Takes an envelope to a place; gives back the partial as it was opened there."""


@dataclass
class Place:
    """One node of the tree with its keys."""

    depth: int
    ancestors: tuple["Place", ...]
    """Nearest first, up to S."""
    keyring: Keyring
    descriptor: Descriptor
    sealer: Sealer
    opener: Opener
    children: list["Place"] = field(default_factory=list)

    def seal(self, partial: Partial, now: float) -> bytes:
        """The envelope to the parent."""
        head, tail = codec.encode(partial)
        return b"".join(self.sealer.seal(self.ancestors[0].descriptor, head, tail, now=now, ttl_s=TTL_S))

    def open(self, envelope: Any, now: float, known: dict[PeerId, Descriptor]) -> Partial:
        """A child's partial, as this node's driver gets it."""
        header = self.opener.inspect(envelope, now, known.get)
        message = codec.decode(self.opener.decrypt(header, envelope))
        assert isinstance(message, Partial)
        return message


class Tree:
    """The planner's tree for ``cohort`` contributions of ``dimension`` coordinates."""

    def __init__(self, dimension: int, cohort: int, threshold: int, branching: int, bits: int, now: float) -> None:
        self.cohort, self.threshold, self.branching, self.now = cohort, threshold, branching, now
        self.entropy = SystemEntropy()
        self._authority = Authority(SigningKey.from_seed(self.entropy.token(32)))
        self._token = issue_token(self._authority, now, 86_400.0, (), self.entropy, "bench")
        self.network: NetworkId = self._authority.network
        self.known: dict[PeerId, Descriptor] = {}
        self.root = self._grow(0, cohort, ())
        self.places = list(self._all(self.root))
        self.encoding = Encoding(bits, cohort, (Section(dimension, 1.0),))
        gradient = np.random.default_rng(1).standard_normal(dimension).astype(np.float32)
        self.gradient = gradient / np.float32(np.linalg.norm(gradient) * 1.001)
        self.seeds = sum(max(0, len(place.ancestors) - 1) for place in self.places)
        """Mask seeds drawn, and taken off, in one round."""
        self.envelope_bytes = 0
        """Bodies of all partials of the last round."""

    def _grow(self, depth: int, cap: int, ancestors: tuple[Place, ...]) -> Place:
        ring = Keyring(SigningKey.from_seed(self.entropy.token(32)), KemSuite.X25519, self.entropy)
        ring.rotate(self.now)
        chain: Chain = admit(self._token, ring.signing.public_bytes, self.now)
        described = make_descriptor(
            ring, chain, addresses=["127.0.0.1:1"], incarnation=1, now=self.now, lifetime_s=3600.0
        )
        self.known[described.peer] = described
        verifier = DescriptorVerifier(self._authority.key.public_bytes)
        place = Place(
            depth,
            ancestors,
            ring,
            described,
            Sealer(self.network, ring, self.entropy),
            Opener(self.network, ring, verifier, ReplayCache(ROOMY, ROOMY)),
        )
        for below in child_caps(depth, cap, self.branching, self.threshold):
            place.children.append(self._grow(depth + 1, below, (place, *ancestors)[: self.threshold]))
        return place

    def _all(self, place: Place) -> Any:
        yield place
        for child in place.children:
            yield from self._all(child)

    async def direct(self, place: Place, envelope: bytes) -> Partial:
        """No transport: opened where it was sealed."""
        return place.open(envelope, self.now, self.known)

    # --- the secure sum ---------------------------------------------------------------------------------------

    async def secure_round(self, carry: Carry) -> None:
        """One whole round; raises ``ArithmeticError`` if what reaches the root is not the sum."""
        self.envelope_bytes = 0
        round_id = RoundId(self.entropy.token(16))
        total, _, cohort = await self._secure(self.root, round_id, carry)
        signed = int(total.view(f"<i{total.itemsize}")[0])
        wanted = float(self.gradient[0]) * self.encoding.levels * cohort
        if abs(signed - wanted) > cohort or cohort != len(self.places):
            raise ArithmeticError("what reached the root is not the sum")

    async def _secure(self, place: Place, round_id: RoundId, carry: Carry) -> tuple[Any, Any, int]:
        vector = self.encoding.zeros()
        clip_l2(self.gradient, 1.0)
        AddOwn(vector, (self.gradient,), self.encoding, self.entropy.token(32), False).run()
        groups, cohort = [], 1
        for child in place.children:
            below, sealed, count = await self._secure(child, round_id, carry)
            passed = forwarded(sealed[0], list(sealed[1]), min(child.depth, self.threshold))
            partial = Partial(round_id, count, self.threshold, passed, below.data.cast("B"))
            envelope = child.seal(partial, self.now)
            self.envelope_bytes += len(envelope)
            partial = await carry(place, envelope)
            Absorb(vector, partial, self.encoding, place.keyring, self.network).run()
            groups.append(partial.seeds)
            cohort += count
        trustees = tuple(above.descriptor for above in place.ancestors[1:])
        drawn = tuple(draw(self.entropy, len(trustees)))
        own = Mask(vector, self.encoding, self.network, round_id, place.keyring.peer_id, trustees, drawn).run()
        return vector, (groups, own), cohort

    # --- the plain sum ----------------------------------------------------------------------------------------

    async def plain_round(self, carry: Carry) -> None:
        """The same tree, envelopes and hops, summing float32."""
        await self._plain(self.root, RoundId(self.entropy.token(16)), carry)

    async def _plain(self, place: Place, round_id: RoundId, carry: Carry) -> tuple[Any, int]:
        clip_l2(self.gradient, 1.0)
        vector, cohort = self.gradient.copy(), 1
        for child in place.children:
            below, count = await self._plain(child, round_id, carry)
            empty = ((),) * min(child.depth, self.threshold)
            partial = Partial(round_id, count, self.threshold, empty, below.data.cast("B"))
            partial = await carry(place, child.seal(partial, self.now))
            vector += np.frombuffer(partial.vector, np.float32)
            cohort += count
        return vector, cohort
