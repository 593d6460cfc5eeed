"""Threads that nobody waits for at the end: what hangs in one does not keep the process.

Neighbours: ``peer.commands.run`` gives one to the event loop (name lookups), ``peer.daemon`` another to whatever works
on all records.
Invariants: only what may be cut off anywhere runs there; nothing durable is written.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class LooseThreads(ThreadPoolExecutor):
    """At most so many threads at once, a new one for each call.  An event loop takes no other base for its default."""

    def __init__(self, most: int, name: str) -> None:
        super().__init__(max_workers=most)
        self._free = threading.Semaphore(most)
        self._name = name

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Call ``fn`` when a thread is free; one that is cancelled before is not called."""
        future: Future[Any] = Future()

        def call() -> None:
            with self._free:
                if not future.set_running_or_notify_cancel():
                    return
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        threading.Thread(target=call, name=self._name, daemon=True).start()
        return future
