"""A world: real ``protocol.node.Node`` objects under one virtual clock, on a heap of events.

Neighbours: ``lives`` are its peers, ``network`` carries their messages, ``costs`` does and charges their work,
``standins`` are their keys where cryptography is modelled; ``measures``, ``trace`` and ``invariants`` look on.
Invariants: one seed gives one trace; time never goes back; nothing here reaches into a node but through ``handle``.  A
message takes the time of its bytes and of both ends' work on it; a job takes its peer's CPU, one after the other.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from protocol.application import Application
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId
from protocol.base.settings import LAN, Settings
from protocol.effects import (
    Dial,
    DropTask,
    Effect,
    PersistIdentity,
    PersistRound,
    PersistUse,
    Report,
    SaveCheckpoint,
    SaveTask,
    Send,
    Work,
)
from protocol.events import (
    Event,
    MessageReceived,
    PeerFound,
    SendFailed,
    Stopping,
    TaskIntroduced,
    TimePassed,
    WorkDone,
    WorkFailed,
)
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import KemSuite, Keyring
from protocol.node import Node
from protocol.reports import Item
from protocol.simulation.application import NoiseApplication
from protocol.simulation.costs import Costs, Exact, Execution
from protocol.simulation.identities import Fresh, Identities
from protocol.simulation.lives import Disk, SimulatedPeer
from protocol.simulation.network import Delivery, Network
from protocol.simulation.sizes import envelope_bytes
from protocol.simulation.standins import StandInKeyring, StandInSigningKey, StandInVerifier
from protocol.surroundings import Surroundings
from protocol.training.catalogue import signed_bytes
from protocol.training.state import initial_state
from protocol.training.task import SignedTask, Task, decode
from protocol.wire import codec
from protocol.wire.messages import Message
from protocol.work import Job, Purpose

START = 1_800_000_000.0
"""Unix seconds at which a world's time begins, if nothing else is said."""
_SUITE = KemSuite.X25519
_LEAST_S = 1e-4
"""A node that asks for a time that has passed is woken so much later."""
_STRETCH_S = 64.0
"""Sessions are known hours ahead: on the heap they would be in the way of what is due in a moment."""
_VERIFIED = 2**20
"""Verified descriptors that a whole world remembers."""


_Due = tuple[float, int, Callable[..., None], tuple[Any, ...]]
"""When, in which order of one time, what, and its arguments."""


class Observer(Protocol):
    """Looks on; must not change anything."""

    def sent(self, world: "World", sender: SimulatedPeer, to: PeerId, message: Message, nbytes: int) -> None:
        """A message left."""
        ...

    def reported(self, world: "World", peer: SimulatedPeer, item: Item) -> None:
        """A node said something worth telling."""
        ...


@dataclass(frozen=True, slots=True)
class Making:
    """How a world's peers are made."""

    settings: Settings = LAN
    costs: Costs = field(default_factory=Costs)
    execution: Execution = field(default_factory=Exact)
    exact_cryptography: bool = True
    """False: ``standins``, and messages pass as they are instead of through the codec."""
    recording: bool = False
    """Nodes of public tasks record their rounds (``reports.Recorded``)."""
    seeds: int = 3
    """The first so many peers are those whose addresses everybody has been given."""
    start: float = START
    identities: Identities | None = None
    """Whose keys the peers have; None: a network of their own."""
    sizes: Callable[[Message], int] = envelope_bytes
    """Bytes that a message takes on the wire."""


