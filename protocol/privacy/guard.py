"""The privacy guard: whether a node may let its value into a round, and whether a root may publish.

Neighbours: ``aggregation`` asks it when a node starts to combine; ``leakage`` and ``peer.audit`` check the same rule
from the outside.  The rule is the "contribution rule" of the protocol description, the proof stands beside its
theorem: S or more mask neighbours cannot all be in a coalition of fewer than S.
Invariants: pure; counts are of the *frozen* set of partials that is about to be combined: a late partial, a
dropped child or a seed that nobody combined never counts.
"""


def mask_neighbours(depth: int, collusion_threshold: int, children_combined: int, seeds_opened: int) -> int:
    """Mask neighbours of a node: ``up`` plus ``down``.

    ``depth``: edges between the node and the root (0 at the root), so ``up = min(depth, S)`` ancestors lie within
    distance S.  ``down`` = partials combined (each child is a contributor: there are no pure relays) plus mask seeds
    addressed to the node inside those partials (one per contributor at distance 2..S below).
    Raises ``ValueError`` for a negative count or a threshold below 2.
    """
    if collusion_threshold < 2:
        raise ValueError("the collusion threshold must be at least 2")
    if min(depth, children_combined, seeds_opened) < 0:
        raise ValueError("counts must not be negative")
    if seeds_opened and not children_combined:
        raise ValueError("seeds arrive inside partials: there are none without a child")
    return min(depth, collusion_threshold) + children_combined + seeds_opened


def may_contribute(depth: int, collusion_threshold: int, children_combined: int, seeds_opened: int) -> bool:
    """Whether the node may add its value and forward: at least S mask neighbours.  Otherwise it must abstain.

    Arguments as in ``mask_neighbours``.  The root obeys the same rule with ``depth`` 0.
    """
    return mask_neighbours(depth, collusion_threshold, children_combined, seeds_opened) >= collusion_threshold


def may_publish(contributed: bool, cohort: int, minimum_cohort: int) -> bool:
    """Whether a root may decode and publish: it contributed itself, and the cohort (itself included) reaches K."""
    return contributed and cohort >= minimum_cohort
