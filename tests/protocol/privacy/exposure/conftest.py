"""Small trees for all tests of this room."""

from itertools import product

import pytest


def rooted_trees(size: int) -> list[tuple[int, ...]]:
    """The parents of one tree of every shape (no two isomorphic) with ``size`` nodes: 1, 1, 2, 4, 9, 20 of them."""

    def shape(parents: tuple[int, ...], node: int) -> str:
        below = sorted(shape(parents, v) for v, parent in enumerate(parents) if parent == node)
        return "(" + "".join(below) + ")"

    found: dict[str, tuple[int, ...]] = {}
    for above in product(*[range(v) for v in range(1, size)]):
        parents = (-1, *above)
        found.setdefault(shape(parents, 0), parents)
    return list(found.values())


@pytest.fixture(scope="session")
def small_trees() -> dict[int, list[tuple[int, ...]]]:
    """By number of nodes, up to six."""
    return {size: rooted_trees(size) for size in range(1, 7)}
