"""Plots: which curves, and that nothing but the rows decides."""

from dataclasses import replace

import matplotlib
import pytest

from peer.laboratory.outline import Plot
from peer.laboratory.plots import curves, svg
from peer.laboratory.summary import Record

PLOT = Plot("Title", "x", ("y",), ("g",), (), (), "", "line", "x in $", "y & z")
ROWS: list[Record] = [
    {"x": x, "y": x * factor + noise, "z": 2 * noise, "g": factor, "name": "abc"[x - 1]}
    for factor in (1, 2)
    for x in (3, 1, 2)
    for noise in (-0.5, 0.5)
]


def test_curves_are_means_with_their_standard_errors() -> None:
    assert curves(PLOT, ROWS) == [
        ("g = 1", [3, 1, 2], [3.0, 1.0, 2.0], [0.5] * 3),
        ("g = 2", [3, 1, 2], [6.0, 2.0, 4.0], [0.5] * 3),
    ]
    two = replace(PLOT, y=("y", "z"), group=(), where=(("g", 2),), error=("x", "x"))
    assert [(label, errors) for label, _, _, errors in curves(two, ROWS)] == [("y", [3, 1, 2]), ("z", [3, 1, 2])]


def test_what_cannot_be_shown() -> None:
    with pytest.raises(LookupError, match="no column v, w$"):
        curves(replace(PLOT, x="v", group=("w",)), ROWS)
    with pytest.raises(LookupError, match="no row has"):
        curves(replace(PLOT, where=(("g", 9),)), ROWS)
    with pytest.raises(LookupError, match="no row has"):
        curves(PLOT, [{**row, "y": None} for row in ROWS])


@pytest.mark.parametrize("kind", ["line", "points", "bars"])
@pytest.mark.parametrize("x", ["x", "name"])
@pytest.mark.parametrize("log", ["", "xy"])
def test_every_kind_is_drawn(kind: str, x: str, log: str) -> None:
    shown = svg(replace(PLOT, kind=kind, x=x, log="" if x == "name" else log), ROWS, "s")
    assert shown.startswith("<svg")
    assert "x in $" in shown
    assert "y &amp; z" in shown
    assert "<metadata" not in shown


def test_a_users_own_settings_change_nothing() -> None:
    before = svg(PLOT, ROWS, "s")
    with matplotlib.rc_context({"axes.facecolor": "black", "svg.fonttype": "path", "font.size": 30}):
        assert svg(PLOT, ROWS, "s") == before
        assert matplotlib.rcParams["font.size"] == 30
    assert svg(PLOT, ROWS, "t") != before
