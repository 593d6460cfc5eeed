"""Progress where there is no terminal: plain lines, not too many, with the time left."""

import sys

import pytest

from peer import progress
from peer.progress import Lines
from tests.peer.terminal import terminal


def test_lines_at_intervals_with_the_time_left() -> None:
    now, lines = 0.0, list[str]()
    shown = Lines(120, 20, lines.append, lambda: now)
    shown.about("try")
    for done in range(21, 121):
        now += 4.0
        shown.move(float(done))
    assert len(lines) == 34
    assert lines[0] == "try: 23 of 120, 6 min left"  # 97 runs of 4 s
    assert lines[-2] == "try: 119 of 120, 4 s left"
    assert lines[-1] == "try: 120 of 120"


def test_a_single_run_is_told_in_percent() -> None:
    now, lines = 0.0, list[str]()
    shown = Lines(1, 0, lines.append, lambda: now)
    shown.about("one")
    now = 7200.0
    shown.move(0.25)
    assert lines == ["one: 25%, 6 h 0 min left"]


def test_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(2, 2) as nothing:
        nothing.about("try")
        nothing.move(2)
    with progress.shown(2) as shown:
        shown.about("try")
        shown.move(2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "try: 2 of 2\n")


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with progress.shown(2, 1) as bar:
        bar.about("try")
        bar.move(2)
    assert capsys.readouterr().out == ""
    assert "try" in shown.getvalue()


@pytest.mark.parametrize("ticking", [True, False])
def test_a_bar_below_lines_of_ones_own(monkeypatch: pytest.MonkeyPatch, ticking: bool) -> None:
    shown = terminal(monkeypatch)
    with progress.bar(4, ticking=ticking) as bar:
        bar.about("try")
        bar.move(1)
        print("a line", file=sys.stderr)
        bar.move(3)
    assert "a line\n" in shown.getvalue()
    assert "75%" in shown.getvalue()


def test_no_bar_without_a_total_or_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with progress.bar(None) as bar:
        bar.about("try")
        bar.move(1)
    shown.there = False
    with progress.bar(2) as bar:
        bar.about("try")
        bar.move(1)
    assert shown.getvalue() == ""
