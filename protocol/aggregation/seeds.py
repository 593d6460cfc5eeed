"""The sealed seeds of a partial: what must be there, and passing on what is addressed further up.

Neighbours: ``machine`` checks, ``combining`` draws and forwards; ``jobs`` opens.
Invariants: ``groups[h]`` is addressed to the ancestor ``h + 1`` hops above the sender; a partial whose groups do not
fit together is refused whole.
"""

from collections.abc import Set

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import PeerId
from protocol.wire.messages import Partial, SealedSeed

Groups = tuple[tuple[SealedSeed, ...], ...]


def check_groups(sender: PeerId, depth: int, threshold: int, partial: Partial) -> None:
    """Raise ``Refused(BAD_SEEDS)`` unless the groups are those of a whole subtree.

    ``depth`` is the sender's.  The sender's own seeds are at hops 2..min(S, depth); a contributor ``i`` levels below it
    has one at each hop 1..min(S - i, depth).  So every group's contributors but the sender are among those of the group
    below it, and where the root does not cut groups off, no one but the sender stands at hop S.
    """
    reach = min(threshold, depth)
    if len(partial.seeds) != reach:
        raise Refused(Refusal.BAD_SEEDS, "number of hop groups")
    below: set[PeerId] | None = None
    for hop, group in enumerate(partial.seeds, start=1):
        contributors = {seed.contributor for seed in group}
        if len(contributors) != len(group):
            raise Refused(Refusal.BAD_SEEDS, "a seed is doubled")
        if (sender in contributors) != (hop >= 2):
            raise Refused(Refusal.BAD_SEEDS, "the sender's own seeds")
        contributors.discard(sender)
        if below is not None and not contributors <= below:
            raise Refused(Refusal.BAD_SEEDS, "a seed is missing")
        if hop == threshold and contributors:
            raise Refused(Refusal.BAD_SEEDS, "a seed is addressed beyond its reach")
        below = contributors
    if partial.seeds and len(partial.seeds[0]) > partial.cohort - 1:
        raise Refused(Refusal.BAD_SEEDS, "more contributors than the cohort")


def check_contributors(partial: Partial, elsewhere: Set[PeerId]) -> None:
    """Raise ``Refused(BAD_SEEDS)`` if a contributor is known to stand ``elsewhere`` in the tree.

    Whoever takes part does so once.  A seed in the name of an ancestor, of this node itself or of another child's
    subtree would be counted as one mask neighbour more, and be none.
    """
    if partial.seeds and any(seed.contributor in elsewhere for seed in partial.seeds[0]):
        raise Refused(Refusal.BAD_SEEDS, "a contributor that stands elsewhere")


def forwarded(partials: list[Groups], own: list[SealedSeed], reach: int) -> Groups:
    """The groups a node sends: its children's, each one hop nearer, and its own at hops 2..``reach``."""
    groups: list[list[SealedSeed]] = [[] for _ in range(reach)]
    for children in partials:
        for hop, group in enumerate(children[1:]):
            groups[hop].extend(group)
    for hop, seed in enumerate(own, start=1):
        groups[hop].append(seed)
    return tuple(tuple(group) for group in groups)
