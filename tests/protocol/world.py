"""A small world under virtual time: real ``protocol.node.Node`` objects, a heap of events, a network that misbehaves.

Neighbours: tests of whole rounds, of training and of the node drive it; messages pass the codec, not the envelope.
Invariants: one seed gives one trace; ``now`` only grows; nothing here reaches into a node but through ``handle``.  What
a peer's disk holds is what its effects persisted, in their order: a death in between loses the rest.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from protocol import reports
from protocol.application import Contribution, Freshness, sections_of
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId, RoundId
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
    TaskIntroduced,
    TimePassed,
    WorkDone,
    WorkFailed,
)
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import DescriptorVerifier
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.node import Node
from protocol.privacy.record import RoundRecord
from protocol.surroundings import Restored, Surroundings
from protocol.training.catalogue import signed_bytes
from protocol.training.state import initial_state
from protocol.training.task import RoundKind, SignedTask, Task, decode
from protocol.wire import codec
from protocol.wire.messages import Accept, Checkpoint, Message, Offer, Partial
from protocol.work import Job, Purpose, RoundWork

START = 1_800_000_000.0


def make_task(**changes: Any) -> Task:
    """A small public task: three parameters, two features."""
    task = Task(
        name="toy", public_data=True, model="linear", hyper=(), schema="toy", features=("a", "b"), target="y",
        classes=("0", "1"), ranges=((-1.0, 1.0), (-1.0, 1.0)), target_range=(0.0, 0.0), statistics_rounds=0,
        dimension=3, learning_rate=0.5, learning_rate_decay=0.0, momentum=0.0, weight_decay=0.0, batch_per_peer=8,
        steps=20, collusion_threshold=3, minimum_cohort=4, branching=2, cohort=1000, modulus_bits=32, clip=1.0,
        loss_bound=10.0, walks=1, initial_seed=0,
    )  # fmt: skip
    task = replace(task, **changes)
    task.validate()
    return task


@dataclass
class ToyJob:
    """Draws a fresh random contribution; remembers nothing."""

    make: Callable[[], Contribution]
    cost_bytes: int = 0

    def run(self) -> Contribution:
        """Make it."""
        return self.make()


class ToyApplication:
    """Contributes random vectors within the bounds."""

    def __init__(self, entropy: SeededEntropy, fresh: Freshness = Freshness.FRESH) -> None:
        self.entropy = entropy
        self.fresh = fresh
        self.closed: str | None = None
        self.refusal: str | None = None
        self.held: list[str] = []
        """Names of the tasks that it has been told are held."""

    def freshness(self, task: Task) -> Freshness:
        return self.fresh

    def accepts(self, task: Task, submitter_key: bytes) -> str | None:
        return self.refusal

    def adopted(self, task: Task) -> None:
        self.held.append(task.name)

    def gate(self) -> str | None:
        return self.closed

    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> ToyJob:
        def make() -> Contribution:
            rng = np.random.default_rng(int.from_bytes(self.entropy.token(8), "little"))
            parts = []
            for section in sections_of(task, kind):
                part = rng.uniform(-1, 1, section.length)
                parts.append(part * section.bound / max(1.0, float(np.linalg.norm(part))))
            if kind is RoundKind.STATISTICS:
                parts[1], parts[2] = np.square(parts[0]), np.ones_like(parts[0])
            parts[1 if kind is RoundKind.GRADIENT else 3][:] = task.batch_per_peer
            return Contribution(tuple(parts))

        return ToyJob(make)


@dataclass
class Disk:
    """What one peer has made durable."""

    incarnation: int = 0
    tasks: list[SignedTask] = field(default_factory=list)
    checkpoints: dict[bytes, Checkpoint] = field(default_factory=dict)
    rounds: dict[RoundId, float] = field(default_factory=dict)
    uses: set[bytes] = field(default_factory=set)


@dataclass
class Peer:
    """A node with what surrounds it."""

    index: int
    keyring: Keyring
    application: ToyApplication
    surroundings: Surroundings
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    life: int = 0
    """Counts starts: what was under way in an earlier life is dropped."""
    wakes: float = float("inf")
    skew: float = 0.0
    """Seconds by which its clock is ahead of the world's."""

    @property
    def id(self) -> PeerId:
        return self.keyring.peer_id


Fate = Callable[["World", PeerId, PeerId, Message], float | tuple[float, ...] | None]
"""Delay of a message in seconds, several if it arrives several times, or None if it is lost without a word."""


