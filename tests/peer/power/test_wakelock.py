"""The wake lock: taken once for rounds in a row, always given back, and never a reason to stop."""

import asyncio
import time
from collections.abc import Callable

import pytest

from peer.power import wakelock
from peer.power.wakelock import WakeLock
from tests.peer.power.termux import LOCK, UNLOCK, Prefix


@pytest.fixture
def phone(prefix: Prefix) -> Prefix:
    for name in (LOCK, UNLOCK):
        prefix.script(name, "")
    return prefix


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0.01)


async def test_taken_and_given_back(phone: Prefix) -> None:
    lock = WakeLock(phone.environment, linger_s=0.01)
    lock.wanted(True)
    await until(lambda: lock.held)
    lock.wanted(False)
    await until(lambda: not lock.held)
    assert phone.calls() == [LOCK, UNLOCK]


async def test_rounds_in_a_row_share_one_lock(phone: Prefix) -> None:
    lock = WakeLock(phone.environment, linger_s=0.5)
    for _ in range(200):
        lock.wanted(True)
        await asyncio.sleep(0.001)
        lock.wanted(False)
        await asyncio.sleep(0.001)
    await until(lambda: not lock.held)
    assert phone.calls() == [LOCK, UNLOCK]


async def test_one_child_at_a_time(phone: Prefix) -> None:
    busy = phone.root / "busy"
    for name in (LOCK, UNLOCK):
        phone.script(name, f"mkdir {busy} || echo clash >> {phone.root}/clash; sleep 0.1; rmdir {busy}")
    lock = WakeLock(phone.environment, linger_s=0.0)
    for _ in range(50):
        lock.wanted(True)
        await asyncio.sleep(0.005)
        lock.wanted(False)
        await asyncio.sleep(0.005)
    await lock.release()
    assert not (phone.root / "clash").exists()
    assert phone.calls()[-1] == UNLOCK


async def test_release_does_not_linger(phone: Prefix) -> None:
    lock = WakeLock(phone.environment, linger_s=1000)
    lock.wanted(True)
    await until(lambda: lock.held)
    lock.wanted(False)
    await lock.release()
    assert not lock.held
    assert phone.calls() == [LOCK, UNLOCK]
    await lock.release()
    assert phone.calls() == [LOCK, UNLOCK]


async def test_release_while_it_is_being_taken(phone: Prefix) -> None:
    phone.script(LOCK, "sleep 0.2")
    lock = WakeLock(phone.environment)
    lock.wanted(True)
    await lock.release()
    assert not lock.held
    assert phone.calls() in ([], [LOCK, UNLOCK])


async def test_a_command_that_hangs_does_not_keep_a_peer_from_leaving(
    phone: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakelock, "RELEASE_S", 0.2)
    phone.script(UNLOCK, "exec sleep 1000")
    lock = WakeLock(phone.environment)
    lock.wanted(True)
    await until(lambda: lock.held)
    began = time.monotonic()
    await lock.release()
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("text", "said"),
    [("exit 1", "failed with code 1"), ("exec sleep 1000", "did not answer within 0.2 s"), (None, "is not installed")],
)
async def test_what_fails_is_said_once(
    prefix: Prefix, caplog: pytest.LogCaptureFixture, text: str | None, said: str
) -> None:
    for name in (LOCK, UNLOCK):
        if text is not None:
            prefix.script(name, text)
    lock = WakeLock(prefix.environment | {"PATH": "/nowhere:/bin:/usr/bin"}, linger_s=0.0, timeout_s=0.2)
    for _ in range(3):
        lock.wanted(True)
        await until(lambda: lock.held)
        lock.wanted(False)
        await until(lambda: not lock.held)
    assert [record.getMessage() for record in caplog.records] == [
        f"{LOCK} {said}; rounds may stop while the screen is off (this is said once)"
    ]
