"""Turns: few messages and bytes to one peer, bounded bytes in all, and no peer that holds up another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from peer.transport.exchange import Unreachable
from peer.turns import Turns
from protocol.base.ids import PeerId
from tests.peer.driving import turns as pass_on

ONE, TWO, THREE = (PeerId(bytes([i] * 32)) for i in (1, 2, 3))


class Messages:
    """Messages by name; those that have their turn end when the test says."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self.left: list[float] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def send(self, name: str, to: PeerId, size: int, timeout_s: float = 60.0) -> None:
        """Until the message has its turn or waits for it."""
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._send(name, to, size, timeout_s))
        await pass_on()

    async def _send(self, name: str, to: PeerId, size: int, timeout_s: float) -> None:
        async with self.turns.turn(to, size, timeout_s) as left_s:
            self.begun.append(name)
            self.left.append(left_s)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await pass_on()


@asynccontextmanager
async def messages(**limits: int) -> AsyncIterator[Messages]:
    sent = Messages(Turns(**limits))
    yield sent
    for task in sent.tasks.values():
        task.cancel()
    await asyncio.gather(*sent.tasks.values(), return_exceptions=True)
    assert sent.turns.bytes_under_way == 0
    assert not sent.turns._peers, "nobody is remembered to whom nothing is under way"


async def test_messages_to_one_peer_are_bounded_in_their_order_and_others_go_on() -> None:
    async with messages(at_once=2) as sent:
        for name in "abcd":
            await sent.send(name, ONE, 1)
        await sent.send("other", TWO, 1)
        assert sent.begun == ["a", "b", "other"]
        await sent.end("b")
        assert sent.begun == ["a", "b", "other", "c"]


async def test_bytes_to_one_peer_are_bounded_and_small_messages_to_it_pass() -> None:
    async with messages(bytes_to_one=100, bytes_in_all=300, small=10) as sent:
        await sent.send("a", ONE, 60)
        await sent.send("b", ONE, 60)
        await sent.send("c", ONE, 30)  # would fit, but it is not its turn
        await sent.send("small", ONE, 10)
        await sent.send("other", TWO, 150)  # more than one may have: it takes all of that
        assert (sent.begun, sent.turns.bytes_under_way) == (["a", "small", "other"], 60 + 150)
        await sent.end("a")
        assert sent.begun[3:] == ["b", "c"]


async def test_bytes_in_all_are_bounded_and_small_messages_pass() -> None:
    async with messages(bytes_to_one=100, bytes_in_all=100, small=10) as sent:
        await sent.send("a", ONE, 60)
        await sent.send("b", TWO, 60)
        await sent.send("small", THREE, 10)
        await sent.send("small too", TWO, 10)
        assert sent.begun == ["a", "small", "small too"]
        await sent.end("a")
        assert sent.begun[3:] == ["b"]
        await sent.send("c", ONE, 500)  # more than there is
        assert sent.turns.bytes_under_way == 60
        await sent.end("b")
        assert sent.begun[4:] == ["c"]
        assert sent.turns.bytes_under_way == 100


async def test_large_messages_leave_a_turn_to_small_ones_be_they_under_way_or_waiting_for_bytes() -> None:
    async with messages(at_once=3, bytes_in_all=100, small=10) as sent:
        await sent.send("all there are", ONE, 100)
        for name in "abcd":
            await sent.send(name, TWO, 20)
        await sent.send("small", TWO, 10)
        assert sent.begun == ["all there are", "small"]
        await sent.end("all there are")
        assert sent.begun[2:] == ["a", "b"]
        await sent.end("small")
        await sent.send("small too", TWO, 10)
        assert sent.begun[4:] == ["small too"]
        await sent.end("a")
        assert sent.begun[5:] == ["c"]


@pytest.mark.parametrize("size", [1, 60])
async def test_waiting_ends_in_time_and_what_is_left_is_told(size: int) -> None:
    async with messages(at_once=1, small=10) as sent:
        await sent.send("a", ONE, size, 10.0)
        assert 9.0 < sent.left[0] <= 10.0
        await sent.send("b", ONE, size, 0.01)
        await sent.send("c", ONE, size)
        with pytest.raises(Unreachable, match=r"its turn did not come within 0\.01 s"):
            await sent.tasks["b"]
        await sent.end("a")
        assert sent.begun == ["a", "c"]


async def test_whoever_gives_up_waiting_no_longer_holds_up_those_behind_it() -> None:
    async with messages(bytes_to_one=100, small=10) as sent:
        for name, size in (("a", 60), ("b", 60), ("c", 30)):
            await sent.send(name, ONE, size)
        assert sent.begun == ["a"]
        sent.tasks["b"].cancel()
        await pass_on()
        assert sent.begun == ["a", "c"]


async def test_a_turn_that_comes_in_the_moment_it_is_given_up_is_passed_on() -> None:
    async with messages(at_once=1) as sent:
        for name in "abc":
            await sent.send(name, ONE, 1)
        sent._ends["a"].set()
        while not sent.tasks["a"].done():  # b is given up before its turn, with it, or after it
            await asyncio.sleep(0)
            sent.tasks["b"].cancel()
        await pass_on()
        assert sent.begun == ["a", "c"]


async def test_too_many_messages_to_one_peer_are_given_up_at_once() -> None:
    async with messages(at_once=1, most_to_one=3) as sent:
        for name in "abcd":
            await sent.send(name, ONE, 1)
        with pytest.raises(Unreachable, match="too many messages wait for it already"):
            await sent.tasks["d"]
        await sent.send("other", TWO, 1)
        assert sent.begun == ["a", "other"]
        await sent.end("a")
        await sent.send("e", ONE, 1)
        await sent.end("b")
        await sent.end("c")
        assert sent.begun[2:] == ["b", "c", "e"]
