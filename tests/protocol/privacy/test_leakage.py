"""The theorem against linear algebra: every small tree, every pattern of drops and late partials, every coalition.

A tree is a tuple of parents (``None`` first, a parent before its children); peer ``i`` is called ``bytes([i])``.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, product

import pytest

from protocol.privacy import leakage
from protocol.privacy.guard import may_contribute
from protocol.privacy.leakage import DescribedRound, Leakage, RoundNode

Tree = tuple[int, ...]
"""``tree[i]`` is the parent of node ``i + 1``; node 0 is the root."""

SILENT, TAKEN, LATE, LOST = "silent", "taken", "late", "lost"


def rooted_trees(size: int) -> list[Tree]:
    """One tree of every shape (no two isomorphic) with ``size`` nodes: 1, 1, 2, 4, 9, 20, 48, ... of them."""

    def shape(tree: Tree, node: int) -> str:
        below = sorted(shape(tree, i + 1) for i, parent in enumerate(tree) if parent == node)
        return "(" + "".join(below) + ")"

    found: dict[str, Tree] = {}
    for tree in product(*[range(i) for i in range(1, size)]):
        found.setdefault(shape(tree, 0), tree)
    return list(found.values())


def name(i: int) -> bytes:
    return bytes([i])


def ancestry(tree: Tree, node: int) -> list[int]:
    chain = []
    while node:
        node = tree[node - 1]
        chain.append(node)
    return chain


Rule = Callable[[int, int, int, int, int], bool]
"""(depth, S, children combined, seeds opened, contributors within S below that arrived late) -> may go ahead."""


def the_rule(depth: int, s: int, children: int, seeds: int, late: int) -> bool:
    return may_contribute(depth, s, children, seeds)


def guard_off_by_one(depth: int, s: int, children: int, seeds: int, late: int) -> bool:
    return min(depth, s) + children + seeds >= s - 1


def late_ones_count(depth: int, s: int, children: int, seeds: int, late: int) -> bool:
    return min(depth, s) + children + seeds + late >= s


def root_is_exempt(depth: int, s: int, children: int, seeds: int, late: int) -> bool:
    return depth == 0 or may_contribute(depth, s, children, seeds)


def rounds(tree: Tree, s: int, rule: Rule, *, fates: tuple[str, ...] = (SILENT, TAKEN, LATE, LOST),
           relays: bool = False, trustees: Callable[[tuple[bytes, ...], int], tuple[bytes, ...]] | None = None,
           ) -> Iterator[DescribedRound]:  # fmt: skip
    """Every round that can happen on this tree: each node's partial has one of the fates, or is silent by the rule.

    ``relays``: a node may also forward its children's vectors without a value of its own.
    ``trustees``: other than the protocol's.
    """
    size = len(tree) + 1
    children = [[i + 1 for i, parent in enumerate(tree) if parent == node] for node in range(size)]
    chains = [ancestry(tree, node) for node in range(size)]
    fate = [SILENT] * size
    contributed = [False] * size
    inside: list[frozenset[int]] = [frozenset()] * size

    def near(node: int, low: int, below: frozenset[int]) -> int:
        return sum(low <= chains[n].index(node) + 1 <= s for n in below)

    def settle(node: int) -> Iterator[None]:
        """Nodes are decided from the last to the first, so children come before parents."""
        taken = [c for c in children[node] if fate[c] == TAKEN]
        below = frozenset().union(*(inside[c] for c in taken))
        late = frozenset().union(*(inside[c] for c in children[node] if fate[c] == LATE))
        allowed = rule(len(chains[node]), s, len(taken), near(node, 2, below), near(node, 1, late))
        for own in (True, False) if relays and taken else (allowed,):
            contributed[node] = own and allowed
            inside[node] = below | {node} if contributed[node] else below
            speaks = contributed[node] or (relays and bool(taken) and not own)
            for choice in ((SILENT, TAKEN) if node == 0 else fates) if speaks else (SILENT,):
                fate[node] = choice
                if node == 0:
                    yield None
                else:
                    yield from settle(node - 1)

    def described() -> DescribedRound:
        nodes = []
        for node in range(size):
            up = tuple(name(a) for a in chains[node][:s])
            own = contributed[node] and fate[node] != SILENT
            nodes.append(RoundNode(
                peer=name(node),
                ancestors=up,
                contributed=own,
                sent=fate[node] != SILENT,
                combined=tuple(name(c) for c in children[node] if fate[c] == TAKEN),
                received=tuple(name(c) for c in children[node] if fate[c] in (TAKEN, LATE)),
                trustees=(up[1:s] if trustees is None else trustees(up, s)) if own else (),
            ))  # fmt: skip
        return DescribedRound(s, tuple(nodes))

    for _ in settle(size - 1):
        yield described()


def coalitions(size: int, s: int) -> list[tuple[bytes, ...]]:
    return [tuple(map(name, c)) for k in range(s) for c in combinations(range(size), k)]


def somebody_is_exposed(size: int, s: int, rule: Rule, **loosened: object) -> bool:
    for tree in rooted_trees(size):
        for described in rounds(tree, s, rule, **loosened):  # type: ignore[arg-type]
            engine = Leakage(described)
            if any(engine.by_algebra(c).values for c in coalitions(size, s)):
                return True
    return False


def test_number_of_shapes() -> None:
    assert [len(rooted_trees(n)) for n in range(1, 8)] == [1, 1, 2, 4, 9, 20, 48]


@pytest.mark.parametrize(("size", "s"), [(n, s) for n in range(1, 8) for s in (2, 3)] + [(n, 4) for n in range(4, 8)])
def test_no_coalition_below_the_threshold_learns_a_value(size: int, s: int) -> None:
    """Exhaustive; and at every view the theorem and linear algebra say the same, down to every known sum."""
    chosen = coalitions(size, s)
    fates = (SILENT, TAKEN, LATE, LOST)[: 3 if size == 7 else 4]  # a lost vector shows a coalition what silence does
    seen = contributing = 0
    for tree in rooted_trees(size):
        for described in rounds(tree, s, the_rule, fates=fates):
            engine = Leakage(described)
            contributing += any(n.sent for n in described.nodes)
            for coalition in chosen:
                known = engine.by_algebra(coalition)
                assert known.values == (), (tree, described, coalition)
                assert known == engine.by_components(coalition), (tree, described, coalition)
                seen += 1
    assert seen
    assert contributing or size <= s, "the enumeration must not be vacuous"


@pytest.mark.parametrize("s", [2, 3])
def test_larger_coalitions_agree_with_the_theorem_too(s: int) -> None:
    """The theorem describes what any coalition learns; at S members values do fall, so the engine can see them."""
    exposed = 0
    for tree in rooted_trees(5):
        for described in rounds(tree, s, the_rule):
            engine = Leakage(described)
            for coalition in combinations(map(name, range(5)), s):
                known = engine.by_algebra(coalition)
                assert known == engine.by_components(coalition)
                exposed += bool(known.values)
    assert exposed


@pytest.mark.parametrize("rule", [guard_off_by_one, late_ones_count, root_is_exempt])
@pytest.mark.parametrize("s", [2, 3])
def test_a_looser_rule_leaks(rule: Rule, s: int) -> None:
    assert any(somebody_is_exposed(size, s, rule) for size in (2, 3, 4, 5))


@pytest.mark.parametrize("s", [2, 3])
@pytest.mark.parametrize(
    "loosened",
    [
        {"trustees": lambda up, s: up[:1]},  # the parent alone
        {"trustees": lambda up, s: up[1 : s - 1]},  # one trustee short
        {"trustees": lambda up, s: up[2:s]},  # grandparent left out
        {"relays": True},
    ],
    ids=["parent-only", "one-short", "no-grandparent", "relays"],
)
def test_other_masks_or_pure_relays_leak(loosened: dict[str, object], s: int) -> None:
    assert any(somebody_is_exposed(size, s, the_rule, **loosened) for size in (4, 5))


def chain(length: int, s: int) -> DescribedRound:
    """A published path of ``length`` contributors, peer 0 at the top."""
    return next(
        r for r in rounds(tuple(range(length - 1)), s, the_rule) if all(n.sent for n in r.nodes)
        and all(len(n.combined) == (i < length - 1) for i, n in enumerate(r.nodes))
    )  # fmt: skip


def test_path_by_hand() -> None:
    """0 <- 1 <- 2 <- 3 with S = 2: the outside learns the total; 1 and 2 are all neighbours that 0 and 3 have."""
    engine = Leakage(chain(4, 2))
    everybody = tuple((name(i), 1) for i in range(4))
    assert engine.by_algebra(()).sums == (everybody,)
    assert engine.by_algebra([name(1), name(3)]).values == ()  # 0 and 2 mask each other
    assert engine.by_algebra([name(1), name(2)]).values == (name(0), name(3))
    assert engine.by_algebra([name(2)]).sums == (((name(0), 1), (name(1), 1), (name(3), 1)),)
    assert engine.neighbours(name(1)) == (name(0), name(2), name(3))
    assert engine.neighbours(name(3)) == (name(1), name(2))
    assert engine.peers == tuple(map(name, range(4)))


def test_a_value_kept_back_by_an_honest_ancestor_hides_its_component() -> None:
    described = chain(4, 2)
    unpublished = replace(described, nodes=(replace(described.nodes[0], sent=False), *described.nodes[1:]))
    assert [c.hidden for c in leakage.mask_graph_components(unpublished, [name(2)])] == [True]
    assert leakage.learned(unpublished, [name(2)]).sums == ()


@pytest.mark.parametrize(
    ("node", "change"),
    [
        (1, {"received": ()}),
        (1, {"combined": (name(2), name(2))}),
        (3, {"received": (name(1),), "combined": (name(1),)}),
        (2, {"sent": False}),
        (2, {"peer": name(3)}),
        (3, {"ancestors": (name(1), name(2))}),
        (3, {"ancestors": (name(2), name(3))}),
        (3, {"ancestors": (name(2), name(2))}),
        (1, {"ancestors": (name(0), name(3))}),
    ],
)
def test_what_is_not_a_tree_is_refused(node: int, change: dict[str, object]) -> None:
    nodes = list(chain(4, 2).nodes)
    nodes[node] = replace(nodes[node], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"vector|twice"):
        Leakage(DescribedRound(2, tuple(nodes)))


def test_the_theorem_is_not_asked_about_other_protocols() -> None:
    described = chain(4, 2)
    relay = replace(described, nodes=(replace(described.nodes[0], contributed=False), *described.nodes[1:]))
    with pytest.raises(ValueError, match="theorem"):
        Leakage(relay).by_components([])
    assert Leakage(relay).by_algebra([]).sums


def test_sums_with_coefficients_are_reduced() -> None:
    """Three overlapping sums of two determine each value: only elimination sees it."""
    assert leakage._value_basis((0b011, 0b101, 0b110), 3) == (((0, 1),), ((1, 1),), ((2, 1),))
    assert leakage._value_basis((0b1011, 0b1101), 3) == (((1, leakage.PRIME - 1), (2, 1)),)
