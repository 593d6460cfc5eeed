"""The driver: sole caller of the node.  Events in, effects out, one timer.

Neighbours: ``peer.daemon`` composes it; ``peer.transport`` moves its envelopes, ``peer.storage`` keeps what must last,
``peer.observe`` hears its reports.
Invariants: the node is called from the event loop alone; effects are carried out in the order the node gave them, and
whatever follows a persisting effect waits until that is durable; work of O(d) runs in threads; nothing that arrives is
believed before the envelope has been verified, and whatever is refused is counted.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from peer.observe.observer import Observer
from peer.storage import Storage
from peer.transport.addresses import resolve
from peer.transport.client import Client
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, Answer, Unreachable
from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import PeerId
from protocol.effects import Dial, Effect, PersistRound, PersistUse, Report, SaveCheckpoint, SaveTask, Send, Work
from protocol.events import Event, MessageReceived, PeerFound, SendFailed, TimePassed, WorkDone, WorkFailed
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.node import Node
from protocol.wire import codec
from protocol.wire.envelope import Header, Opener, Sealer
from protocol.wire.messages import Message

INLINE_BYTES = 128 * 2**10
"""Work that touches less than this is done on the event loop: well under a millisecond, less than a thread's detour."""
HELLO_TIMEOUT_S = 5.0
LEAST_TTL_S = 1.0

_STATUS = {
    Refusal.UNKNOWN_SENDER: 428,
    Refusal.UNKNOWN_EPOCH: 410,
    Refusal.WRONG_RECIPIENT: 421,
    Refusal.REPLAYED: 409,
    Refusal.OVERSIZED: 413,
    Refusal.BUSY: 429,
    Refusal.NOT_A_MEMBER: 403,
    Refusal.CERTIFICATE_EXPIRED: 403,
    Refusal.WRONG_NETWORK: 403,
}
"""HTTP status of a refusal; 400 for the others."""
INTRODUCE_YOURSELF, KEY_IS_GONE, SEEN_BEFORE = 428, 410, 409
"""What a sender acts on.  An envelope that was seen before has arrived: its first answer was lost."""


