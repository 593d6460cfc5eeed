"""Termux's wake lock: held while a round runs, so that a phone with its screen off stays awake just as long.

Neighbours: ``peer.session`` says whether a round runs, ``command`` runs ``termux-wake-lock`` and ``-unlock``.
Invariants: at most one child at a time; released ``linger_s`` after the last round, so that rounds in a row share one
lock; what fails is logged once and changes nothing else.  Termux counts no locks: one that its user has taken by hand
is given back by the first release here.
"""

import asyncio
import logging
from collections.abc import Mapping

from peer.power.command import Command, CommandFailed, find

log = logging.getLogger("susurrus.power")

LOCK, UNLOCK = "termux-wake-lock", "termux-wake-unlock"
LINGER_S = 10.0
TIMEOUT_S = 10.0
RELEASE_S = 2.0
"""A peer that leaves does not wait longer for a command that hangs."""


class WakeLock:
    """The lock of this Termux.  ``wanted`` at any time; ``release`` gives it back."""

    def __init__(
        self, environment: Mapping[str, str], *, linger_s: float = LINGER_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._commands = {
            name: None if path is None else Command(path, timeout_s=timeout_s)
            for name, path in ((name, find(name, environment)) for name in (LOCK, UNLOCK))
        }
        self._linger_s = linger_s
        self._wanted = False
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._said = False

    @property
    def held(self) -> bool:
        """Whether the lock was taken and not given back."""
        return self._held

    def wanted(self, wanted: bool) -> None:
        """A round runs (True) or none does (False)."""
        if wanted == self._wanted:
            return
        self._wanted = wanted
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wanted:
            self._settle()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._settle)

    async def release(self) -> None:
        """Give it back now, if it is held; a command that hangs is given up."""
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._settle()
        if self._task is not None:
            task = self._task
            _, hanging = await asyncio.wait({task}, timeout=RELEASE_S)
            for each in hanging:
                each.cancel()
                await asyncio.wait({each})

    def _settle(self) -> None:
        """Start a task unless one runs already; it goes on until what is held is what is wanted."""
        self._timer = None
        if self._task is None and self._wanted != self._held:
            self._task = asyncio.get_running_loop().create_task(self._act())

    async def _act(self) -> None:
        try:
            while self._wanted != self._held and self._timer is None:
                wanted = self._wanted
                await self._run(LOCK if wanted else UNLOCK)
                self._held = wanted  # also after a failure: tried again with the next round, not in a loop
        finally:
            self._task = None

    async def _run(self, name: str) -> None:
        command = self._commands[name]
        try:
            if command is None:
                raise CommandFailed("is not installed")
            await command.run()
        except CommandFailed as failed:
            if not self._said:
                self._said = True
                log.warning("%s %s; rounds may stop while the screen is off (this is said once)", name, failed)
