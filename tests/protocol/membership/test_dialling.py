"""When the seeds are called."""

from collections import Counter

from protocol.base.ids import PeerId
from protocol.base.settings import LAN
from protocol.membership.dialling import BACKOFF_S, FEW, LONELY_PERIODS, Dialler

PEER = PeerId(bytes(16))


def calls(dialler: Dialler, known: int, start: int, seconds: int) -> list[int]:
    """The seconds after ``start`` at which a call is due, asked at every second."""
    return [t - start for t in range(start, start + seconds) if dialler.due(known, known, float(t))]


def test_alone_it_calls_at_once_then_with_growing_pauses() -> None:
    assert BACKOFF_S == (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    assert calls(Dialler(PEER, LAN), 0, 100, 100) == [0, 1, 3, 7, 15, 31, 61, 91]


def test_the_deadline_is_when_the_next_call_is_due() -> None:
    dialler = Dialler(PEER, LAN)
    assert dialler.deadline() == float("-inf")
    assert dialler.due(0, 0, 100.0)
    assert dialler.deadline() == 101.0
    assert not dialler.due(0, 0, 100.9)


def test_company_resets_the_pauses() -> None:
    dialler = Dialler(PEER, LAN)
    calls(dialler, 0, 0, 50)
    assert calls(dialler, 5, 50, 10) == []
    assert calls(dialler, 0, 60, 8) == [0, 1, 3, 7]


def test_in_company_it_calls_seldom_and_in_more_company_more_seldom() -> None:
    dialler = Dialler(PEER, LAN)
    calls(dialler, 0, 0, 1)
    assert calls(dialler, 2, 1, 100) == [LONELY_PERIODS, 2 * LONELY_PERIODS, 3 * LONELY_PERIODS]
    dialler = Dialler(PEER, LAN)
    calls(dialler, 0, 0, 1)
    assert calls(dialler, 10 * FEW, 1, 700) == [LONELY_PERIODS, 11 * LONELY_PERIODS, 21 * LONELY_PERIODS]


def test_who_comes_back_with_company_does_not_call_at_once() -> None:
    assert calls(Dialler(PEER, LAN), FEW, 0, 2 * LONELY_PERIODS) == [LONELY_PERIODS]
    assert calls(Dialler(PEER, LAN), FEW - 1, 0, 2 * LONELY_PERIODS) == [0, LONELY_PERIODS]


def test_the_peers_of_a_large_network_call_one_after_the_other() -> None:
    """However close together they joined: over two usual pauses, a few at a time."""
    others, at = 10_000, Counter[int]()
    pause = LONELY_PERIODS * others // FEW
    for number in range(200):
        dialler = Dialler(PeerId((number * 2**16 // 200).to_bytes(2, "little") + bytes(14)), LAN)
        assert calls(dialler, 0, 0, 2) == [0, 1]
        assert calls(dialler, others, 2, 3 * LONELY_PERIODS) == []
        times = [t for t in range(0, 2 * pause, pause // 100) if dialler.due(others, others, float(t))]
        assert 1 <= len(times) <= 4
        at.update(times)
    assert min(at) >= pause // 2
    assert max(at.values()) <= 8
