"""The daemon: one process of a peer, from the checks before joining to the exit code.

Neighbours: ``peer.commands.run`` calls ``run_peer``; ``session`` is one stay in the network; ``peer.power`` says when
to stay and when to be away.
Invariants: whatever cannot work is found before the peer joins (one sentence each); a peer whose power gate is closed
has no server, no node and no timer but the watch's, and still answers ``susurrus status``; a clock that is set back
ends the stay, and the next one goes by it; signals are heard from the first moment to the last; on the way out the
session ends first, then storage, then the home's lock, and whatever may take long by then is not waited for.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from peer import lifeline
from peer.audit.recording import Recorder
from peer.config import Config
from peer.driver import Clock, Driver
from peer.entropy import SystemEntropy
from peer.home import Home
from peer.learning.application import LocalApplication
from peer.learning.models import model_for
from peer.learning.taskfile import load_task
from peer.observe.admin import AdminServer
from peer.observe.asleep import SleepingBoard
from peer.observe.logs import LoopErrors
from peer.observe.observer import Observer
from peer.observe.status import StatusBoard, Tallies
from peer.power.sensors import choose
from peer.power.wakelock import WakeLock
from peer.power.watch import PowerWatch
from peer.session import Household, Session
from peer.storage import Storage
from peer.threads import LooseThreads
from protocol.base.errors import ConfigurationError, PrivacyRefusal
from protocol.base.limits import CLOCK_TOLERANCE_S
from protocol.training.task import Task

log = logging.getLogger("susurrus.daemon")

FIRST_LOOK_S = 2.0
"""A sensor that takes longer does not keep the admin endpoint waiting: the peer is away until it has answered."""
CLOCK_LOOK_S = 60.0
"""How often the wall clock is compared with the peer's own."""
CLOCK_LOOKS = 3
"""Looks in a row that must find it set back: one that is set right again within minutes costs nothing."""


async def run_peer(
    config: Config,
    home: Home,
    *,
    task_file: Path | None = None,
    audit_dir: Path | None = None,
    ready: Callable[["Daemon"], None] | None = None,
) -> int:
    """Run the peer of ``home`` until SIGTERM, SIGINT or an error.  Returns the exit code; the error is raised.

    ``ready`` is for whoever runs a peer inside another program: called whenever it is up.

    Raises ``ConfigurationError`` for whatever a person must mend and ``PrivacyRefusal`` if recording is asked for data
    that is not public.
    """
    daemon = Daemon(config, home, audit_dir, ready)
    return await daemon.run(task_file)


