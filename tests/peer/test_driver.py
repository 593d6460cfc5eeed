"""The driver: effects in order, durable before visible, one timer, no going on after an error, strangers answered."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from peer.delivery import INLINE_BYTES
from peer.driver import Clock
from peer.errors import StorageError
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, Answer
from protocol import reports
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import RoundId, TaskId
from protocol.effects import (
    Dial,
    DropTask,
    PersistIdentity,
    PersistRound,
    PersistUse,
    Report,
    SaveCheckpoint,
    SaveTask,
    Send,
    Work,
)
from protocol.events import MessageReceived, PeerFound, SendFailed, Stopping, TimePassed, WorkDone, WorkFailed
from protocol.wire.messages import Checkpoint, Leave, Partial
from protocol.work import RoundWork
from tests.peer.driving import FOREVER, NOW, Member, Stand, members, turns, until

TASK = TaskId(bytes(16))
USE = PersistUse((b"model", b"parameters"))
A, B, C = (RoundWork(RoundId(letter * 16), "own") for letter in (b"a", b"b", b"c"))
EVENT = Stopping()
"""Something that happens; what the node makes of it, each test says."""


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    await made.driver.close()


@dataclass
class Job:
    """Returns what it is told to; may raise, or wait for the test."""

    result: Any
    cost_bytes: int = 0
    go: threading.Event | None = None

    def run(self) -> Any:
        if self.go is not None:
            assert self.go.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        return (self.result, threading.current_thread().name.partition("_")[0])


def told(age: int) -> Report:
    return Report(reports.ModelAdvanced(TASK, age))


def partial(size: int) -> Partial:
    return Partial(RoundId(b"p" * 16), 1, 3, (), bytes(size))


# --- effects ------------------------------------------------------------------------------------------------------


async def test_effects_are_carried_out_in_order_and_wait_for_what_must_be_durable(stand: Stand) -> None:
    to = stand.members[1].descriptor
    stand.say(
        told(1), SaveCheckpoint(Checkpoint(TASK, 2, b"")), PersistRound(RoundId(b"r" * 16), NOW + 9), told(3),
        Send(to, Leave(4)), USE, told(5), SaveTask(b"task", b"", b""), told(6),
        DropTask(TASK, b"task"), told(7), PersistIdentity(7, 8), told(9),
    )  # fmt: skip
    stand.driver.post(EVENT)
    await turns()
    before = [("told", told(1).item), ("kept", 2), ("begun", b"r" * 16)]
    assert stand.trace == before
    assert stand.wire.posts == []

    await stand.disk.durable()
    assert stand.trace[3:] == [("told", told(3).item), ("begun", USE.keys)]
    assert [address for address, *_ in stand.wire.posts] == ["10.0.0.1:1"]

    await stand.disk.durable()
    assert stand.trace[5:] == [("told", told(5).item), ("begun", b"task")]
    await stand.disk.durable()
    assert stand.trace[7:] == [("told", told(6).item), ("begun", TASK)]
    await stand.disk.durable()
    assert stand.trace[9:] == [("told", told(7).item), ("begun", (7, 8))]
    await stand.disk.durable()
    assert stand.trace[11:] == [("told", told(9).item)]
    assert stand.failures == []


async def test_the_node_is_told_what_happens_meanwhile_but_its_effects_stand_in_line(stand: Stand) -> None:
    stand.say(USE, told(1))
    stand.driver.post(EVENT)
    stand.say(told(2))
    stand.driver.post(TimePassed())
    assert stand.node.heard == [EVENT, TimePassed()]
    assert stand.trace == [("begun", USE.keys)]
    await turns()
    await stand.disk.durable()
    assert stand.trace[1:] == [("told", told(1).item), ("told", told(2).item)]


async def test_what_could_not_be_made_durable_is_the_end_and_nothing_follows_it(stand: Stand) -> None:
    stand.say(PersistRound(RoundId(b"r" * 16), NOW + 9), Send(stand.members[1].descriptor, Leave(1)), told(1))
    stand.driver.post(EVENT)
    await turns()
    full = StorageError("the disk is full")
    stand.disk.pending.popleft().set_exception(full)
    await turns()
    assert set(stand.failures) == {full}
    stand.say(told(2))
    stand.driver.post(TimePassed())
    await turns()
    assert stand.trace == [("begun", b"r" * 16)]
    assert stand.wire.posts == []
    assert stand.node.heard == [EVENT]
    assert await stand.driver.on_envelope(b"", "10.0.0.9") == Answer(503)


async def test_a_node_that_has_failed_is_not_asked_again(stand: Stand) -> None:
    def broken(event: Any) -> Any:
        raise KeyError("a bug")

    stand.node.answer, stand.node.deadline = broken, NOW + 1e6
    with pytest.raises(KeyError):
        stand.driver.post(EVENT)
    assert [type(error) for error in stand.failures] == [KeyError]
    stand.driver.post(TimePassed())
    assert stand.node.heard == [EVENT]
    await asyncio.wait_for(stand.driver.drained(60.0), 5)  # there is nothing to wait for


async def test_an_error_in_carrying_out_is_the_end_too(stand: Stand) -> None:
    def full(item: Any) -> None:
        raise OSError("no space left for the recording")

    stand.observer.hook = full
    stand.say(USE, told(1), Send(stand.members[1].descriptor, Leave(1)))
    stand.driver.post(EVENT)
    await turns()
    stand.disk.pending.popleft().set_result(None)
    asyncio.get_running_loop().call_soon(stand.driver.post, TimePassed())  # right after what waited for the disk
    await turns()
    assert {str(error) for error in stand.failures} == {"no space left for the recording"}
    stand.driver.post(TimePassed())
    assert stand.wire.posts == []
    assert stand.node.heard == [EVENT]


# --- work ---------------------------------------------------------------------------------------------------------


async def test_small_work_is_done_at_once_and_comes_back_in_order(stand: Stand) -> None:
    error = ValueError("no")
    stand.say(Work(A, Job(1, INLINE_BYTES)), told(1), Work(B, Job(error)), Work(C, Job(3)))
    stand.driver.post(EVENT)
    here = threading.current_thread().name.partition("_")[0]
    expected = [WorkDone(A, (1, here)), WorkFailed(B, error), WorkDone(C, (3, here))]
    assert stand.node.heard == [EVENT, *expected]


async def test_small_work_after_something_durable_comes_back_in_order_and_before_what_happens_later(
    stand: Stand,
) -> None:
    stand.say(USE, *(Work(RoundWork(A.round, "absorb", i), Job(i)) for i in range(4)))
    stand.driver.post(EVENT)
    await turns()
    assert stand.node.heard == [EVENT]
    await stand.disk.durable()
    assert [e.result[0] for e in stand.node.heard[1:] if isinstance(e, WorkDone)] == [0, 1, 2, 3]


async def test_what_happens_between_small_work_and_its_result_is_told_after_the_result(stand: Stand) -> None:
    stand.observer.hook = lambda item: stand.driver.post(TimePassed())
    stand.say(USE, Work(A, Job(1)), Work(B, Job(2)), told(3))
    stand.driver.post(EVENT)
    await turns()
    await stand.disk.durable()
    assert [getattr(e, "purpose", e) for e in stand.node.heard] == [EVENT, A, B, TimePassed()]


async def test_only_a_failure_of_its_own_is_told_and_that_once_without_its_text(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    own, large = ValueError("0.1234 of a record"), Job(KeyError("0.1234"), INLINE_BYTES + 1)
    stand.say(Work(A, Job(Refused(Refusal.MALFORMED))), Work(A, Job(own)), Work(B, Job(own)), Work(C, large))
    stand.driver.post(EVENT)
    await until(lambda: len(stand.node.heard) == 5)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    for name, record in zip(("ValueError", "KeyError"), caplog.records, strict=True):
        assert record.getMessage().startswith(f"{name} at {__file__}:")
        assert "in the step 'own'" in record.getMessage()
        assert "0.1234" not in record.getMessage()


@pytest.mark.parametrize("fails", [False, True])
async def test_large_work_runs_in_a_thread_while_the_node_goes_on(stand: Stand, fails: bool) -> None:
    go, error = threading.Event(), ValueError("no")
    stand.say(Work(A, Job(error if fails else 7, INLINE_BYTES + 1, go)), told(1))
    stand.driver.post(EVENT)
    stand.driver.post(TimePassed())
    await turns()
    assert stand.node.heard == [EVENT, TimePassed()]
    assert stand.trace == [("told", told(1).item)]
    go.set()
    await until(lambda: len(stand.node.heard) == 3)
    assert stand.node.heard[2] == (WorkFailed(A, error) if fails else WorkDone(A, (7, "work")))


# --- time ---------------------------------------------------------------------------------------------------------


class Timers:
    """The loop's timers: none ever fires by itself."""

    def __init__(self) -> None:
        self.set: list[list[Any]] = []
        """Delay, callback, whether it was cancelled."""

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Any:
        timer = [delay, lambda: callback(*args), False]
        self.set.append(timer)
        return SimpleNamespace(cancel=lambda: timer.__setitem__(2, True))

    @property
    def running(self) -> list[float]:
        return [delay for delay, _, cancelled in self.set if not cancelled]


