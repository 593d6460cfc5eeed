"""The queue of news: bounded, newest word per peer, everybody's turn, about 3 log2(n + 1) transmissions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.base.ids import PeerId
from protocol.membership.rumours import RumourQueue, transmissions


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(16, "big"))


@pytest.mark.parametrize(("size", "times"), [(1, 3), (2, 5), (12, 12), (255, 24), (1_000_000, 60)])
def test_transmissions_grow_with_the_logarithm(size: int, times: int) -> None:
    assert transmissions(size) == times


def test_an_item_leaves_after_its_transmissions() -> None:
    queue: RumourQueue[str] = RumourQueue(4)
    queue.put(peer(1), "a")
    assert [queue.take(5, 3) for _ in range(4)] == [["a"], ["a"], ["a"], []]
    assert len(queue) == 0


def test_what_was_sent_least_goes_first() -> None:
    queue: RumourQueue[str] = RumourQueue(4)
    queue.put(peer(1), "old")
    queue.take(1, 9)
    queue.put(peer(2), "new")
    assert queue.take(1, 9) == ["new"]
    assert queue.take(2, 9) == ["old", "new"]


def test_newer_word_replaces_older_and_starts_again() -> None:
    queue: RumourQueue[str] = RumourQueue(4)
    queue.put(peer(1), "suspect")
    queue.take(1, 2)
    queue.put(peer(1), "dead")
    assert [queue.take(1, 2) for _ in range(3)] == [["dead"], ["dead"], []]


def test_when_full_the_most_travelled_gives_way() -> None:
    queue: RumourQueue[str] = RumourQueue(2)
    queue.put(peer(1), "a")
    queue.put(peer(2), "b")
    queue.take(9, 9, [peer(1)])
    queue.put(peer(3), "c")
    assert peer(2) not in queue
    assert peer(1) in queue
    assert peer(3) in queue


def test_unwanted_items_stay_untouched() -> None:
    queue: RumourQueue[str] = RumourQueue(2)
    queue.put(peer(1), "a")
    assert queue.take(1, 1, {peer(1)}) == []
    assert queue.take(1, 1) == ["a"]


def test_a_queue_without_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="capacity"):
        RumourQueue[str](0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 4))), st.integers(1, 5))
def test_never_more_than_capacity_and_each_peer_once(steps: list[tuple[int, int]], capacity: int) -> None:
    queue: RumourQueue[int] = RumourQueue(capacity)
    for number, count in steps:
        queue.put(peer(number), number)
        assert peer(number) in queue
        assert len(queue) <= capacity
        taken = queue.take(count, 3)
        assert len(taken) <= max(0, count)
        assert len(set(taken)) == len(taken)