class Clock:
    """Unix seconds that never go backwards: the wall clock at the start, the monotonic clock from there.

    When the two have drifted apart by over a second (suspend, the clock was set) the wall clock is taken up again, but
    only forwards.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

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
        """Told of an error of our own, which ends the daemon: a node after an exception is not to be trusted."""
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="work")
        self._events: deque[Event] = deque()
        self._waiting: deque[Effect] = deque()
        self._handling = False
        self._persisting = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._introduced: dict[PeerId, bytes] = {}
        self._dialling = False
        self._closed = False
        self._node: Node | None = None

    @property
    def node(self) -> Node:
        """The node; the driver is of no use without."""
        assert self._node is not None, "attach a node first"
        return self._node

    def attach(self, node: Node, sealer: Sealer, opener: Opener) -> None:
        """Begin to run ``node``."""
        self._node, self._sealer, self._opener = node, sealer, opener
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
        while (self._tasks or self._persisting or not self.node.idle) and loop.time() < end:
            pending = set(self._tasks)
            if pending:
                await asyncio.wait(pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0.02)  # the node waits for an answer that nobody owes us: look again

    # --- events and effects -----------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        """Give the node an event, now or, if it is being called, right after."""
        self._events.append(event)
        if self._handling or self._closed:
            return
        self._handling = True
        try:
            while self._events:
                effects = self.node.handle(self._events.popleft(), self._clock())
                self._waiting.extend(effects)
                self._carry_out()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._handling = False
        self._set_timer()

    def _carry_out(self) -> None:
        while self._waiting and not self._persisting:
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
                case PersistUse(key):
                    self._persist(self._storage.remember_use(key))
                case SaveTask(encoding, submitter, signature):
                    self._persist(self._storage.save_task(encoding, submitter, signature))
                case SaveCheckpoint(checkpoint):
                    self._storage.save_checkpoint(checkpoint)
                case Dial():
                    if not self._dialling:
                        self._dialling = True
                        self._spawn(self._dial())

    def _persist(self, write: Any) -> None:
        self._persisting = True

        async def durable() -> None:
            try:
                await write
            except BaseException as error:
                self._fail(error)
                raise
            self._persisting = False
            self._carry_out()

        self._spawn(durable())

    def _work(self, work: Work) -> None:
        if work.job.cost_bytes <= INLINE_BYTES:
            self._events.append(self._run(work))
            # in a row with what the node is being told already, or, from a continuation, at once
            if not self._handling:
                asyncio.get_running_loop().call_soon(self._pump)
            return
        self._spawn(self._work_in_thread(work))

    def _pump(self) -> None:
        if self._events and not self._closed:
            self.post(self._events.popleft())

    async def _work_in_thread(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        self.post(await loop.run_in_executor(self._threads, self._run, work))

    @staticmethod
    def _run(work: Work) -> Event:
        try:
            return WorkDone(work.key, work.job.run())
        except Exception as error:  # becomes an event: the machine decides what it costs
            return WorkFailed(work.key, error)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

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
        """Run something slow that is not the node's (reading records, evaluating) in the same threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # --- sending ----------------------------------------------------------------------------------------------

    async def _send(self, send: Send) -> None:
        to, message = send.to, send.message
        head, tail = codec.encode(message)
        own = self.node.descriptor.raw
        introduce = self._introduced.get(to.peer) != own
        try:
            status = 0
            for _ in range(3):  # as it is; with an introduction; to the recipient's newest key
                status, size = await self._post(to, head, tail, send.ttl_s, own if introduce else None)
                if 200 <= status < 300 or status == SEEN_BEFORE:
                    if len(self._introduced) > 10_000:
                        self._introduced.clear()
                    self._introduced[to.peer] = own
                    self._observer.sent(message, size)
                    return
                if status == INTRODUCE_YOURSELF and not introduce:
                    introduce = True
                elif status == KEY_IS_GONE:
                    newer = await self._ask_again(to)
                    if newer is None:
                        break
                    to = newer
                else:
                    break
            self._observer.not_delivered(to.peer, codec.kind_name(message), f"refused with status {status}")
        except Unreachable as error:
            self._observer.not_delivered(to.peer, codec.kind_name(message), str(error))
        except Refused as error:
            self._observer.not_delivered(to.peer, codec.kind_name(message), str(error))
        self.post(SendFailed(send.to.peer, message))

    async def _post(
        self, to: Descriptor, head: bytes, tail: Any, ttl_s: float, own: bytes | None
    ) -> tuple[int, int]:
        """Seal and post to the first address that answers: (status, bytes sent)."""
        ttl_s = min(max(ttl_s, LEAST_TTL_S), 120.0)

        def seal() -> bytes:
            parts = self._sealer.seal(to, head, tail, now=self._clock(), ttl_s=ttl_s, own_descriptor=own)
            return b"".join(parts)

        size = len(head) + memoryview(tail).nbytes
        envelope = seal() if size <= INLINE_BYTES else await self.in_thread(seal)
        problem = Unreachable("nowhere", "the peer's descriptor names no address")
        for address in to.addresses:
            try:
                answer = await self._client.post(address, ENVELOPE_PATH, envelope, ttl_s)
            except Unreachable as error:
                problem = error
                continue
            return answer.status, len(envelope)
        raise problem

    def link_speed(self, peer: PeerId) -> float | None:
        """Measured bytes per second towards a peer."""
        descriptor = self.node.membership.lookup(peer) if self._node is not None else None
        if descriptor is None:
            return None
        speeds = [self._client.bytes_per_s(address) for address in descriptor.addresses]
        return next((speed for speed in speeds if speed is not None), None)

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
            return Answer(_STATUS.get(refused.reason, 400))
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
        """The transport's callback for a newcomer's descriptor: members of this network get ours."""
        if self._closed or self._node is None:
            return Answer(503)
        try:
            descriptor = self._verifier.verify(bytes(body), self._clock())
        except Refused as refused:
            self._observer.refused(source, refused)
            said = json.dumps({"reason": refused.reason.name, "time": self._clock()})
            return Answer(403, said.encode())
        if descriptor.peer != self.node.peer:
            asyncio.get_running_loop().call_soon(self._found, descriptor)
        return Answer(200, self.node.descriptor.raw)

    def _found(self, descriptor: Descriptor) -> None:
        if not self._closed:
            self.post(PeerFound(descriptor))

    # --- finding the network ----------------------------------------------------------------------------------

    async def _dial(self) -> None:
        tried: list[str] = []
        answered = False
        for seed in self._seeds():
            try:
                addresses = await resolve(seed)
            except (Unreachable, ConfigurationError) as error:
                tried.append(str(error))
                continue
            for address in addresses:
                outcome = await self._hello(address)
                if outcome is None:
                    answered = True
                else:
                    tried.append(outcome)
        self._dialling = False
        self._observer.dialled(answered, tried)

    async def _hello(self, address: str) -> str | None:
        """None if a member of this network answered; else one sentence."""
        try:
            descriptor = await self._who_is(address)
        except (Unreachable, Refused) as error:
            return f"{address}: {error}" if isinstance(error, Refused) else str(error)
        if descriptor.peer == self.node.peer:
            return f"{address}: is this peer itself"
        self.post(PeerFound(descriptor))
        return None

    async def _ask_again(self, to: Descriptor) -> Descriptor | None:
        """The descriptor of a peer whose KEM key is gone (it has restarted), if it has a newer one."""
        for address in to.addresses:
            try:
                newer = await self._who_is(address)
            except (Unreachable, Refused):
                continue
            if newer.peer == to.peer and newer.kem_epoch > to.kem_epoch:
                self.post(PeerFound(newer))
                return newer
        return None

    async def _who_is(self, address: str) -> Descriptor:
        """The verified descriptor of whoever listens there.  Raises ``Unreachable`` or ``Refused``."""
        answer = await self._client.post(address, HELLO_PATH, self.node.descriptor.raw, HELLO_TIMEOUT_S)
        if not answer.accepted:
            raise Unreachable(address, self._explain(answer))
        return self._verifier.verify(answer.body, self._clock())

    def _explain(self, answer: Answer) -> str:
        try:
            said = json.loads(answer.body)
            reason, ahead = Refusal[said["reason"]], float(said["time"]) - self._clock()
        except (ValueError, KeyError, TypeError):
            return f"refuses this peer (status {answer.status})"
        sentence = f"refuses this peer: {reason.value}"
        if abs(ahead) > 60.0:
            side = "behind" if ahead > 0 else "ahead of"
            sentence += f"; this machine's clock is {abs(ahead) / 3600:.1f} hours {side} the other's: set it"
        return sentence
