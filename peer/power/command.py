"""A program of the machine that may hang, babble or fail: run with a time-out, its output bounded, its family reaped.

Neighbours: ``termux`` asks sensors with it, ``wakelock`` takes and gives back the lock.
Invariants: at most one child of a ``Command`` at a time (Android kills whoever has more than 32); when ``run`` returns
or raises, the child is killed with all it has started, and reaped; nothing is read beyond the limit.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from shutil import which

from peer.files import why

TIMEOUT_S = 20.0
"""Phones were reported to take seven seconds to say how their battery is."""
REAP_S = 2.0
"""A killed child is gone at once unless the kernel itself is stuck."""
STRAGGLER_S = 0.5
"""What a child has started may hold its output open after it has ended itself: waited for no longer than this."""
MAX_OUTPUT = 64 * 2**10


class CommandFailed(Exception):
    """There is no answer; one sentence's end, such as "did not answer within 20 s"."""


class _Child(asyncio.SubprocessProtocol):
    """Gathers what one child writes and notices its end."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self.output = bytearray()
        self.closed: asyncio.Future[None] = loop.create_future()
        """The output has ended, or is longer than anybody wants."""
        self.exited: asyncio.Future[None] = loop.create_future()
        self._limit = limit

    @property
    def too_much(self) -> bool:
        return len(self.output) > self._limit

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self.too_much:
            self.output += data[: self._limit + 1 - len(self.output)]
        if self.too_much:
            self._note(self.closed)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._note(self.closed)

    def process_exited(self) -> None:
        self._note(self.exited)

    @staticmethod
    def _note(future: "asyncio.Future[None]") -> None:
        if not future.done():
            future.set_result(None)


class Command:
    """One program, found or not.  ``run`` it as often as wanted, one at a time."""

    def __init__(
        self,
        program: str,
        *,
        timeout_s: float = TIMEOUT_S,
        limit: int = MAX_OUTPUT,
    ) -> None:
        self.program = program
        self._timeout_s = timeout_s
        self._limit = limit
        self._busy = False
        self._last: _Child | None = None

    async def run(self) -> bytes:
        """What the program writes to its standard output.  Raises ``CommandFailed``."""
        if self._busy or (self._last is not None and not self._last.exited.done()):
            raise CommandFailed("still hangs from the last time")
        self._busy = True
        try:
            return await self._run()
        finally:
            self._busy = False

    async def _run(self) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            transport, child = await loop.subprocess_exec(
                lambda: _Child(self._limit), self.program,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that it can be killed with all it has started
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CommandFailed(f"cannot be started: {why(error) if isinstance(error, OSError) else error}") from error
        self._last = child
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ended(child)
        except TimeoutError:
            raise CommandFailed(f"did not answer within {self._timeout_s:g} s") from None
        finally:
            await self._reap(transport, child)
        if child.too_much:
            raise CommandFailed(f"wrote more than {self._limit} bytes")
        if code := transport.get_returncode():
            raise CommandFailed(f"failed with code {code}")
        return bytes(child.output)

    @staticmethod
    async def _ended(child: _Child) -> None:
        await asyncio.wait({child.closed, child.exited}, return_when=asyncio.FIRST_COMPLETED)
        if child.too_much:
            return
        await asyncio.wait({child.exited})  # not awaited itself: a time-out would cancel it, and it is needed still
        await asyncio.wait({child.closed}, timeout=STRAGGLER_S)

    async def _reap(self, transport: asyncio.SubprocessTransport, child: _Child) -> None:
        pid = transport.get_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # its own group: it was started as the leader of one
        # the loop's own watcher reaps it; to close the transport first would reap it behind the watcher's back
        await asyncio.wait({child.exited}, timeout=REAP_S)
        transport.close()


def find(name: str, environment: Mapping[str, str]) -> str | None:
    """The full path of a command of Termux: in its prefix, or else on the PATH."""
    prefix = environment.get("PREFIX", "")
    places = [os.path.join(prefix, "bin")] if prefix else []
    places += [environment["PATH"]] if environment.get("PATH") else []
    return which(name, path=os.pathsep.join(places)) if places else None
