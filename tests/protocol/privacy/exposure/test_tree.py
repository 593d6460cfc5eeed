"""Shapes as numbers and node by node, and what is no shape."""

from collections import Counter

import pytest

from protocol.base.errors import ConfigurationError
from protocol.privacy.exposure import Faults, Shape, Tree
from protocol.privacy.exposure.tree import check_corrupt


def test_a_shape_node_by_node() -> None:
    shape = Shape(branching=3, depth=3, trunk=1, collusion_threshold=2)
    tree = shape.tree()
    assert shape.widths == (1, 1, 3, 9)
    assert tree.parents == (-1, 0, 1, 1, 1, *[2] * 3, *[3] * 3, *[4] * 3)
    assert tree.nodes == shape.nodes == 14
    assert Counter(tree.depths()) == {0: 1, 1: 1, 2: 3, 3: 9}
    assert tree.ancestors(8) == [3, 1]
    assert tree.children()[3] == [8, 9, 10]


@pytest.mark.parametrize("shape", [Shape(1, 3), Shape(2, 4), Shape(3, 3, 1), Shape(4, 4, 3, 4), Shape(2, 3, 3, 2)])
def test_the_kinds_of_a_shape_are_those_of_its_tree(shape: Shape) -> None:
    assert shape.kinds() == shape.tree().kinds()


def test_kinds_of_an_uneven_tree() -> None:
    """0 - (1, 2, 3), 1 - 4, 2 - 5, 3 - (6, 7): 1 and 2 are alike, and so are all leaves, at one depth."""
    kinds = Tree(2, (-1, 0, 0, 0, 1, 2, 3, 3)).kinds()
    assert [(k.depth, k.count) for k in kinds] == [(0, 1), (1, 2), (1, 1), (2, 4)]
    assert [k.children for k in kinds] == [((1, 2), (2, 1)), ((3, 1),), ((3, 2),), ()]


@pytest.mark.parametrize("parents", [(), (0,), (-1, 1), (-1, 0, 2), (-1, -1)])
def test_no_tree(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="parents"):
        Tree(3, parents)


@pytest.mark.parametrize(
    ("numbers", "sentences"),
    [
        ((0, 0, -1, 1), ["branching 0", "depth 0", "trunk -1", "collusion threshold 1"]),
        ((2, 2, 0, 3), ["leaves at depth 2"]),
        ((2, 2, 3, 3), ["leaves at depth 2", "a trunk of 3"]),
        ((2, 20, 0, 3), ["a tree of 2097151 nodes"]),
        ((65, 65, 65, 17), ["branching 65", "depth 65", "trunk 65", "collusion threshold 17"]),
    ],
)
def test_no_shape_and_every_reason(numbers: tuple[int, int, int, int], sentences: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Shape(*numbers)
    assert len(caught.value.problems) == len(sentences)
    assert all(p.startswith(s) for p, s in zip(caught.value.problems, sentences, strict=True))


def test_faults() -> None:
    faults = Faults(lost=0.2, late=0.25)
    assert (faults.arrives, faults.on_time) == (0.8, pytest.approx(0.6))
    with pytest.raises(ConfigurationError) as caught:
        Faults(-0.1, float("nan"))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_no_share_of_corrupt_peers(share: float) -> None:
    with pytest.raises(ConfigurationError, match="share of corrupt peers"):
        check_corrupt(share)
