"""The parent's side of an invitation: choosing candidates for a child's place and making offers.

Neighbours: ``machine`` calls it for every empty place; ``shape`` cuts the slices, ``lineage`` signs the hop.
Invariants: a peer is tried at most once per round by one parent; candidates come from the place's own slice first, then
from the parent's whole slice, so that two parents rarely invite the same peer; of each, those that this peer talks with
come before strangers.  Those that it prefers come before all these, in the same order of slices and then from anywhere.
"""

from protocol.aggregation.lineage import extend, sign_hop
from protocol.aggregation.phases import Place, advance
from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Child, Round
from protocol.aggregation.shape import RING, child_caps, position, split
from protocol.base.ids import PeerId
from protocol.base.limits import MAX_INLINE_STATE
from protocol.effects import Effect, Send
from protocol.identity.descriptor import Descriptor
from protocol.wire.messages import Offer

LEAST_BUDGET_S = 0.05
"""An offer with less time than this cannot be answered in time by anybody."""


def open_places(ports: Ports, state: Round, low: int, high: int) -> None:
    """Plan the children of a node that has just entered a round; its slice of the ring is ``[low, high)``."""
    caps = child_caps(state.depth, state.cap, state.task.branching, state.threshold)
    if not caps:
        return
    above = {a.peer for a in state.ancestors}  # they stand in somebody's slice, but cannot be invited
    places = (_position(state, d.peer) for d in ports.members() if d.peer not in above)
    known = sorted(p for p in places if low <= p < high)
    for cap, (start, end) in zip(caps, split(low, high, known, caps), strict=True):
        state.children.append(Child(cap, start, end))


def call(ports: Ports, state: Round, child: Child, now: float) -> list[Effect]:
    """Offer an empty place to the next candidate, or give the place up."""
    budget = state.deadline - now
    candidate = _candidate(ports, state, child) if child.attempts < ports.settings.offer_attempts else None
    if candidate is None or budget < LEAST_BUDGET_S or state.closing:
        child.place, child.peer = advance(child.place, Place.GONE), None
        return []
    child.place, child.peer = advance(child.place, Place.CALLING), candidate
    child.attempts += 1
    state.tried.add(candidate.peer)
    # what the offer brought is passed on before it is checked here: each invitee compares it with the digest itself
    brought = b"" if state.offer is None else state.offer.state
    inline = brought if state.checkpoint is None else state.checkpoint.state
    if len(inline) > MAX_INLINE_STATE:
        inline = b""
    child.answer_by = now + ports.settings.answer_timeout_s + ports.transfer_s(candidate.peer, len(inline))
    signature = sign_hop(
        ports.keyring.signing, ports.network, state.id, state.task.id, state.threshold, state.depth + 1, candidate.peer
    )
    offer = Offer(
        round=state.id,
        task=state.task.id,
        kind=int(state.kind),
        age=state.age,
        digest=state.digest,
        collusion_threshold=state.threshold,
        minimum_cohort=state.task.minimum_cohort,
        branching=state.task.branching,
        depth=state.depth + 1,
        cap=child.cap,
        cohort_cap=state.cohort_cap,
        budget_s=budget,
        slice_low=child.low,
        slice_high=child.high,
        walk=state.walk,
        lineage=state.lineage,
        ancestors=extend(state.offer, ports.own(), signature, state.threshold),
        state=inline,
    )
    return [Send(candidate, offer, ttl_s=budget)]


def vacate(ports: Ports, state: Round, child: Child, now: float) -> list[Effect]:
    """The candidate in ``child``'s place said no, or nothing: try another."""
    child.place, child.peer = advance(child.place, Place.EMPTY), None
    return call(ports, state, child, now)


def _candidate(ports: Ports, state: Round, child: Child) -> Descriptor | None:
    barred = {a.peer for a in state.ancestors} | state.tried
    places = [(_position(state, d.peer), d) for d in ports.members() if d.peer not in barred]
    low = min(c.low for c in state.children)
    high = max(c.high for c in state.children)
    slices = (child.low, child.high), (low, high)
    preferred = {d.peer for d in ports.preferred()}
    # Where many have gone unnoticed, silence costs more than the "already in this round" of another's candidate.
    first = [(p, d) for p, d in places if d.peer in preferred]
    for pool, parts in ((first, (*slices, (0, RING))), (places, slices)):
        for start, end in parts:
            if inside := [d for p, d in pool if start <= p < end]:
                # Setting up a connection may take longer than an answer, and fail: those go first to whom one stands.
                near = [d for d in inside if ports.talked_with(d.peer)]
                return ports.entropy.choice(near or inside)
    return None


def _position(state: Round, peer: PeerId) -> int:
    """``position``, hashed once per round and peer."""
    if (known := state.positions.get(peer)) is None:
        known = state.positions[peer] = position(state.id, peer)
    return known
