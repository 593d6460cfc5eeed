"""Progress where there is no terminal: plain lines, not too many, with the time left."""

import io
import sys

import pytest

from peer.laboratory import progress
from peer.laboratory.progress import Lines


def test_lines_at_intervals_with_the_time_left() -> None:
    now, lines = 0.0, list[str]()
    shown = Lines(120, 20, lines.append, lambda: now)
    shown.about("try")
    for done in range(21, 121):
        now += 4.0
        shown.move(float(done))
    assert len(lines) == 34
    assert lines[0] == "try: 23 of 120 runs, 6 min left"  # 97 runs of 4 s
    assert lines[-2] == "try: 119 of 120 runs, 4 s left"
    assert lines[-1] == "try: 120 of 120 runs"


def test_a_single_run_is_told_in_percent() -> None:
    now, lines = 0.0, list[str]()
    shown = Lines(1, 0, lines.append, lambda: now)
    shown.about("one")
    now = 7200.0
    shown.move(0.25)
    assert lines == ["one: 25%, 6 h 0 min left"]


def test_where_it_goes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.shown(2, 2) as nothing:
        nothing.about("try")
        nothing.move(2)
    with progress.shown(2) as shown:
        shown.about("try")
        shown.move(2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "try: 2 of 2 runs\n")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.shown(2, 1) as bar:
        bar.about("try")
        bar.move(2)
    assert capsys.readouterr().out == ""
    assert "try" in sys.stderr.getvalue()  # type: ignore[attr-defined]
