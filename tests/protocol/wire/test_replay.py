"""The replay cache: remembers exactly as long as it must, bounded, closed when full."""

import pytest

from protocol.base.errors import Refusal, Refused
from protocol.wire.replay import ReplayCache

A, B = b"a" * 16, b"b" * 16


def mid(n: int) -> bytes:
    return n.to_bytes(16, "big")


def reason(call, *args) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value.reason


def test_remembers_until_the_time_given():
    cache = ReplayCache()
    cache.remember(A, mid(1), 100.0, 50.0)
    assert cache.seen(A, mid(1))
    assert not cache.seen(B, mid(1))
    assert reason(cache.remember, A, mid(1), 100.0, 100.0) is Refusal.REPLAYED
    cache.remember(B, mid(1), 100.0, 100.0)
    cache.remember(A, mid(2), 300.0, 100.1)
    assert not cache.seen(A, mid(1))
    assert len(cache) == 1


def test_full_is_closed_and_forgets_nothing_early():
    cache = ReplayCache(capacity=3, per_sender=2)
    cache.remember(A, mid(1), 100.0, 0.0)
    cache.remember(A, mid(2), 110.0, 0.0)
    assert reason(cache.remember, A, mid(3), 100.0, 0.0) is Refusal.BUSY
    cache.remember(B, mid(3), 100.0, 0.0)
    assert reason(cache.remember, B, mid(4), 100.0, 0.0) is Refusal.BUSY
    assert all(cache.seen(*key) for key in ((A, mid(1)), (A, mid(2)), (B, mid(3))))
    cache.remember(A, mid(4), 200.0, 101.0)
    assert [cache.seen(A, mid(n)) for n in (1, 2, 3, 4)] == [False, True, False, True]
    assert reason(cache.remember, A, mid(5), 200.0, 101.0) is Refusal.BUSY


def test_nothing_is_left_of_a_sender_that_fell_silent():
    cache = ReplayCache()
    for n in range(100):
        cache.remember(mid(n), mid(n), 10.0, 0.0)
    cache.remember(A, A, 30.0, 20.0)
    assert len(cache) == len(cache._seen) == len(cache._by_sender) == 1
