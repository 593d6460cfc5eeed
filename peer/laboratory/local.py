"""Runs by processes of this machine.

Neighbours: ``work`` is what the processes do, ``runner`` chooses this engine.
Invariants: every worker has a pool of its own, so that a worker that dies takes exactly one run with it, and that run
is known; workers end when this process ends, however it ends.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, parent_process

from peer.laboratory.work import KILLED, TRIES, Outcome, Task, execute

START_S = 60.0
"""How long a worker that is to be ended may take to tell its process id."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalWorkers:
    """Processes, each carrying out one task at a time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def describe(self) -> str:
        """How many."""
        return f"{self.count} process{'' if self.count == 1 else 'es'} of this machine"

    def outcomes(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """See ``work.Engine``.  A run that kills its worker is tried again after all others."""
        waiting, deaths = deque(tasks), dict[str, int]()
        idle = [_Worker() for _ in range(min(self.count, len(tasks)))]
        busy: dict[Future[Outcome], tuple[_Worker, Task]] = {}
        try:
            while waiting or busy:
                while waiting and idle:
                    worker, task = idle.pop(), waiting.popleft()
                    busy[worker.submit(execute, task)] = worker, task
                wait(busy, return_when=FIRST_COMPLETED)
                for future in [future for future in busy if future.done()]:
                    worker, task = busy.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        worker.end()
                        worker = _Worker()
                        deaths[task.id] = deaths.get(task.id, 0) + 1
                        if deaths[task.id] < TRIES:
                            waiting.append(task)
                        else:
                            yield Outcome(task.id, [], KILLED)
                    else:
                        yield outcome
                    finally:
                        idle.append(worker)
        finally:
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                worker.end()


class _Worker:
    """One process, started with its first task."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with_parent)
        self._pid: Future[int] | None = None

    def submit(self, work: Callable[[Task], Outcome], task: Task) -> Future[Outcome]:
        if self._pid is None:
            # A new process inherits the mask: Ctrl-C is for this process alone, which then ends the others.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._pid = self._pool.submit(os.getpid)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            return self._pool.submit(work, task)
        except BrokenProcessPool as error:  # it died before it could take the task
            failed: Future[Outcome] = Future()
            failed.set_exception(error)
            return failed

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self._pid is not None:
            with suppress(BrokenProcessPool, ProcessLookupError, TimeoutError):  # if it has ended already
                os.kill(self._pid.result(START_S), signal.SIGKILL)
        self._pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a worker: go when the process that started it is gone, even by SIGKILL, and even in the middle of a run."""

    def follow() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