class Daemon:
    """One running peer, in the network or away from it."""

    def __init__(
        self, config: Config, home: Home, audit_dir: Path | None, ready: Callable[["Daemon"], None] | None
    ) -> None:
        self.config = config
        self.home = home
        self.clock = Clock()
        self.session: Session | None = None
        """The stay under way; None while it is away."""
        self._audit_dir = audit_dir
        self._ready = ready
        self._entropy = SystemEntropy()
        self._sensor = choose(config.power.sensor)
        self.power = PowerWatch(config.power, self._sensor, self._gate_moved)
        self._aside = LooseThreads(1, "records")
        self._stopping = False
        self._moved = asyncio.Event()
        """Something happened on which to stay or to leave."""
        self._set_back = False
        """The machine's clock was set back: the next stay begins by it."""
        self._error: BaseException | None = None

    @property
    def driver(self) -> Driver:
        """The driver of the stay under way."""
        assert self.session is not None, "this peer is not in the network"
        return self.session.driver

    async def run(self, task_file: Path | None) -> int:
        """See ``run_peer``."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        with self._signals(), lifeline.watched(lifeline.inherited(), self.stop):
            await self._run(task_file)
        if self._error is not None:
            raise self._error
        return 0

    async def _run(self, task_file: Path | None) -> None:
        introduced = self._read_task(task_file) if task_file is not None else None
        self.application = LocalApplication(
            self.config,
            self._entropy,
            self.home.signing_key.seed,
            self.clock,
            recording=self._audit_dir is not None,
            own=self.home.signing_key.peer_id,
        )
        if introduced is not None:
            await self._load(introduced)
        if self._stopping:
            return
        self.storage = await Storage.open(self.home.database)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.storage.close)
            recorder = None
            if self._audit_dir is not None:
                recorder = Recorder(self._audit_dir, self.home.signing_key.peer_id)
                stack.callback(recorder.close)
            self.observer = Observer(self.storage, recorder)
            await self._live(stack, self._household(recorder), introduced)

    # --- what must be right before joining --------------------------------------------------------------------

    def _household(self, recorder: Recorder | None) -> Household:
        chain = self.home.chain
        assert chain is not None, "the command has checked the membership"
        return Household(
            config=self.config,
            home=self.home,
            chain=chain,
            clock=self.clock,
            entropy=self._entropy,
            storage=self.storage,
            application=self.application,
            aside=self._aside,
            observer=self.observer,
            tallies=Tallies(),
            recorder=recorder,
            wake_lock=WakeLock(os.environ) if self._sensor.name == "termux" else None,
            fail=self._fail,
        )

    def _read_task(self, file: Path) -> Task:
        task = load_task(file, self.config.models)
        model_for(task, self.config.models)
        if self._audit_dir is not None and not task.public_data:
            raise PrivacyRefusal(
                f"--audit records values, and {file} does not say public_data = true: nothing is recorded"
            )
        limits = LocalApplication(self.config, self._entropy, b"", self.clock)
        refused = limits.accepts(task, self.home.signing_key.public_bytes)
        if refused is not None:
            raise ConfigurationError([f"this peer itself would not take part in {file}: {refused}"])
        return task

    async def _load(self, task: Task) -> None:
        """Read the records of a task of one's own, or give it up when told to stop."""
        load = functools.partial(self.application.load, task, quotes=True)
        loading = asyncio.get_running_loop().run_in_executor(self._aside, load)
        loading.add_done_callback(lambda _: self._moved.set())
        await self._until(lambda: self._stopping or loading.done())
        if not loading.cancel():
            loading.result()

    # --- staying and being away -------------------------------------------------------------------------------

    async def _live(self, stack: contextlib.AsyncExitStack, house: Household, introduced: Task | None) -> None:
        """In the network while the gate is open, asleep while it is closed, until something ends it."""
        await stack.enter_async_context(self._watching())
        asleep = SleepingBoard(
            self.home.signing_key.peer_id, house.chain.network, self.observer, self.application, self.storage,
            house.tallies,
        )  # fmt: skip
        admin = AdminServer(asleep)
        stack.push_async_callback(admin.stop)

        async def show(board: StatusBoard | SleepingBoard) -> None:
            admin.board = board
            if not admin.address:
                await admin.start(*self.config.admin_address)
                self.home.write_admin(admin.address, admin.token)

        async def up(session: Session) -> None:
            await show(session.board)
            if self._ready is not None:
                self._ready(self)
            session.spawn(self._watch_clock())

        while not self._stopping:
            if self.power.closed is not None:
                self.session = None  # with its node and its models: a sleeping peer is small
                await show(asleep)
                log.info("the power gate is closed: %s; away until it opens", self.power.closed)
                await self._until(lambda: self._stopping or self.power.closed is None)
                continue
            if self._set_back:
                self._set_back = False
                self.clock.set()
            self.session = Session(house)
            await self.session.run(lambda: self._until(self._done_here), up, introduced)
            introduced = None  # storage has it from now on
            admin.board = asleep

    def _done_here(self) -> bool:
        return self._stopping or self._set_back or self.power.closed is not None

    async def _watch_clock(self) -> None:
        """End the stay once the machine's clock has been set back for good: others refuse what is dated ahead."""
        looks, ahead = 0, 0.0
        while looks < CLOCK_LOOKS:
            await asyncio.sleep(CLOCK_LOOK_S)
            ahead = self.clock.ahead_s()
            looks = looks + 1 if ahead > CLOCK_TOLERANCE_S and self._member(self.clock() - ahead) else 0
        log.warning("this machine's clock was set back by %.0f s: leaving, to come back by the new time", ahead)
        self._set_back = True
        self._moved.set()

    def _member(self, now: float) -> bool:
        """Whether the membership has begun by then; a clock that says no is wrong itself, and nothing to follow."""
        chain = self.home.chain
        return chain is not None and chain.issued <= now + CLOCK_TOLERANCE_S

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._moved.clear()
            await self._moved.wait()

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Look at the machine meanwhile.  The first look is waited for, if it takes no longer than a moment."""
        self.application.closed = self.power.closed
        watching = asyncio.get_running_loop().create_task(self.power.run())
        watching.add_done_callback(self._watched)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.power.looked.wait()
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    def _watched(self, watching: "asyncio.Task[None]") -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            self._fail(error)

    def _gate_moved(self) -> None:
        self.application.closed = self.power.closed
        self._moved.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Leave cleanly, as at SIGTERM."""
        self._stopping = True
        self._moved.set()

    def _fail(self, error: BaseException) -> None:
        if self._error is None and not isinstance(error, asyncio.CancelledError):
            self._error = error
            self.stop()