class World:
    """``size`` peers of one network, none of them started yet.  ``now``: Unix seconds of the world's clock."""

    def __init__(
        self,
        size: int,
        seed: int | str,
        network: Network,
        making: Making | None = None,
        application: Callable[[int, SeededEntropy], Application] = lambda _, entropy: NoiseApplication(entropy),
    ) -> None:
        self.seed = seed
        self.making = making = making or Making()
        self.network = network
        self.entropy = SeededEntropy(f"world {seed}")
        self.now = making.start
        self.steps = 0
        """Events that have happened."""
        self.observers: list[Observer] = []
        self.tracer: Callable[[World, SimulatedPeer, Event, list[Effect]], None] | None = None
        """Told of every event of every node, with what it asked for."""
        self.before_effect: Callable[[SimulatedPeer, Effect], None] | None = None
        """May stop the peer: what stands behind the effect is lost, and the effect itself."""
        self.fate: Callable[[SimulatedPeer, SimulatedPeer, Message], Delivery | None] | None = None
        """Decides over a message instead of the network, unless it returns None."""
        self._heap: list[_Due] = []
        self._horizon = 0.0
        """What is due before is on the heap."""
        self._later: dict[int, list[_Due]] = {}
        """What is due later, by its stretch of ``_STRETCH_S`` seconds."""
        self._count = 0
        self._identities = making.identities or Fresh(self.entropy, making.start)
        verifier = DescriptorVerifier if making.exact_cryptography else StandInVerifier
        self.verifier = verifier(self._identities.authority_key, kept=_VERIFIED)
        self._application = application
        self.index_of: dict[PeerId, int] = {}
        """Who has, or had before it lost its disk, each id."""
        self.peers: list[SimulatedPeer] = []
        for index in range(size):
            entropy = self.entropy.fork(f"application {index}")
            made = application(index, entropy)
            self.peers.append(SimulatedPeer(index, self._surroundings(f"peer {index}", made), made))
            self.index_of[self.peers[-1].id] = index

    def _surroundings(self, name: str, application: Application) -> Surroundings:
        entropy = self.entropy.fork(name)
        key, chain = self._identities.member(entropy, self.making.exact_cryptography)
        ring = StandInKeyring(key, entropy) if isinstance(key, StandInSigningKey) else Keyring(key, _SUITE, entropy)
        return Surroundings(
            ring, chain, self.verifier, self.making.settings, entropy, application, recording=self.making.recording
        )

    # --- lives ------------------------------------------------------------------------------------------------

    def start(self, peer: SimulatedPeer, *, keep_disk: bool = True) -> None:
        """Start or restart a peer, if it does not run and may.  Without its disk it comes back as somebody new."""
        if peer.node is not None or peer.gone:
            return
        if not keep_disk:
            peer.disk = Disk()
            peer.surroundings = self._surroundings(f"peer {peer.index} life {peer.life}", peer.application)
            self.index_of[peer.id] = peer.index
        peer.disk.incarnation += 1
        peer.life += 1
        peer.online_since = peer.busy_until = self.now
        now = self.now + peer.skew
        peer.surroundings.keyring.rotate(now)
        self.network.peer_started(peer.index)
        address = f"10.{peer.index >> 16 & 255}.{peer.index >> 8 & 255}.{peer.index & 255}:7600"
        peer.node = Node(peer.surroundings, (address,), peer.disk.restored(now), now)
        if isinstance(self.verifier, StandInVerifier):
            self.verifier.know(peer.node.descriptor)
        self.handle(peer, TimePassed())

    def stop(self, peer: SimulatedPeer, *, cleanly: bool = False) -> None:
        """End a peer's life, if it runs: at once and without a word, or after it has said goodbye."""
        if peer.node is None:
            return
        if cleanly:
            self.handle(peer, Stopping())
        if peer.node is not None:
            peer.disk.descriptors = tuple(peer.node.membership.descriptors_to_save())
        peer.node, peer.life, peer.wakes = None, peer.life + 1, float("inf")
        peer.online_s += self.now - peer.online_since
        self.network.peer_stopped(peer.index)

    def running(self) -> list[SimulatedPeer]:
        """The peers that are up."""
        return [peer for peer in self.peers if peer.node is not None]

    def acquaint(self) -> None:
        """Everybody who runs comes to know everybody at once: for small worlds that need no joining."""
        running = self.running()
        for peer in running:
            for other in running:
                if other is not peer and other.node is not None:
                    self.handle(peer, PeerFound(other.node.descriptor))

    def introduce(self, peer: SimulatedPeer, task: Task, parameters: np.ndarray[Any, Any] | None = None) -> None:
        """``susurrus run --task`` at one peer; ``parameters`` ``[d]``: where the model begins (zero)."""
        signed = self.submission(peer, task)
        first = np.zeros(task.dimension, np.float32) if parameters is None else parameters
        self.handle(peer, TaskIntroduced(signed, initial_state(task, first)))

    def submission(self, peer: SimulatedPeer, task: Task) -> SignedTask:
        """The task with the peer's signature."""
        signing = peer.surroundings.keyring.signing
        return SignedTask(task, signing.public_bytes, signing.sign(signed_bytes(task.encode())))

    # --- time -------------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do ``action`` at a time; of one time, in the order of asking."""
        self._count += 1
        due = when, self._count, action, arguments
        if when < self._horizon:
            heapq.heappush(self._heap, due)
        elif when < math.inf:
            self._later.setdefault(int(when // _STRETCH_S), []).append(due)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until``, asked after every event, holds."""
        end = self.now + seconds
        heap = self._heap
        while (heap or self._look_ahead(end)) and heap[0][0] <= end:
            when, _, action, arguments = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            action(*arguments)
            if until is not None and until():
                return True
        self.now = end
        return until is not None and until()

    def _look_ahead(self, end: float) -> bool:
        """Put the next stretch on the empty heap, unless it lies beyond ``end``."""
        stretch = min(self._later, default=math.inf)
        if stretch * _STRETCH_S > end:
            return False
        self._heap += self._later.pop(int(stretch))
        heapq.heapify(self._heap)
        self._horizon = (stretch + 1) * _STRETCH_S
        return True

    def handle(self, peer: SimulatedPeer, event: Event) -> None:
        """One event to one peer, and all that it asks for."""
        node = peer.node
        if node is None:
            return
        self.steps += 1
        now = self.now + peer.skew
        effects = node.handle(event, now)
        if self.tracer is not None:
            self.tracer(self, peer, event, effects)
        for effect in effects:
            if self.before_effect is not None:
                self.before_effect(peer, effect)
            if peer.node is not node:  # it has died of it
                return
            self._carry_out(peer, effect)
        peer.deadline = node.next_deadline(now)[0]
        when = max(peer.deadline - peer.skew, self.now + _LEAST_S)
        if when < peer.wakes - 1e-9 or peer.wakes <= self.now:
            peer.wakes = when
            self.at(when, self._wake, peer, peer.life, when)

    def _wake(self, peer: SimulatedPeer, life: int, when: float) -> None:
        if peer.life != life or peer.wakes != when or peer.node is None:
            return
        peer.wakes = float("inf")
        due = peer.deadline - peer.skew
        if due <= self.now:
            self.handle(peer, TimePassed())
        elif due < peer.wakes:  # what was waited for has happened since: like a driver's timer, not a moment too early
            peer.wakes = due
            self.at(due, self._wake, peer, peer.life, due)

    # --- effects ----------------------------------------------------------------------------------------------

    def _carry_out(self, peer: SimulatedPeer, effect: Effect) -> None:
        match effect:
            case Send(to, message, ttl):
                self._send(peer, to.peer, message, ttl)
            case Report(item):
                for observer in self.observers:
                    observer.reported(self, peer, item)
            case Work(purpose, job):
                peer.busy_until = max(peer.busy_until, self.now) + self.making.costs.job(job) * peer.slow
                self.at(peer.busy_until, self._finish, peer, peer.life, purpose, job)
            case PersistRound(round_id, expires):
                peer.disk.rounds[round_id] = expires
            case PersistUse(keys):
                peer.disk.uses.update(keys)
            case PersistIdentity(incarnation, kem_epoch):
                peer.disk.incarnation = max(peer.disk.incarnation, incarnation)
                peer.disk.kem_epoch = max(peer.disk.kem_epoch, kem_epoch)
            case SaveCheckpoint(checkpoint):
                peer.disk.checkpoints[checkpoint.task] = checkpoint
            case SaveTask(encoding, submitter, signature):
                peer.disk.tasks.append(SignedTask(decode(encoding), submitter, signature))
            case DropTask(task):
                peer.disk.tasks = [signed for signed in peer.disk.tasks if signed.task.id != task]
                peer.disk.checkpoints.pop(task, None)
            case Dial():
                self._dial(peer)

    def _finish(self, peer: SimulatedPeer, life: int, purpose: Purpose, job: Job) -> None:
        """A job's time is over: it is done now, as late as a thread may."""
        if peer.life != life:
            return
        try:
            event: Event = WorkDone(purpose, self.making.execution.run(job))
        except Exception as error:  # the driver does the same
            event = WorkFailed(purpose, error)
        self.handle(peer, event)

    def _dial(self, peer: SimulatedPeer) -> None:
        """Ask a seed that runs who it is; where none does, nobody answers, and the node asks again in time."""
        seeds = [s for s in self.peers[: self.making.seeds] if s is not peer and s.node is not None]
        if not seeds:
            return
        seed = self.entropy.choice(seeds)
        there = self.network.send(self.now, peer.index, seed.index, _HELLO_BYTES)
        if there.arrivals:
            back = self.network.send(there.arrivals[0], seed.index, peer.index, _HELLO_BYTES)
            if back.arrivals and seed.node is not None:
                self.at(back.arrivals[0], self._found, peer, peer.life, seed.node.descriptor)

    def _found(self, peer: SimulatedPeer, life: int, descriptor: Descriptor) -> None:
        if peer.life == life:
            self.handle(peer, PeerFound(descriptor))

    # --- messages ---------------------------------------------------------------------------------------------

    def _send(self, peer: SimulatedPeer, to: PeerId, message: Message, ttl: float) -> None:
        assert peer.node is not None, "only a running peer sends"
        nbytes = self.making.sizes(message)
        work = self.making.costs.message(nbytes)
        for observer in self.observers:
            observer.sent(self, peer, to, message, nbytes)
        recipient = self.peers[self.index_of[to]]
        delivery = self.fate(peer, recipient, message) if self.fate is not None else None
        if delivery is None:
            delivery = self.network.send(self.now + work * peer.slow, peer.index, recipient.index, nbytes)
        gives_up = self.now + ttl
        if delivery.failed_at is not None or (delivery.arrivals and delivery.arrivals[0] > gives_up):
            failed_at = gives_up if delivery.failed_at is None else min(delivery.failed_at, gives_up)
            self.at(failed_at, self._failed, peer, peer.life, to, message)
            return
        sender, plaintext = peer.node.descriptor, None
        if self.making.exact_cryptography:  # what leaves is a copy, as on a real wire
            head, tail = codec.encode(message)
            plaintext = bytes(head) + bytes(tail)
        work *= recipient.slow
        for arrival in delivery.arrivals:
            self.at(arrival + work, self._arrive, peer, peer.life, sender, to, message, plaintext, gives_up)

    def _arrive(
        self,
        peer: SimulatedPeer,
        life: int,
        sender: Descriptor,
        to: PeerId,
        message: Message,
        plaintext: bytes | None,
        gives_up: float,
    ) -> None:
        recipient = self.peers[self.index_of[to]]
        if recipient.node is not None and recipient.id == to:
            self.handle(recipient, MessageReceived(sender, message if plaintext is None else codec.decode(plaintext)))
        else:  # nobody is there, or somebody else
            failed_at = self.network.no_answer(self.now).failed_at
            self.at(max(self.now, min(gives_up, failed_at or gives_up)), self._failed, peer, life, to, message)

    def _failed(self, peer: SimulatedPeer, life: int, to: PeerId, message: Message) -> None:
        if peer.life == life:
            self.handle(peer, SendFailed(to, message))


_HELLO_BYTES = 1024
"""A question who is there, or its answer, about."""


def newest_ages(world: World, task: Task) -> Iterator[int]:
    """Age of the newest model of every running peer; -1: none yet."""
    for peer in world.running():
        entry = peer.node.tasks.get(task.id) if peer.node is not None else None
        newest = entry.walks.newest if entry is not None else None
        yield -1 if newest is None else newest.checkpoint.age
