"""Threads that nobody waits for at the end: what hangs in one does not keep the process.

Neighbours: ``peer.commands.run`` gives one to the event loop (name lookups), ``peer.daemon`` another to whatever works
on all records, ``peer.power.linux`` has one for its files.
Invariants: only what may be cut off anywhere runs there; nothing durable is written.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any


class LooseThreads(ThreadPoolExecutor):
    """At most so many threads, none of them while there is nothing to do.  An event loop takes no other base for its
    default."""

    def __init__(self, most: int, name: str) -> None:
        super().__init__(max_workers=most)
        self._most = most
        self._name = name
        self._guard = threading.Lock()
        self._threads_running = 0
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call ``fn`` when a thread is free; one that is cancelled before is not called."""
        future: Future[Any] = Future()
        with self._guard:
            self._calls.append((future, partial(fn, *args, **kwargs)))
            if self._threads_running < self._most:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._threads_running += 1
        return future

    def _work(self) -> None:
        while True:
            with self._guard:
                if not self._calls:
                    self._threads_running -= 1
                    return
                future, call = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
