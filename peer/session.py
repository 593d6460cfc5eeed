"""One stay in the network: from listening to having left.

Neighbours: ``peer.daemon`` composes one at every start, whenever the power gate opens and when the clock was set back;
``driver`` runs its node.
Invariants: made afresh from storage (keyring, incarnation, node), as at a start of the process; on the way out the node
hands over what it holds, then the door closes; nothing of it runs afterwards.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from peer.audit.recording import Recorder
from peer.config import Config
from peer.driver import Clock, Driver
from peer.errors import StorageError
from peer.home import Home
from peer.learning.application import LocalApplication
from peer.learning.models import model_for
from peer.observe.observer import Observer
from peer.observe.status import Evaluation, StatusBoard, Tallies
from peer.power.wakelock import WakeLock
from peer.storage import Storage
from peer.transport.addresses import format_address, own_addresses, parse_address
from peer.transport.client import Client
from peer.transport.server import Server
from protocol import reports
from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError, Refused
from protocol.base.ids import TaskId, short
from protocol.base.limits import MAX_BUDGET_S
from protocol.events import AddressesChanged, Stopping, TaskIntroduced, TimePassed
from protocol.identity.admission import Chain
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, parse_descriptor
from protocol.identity.keys import KemSuite, Keyring
from protocol.node import Node
from protocol.surroundings import Restored, Surroundings
from protocol.training.catalogue import signed_bytes
from protocol.training.state import initial_state
from protocol.training.task import SignedTask, Task
from protocol.wire.envelope import Opener, Sealer

log = logging.getLogger("susurrus.session")

HANDOVER_S = 3.0
"""A leaving peer waits this long at most for what it hands over."""
SAVE_MEMBERS_S = 30.0
MAX_FORMER = 16
"""Addresses of members of before that are asked like seeds: those that do not answer take their time."""
ADDRESSES_S = 5.0
"""How often a peer asks the routing table where it is; so soon after a sleep or a change of networks it is noticed."""
LOOPBACK = ("127.", "[::1]")


@dataclass(frozen=True, slots=True)
class Household:
    """What one process keeps over all its stays."""

    config: Config
    home: Home
    chain: Chain
    clock: Clock
    entropy: Entropy
    storage: Storage
    application: LocalApplication
    aside: Executor
    """For whatever works on all records: it is slow, and nothing waits for it."""
    observer: Observer
    tallies: Tallies
    recorder: Recorder | None
    wake_lock: WakeLock | None
    fail: Callable[[BaseException], None]
    """Told of an error of our own, which ends the daemon."""


class Session:
    """Made by ``peer.daemon``; ``run`` it once."""

    def __init__(self, household: Household) -> None:
        self._house = household
        self._failed = False
        self._unsaved = False
        """It has been said that the members cannot be saved."""
        self._background: set[asyncio.Task[None]] = set()
        self._evaluating: set[TaskId] = set()
        self._former: list[str] = []
        """Where members were when this peer was last in the network."""

    async def run(
        self,
        leaving: Callable[[], Awaitable[None]],
        up: Callable[["Session"], Awaitable[None]],
        introduced: Task | None,
    ) -> None:
        """Join, stay until ``leaving()`` returns, and leave.  ``up`` is awaited once others can reach this peer.

        Raises ``ConfigurationError`` if the port cannot be had, or if there is no room for the task introduced.
        """
        house = self._house
        verifier = DescriptorVerifier(house.chain.authority_key)
        keyring = await self._keyring()
        async with Client() as client, contextlib.AsyncExitStack() as ends:  # the last one first
            self.driver = Driver(
                house.clock, house.entropy, client, house.storage, house.observer, verifier,
                self._seeds, self._fail,
            )  # fmt: skip
            if house.wake_lock is not None:
                ends.push_async_callback(house.wake_lock.release)
            ends.callback(house.observer.stay_over)
            ends.push_async_callback(self._end_background)
            ends.push_async_callback(self.driver.close)
            server = Server(self.driver.on_envelope, self.driver.on_hello)
            ends.push_async_callback(server.stop, 0.5)
            port = await self._listen(server)
            node = await self._node(keyring, verifier, self._addresses(port))
            if introduced is not None:
                _check_room(node, introduced)
            self.board = StatusBoard(
                node, house.observer, house.application, house.storage, client, server, house.clock, house.tallies
            )
            ends.callback(house.tallies.add, server, client)
            house.observer.hook = self._reported
            self.driver.after = self._note_rounds
            self.driver.attach(
                node, Sealer(node.network, keyring, house.entropy), Opener(node.network, keyring, verifier)
            )
            log.info(
                "peer %s of network %s listens on %s",
                short(node.peer), short(node.network), ", ".join(node.descriptor.addresses),
            )  # fmt: skip
            await up(self)
            if introduced is not None:
                self._introduce(introduced)
            self.spawn(self._save_members())
            self.spawn(self._watch_addresses(port, client))
            await leaving()
            if not self._failed:
                await self._leave()

    async def _leave(self) -> None:
        log.info("leaving")
        self.driver.post(Stopping())
        await self.driver.drained(HANDOVER_S)
        await self._save_members_now()

    # --- composing --------------------------------------------------------------------------------------------

    async def _keyring(self) -> Keyring:
        house = self._house
        suite = KemSuite.HYBRID if house.config.kem == "hybrid" else KemSuite.X25519
        # the epoch of the last start is kept: should the clock have been set back, epochs grow all the same
        keyring = Keyring(house.home.signing_key, suite, house.entropy, await house.storage.kem_epoch())
        await house.storage.save_kem_epoch(keyring.rotate(house.clock()).epoch)
        return keyring

    async def _listen(self, server: Server) -> int:
        """The port in use; where the system chooses, the one of before if it can be had."""
        storage = self._house.storage
        host, port = self._house.config.listen_address
        known = await storage.listen_port()
        remembered = known if port == 0 else None
        try:
            bound = await server.start(host, remembered or port)
        except ConfigurationError:
            if remembered is None:
                raise
            bound = await server.start(host, 0)  # somebody else has taken the port of before: any other will do
        if bound != known:  # nothing new to a disk that may be full
            await storage.save_listen_port(bound)
        return bound

    def _addresses(self, port: int) -> tuple[str, ...]:
        """What others are told."""
        config = self._house.config
        if config.advertise:
            return tuple(
                format_address(name, given or port)
                for name, given in (parse_address(a, listening=True) for a in config.advertise)
            )
        return own_addresses(config.listen_address[0], port)

    async def _node(self, keyring: Keyring, verifier: DescriptorVerifier, addresses: tuple[str, ...]) -> Node:
        house = self._house
        surroundings = Surroundings(
            keyring,
            house.chain,
            verifier,
            house.config.settings,
            house.entropy,
            house.application,
            link_speed=self.driver.link_speed,
            recording=house.recorder is not None,
        )
        return Node(surroundings, addresses, await self._restore(verifier), house.clock())

    async def _restore(self, verifier: DescriptorVerifier) -> Restored:
        storage, now = self._house.storage, self._house.clock()
        await storage.forget_expired(now)
        descriptors: list[Descriptor] = []
        for raw in await storage.load_descriptors():
            try:
                self._former += parse_descriptor(raw).addresses
                descriptors.append(verifier.verify(raw, now))
            except Refused:
                continue  # expired while this peer was away, or its clock is wrong: its address is asked who is there
        uses = await storage.uses()
        self._house.application.recall(uses)
        return Restored(
            incarnation=await storage.next_incarnation(floor=int(now)),
            tasks=tuple(await storage.load_tasks()),
            checkpoints=tuple(await storage.load_checkpoints()),
            rounds=dict.fromkeys(await storage.rounds_remembered(now), now + MAX_BUDGET_S),
            uses=uses,
            descriptors=tuple(descriptors),
        )

    def _seeds(self) -> list[str]:
        return list(dict.fromkeys([*self._house.config.seeds, *self._former[:MAX_FORMER]]))

    def _introduce(self, task: Task) -> None:
        house = self._house
        signing = house.home.signing_key
        signed = SignedTask(task, signing.public_bytes, signing.sign(signed_bytes(task.encode())))
        parameters = model_for(task, house.config.models).initial(task.initial_seed)
        self.driver.post(TaskIntroduced(signed, initial_state(task, parameters)))

    # --- beside the node --------------------------------------------------------------------------------------

    def _reported(self, item: reports.Item) -> None:
        match item:
            case reports.TaskAdopted(task, None):
                self.spawn(self._load(task))
            case reports.TaskAdopted(task, str(refused)):
                self._house.tallies.refusals[task.id] = refused
            case reports.TaskDropped(task):
                self._forget(task.id)
            case reports.ModelAdvanced(task_id, _):
                if task_id not in self._evaluating:
                    self._evaluating.add(task_id)
                    self.spawn(self._evaluate(task_id))
            case reports.Contributed():
                self._house.application.contributed()
            case reports.RoundEnded():
                self._house.application.contributed()
            case _:
                pass

    def _note_rounds(self) -> None:
        if self._house.wake_lock is not None:
            self._house.wake_lock.wanted(not self.driver.node.rounds.idle)

    def _forget(self, task_id: TaskId) -> None:
        self._house.application.forget(task_id)
        self._house.tallies.refusals.pop(task_id, None)
        self._house.tallies.evaluations.pop(task_id, None)

    async def _load(self, task: Task) -> None:
        application = self._house.application
        await self._house.storage.remember_uses(application.question(task))
        problem = None
        try:
            await self._aside(application.load, task)
        except ConfigurationError as error:
            problem = "; ".join(error.problems)
        if self.driver.node.tasks.get(task.id) is None:  # it has gone for another task meanwhile
            self._forget(task.id)
            return
        if problem is not None:
            self._house.tallies.refusals[task.id] = problem
            log.error("task '%s': this peer cannot take part: %s", task.name, problem)
            return
        self._house.tallies.refusals.pop(task.id, None)
        self.driver.post(TimePassed())
        if task.id not in self._evaluating:  # a model that came before the records, or from before a restart
            self._evaluating.add(task.id)
            await self._evaluate(task.id)

    async def _evaluate(self, task_id: TaskId) -> None:
        """Evaluate the newest model, and again while newer ones have come meanwhile; at most about once a second."""
        entry = self.driver.node.tasks.get(task_id)
        while entry is not None and entry.walks.newest is not None:
            checkpoint = entry.walks.newest.checkpoint
            figures = await self._aside(self._house.application.evaluate, entry.task, checkpoint)
            if self.driver.node.tasks.get(task_id) is not entry:  # it has gone for another task meanwhile
                break
            if figures is not None:
                self.board.evaluations[task_id] = Evaluation(checkpoint.age, figures[0], figures[1])
            await asyncio.sleep(1.0)
            if entry.walks.newest.checkpoint.age == checkpoint.age:
                break
        self._evaluating.discard(task_id)

    async def _aside(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._house.aside, function, *args)

    async def _save_members(self) -> None:
        while True:
            await asyncio.sleep(SAVE_MEMBERS_S)
            await self._save_members_now()

    async def _save_members_now(self) -> None:
        known = self.driver.node.membership.descriptors_to_save()
        if not known:  # cut off: those of before are where it will go on
            return
        try:
            await self._house.storage.save_descriptors([descriptor.raw for descriptor in known])
            self._unsaved = False
        except StorageError as error:  # others will tell them again: nothing to end for, nor to leave without a word
            if not self._unsaved:
                log.error("%s; where other peers are is not kept meanwhile", error)
            self._unsaved = True

    async def _watch_addresses(self, port: int, client: Client) -> None:
        """Notice that this machine is somewhere else now, also after it was asleep."""
        told = self.driver.node.descriptor.addresses
        while True:
            await asyncio.sleep(ADDRESSES_S)
            found = self._addresses(port)
            # without any network there is nobody to tell, and loopback would be told to all later
            if found == told or all(address.startswith(LOOPBACK) for address in found):
                continue
            log.info("this machine's addresses have changed: %s", ", ".join(found))
            told = found
            await client.renew()  # connections from an address that is gone would only time out
            self.driver.post(AddressesChanged(found))

    # --- what goes wrong, and the end ---------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, asyncio.CancelledError):
            self._failed = True
            self._house.fail(error)

    def spawn(self, work: Awaitable[None]) -> None:
        """Do something beside the node until it is done or the session ends."""

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


def _check_room(node: Node, task: Task) -> None:
    try:
        node.tasks.check_room(task.id)
    except Refused as refused:
        raise ConfigurationError([f"task '{task.name}' cannot be introduced: {refused.detail}"]) from None
