"""When the seeds are called."""

from protocol.base.settings import LAN
from protocol.membership.dialling import BACKOFF_S, FEW, LONELY_PERIODS, Dialler


def calls(dialler: Dialler, known: int, start: int, seconds: int) -> list[int]:
    """The seconds after ``start`` at which a call is due, asked at every second."""
    return [t - start for t in range(start, start + seconds) if dialler.due(known, known, float(t))]


def test_alone_it_calls_at_once_then_with_growing_pauses() -> None:
    assert BACKOFF_S == (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    assert calls(Dialler(LAN), 0, 100, 100) == [0, 1, 3, 7, 15, 31, 61, 91]


def test_the_deadline_is_when_the_next_call_is_due() -> None:
    dialler = Dialler(LAN)
    assert dialler.deadline() == float("-inf")
    assert dialler.due(0, 0, 100.0)
    assert dialler.deadline() == 101.0
    assert not dialler.due(0, 0, 100.9)


def test_company_resets_the_pauses() -> None:
    dialler = Dialler(LAN)
    calls(dialler, 0, 0, 50)
    assert calls(dialler, 5, 50, 10) == []
    assert calls(dialler, 0, 60, 8) == [0, 1, 3, 7]


def test_in_company_it_calls_seldom_and_in_more_company_more_seldom() -> None:
    dialler = Dialler(LAN)
    calls(dialler, 0, 0, 1)
    assert calls(dialler, 2, 1, 100) == [LONELY_PERIODS, 2 * LONELY_PERIODS, 3 * LONELY_PERIODS]
    dialler = Dialler(LAN)
    calls(dialler, 0, 0, 1)
    assert calls(dialler, 10 * FEW, 1, 700) == [LONELY_PERIODS, 11 * LONELY_PERIODS, 21 * LONELY_PERIODS]


def test_who_comes_back_with_company_does_not_call_at_once() -> None:
    assert calls(Dialler(LAN), FEW, 0, 2 * LONELY_PERIODS) == [LONELY_PERIODS]
    assert calls(Dialler(LAN), FEW - 1, 0, 2 * LONELY_PERIODS) == [0, LONELY_PERIODS]
