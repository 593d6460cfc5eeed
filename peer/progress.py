"""How far the work is: a bar with the time left on a terminal, plain lines at intervals elsewhere, on standard error.

Neighbours: ``study`` opens one, ``runner`` moves it; the demo and the bench have lines of their own and use ``bar``.
Invariants: it touches nothing else; the time left is reckoned from what was done since it was opened.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

INTERVAL_S = 10.0


class Progress(Protocol):
    """What moves."""

    def about(self, name: str) -> None:
        """What is being done now."""

    def move(self, done: float) -> None:
        """So much is done since it was opened, of the total."""


class Lines:
    """Plain lines."""

    def __init__(self, total: float, done: float, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._total, self._first, self._say, self._clock = total, done, say, clock
        self._began = self._told = clock()
        self._name = ""

    def about(self, name: str) -> None:
        """The name that begins the lines."""
        self._name = name

    def move(self, done: float) -> None:
        """Say a line if the last is ``INTERVAL_S`` ago, and at the end."""
        now = self._clock()
        if done < self._total and now - self._told < INTERVAL_S:
            return
        self._told = now
        left = (now - self._began) / (done - self._first) * (self._total - done) if done > self._first else None
        amount = f"{done:.0f} of {self._total:.0f}" if self._total > 1 else f"{done:.0%}"
        ending = "" if left is None or done >= self._total else f", {_span(left)} left"
        self._say(f"{self._name}: {amount}{ending}")


class _Nothing:
    def about(self, name: str) -> None:
        """Nothing."""

    def move(self, done: float) -> None:
        """Nothing."""


@contextmanager
def shown(total: float, done: float = 0.0) -> Iterator[Progress]:
    """A progress on standard error while the block lasts; ``done`` of ``total`` were done before."""
    if done >= total:
        yield _Nothing()
    elif sys.stderr.isatty():
        with bar(total, done) as progress:
            yield progress
    else:
        yield Lines(total, done, lambda line: print(line, file=sys.stderr, flush=True), time.monotonic)


@contextmanager
def bar(total: float | None, done: float = 0.0, *, ticking: bool = True) -> Iterator[Progress]:
    """A bar on a terminal, below the lines that are printed meanwhile; nothing elsewhere, or if no total is known.

    Without ``ticking`` it costs nothing between two moves.
    """
    if total is None or not sys.stderr.isatty():
        yield _Nothing()
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TaskProgressColumn())
    console = Console(stderr=True)
    with rich.Progress(*columns, rich.TimeRemainingColumn(), console=console, auto_refresh=ticking) as drawn:
        task = drawn.add_task("", total=total)
        drawn.update(task, completed=done)

        class Bar:
            def about(self, name: str) -> None:
                drawn.update(task, description=name)

            def move(self, done: float) -> None:
                drawn.update(task, completed=done, refresh=not ticking)

        yield Bar()


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes > 2 else f"{60 * minutes + rest} s"
