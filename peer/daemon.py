"""The daemon: composes one peer from its parts, runs it, and takes it apart in order.

Neighbours: ``peer.commands.run`` calls ``run_peer``; everything else in ``peer`` is a part of it.
Invariants: whatever cannot work is found before the peer joins (one sentence each); on the way out the node hands over
what it holds, then the door closes, then storage, then the home's lock.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from peer.audit.recording import Recorder
from peer.config import Config
from peer.driver import Clock, Driver
from peer.entropy import SystemEntropy
from peer.home import Home
from peer.learning.application import LocalApplication
from peer.learning.models import model_for
from peer.learning.taskfile import load_task
from peer.observe.admin import AdminServer
from peer.observe.observer import Observer
from peer.observe.status import Evaluation, StatusBoard
from peer.storage import Storage
from peer.transport.addresses import format_address, own_addresses, parse_address
from peer.transport.client import Client
from peer.transport.server import Server
from protocol import reports
from protocol.base.errors import ConfigurationError, PrivacyRefusal, Refused
from protocol.base.ids import TaskId, short
from protocol.base.limits import MAX_BUDGET_S
from protocol.events import Stopping, TaskIntroduced, TimePassed
from protocol.identity.admission import Chain
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, parse_descriptor
from protocol.identity.keys import KemSuite, Keyring
from protocol.node import Node
from protocol.surroundings import Restored, Surroundings
from protocol.training.catalogue import signed_bytes
from protocol.training.state import initial_state
from protocol.training.task import SignedTask, Task
from protocol.wire.envelope import Opener, Sealer

log = logging.getLogger("susurrus.daemon")

HANDOVER_S = 3.0
"""A leaving peer waits this long at most for what it hands over."""
SAVE_MEMBERS_S = 30.0
MAX_FORMER = 16
"""Addresses of members of before that are asked like seeds: those that do not answer take their time."""


@dataclass(slots=True)
class Hooks:
    """For whoever runs a peer inside another program: called once it is up, and with every report."""

    ready: Callable[["Daemon"], None] | None = None
    report: Callable[[reports.Item], None] | None = None


async def run_peer(
    config: Config,
    home: Home,
    *,
    task_file: Path | None = None,
    audit_dir: Path | None = None,
    hooks: Hooks | None = None,
) -> int:
    """Run the peer of ``home`` until SIGTERM, SIGINT or an error.  Returns the exit code; the error is raised.

    Raises ``ConfigurationError`` for whatever a person must mend and ``PrivacyRefusal`` if recording is asked for data
    that is not public.
    """
    daemon = Daemon(config, home, audit_dir, hooks or Hooks())
    return await daemon.run(task_file)


class Daemon:
    """One running peer."""

    def __init__(self, config: Config, home: Home, audit_dir: Path | None, hooks: Hooks) -> None:
        self.config = config
        self.home = home
        self.clock = Clock()
        self._audit_dir = audit_dir
        self._hooks = hooks
        self._entropy = SystemEntropy()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._evaluating: set[TaskId] = set()
        self._former: list[str] = []
        """Where members were when this peer last ran."""

    async def run(self, task_file: Path | None) -> int:
        """See ``run_peer``."""
        introduced = self._read_task(task_file) if task_file is not None else None
        self.application = LocalApplication(self.config, self._entropy, self.home.signing_key.seed, self.clock)
        if introduced is not None:
            await asyncio.to_thread(self.application.load, introduced)
        storage = await Storage.open(self.home.database)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(storage.close)
            chain, verifier, keyring = await self._identity(storage)
            recorder = Recorder(self._audit_dir, keyring.peer_id) if self._audit_dir is not None else None
            if recorder is not None:
                stack.callback(recorder.close)
            await self._serve(chain, verifier, keyring, storage, recorder, introduced)
        if self._error is not None:
            raise self._error
        return 0

    # --- what must be right before joining --------------------------------------------------------------------

    async def _identity(self, storage: Storage) -> tuple[Chain, DescriptorVerifier, Keyring]:
        chain = self.home.chain
        assert chain is not None, "the command has checked the membership"
        suite = KemSuite.HYBRID if self.config.kem == "hybrid" else KemSuite.X25519
        # the epoch of the last start is kept: should the clock have been set back, epochs grow all the same
        keyring = Keyring(self.home.signing_key, suite, self._entropy, await storage.kem_epoch())
        await storage.save_kem_epoch(keyring.rotate(self.clock()).epoch)
        return chain, DescriptorVerifier(chain.authority_key), keyring

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

    # --- running ----------------------------------------------------------------------------------------------

    async def _serve(
        self,
        chain: Chain,
        verifier: DescriptorVerifier,
        keyring: Keyring,
        storage: Storage,
        recorder: Recorder | None,
        introduced: Task | None,
    ) -> None:
        observer = Observer(storage, recorder)
        async with Client() as client, contextlib.AsyncExitStack() as ends:  # the last one first
            driver = Driver(
                self.clock, self._entropy, client, storage, observer, verifier, lambda: self._seeds(), self._fail
            )
            self.driver, self.observer, self.storage = driver, observer, storage
            ends.push_async_callback(self._end_background)
            ends.push_async_callback(driver.close)
            server = Server(driver.on_envelope, driver.on_hello)
            ends.push_async_callback(server.stop, 0.5)
            addresses = await self._listen(server, storage)
            surroundings = Surroundings(
                keyring,
                chain,
                verifier,
                self.config.settings,
                self._entropy,
                self.application,
                link_speed=driver.link_speed,
                recording=recorder is not None,
            )
            restored = await self._restore(storage, verifier)
            node = Node(surroundings, addresses, restored, self.clock())
            observer.hook = self._reported
            self.board = StatusBoard(node, observer, self.application, storage, client, server, self.clock)
            driver.attach(node, Sealer(node.network, keyring, self._entropy), Opener(node.network, keyring, verifier))
            admin = AdminServer(self.board)
            ends.push_async_callback(admin.stop)
            await admin.start(*self.config.admin_address)
            self.home.write_admin(admin.address, admin.token)
            self._greet(node, addresses)
            if introduced is not None:
                self._introduce(introduced)
            await self._until_stopped(driver)

    async def _listen(self, server: Server, storage: Storage) -> tuple[str, ...]:
        host, port = self.config.listen_address
        remembered = await storage.listen_port() if port == 0 else None
        try:
            bound = await server.start(host, remembered or port)
        except ConfigurationError:
            if remembered is None:
                raise
            bound = await server.start(host, 0)  # somebody else has taken the port of before: any other will do
        await storage.save_listen_port(bound)
        if self.config.advertise:
            return tuple(
                format_address(name, given or bound)
                for name, given in (parse_address(a, listening=True) for a in self.config.advertise)
            )
        return own_addresses(host, bound)

    async def _restore(self, storage: Storage, verifier: DescriptorVerifier) -> Restored:
        now = self.clock()
        await storage.forget_expired(now)
        descriptors: list[Descriptor] = []
        for raw in await storage.load_descriptors():
            try:
                self._former += parse_descriptor(raw).addresses
                descriptors.append(verifier.verify(raw, now))
            except Refused:
                continue  # expired while this peer was away, or its clock is wrong: its address is asked who is there
        return Restored(
            incarnation=await storage.next_incarnation(floor=int(now)),
            tasks=tuple(await storage.load_tasks()),
            checkpoints=tuple(await storage.load_checkpoints()),
            rounds=dict.fromkeys(await storage.rounds_remembered(now), now + MAX_BUDGET_S),
            uses=await storage.uses(),
            descriptors=tuple(descriptors),
        )

    def _greet(self, node: Node, addresses: tuple[str, ...]) -> None:
        log.info("peer %s of network %s listens on %s", short(node.peer), short(node.network), ", ".join(addresses))
        if self._hooks.ready is not None:
            self._hooks.ready(self)

    def _introduce(self, task: Task) -> None:
        signing = self.home.signing_key
        signed = SignedTask(task, signing.public_bytes, signing.sign(signed_bytes(task.encode())))
        parameters = model_for(task, self.config.models).initial(task.standard_seed)
        self.driver.post(TaskIntroduced(signed, initial_state(task, parameters)))

    async def _until_stopped(self, driver: Driver) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._spawn(self._save_members())
        try:
            await self._stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        if self._error is None:
            log.info("leaving")
            driver.post(Stopping())
            await driver.drained(HANDOVER_S)
            await self._save_members_now()

    def stop(self) -> None:
        """Leave cleanly, as at SIGTERM."""
        self._stop.set()

    def _fail(self, error: BaseException) -> None:
        if self._error is None and not isinstance(error, asyncio.CancelledError):
            self._error = error
            self._stop.set()

    def _seeds(self) -> list[str]:
        return list(dict.fromkeys([*self.config.seeds, *self._former[:MAX_FORMER]]))

    # --- beside the node --------------------------------------------------------------------------------------

    def _reported(self, item: reports.Item) -> None:
        match item:
            case reports.TaskAdopted(task, None):
                self._spawn(self._load(task))
            case reports.ModelAdvanced(task_id, _):
                if task_id not in self._evaluating:
                    self._evaluating.add(task_id)
                    self._spawn(self._evaluate(task_id))
            case reports.Contributed():
                self.application.contributed()
            case reports.RoundEnded():
                self.application.contributed()
            case _:
                pass
        if self._hooks.report is not None:
            self._hooks.report(item)

    async def _load(self, task: Task) -> None:
        try:
            await self.driver.in_thread(self.application.load, task)
        except ConfigurationError as error:
            sentence = "; ".join(error.problems)
            self.board.data_problems[task.id] = sentence
            log.error("task '%s': this peer cannot take part: %s", task.name, sentence)
            return
        self.driver.post(TimePassed())
        if task.id not in self._evaluating:  # a model that came before the records, or from before a restart
            self._evaluating.add(task.id)
            await self._evaluate(task.id)

    async def _evaluate(self, task_id: TaskId) -> None:
        """Evaluate the newest model, and again while newer ones have come meanwhile; at most about once a second."""
        entry = self.driver.node.tasks.get(task_id)
        while entry is not None and entry.walks.newest is not None:
            checkpoint = entry.walks.newest.checkpoint
            figures = await self.driver.in_thread(self.application.evaluate, entry.task, checkpoint)
            if figures is not None:
                self.board.evaluations[task_id] = Evaluation(checkpoint.age, figures[0], figures[1])
            await asyncio.sleep(1.0)
            if entry.walks.newest.checkpoint.age == checkpoint.age:
                break
        self._evaluating.discard(task_id)

    async def _save_members(self) -> None:
        while True:
            await asyncio.sleep(SAVE_MEMBERS_S)
            await self._save_members_now()

    async def _save_members_now(self) -> None:
        known = self.driver.node.membership.descriptors_to_save()
        if not known:  # cut off: those of before are where it will go on
            return
        await self.storage.save_descriptors([descriptor.raw for descriptor in known])

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception as error:
                self._fail(error)

        task = asyncio.get_running_loop().create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end_background(self) -> None:
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
