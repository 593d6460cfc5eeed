"""What is told once a day, for each source and kind."""

import pytest

from peer.transport.once import OncePer


def test_once_a_day_for_each_source_and_kind_and_so_many_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("peer.transport.once.time.monotonic", lambda: now[0])
    once = OncePer(most=2)
    assert [once.first("a", "x"), once.first("a", "x"), once.first("a", "y")] == [True, False, True]
    assert once.counts == {"x": 2, "y": 1}
    assert once.first("b", "x") is False  # enough for today
    now[0] += 86_399
    assert once.first("b", "x") is False
    now[0] += 1
    assert [once.first("b", "x"), once.first("a", "x"), once.first("a", "y")] == [True, True, False]
    assert once.counts == {"x": 6, "y": 2}
