"""Reach: own experience alone, bounded, and forgotten in time."""

from protocol.base.ids import PeerId
from protocol.membership.reach import RETRY_S, STRIKES, Contact, Reach

A = PeerId(b"a" * 16)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(16, "big"))


def test_what_was_missed_counts_until_something_is_heard() -> None:
    reach = Reach(8)
    assert reach.to(A, 0.0) is Contact.UNTRIED
    reach.missed(A, 1.0)
    assert reach.to(A, 2.0) is Contact.CLOSED
    assert not reach.ever(A)
    reach.heard(A, 3.0)
    assert reach.to(A, 4.0) is Contact.OPEN
    reach.missed(A, 5.0)
    assert reach.to(A, 6.0) is Contact.CLOSED
    assert reach.ever(A)


def test_a_closed_way_is_tried_again_later_and_after_a_move() -> None:
    reach = Reach(8)
    reach.missed(A, 0.0)
    assert reach.to(A, RETRY_S - 1) is Contact.CLOSED
    assert reach.to(A, RETRY_S + 1) is Contact.UNTRIED
    reach.missed(A, 1000.0)
    reach.moved(A)
    assert reach.to(A, 1001.0) is Contact.UNTRIED


def test_strikes_count_for_strangers_only_and_a_voucher_wipes_them_out() -> None:
    reach = Reach(8)
    assert [reach.strike(A) for _ in range(STRIKES)] == [False] * (STRIKES - 1) + [True]
    reach = Reach(8)
    for _ in range(STRIKES - 1):
        reach.strike(A)
    reach.vouched(A, 0.0)
    assert not reach.strike(A)
    reach.heard(A, 1.0)
    assert reach.strike(A)


def test_only_the_closed_that_others_vouch_for_are_hopeless() -> None:
    reach = Reach(8)
    reach.missed(A, 0.0)
    assert not reach.hopeless(A, 1.0)
    reach.vouched(A, 1.0)
    assert reach.hopeless(A, 2.0)
    assert not reach.hopeless(A, RETRY_S + 1)
    reach.heard(A, 3.0)
    assert not reach.hopeless(A, 4.0)


def test_silence_is_counted_from_the_latest_word() -> None:
    reach = Reach(8)
    assert reach.silence(A, 1e9) == float("inf")
    reach.heard(A, 3.0)
    reach.heard(A, 5.0)
    assert reach.silence(A, 7.5) == 2.5


def test_a_network_is_fickle_while_a_share_of_the_exchanges_meets_silence() -> None:
    reach = Reach(8)
    for answered, fickle in ((True, False), (False, True)):
        for _ in range(1000):
            reach.exchanged(answered)
        assert reach.fickle is fickle
    for every, fickle in ((20, True), (200, False)):
        for number in range(1000):
            reach.exchanged(answered=number % every != every // 2)
        assert reach.fickle is fickle


def test_memory_is_bounded() -> None:
    reach = Reach(8)
    for number in range(100):
        reach.heard(peer(number), float(number))
        reach.missed(peer(number), float(number))
        reach.vouched(peer(number), float(number))
        reach.strike(peer(number))
    for notes in (reach._heard, reach._missed, reach._vouched, reach._strikes):
        assert len(notes) == 8
        assert list(notes)[-1] == peer(99)