class World:
    """``size`` peers of one network, all restarts and messages under one clock."""

    def __init__(
        self, size: int, seed: int | str = 0, *, settings: Settings = LAN, fate: Fate | None = None,
        work_delay: float = 0.001, recording: bool = True,
    ) -> None:  # fmt: skip
        self.entropy = SeededEntropy(f"world {seed}")
        self.now = START
        self.fate = fate
        self.work_delay = work_delay
        self.records: list[RoundRecord] = []
        self.reports: list[tuple[float, PeerId, Any]] = []
        self.sent: list[tuple[float, PeerId, PeerId, Message]] = []
        self.on_effect: Callable[[Peer, Effect], None] | None = None
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._summing: set[Any] = set()
        self.settings = settings
        self.ever_durable: set[tuple[PeerId, RoundId]] = set()
        """Rounds persisted, by any peer in any life."""
        self.hasty: list[tuple[PeerId, RoundId]] = []
        """Who let a round be seen that was not."""
        self._handled: Counter[tuple[PeerId, int]] = Counter()
        authority = Authority(SigningKey(self.entropy.token(32)))
        self._token = issue_token(authority, START, 1e7, (), self.entropy, "world")
        self.verifier = DescriptorVerifier(authority.key.public_bytes)
        self._recording = recording
        self.peers: list[Peer] = []
        for index in range(size):
            application = ToyApplication(self.entropy.fork(f"application {index}"))
            keyring, surroundings = self._identity(f"peer {index}", application)
            self.peers.append(Peer(index, keyring, application, surroundings))
        self.by_id = {peer.id: peer for peer in self.peers}
        """Who has or had each id."""

    def _identity(self, name: str, application: ToyApplication) -> tuple[Keyring, Surroundings]:
        entropy = self.entropy.fork(name)
        keyring = Keyring(SigningKey(entropy.token(32)), KemSuite.X25519, entropy)
        chain = admit(self._token, keyring.signing.public_bytes, START)
        return keyring, Surroundings(
            keyring, chain, self.verifier, self.settings, entropy, application, recording=self._recording
        )

    # --- lives ------------------------------------------------------------------------------------------------

    def start(self, peer: Peer, *, keep_disk: bool = True) -> None:
        """Start or restart a peer.  With its disk it loses its keys: it comes back as somebody new."""
        if not keep_disk:
            peer.disk = Disk()
            peer.keyring, peer.surroundings = self._identity(f"peer {peer.index} life {peer.life}", peer.application)
            self.by_id[peer.id] = peer
        peer.disk.incarnation += 1
        peer.life += 1
        peer.keyring.rotate(self.now + peer.skew)
        restored = Restored(
            incarnation=peer.disk.incarnation,
            tasks=tuple(peer.disk.tasks),
            checkpoints=tuple(peer.disk.checkpoints.values()),
            rounds=dict(peer.disk.rounds),
            uses=frozenset(peer.disk.uses),
        )
        peer.node = Node(peer.surroundings, (f"10.0.0.{peer.index}:1",), restored, self.now + peer.skew)
        self.handle(peer, TimePassed())

    def start_all(self, members: bool = True) -> None:
        """Start everybody; with ``members`` everybody knows everybody at once."""
        for peer in self.peers:
            self.start(peer)
        if members:
            for peer in self.peers:
                for other in self.peers:
                    if other is not peer and other.node is not None:
                        self.handle(peer, PeerFound(other.node.descriptor))

    def kill(self, peer: Peer) -> None:
        """SIGKILL: nothing is handed over."""
        peer.node, peer.life, peer.wakes = None, peer.life + 1, float("inf")

    def introduce(self, peer: Peer, task: Task) -> None:
        """``run --task`` at one peer."""
        signing = peer.keyring.signing
        signed = SignedTask(task, signing.public_bytes, signing.sign(signed_bytes(task.encode())))
        self.handle(peer, TaskIntroduced(signed, initial_state(task, np.zeros(task.dimension, np.float32))))

    # --- running ----------------------------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do ``action`` at a time."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, action))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as ``until`` holds."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, action = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            action()
            if until is not None and until():
                return True
        self.now = end
        return until is not None and until()

    def handle(self, peer: Peer, event: Event) -> None:
        """One event to one peer, and all its effects."""
        if peer.node is None:
            return
        self._carry_out(peer, peer.node.handle(event, self.now + peer.skew))
        if peer.node is None:
            return
        self._handled[peer.id, int(self.now)] += 1
        when = max(peer.node.next_deadline(self.now + peer.skew)[0] - peer.skew, self.now + 1e-4)
        if when < peer.wakes - 1e-9 or peer.wakes <= self.now:
            peer.wakes = when
            self.at(when, lambda life=peer.life: self._wake(peer, life, when))  # type: ignore[misc]

    def most_events_in_a_second(self) -> int:
        """Of the busiest node: far above a few hundred only if it asks for a time that has passed, again and again."""
        return max(self._handled.values(), default=0)

    def _wake(self, peer: Peer, life: int, when: float) -> None:
        if peer.life == life and peer.wakes == when:
            peer.wakes = float("inf")
            self.handle(peer, TimePassed())

    def _carry_out(self, peer: Peer, effects: list[Effect]) -> None:
        for effect in effects:
            if peer.node is None:
                return
            if self.on_effect is not None:
                self.on_effect(peer, effect)
                if peer.node is None:  # it has died of it
                    return
            match effect:
                case Send(to, message):
                    self._send(peer, to.peer, message)
                case Work(purpose, job):
                    self._work(peer, purpose, job)
                case PersistRound(round_id, expires):
                    peer.disk.rounds[round_id] = expires
                    self.ever_durable.add((peer.id, round_id))
                case PersistUse(keys):
                    peer.disk.uses.update(keys)
                case PersistIdentity(incarnation, _):
                    peer.disk.incarnation = max(peer.disk.incarnation, incarnation)
                case SaveCheckpoint(checkpoint):
                    peer.disk.checkpoints[checkpoint.task] = checkpoint
                case SaveTask(encoding, submitter, signature):
                    peer.disk.tasks.append(SignedTask(decode(encoding), submitter, signature))
                case DropTask(task):
                    peer.disk.tasks = [signed for signed in peer.disk.tasks if signed.task.id != task]
                    peer.disk.checkpoints.pop(task, None)
                case Report(item):
                    self.reports.append((self.now, peer.id, item))
                    if isinstance(item, reports.Recorded):
                        self.records.append(item.record)
                case Dial():
                    self._dial(peer)

    def _dial(self, peer: Peer) -> None:
        seed = next((p for p in self.peers if p is not peer and p.node is not None), None)
        if seed is not None and seed.node is not None:
            descriptor, life = seed.node.descriptor, peer.life
            self.at(self.now + 0.01, lambda: peer.life == life and self.handle(peer, PeerFound(descriptor)))

    def _work(self, peer: Peer, purpose: Purpose, job: Job) -> None:
        """The job runs when its time is over, as late as a thread may; meanwhile no other writes to the same sum."""
        life, sum_of = peer.life, None
        if isinstance(purpose, RoundWork) and purpose.step in ("own", "absorb", "seal", "publish"):
            sum_of = (peer.id, life, purpose.round)
            assert sum_of not in self._summing, f"two jobs at once on one sum: {purpose.step}"
            self._summing.add(sum_of)

        def end() -> None:
            self._summing.discard(sum_of)
            if peer.life != life:
                return
            try:
                event: Event = WorkDone(purpose, job.run())
            except Exception as error:  # the driver does the same
                event = WorkFailed(purpose, error)
            self.handle(peer, event)

        self.at(self.now + self.work_delay, end)

    def _send(self, peer: Peer, to: PeerId, message: Message) -> None:
        self.sent.append((self.now, peer.id, to, message))
        if isinstance(message, Offer | Accept | Partial) and (peer.id, message.round) not in self.ever_durable:
            self.hasty.append((peer.id, message.round))
        delay = self.fate(self, peer.id, to, message) if self.fate is not None else 0.005
        if delay is None:
            return
        delays = delay if isinstance(delay, tuple) else (delay,)
        head, tail = codec.encode(message)
        plaintext = bytes(head) + bytes(tail)  # what leaves is a copy, as on a real wire
        assert peer.node is not None
        sender = peer.node.descriptor

        def arrive() -> None:
            other = self.by_id[to]
            if other.node is None or other.id != to:
                life = peer.life
                self.at(self.now + 0.005, lambda: peer.life == life and self.handle(peer, SendFailed(to, message)))
                return
            self.handle(other, MessageReceived(sender, codec.decode(plaintext)))

        for each in delays:
            self.at(self.now + each, arrive)
