"""Who stands above an invitee: the chain of ancestors, signed hop by hop.

Neighbours: ``machine`` extends the chain for its children and checks the one it is offered.
Invariants: each hop is signed by its upper end over (network, round, task, S, depth, upper, lower), so a parent cannot
name ancestors that did not invite each other in this very round.
"""

import struct

from protocol.base.errors import Refused
from protocol.base.ids import NetworkId, PeerId
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import SigningKey
from protocol.wire.messages import Ancestor, Offer


def hop_bytes(
    network: NetworkId, offer_round: bytes, task: bytes, threshold: int, depth: int, upper: PeerId, lower: PeerId
) -> bytes:
    """What the upper end of a hop signs; ``depth`` is the lower node's."""
    return b"".join(
        (b"susurrus hop v1\0", network, offer_round, task, struct.pack("<II", threshold, depth), upper, lower)
    )


def sign_hop(
    key: SigningKey, network: NetworkId, offer_round: bytes, task: bytes, threshold: int, depth: int, lower: PeerId
) -> bytes:
    """The signature of ``key``'s owner under its hop to ``lower``."""
    return key.sign(hop_bytes(network, offer_round, task, threshold, depth, key.peer_id, lower))


def check_ancestors(
    offer: Offer, sender: Descriptor, own: PeerId, network: NetworkId, verifier: DescriptorVerifier, now: float
) -> tuple[Descriptor, ...] | None:
    """The ancestors of an offer, nearest first, or None if they are not what is asked (SPEC 11.3).

    Asked: ``min(depth, S)`` of them, all admitted members, distinct, none of them this peer, the sender first, every
    hop signed by its upper end.
    """
    if len(offer.ancestors) != min(offer.depth, offer.collusion_threshold):
        return None
    found: list[Descriptor] = []
    lower, depth = own, offer.depth
    try:
        for ancestor in offer.ancestors:
            descriptor = verifier.verify(ancestor.descriptor, now)
            signed = hop_bytes(
                network, offer.round, offer.task, offer.collusion_threshold, depth, descriptor.peer, lower
            )
            verifier.check_signature(descriptor.signing_key, ancestor.hop_signature, signed)
            found.append(descriptor)
            lower, depth = descriptor.peer, depth - 1
    except Refused:
        return None
    peers = {d.peer for d in found}
    if found[0].peer != sender.peer or len(peers) != len(found) or own in peers:
        return None
    return tuple(found)


def extend(offer: Offer | None, own: Descriptor, signature: bytes, threshold: int) -> tuple[Ancestor, ...]:
    """The ancestors to name to a child: this node first, then its own, up to S."""
    above = offer.ancestors if offer is not None else ()
    return (Ancestor(own.raw, signature), *above)[:threshold]
