"""The state with which a round begins, at its root and at an invitee; and whether an offer fits its task.

Neighbours: ``machine`` decides whether to enter and keeps the state; ``shape`` gives the tree.
Invariants: a root's budget covers every level's hop and both transfers of the vector; an invitee's deadline lies before
its parent's by a hop and the transfer up, and no parent can keep it for much longer than its own settings ask for.
"""

from functools import lru_cache

from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Round
from protocol.aggregation.shape import RING, height, minimum_subtree
from protocol.application import modulus_of, sections_of
from protocol.base.ids import ID_BYTES, RoundId
from protocol.base.limits import MAX_BUDGET_S
from protocol.base.settings import Settings
from protocol.identity.descriptor import Descriptor
from protocol.masking.ring import Encoding
from protocol.training.state import Model
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint, Offer


@lru_cache(maxsize=64)
def encoding_of(task: Task, kind: RoundKind, cohort_cap: int) -> Encoding:
    """The fixed point of a round: it depends on the most contributions that the whole round may hold."""
    return Encoding(modulus_of(task, kind), cohort_cap, sections_of(task, kind))


PATIENCE = 2.0
"""An invitee stays at most this many times as long as it would itself have given the whole round."""


def budget_s(settings: Settings, task: Task, encoding: Encoding) -> float:
    """What a root with these settings gives a whole round."""
    levels = height(0, encoding.cohort_cap, task.branching, task.collusion_threshold)
    transfer = 2 * encoding.nbytes / settings.link_bytes_per_s
    return min(settings.round_budget_s + levels * (settings.hop_allowance_s + transfer), MAX_BUDGET_S)


def at_root(ports: Ports, task: Task, model: Model, planned: int, now: float) -> Round:
    """A round of ``planned`` contributions that starts from ``model``."""
    kind = task.kind_at(model.checkpoint.age)
    encoding = encoding_of(task, kind, planned)
    return Round(
        id=RoundId(ports.entropy.token(ID_BYTES)),
        task=task,
        kind=kind,
        age=model.checkpoint.age,
        digest=model.digest,
        walk=model.walk,
        lineage=model.lineage,
        depth=0,
        cap=planned,
        cohort_cap=planned,
        encoding=encoding,
        started=now,
        deadline=now + budget_s(ports.settings, task, encoding),
        checkpoint=model.checkpoint,
    )


def at_invitee(
    ports: Ports, sender: Descriptor, offer: Offer, task: Task, held: Checkpoint | None, now: float
) -> Round:
    """The round of an offer that fits its task; ``held``: the model, if this peer has it."""
    kind = RoundKind(offer.kind)
    encoding = encoding_of(task, kind, offer.cohort_cap)
    arrival = ports.transfer_s(sender.peer, encoding.nbytes)
    given = min(offer.budget_s, PATIENCE * budget_s(ports.settings, task, encoding), MAX_BUDGET_S)
    return Round(
        id=offer.round,
        task=task,
        kind=kind,
        age=offer.age,
        digest=offer.digest,
        walk=offer.walk,
        lineage=offer.lineage,
        depth=offer.depth,
        cap=offer.cap,
        cohort_cap=offer.cohort_cap,
        encoding=encoding,
        started=now,
        deadline=now + given - ports.settings.hop_allowance_s - arrival,
        offer=offer,
        parent=sender,
        checkpoint=held,
    )


def fits(offer: Offer, task: Task) -> bool:
    """Whether the numbers of an offer are those of its task, and possible.

    A subtree that cannot reach depth S can never satisfy the contribution rule: its ``cap - 1`` nodes below and
    ``depth < S`` ancestors are fewer than S.
    """
    return (
        offer.collusion_threshold == task.collusion_threshold
        and offer.minimum_cohort == task.minimum_cohort
        and offer.branching == task.branching
        and offer.kind == task.kind_at(offer.age)
        and offer.depth >= 1
        and minimum_subtree(offer.depth, task.collusion_threshold) <= offer.cap < offer.cohort_cap <= task.cohort
        and 0 <= offer.slice_low <= offer.slice_high <= RING
    )
