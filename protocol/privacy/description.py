"""From what the nodes recorded of one round to the round as the leakage engine wants it.

Neighbours: ``peer.audit`` gives it recordings, simulations the records of simulated nodes; ``leakage`` and ``exposure``
take the result.
Invariants: the worst is assumed where records are silent.  A vector that was sent counts as received by the peer it was
sent to, even when it came late, was refused, or that peer left no record; so does one that a peer says it received.
What a peer without a record put into its vector is an unknown of its own.  Vectors themselves are never read.
"""

from collections.abc import Iterable

from protocol.base.ids import PeerId
from protocol.privacy.leakage import DescribedRound, RoundNode
from protocol.privacy.record import RoundRecord


def describe(records: Iterable[RoundRecord]) -> DescribedRound:
    """The round in id order; peers that left no record, but were sent to or received from, are included.

    Raises ``ValueError`` unless the records are of one round and one threshold, one for each peer, and at least one.
    """
    by_peer: dict[PeerId, RoundRecord] = {}
    for record in records:
        if by_peer.setdefault(record.peer, record) is not record:
            raise ValueError("a peer has two records")
    if len({(r.round, r.collusion_threshold) for r in by_peer.values()}) != 1:
        raise ValueError("the records are not those of one round with one collusion threshold")
    arrived: dict[PeerId, set[PeerId]] = {}
    unrecorded: dict[PeerId, RoundRecord] = {}
    for r in by_peer.values():
        if r.parent is not None and r.sent:
            arrived.setdefault(r.parent, set()).add(r.peer)
        for child in (*r.children, *r.received):
            if child not in by_peer:
                unrecorded[child] = r
                arrived.setdefault(r.peer, set()).add(child)
    threshold = next(iter(by_peer.values())).collusion_threshold
    nodes = []
    for peer in sorted({*by_peer, *arrived, *unrecorded}):
        received = tuple(sorted(arrived.get(peer, ())))
        if (own := by_peer.get(peer)) is not None:
            nodes.append(_recorded(own, received))
        elif peer in unrecorded:
            up = (unrecorded[peer].peer, *unrecorded[peer].ancestors)[:threshold]
            nodes.append(RoundNode(peer, up, True, True, (), received, (_NOBODY,)))
        else:
            nodes.append(RoundNode(peer, (), False, False, (), received, ()))
    return DescribedRound(threshold, tuple(nodes))


def _recorded(record: RoundRecord, received: tuple[PeerId, ...]) -> RoundNode:
    return RoundNode(
        peer=record.peer,
        ancestors=record.ancestors,
        contributed=record.contributed,
        sent=record.published if record.parent is None else record.sent,
        combined=record.children,
        received=received,
        trustees=tuple(sorted(record.masks)) if record.contributed else (),
    )


_NOBODY = b""
"""Trustee of the mask that stands for all that is unknown about an unrecorded peer's vector: in no coalition."""
