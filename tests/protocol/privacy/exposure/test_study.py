"""The study: rows of their own, what is left out, all mistakes at once, and a difference that shows."""

import math
from dataclasses import replace

import pytest

from protocol.base.errors import ConfigurationError
from protocol.privacy.exposure import Faults, Shape, Tree, closed_form, study


def test_a_row_does_not_depend_on_the_others() -> None:
    shape, faults = Shape(2, 3), Faults(0.1)
    many = study(shape, [0.1, 0.2, 0.3], faults, trees=100, seed=4, views=0)
    (alone,) = study(shape, [0.2], faults, trees=100, seed=4, views=0).rows
    assert many.rows[1] == alone
    assert many == study(shape, [0.1, 0.2, 0.3], faults, trees=100, seed=4, views=0)


def test_what_is_left_out() -> None:
    result = study(Shape(2, 5), [0.1], trees=0)
    assert result.faults == Faults()
    assert result.exact is None
    assert result.rows[0].monte_carlo is None
    assert result.largest_z == 0
    assert result.z_scores(result.rows[0], "published") == (None, None)


def test_the_engines_agree_and_a_wrong_theory_would_show() -> None:
    shape = Shape(2, 3, 1, 2)
    result = study(shape, [0.3, 0.6], trees=4000, seed=1)
    assert 0 < result.largest_z < 3
    assert result.z_scores(result.rows[0], "arrived")[1] == 0
    wrong = closed_form(Shape(2, 3, 1, 3), Faults(), 0.3)
    tampered = replace(result, rows=(replace(result.rows[0], theory=wrong),))
    assert tampered.largest_z == math.inf
    assert abs(tampered.z_scores(tampered.rows[0], "published")[0] or 0) > 5


def test_any_tree_can_be_studied() -> None:
    result = study(Tree(2, (-1, 0, 0, 1, 1, 2)), [0.4], Faults(0.2, 0.2), trees=3000, seed=2, views=1 << 15)
    assert result.exact is not None
    assert result.exact.complete
    assert result.largest_z < 3


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        study(Shape(2, 3), [0.5, 1.0, -1.0], trees=-1)
    assert len(caught.value.problems) == 3
