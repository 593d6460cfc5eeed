"""The driver: sole caller of the node.  Events in, effects out, one timer.

Neighbours: ``peer.session`` composes it; ``peer.transport`` moves its envelopes, ``peer.storage`` keeps what must last,
``peer.observe`` hears its reports.
Invariants: the node is called from the event loop alone; effects are carried out in the order the node gave them, and
whatever follows a persisting effect waits until that is durable; work of O(d) runs in threads; nothing that arrives is
believed before the envelope has been verified, and whatever is refused is counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_never

from peer.delivery import INLINE_BYTES, STATUS, Delivery, hello_refusal
from peer.observe.observer import Observer
from peer.storage import Storage
from peer.transport.client import Client
from peer.transport.exchange import Answer
from protocol.base.entropy import Entropy
from protocol.base.errors import Refused
from protocol.base.ids import PeerId
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
from protocol.events import Event, MessageReceived, PeerFound, SendFailed, TimePassed, WorkDone, WorkFailed
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.node import Node
from protocol.wire import codec
from protocol.wire.envelope import Header, Opener, Sealer
from protocol.wire.messages import Message


class Clock:
    """Unix seconds that never go backwards: the wall clock at the start, the monotonic clock from there.

    When the two have drifted apart by over a second (suspend, the clock was set) the wall clock is taken up again, but
    only forwards: what has been dated stays in order for a node.  Between two nodes ``set`` takes it up as it is.
    """

    def __init__(self) -> None:
        self.set()

    def set(self) -> None:
        """Take up the wall clock, backwards too.  Never while a node runs."""
        self._offset = time.time() - time.monotonic()

    def ahead_s(self) -> float:
        """Seconds by which this clock is ahead of the wall clock: that was set back, or was wrong at the start."""
        return self() - time.time()

    def __call__(self) -> float:
        """Now."""
        steady = time.monotonic()
        ahead = time.time() - steady - self._offset
        if ahead > 1.0:
            self._offset += ahead
        return steady + self._offset


class Driver:
    """Runs one node.  ``attach`` gives it the node; ``post`` gives the node an event."""

    def __init__(
        self,
        clock: Clock,
        entropy: Entropy,
        client: Client,
        storage: Storage,
        observer: Observer,
        verifier: DescriptorVerifier,
        seeds: Callable[[], list[str]],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._client = client
        self._storage = storage
        self._observer = observer
        self._verifier = verifier
        self._seeds = seeds
        self._fail = fail
        """Told of an error of our own, which ends the daemon."""
        self.after: Callable[[], None] | None = None
        """Called after every event that the node has been given."""
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="work")
        self._events: deque[Event] = deque()
        self._waiting: deque[Effect] = deque()
        self._handling = False
        self._persisting = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._dialling = False
        self._closed = False
        """Nothing is handled or carried out any more: closed, or broken."""
        self._node: Node | None = None

    @property
    def node(self) -> Node:
        """The node; the driver is of no use without."""
        assert self._node is not None, "attach a node first"
        return self._node

    def attach(self, node: Node, sealer: Sealer, opener: Opener) -> None:
        """Begin to run ``node``."""
        self._node, self._opener = node, opener
        self._delivery = Delivery(
            client=self._client,
            sealer=sealer,
            verifier=self._verifier,
            observer=self._observer,
            clock=self._clock,
            own=lambda: self.node.descriptor,
            found=self._found,
            in_thread=self.in_thread,
            introduced={},
        )
        self.post(TimePassed())

    async def close(self) -> None:
        """Stop: nothing is sent, nothing handled after this."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def drained(self, timeout_s: float) -> None:
        """Wait until everything asked for so far has been sent and the node is idle, or for ``timeout_s``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while (self._tasks or not self.node.idle) and not self._closed and loop.time() < end:
            pending = set(self._tasks)
            if pending:
                await asyncio.wait(pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0.02)  # the node waits for an answer that nobody owes us: look again

    # --- events and effects -----------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Give the node an event, now or, if it is being called, right after."""
        self._events.append(event)
        self._pump()

    def _pump(self) -> None:
        """Give the node every event that waits, first come first served."""
        if self._handling or self._closed or not self._events:
            return
        self._handling = True
        try:
            while self._events:
                effects = self.node.handle(self._events.popleft(), self._clock())
                self._waiting.extend(effects)
                self._carry_out()
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._handling = False
        self._set_timer()
        if self.after is not None:
            self.after()

    def _give_up(self, error: BaseException) -> None:
        """After an error of our own neither the node nor what it asked for is to be trusted: nothing more happens."""
        self._closed = True
        self._fail(error)

    def _carry_out(self) -> None:
        while self._waiting and not self._persisting and not self._closed:
            effect = self._waiting.popleft()
            match effect:
                case Send():
                    self._spawn(self._send(effect))
                case Work():
                    self._work(effect)
                case Report(item):
                    self._observer.report(item)
                case PersistRound(round_id, expires):
                    self._persist(self._storage.remember_round(round_id, expires))
                case PersistUse(keys):
                    self._persist(self._storage.remember_uses(keys))
                case PersistIdentity(incarnation, kem_epoch):
                    self._persist(self._storage.save_identity(incarnation, kem_epoch))
                case SaveTask(encoding, submitter, signature):
                    self._persist(self._storage.save_task(encoding, submitter, signature))
                case DropTask(task, encoding):
                    self._persist(self._storage.drop_task(task, encoding))
                case SaveCheckpoint(checkpoint):
                    self._storage.save_checkpoint(checkpoint)
                case Dial():
                    if not self._dialling:
                        self._dialling = True
                        self._spawn(self._dial())
                case _:
                    assert_never(effect)  # one that nobody carries out might be what makes a restart safe

    def _persist(self, write: Any) -> None:
        self._persisting = True

        async def durable() -> None:
            try:
                await write
                self._persisting = False
                self._carry_out()
            except BaseException as error:
                self._give_up(error)
                raise

        self._spawn(durable())

    def _work(self, work: Work) -> None:
        if work.job.cost_bytes <= INLINE_BYTES:
            self._events.append(self._observed(self._run(work)))
            # in a row with what the node is being told already, or, from a continuation, at once
            if not self._handling:
                asyncio.get_running_loop().call_soon(self._pump)
            return
        self._spawn(self._work_in_thread(work))

    async def _work_in_thread(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        self.post(self._observed(await loop.run_in_executor(self._threads, self._run, work)))

    @staticmethod
    def _run(work: Work) -> WorkDone | WorkFailed:
        try:
            return WorkDone(work.purpose, work.job.run())
        except Exception as error:  # becomes an event: the machine decides what it costs
            return WorkFailed(work.purpose, error)

    def _observed(self, event: WorkDone | WorkFailed) -> Event:
        """What others sent is refused, and reported by the node; any other failure is this peer's own."""
        if isinstance(event, WorkFailed) and not isinstance(event.error, Refused):
            self._observer.work_failed(event.purpose.step, event.error)
        return event

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(error)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            return
        when, _ = self.node.next_deadline(self._clock())
        if when != float("inf"):
            delay = max(0.0, when - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay + 1e-4, self.post, TimePassed())

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run something slow that is not the node's (sealing, opening) in the same threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # --- sending ----------------------------------------------------------------------------------------------

    async def _send(self, send: Send) -> None:
        if not await self._delivery.deliver(send):
            self.post(SendFailed(send.to.peer, send.message))

    async def _dial(self) -> None:
        try:
            await self._delivery.dial(self._seeds())
        finally:
            self._dialling = False

    def link_speed(self, peer: PeerId) -> float | None:
        """Measured bytes per second towards a peer."""
        descriptor = self.node.membership.lookup(peer) if self._node is not None else None
        return None if descriptor is None else self._delivery.link_speed(descriptor)

    # --- receiving --------------------------------------------------------------------------------------------

    async def on_envelope(self, body: bytes | bytearray | memoryview, source: str) -> Answer:
        """The transport's callback for a posted envelope."""
        if self._closed or self._node is None:
            return Answer(503)
        try:
            header = self._opener.inspect(body, self._clock(), self.node.membership.lookup)
            if len(body) <= INLINE_BYTES:
                message = self._unpack(header, body)
            else:
                message = await self.in_thread(self._unpack, header, body)
        except Refused as refused:
            self._observer.refused(source, refused)
            return Answer(STATUS.get(refused.reason, 400))
        self._observer.received(message, len(body))
        # the answer goes out first: whoever sent this need not wait for what it sets off
        asyncio.get_running_loop().call_soon(self._received, MessageReceived(header.sender, message))
        return Answer(202)

    def _unpack(self, header: Header, body: bytes | bytearray | memoryview) -> Message:
        return codec.decode(self._opener.decrypt(header, body))

    def _received(self, event: MessageReceived) -> None:
        if not self._closed:
            self.post(event)

    def on_hello(self, body: bytes, source: str) -> Answer:
        """The transport's callback for a newcomer's descriptor: members of this network get ours.

        Nothing else follows: whoever has seen a descriptor can post it.  A newcomer introduces itself when it greets.
        """
        if self._closed or self._node is None:
            return Answer(503)
        try:
            self._verifier.verify(bytes(body), self._clock())
        except Refused as refused:
            self._observer.refused(source, refused)
            return hello_refusal(refused, self._clock())
        return Answer(200, self.node.descriptor.raw)

    def _found(self, descriptor: Descriptor) -> None:
        if not self._closed:
            self.post(PeerFound(descriptor))