async def test_one_timer_follows_the_deadline(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
    stand.node.deadline = NOW + 60
    stand.driver.post(EVENT)
    assert timers.running == [pytest.approx(60, abs=1e-3)]
    stand.node.deadline = NOW + 5  # something nearer has come up
    stand.driver.post(EVENT)
    assert timers.running == [pytest.approx(5, abs=1e-3)]
    stand.time.now += 5.001
    stand.node.deadline = FOREVER
    stand.node.heard.clear()
    timers.set[-1][1]()
    assert stand.node.heard == [TimePassed()]
    assert timers.running == []
    stand.node.deadline = NOW - 100  # long past: at once, not a negative time ago
    stand.driver.post(EVENT)
    assert timers.running == [pytest.approx(0, abs=1e-3)]
    await stand.driver.close()
    assert timers.running == []


def test_the_clock_takes_up_the_wall_clock_after_a_suspend_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = [NOW], [50.0]
    monkeypatch.setattr("peer.driver.time", SimpleNamespace(time=lambda: wall[0], monotonic=lambda: steady[0]))
    clock = Clock()

    def pass_(wall_s: float, steady_s: float) -> float:
        wall[0] += wall_s
        steady[0] += steady_s
        return clock() - NOW

    assert pass_(0, 0) == 0
    assert pass_(10, 10) == pytest.approx(10)
    assert pass_(0.9, 0) == pytest.approx(10)  # a small correction is not followed
    assert pass_(-0.9, 0) == pytest.approx(10)
    assert pass_(3600, 1) == pytest.approx(3610)  # suspended: the monotonic clock stood still
    assert pass_(-1800, 1) == pytest.approx(3611)  # somebody set the clock back
    assert pass_(5, 5) == pytest.approx(3616)
    assert pass_(1790, 0) == pytest.approx(3616)  # caught up, as good as
    assert pass_(20, 0) == pytest.approx(3625)  # and ahead again
    assert clock.ahead_s() == pytest.approx(0, abs=1)
    assert pass_(-600, 0) == pytest.approx(3625)
    assert clock.ahead_s() == pytest.approx(600)
    clock.set()
    assert pass_(1, 1) == pytest.approx(3026, abs=0.1)


# --- leaving ------------------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way_and_nothing_is_handled_after_it(stand: Stand) -> None:
    go, hung = threading.Event(), asyncio.get_running_loop().create_future()
    stand.wire.replies["10.0.0.1:1", ENVELOPE_PATH] = lambda body: hung
    stand.node.deadline = NOW
    stand.say(
        Send(stand.members[1].descriptor, Leave(1)), Work(A, Job(1, INLINE_BYTES + 1, go)), USE,
        told(1),
    )  # fmt: skip
    stand.driver.post(EVENT)
    await turns()
    envelope = stand.members[1].seal(stand.members[0], Leave(1))
    assert await stand.driver.on_envelope(envelope, "10.0.0.9") == Answer(202)  # its event has not been handled yet
    stand.node.heard.clear()
    async with asyncio.timeout(5):
        await stand.driver.close()
    assert hung.cancelled()
    go.set()
    stand.driver.post(EVENT)
    await turns(20)
    assert stand.node.heard == []
    assert stand.trace == [("begun", USE.keys)]
    assert await stand.driver.on_envelope(envelope, "10.0.0.9") == Answer(503)
    assert stand.driver.on_hello(stand.members[2].descriptor.raw, "10.0.0.9") == Answer(503)
    await stand.driver.close()  # once more is harmless
    assert [type(error) for error in stand.failures] in ([], [asyncio.CancelledError])


async def test_drained_waits_until_all_is_sent_and_the_node_is_idle(stand: Stand) -> None:
    answer = asyncio.get_running_loop().create_future()
    stand.wire.replies["10.0.0.1:1", ENVELOPE_PATH] = lambda body: answer
    stand.node.idle = False
    stand.say(USE, Send(stand.members[1].descriptor, Leave(1)))
    stand.driver.post(EVENT)
    drained = asyncio.ensure_future(stand.driver.drained(60.0))
    await turns()
    await stand.disk.durable()
    await turns()
    assert not drained.done()
    answer.set_result(Answer(202))
    await turns()
    assert not drained.done()  # all is sent; the node waits for an answer
    stand.node.idle = True
    await asyncio.wait_for(drained, 5)


async def test_drained_does_not_wait_beyond_its_time(stand: Stand) -> None:
    stand.wire.replies["10.0.0.1:1", ENVELOPE_PATH] = lambda body: asyncio.get_running_loop().create_future()
    stand.say(Send(stand.members[1].descriptor, Leave(1)))
    stand.driver.post(EVENT)
    await asyncio.wait_for(stand.driver.drained(0.01), 5)


# --- sending ------------------------------------------------------------------------------------------------------


async def test_the_node_hears_of_what_was_not_delivered_and_of_nothing_else(stand: Stand) -> None:
    to = stand.members[1].descriptor
    stand.wire.replies["10.0.0.1:1", ENVELOPE_PATH] = Answer(202)
    stand.say(Send(to, Leave(1)))
    stand.driver.post(EVENT)
    await turns()
    assert stand.node.heard == [EVENT]
    stand.wire.replies.clear()
    stand.say(Send(to, Leave(2)))
    stand.driver.post(EVENT)
    await until(lambda: len(stand.node.heard) == 3)
    assert stand.node.heard[2] == SendFailed(to.peer, Leave(2))


async def test_the_seeds_are_dialled_once_at_a_time(stand: Stand) -> None:
    answers: list[asyncio.Future[Answer]] = []

    def hello(body: bytes) -> asyncio.Future[Answer]:
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    stand.seeds = ["192.0.2.1:7000"]
    stand.wire.replies["192.0.2.1:7000", HELLO_PATH] = hello
    stand.node.answer = lambda event: [Dial()] if event == EVENT else []
    stand.driver.post(EVENT)
    stand.driver.post(EVENT)
    await turns()
    assert len(answers) == 1
    answers[0].set_result(Answer(200, stand.members[2].descriptor.raw))
    await turns()
    assert stand.node.heard == [EVENT, EVENT, PeerFound(stand.members[2].descriptor)]
    stand.driver.post(EVENT)
    await turns()
    assert len(answers) == 2


async def test_the_speed_of_a_link_is_that_of_the_address_that_was_measured(stand: Stand) -> None:
    stranger, known = stand.members[2].descriptor.peer, stand.members[1].descriptor.peer
    assert stand.driver.link_speed(stranger) is None
    assert stand.driver.link_speed(known) is None
    stand.wire.speeds["10.0.0.1:1"] = 5e6
    assert stand.driver.link_speed(known) == 5e6


# --- receiving ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 2 * INLINE_BYTES])
async def test_an_envelope_is_answered_first_and_told_to_the_node_after(stand: Stand, size: int) -> None:
    me, other = stand.members[:2]
    answer = await stand.driver.on_envelope(other.seal(me, partial(size)), "10.0.0.2")
    assert answer == Answer(202)
    assert stand.node.heard == []
    await turns(1)
    assert stand.node.heard == [MessageReceived(other.descriptor, partial(size))]
    assert stand.observer.counts.received == {"partial": 1}


def flipped(envelope: bytes, at: int) -> bytes:
    changed = bytearray(envelope)
    changed[at] ^= 1
    return bytes(changed)


def foreign_envelope() -> bytes:
    one, two = members(2, "another network")
    return one.seal(two, Leave(1))


REFUSED: dict[str, tuple[int, str, Callable[[list[Member]], bytes]]] = {
    "no envelope": (400, "MALFORMED", lambda m: b"hello?"),
    "of another peer": (421, "WRONG_RECIPIENT", lambda m: m[1].seal(m[2], Leave(1))),
    "of another network": (403, "WRONG_NETWORK", lambda m: foreign_envelope()),
    "of a stranger": (428, "UNKNOWN_SENDER", lambda m: m[2].seal(m[0], Leave(1))),
    "too late": (400, "EXPIRED", lambda m: m[1].seal(m[0], Leave(1), now=NOW - 1000)),
    "tampered with": (400, "BAD_SIGNATURE", lambda m: flipped(m[1].seal(m[0], Leave(1)), -1)),
    "with another body": (400, "BAD_SEAL", lambda m: flipped(m[1].seal(m[0], partial(8)), -20)),
    "with another large body": (400, "BAD_SEAL", lambda m: flipped(m[1].seal(m[0], partial(2 * INLINE_BYTES)), -200)),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused_is_counted_and_answered_with_the_reason(stand: Stand, what: str) -> None:
    status, reason, make = REFUSED[what]
    assert await stand.driver.on_envelope(make(stand.members), "10.0.0.9") == Answer(status)
    await turns()
    assert stand.observer.counts.refused == {reason: 1}
    assert stand.observer.counts.received == {}
    assert stand.node.heard == []


async def test_a_replay_and_a_key_that_is_gone(stand: Stand) -> None:
    me, other = stand.members[:2]
    envelope = other.seal(me, Leave(1))
    late = other.seal(me, Leave(2))
    assert await stand.driver.on_envelope(envelope, "10.0.0.2") == Answer(202)
    assert await stand.driver.on_envelope(envelope, "10.0.0.2") == Answer(409)
    again = Stand()
    again.members[0].restart()
    again.driver.attach(again.node, None, again.members[0].opener)  # type: ignore[arg-type]
    assert await again.driver.on_envelope(late, "10.0.0.2") == Answer(410)
    await turns()
    assert stand.observer.counts.refused == {"REPLAYED": 1}
    assert again.observer.counts.refused == {"UNKNOWN_EPOCH": 1}
    assert [type(event) for event in stand.node.heard] == [MessageReceived]
    await again.driver.close()


async def test_a_stranger_who_brings_its_descriptor_is_none(stand: Stand) -> None:
    me, _, stranger = stand.members
    assert await stand.driver.on_envelope(stranger.seal(me, Leave(1), introduce=True), "10.0.0.3") == Answer(202)
    await turns()
    assert stand.node.heard == [MessageReceived(stranger.descriptor, Leave(1))]


async def test_a_member_who_says_hello_is_told_who_is_here(stand: Stand) -> None:
    """And the node hears nothing of it: anybody may have sent this descriptor, any number of times."""
    newcomer = stand.members[2].descriptor
    assert stand.driver.on_hello(newcomer.raw, "10.0.0.3") == Answer(200, stand.node.descriptor.raw)
    assert stand.driver.on_hello(stand.node.descriptor.raw, "10.0.0.1").status == 200  # this peer itself, by a detour
    await turns()
    assert stand.node.heard == []


async def test_whoever_else_says_hello_is_told_why_not_and_what_time_it_is(stand: Stand) -> None:
    for body, reason in ((members(1, "another network")[0].descriptor.raw, "NOT_A_MEMBER"), (b"hello?", "MALFORMED")):
        answer = stand.driver.on_hello(body, "10.0.0.9")
        assert answer == Answer(403, f'{{"reason": "{reason}", "time": {NOW}}}'.encode())
    await turns()
    assert stand.observer.counts.refused == {"NOT_A_MEMBER": 1, "MALFORMED": 1}
    assert stand.node.heard == []
