"""Ancestors in an offer: signed hop by hop, members, distinct, the sender first; anything else is declined."""

from dataclasses import replace
from itertools import pairwise

import pytest

from protocol.aggregation.lineage import check_ancestors, extend, hop_bytes, sign_hop
from protocol.base.ids import NetworkId
from protocol.identity.descriptor import Descriptor
from protocol.wire.messages import Ancestor, Offer
from tests.protocol.aggregation.bench import NOW, Bench, make_network


def check(bench: Bench, offer: Offer, sender: int = 1, now: float = NOW) -> tuple[Descriptor, ...] | None:
    own, network = bench.members[0].descriptor.peer, bench.network
    return check_ancestors(offer, bench.members[sender].descriptor, own, network, bench.verifier, now)


@pytest.mark.parametrize("above", [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5, 6)])
def test_an_honest_chain(bench: Bench, above: tuple[int, ...]) -> None:
    found = check(bench, bench.offer(*above))
    assert found is not None
    assert [d.peer for d in found] == [bench.members[i].descriptor.peer for i in above[:3]]


def test_what_a_parent_passes_on_is_what_its_child_checks(bench: Bench) -> None:
    """``extend`` at every level, from the root down, makes the chain that is accepted at the bottom."""
    offer: Offer | None = None
    chain = [5, 4, 3, 2, 1, 0]
    for depth, (upper, lower) in enumerate(pairwise(chain), start=1):
        key = bench.members[upper].keyring.signing
        lower_id = bench.members[lower].descriptor.peer
        signature = sign_hop(key, bench.network, b"r" * 16, bench.task.id, 3, depth, lower_id)
        ancestors = extend(offer, bench.members[upper].descriptor, signature, 3)
        offer = replace(bench.offer(1), depth=depth, ancestors=ancestors)
    assert offer is not None
    assert len(offer.ancestors) == 3
    assert check(bench, offer) is not None


FAULTS = {
    "one too few": lambda b: replace(b.offer(1, 2, 3), ancestors=b.lineage(1, 2, 3)[:2]),
    "one too many": lambda b: replace(b.offer(1, 2, 3), depth=2),
    "the sender is not the first": lambda b: b.offer(2, 1, 3),
    "one twice": lambda b: b.offer(1, 2, 1),
    "this peer itself": lambda b: b.offer(1, 0, 2),
    "another depth": lambda b: replace(b.offer(1, 2, 3), depth=4),
    "another round": lambda b: replace(b.offer(1, 2, 3), ancestors=b.lineage(1, 2, 3, round_id=b"q" * 16)),
    "made for another invitee": lambda b: replace(b.offer(1, 2, 3), ancestors=b.lineage(1, 2, 3, lower=4)),
    "another threshold": lambda b: replace(b.offer(1, 2, 3), collusion_threshold=4),
    "a grandparent that invited somebody else": lambda b: replace(
        b.offer(1, 2, 3), ancestors=(b.lineage(1, 2, 3)[0], *b.lineage(4, 2, 3)[1:])
    ),
    "an ancestor swapped for an accomplice": lambda b: replace(
        b.offer(1, 2, 3),
        ancestors=(*b.lineage(1, 2, 3)[:2], Ancestor(b.members[6].descriptor.raw, b.lineage(1, 2, 3)[2].hop_signature)),
    ),
    "a signature of nobody": lambda b: replace(
        b.offer(1, 2), ancestors=(b.lineage(1, 2)[0], Ancestor(b.members[2].descriptor.raw, bytes(64)))
    ),
    "a descriptor of nobody": lambda b: replace(
        b.offer(1, 2), ancestors=(b.lineage(1, 2)[0], replace(b.lineage(1, 2)[1], descriptor=b"nobody"))
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forged_chain(bench: Bench, fault: str) -> None:
    sender = 1
    assert check(bench, FAULTS[fault](bench), sender) is None


def test_a_member_of_another_network(bench: Bench) -> None:
    """Its certificate is another authority's."""
    other = make_network("another", 1)[1][0]
    offer = bench.offer(1, 2)
    upper, lower = other.descriptor.peer, bench.members[1].descriptor.peer
    hop = hop_bytes(bench.network, offer.round, offer.task, 3, 1, upper, lower)
    forged = Ancestor(other.descriptor.raw, other.keyring.signing.sign(hop))
    assert check(bench, replace(offer, ancestors=(offer.ancestors[0], forged))) is None


def test_an_expired_descriptor(bench: Bench) -> None:
    assert check(bench, bench.offer(1, 2, 3), now=NOW + 1800 + 121) is None


def test_a_hop_says_everything_it_binds() -> None:
    """No two different hops have the same bytes: all fields are of fixed length."""
    base = (NetworkId(b"n" * 16), b"r" * 16, b"t" * 16, 3, 2, b"u" * 16, b"l" * 16)
    seen = {hop_bytes(*base)}  # type: ignore[arg-type]
    for i, value in enumerate(base):
        changed = value + 1 if isinstance(value, int) else b"x" * 16
        seen.add(hop_bytes(*base[:i], changed, *base[i + 1 :]))  # type: ignore[arg-type]
    assert len(seen) == len(base) + 1
