"""A peer that lives no longer than whoever started it, however that one ends.

Neighbours: ``peer.demo.cluster`` holds one end of a pipe, ``peer.daemon`` watches the other; the kernel closes the
first with its process, even on SIGKILL.
Invariants: only the descriptor that the environment names is touched.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from protocol.base.errors import ConfigurationError

VARIABLE = "SUSURRUS_LIFELINE"
"""Names the file descriptor of the reading end of a pipe."""


def inherited() -> int | None:
    """The descriptor given to this process.  ``ConfigurationError`` if it is no pipe."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        descriptor = int(text)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
    except (ValueError, OSError, OverflowError):
        pass
    raise ConfigurationError([f"{VARIABLE}: {text!r} is not the number of a pipe that this process was given"])


@contextlib.contextmanager
def watched(descriptor: int | None, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` as soon as nobody holds the other end any more.  Closes the descriptor at the end."""
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        stop()

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
