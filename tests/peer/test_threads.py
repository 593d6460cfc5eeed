"""Threads that nobody waits for: results and errors come back, not too many at once, and none holds up an end."""

import asyncio
import subprocess
import sys
import threading

import pytest

from peer.threads import LooseThreads


async def test_results_and_errors_come_back() -> None:
    loop, threads = asyncio.get_running_loop(), LooseThreads(2, "loose")
    assert await loop.run_in_executor(threads, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(threads, divmod, 7, 0)


def test_no_more_at_once_than_there_may_be_and_none_that_was_given_up() -> None:
    threads, running, go = LooseThreads(1, "loose"), threading.Event(), threading.Event()
    called: list[str] = []

    def hold() -> str:
        running.set()
        assert go.wait(10)
        return threading.current_thread().name

    first = threads.submit(hold)
    assert running.wait(10)
    given_up, last = threads.submit(called.append, "given up"), threads.submit(called.append, "last")
    assert given_up.cancel()
    assert not last.done()
    go.set()
    assert first.result(10) == "loose"
    last.result(10)
    assert called == ["last"]


def test_calls_that_wait_take_no_threads() -> None:
    before, go = threading.active_count(), threading.Event()
    threads = LooseThreads(2, "loose")
    calls = [threads.submit(go.wait, 10) for _ in range(100)]
    assert threading.active_count() <= before + 2
    go.set()
    assert all(call.result(10) for call in calls)


END = """
import asyncio, threading
from peer.threads import LooseThreads
began = threading.Event()
async def main():
    asyncio.get_running_loop().set_default_executor(LooseThreads(2, "loose"))
    for executor in (None, LooseThreads(1, "loose")):
        began.clear()
        asyncio.get_running_loop().run_in_executor(executor, lambda: (began.set(), threading.Event().wait()))
        began.wait()
    print("done", flush=True)
asyncio.run(main())
"""


def test_whatever_hangs_in_one_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
