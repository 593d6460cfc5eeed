"""Delivery: seals a message, finds an address that takes it, and asks strangers who they are.

Neighbours: ``peer.driver`` carries out the node's ``Send`` and ``Dial`` through it; ``peer.turns`` says when,
``peer.transport.client`` moves the bodies, ``protocol.wire.envelope`` seals.
Invariants: nothing is sealed before its turn has come, a large body in a thread; whoever may not know this peer gets
its descriptor along; what an answer says is believed only as far as a verified descriptor goes.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from peer.observe.observer import Observer
from peer.transport.addresses import resolve
from peer.transport.client import Client
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, Answer, Unreachable
from peer.turns import Turns
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import PeerId
from protocol.base.limits import MAX_ENVELOPE_TTL_S
from protocol.effects import Send
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.fields import MAX_TIME
from protocol.wire import codec
from protocol.wire.envelope import Sealer

INLINE_BYTES = 128 * 2**10
"""Work that touches less than this is done on the event loop: well under a millisecond, less than a thread's detour."""
HELLO_TIMEOUT_S = 5.0
LEAST_TTL_S = 1.0
MAX_INTRODUCED = 10_000

STATUS = {
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
SOMEBODY_ELSE = (403, 404, 405, 421)
"""What a peer of another network, another program or another peer says: private addresses exist in many places."""
_ITSELF = "is this peer itself"


@dataclass(slots=True)
class Delivery:
    """Everything that leaves one peer."""

    client: Client
    sealer: Sealer
    verifier: DescriptorVerifier
    observer: Observer
    clock: Callable[[], float]
    own: Callable[[], Descriptor]
    found: Callable[[Descriptor], None]
    """Told of every verified descriptor that an answer brought."""
    in_thread: Callable[..., Awaitable[Any]]
    introduced: dict[PeerId, tuple[bytes, int]]
    """The descriptor of ours that each peer has accepted a message under, in which of its incarnations."""
    turns: Turns = field(default_factory=Turns)
    answering: dict[PeerId, str] = field(default_factory=dict)
    """The address at which each peer has answered last: another one may swallow whatever is sent there."""

    # --- messages ---------------------------------------------------------------------------------------------

    async def deliver(self, send: Send) -> bool:
        """Whether the recipient has taken the message; everything else is observed here."""
        to, kind = send.to, codec.kind_name(send.message)
        own = self.own().raw
        introduce, problem = False, ""
        try:
            head, tail = codec.encode(send.message)
            for _ in range(3):  # as it is; with an introduction; to the recipient's newest key
                introduce = introduce or self.introduced.get(to.peer) != (own, to.incarnation)
                status, size = await self._post(to, head, tail, send.ttl_s, own if introduce else None)
                if 200 <= status < 300 or status == SEEN_BEFORE:
                    if len(self.introduced) >= MAX_INTRODUCED:
                        self.introduced.clear()
                    self.introduced[to.peer] = own, to.incarnation
                    self.observer.sent(send.message, size)
                    return True
                problem = f"refused with status {status}"
                if status == INTRODUCE_YOURSELF and not introduce:
                    introduce = True
                elif status == KEY_IS_GONE and (newer := await self._newer(to)) is not None:
                    to = newer
                else:
                    break
        except (Unreachable, Refused) as error:
            problem = str(error)
        except ValueError as error:  # no peer would take it: ours to mend, and no reason to stop
            self.observer.failed(f"a {kind} cannot be sent", error)
            problem = str(error)
        self.observer.not_delivered(to.peer, kind, problem)
        return False

    async def _post(self, to: Descriptor, head: bytes, tail: Any, ttl_s: float, own: bytes | None) -> tuple[int, int]:
        """When its turn has come, seal and post: (status, bytes sent)."""
        ttl_s = min(max(ttl_s, LEAST_TTL_S), MAX_ENVELOPE_TTL_S)
        size = len(head) + memoryview(tail).nbytes
        async with self.turns.turn(to.peer, size, ttl_s) as left_s:

            def seal() -> bytes:
                parts = self.sealer.seal(to, head, tail, now=self.clock(), ttl_s=left_s, own_descriptor=own)
                return b"".join(parts)

            envelope = seal() if size <= INLINE_BYTES else await self.in_thread(seal)
            return await self._post_sealed(to, envelope, left_s), len(envelope)

    async def _post_sealed(self, to: Descriptor, envelope: bytes, ttl_s: float) -> int:
        """What the first address says where the recipient answers."""
        problem = Unreachable("nowhere", "the peer's descriptor names no address")
        elsewhere: int | None = None
        for address in self._addresses(to):
            try:
                answer = await self.client.post(address, ENVELOPE_PATH, envelope, ttl_s)
            except Unreachable as error:
                problem = error
                if address == self.answering.get(to.peer):
                    del self.answering[to.peer]
                continue
            if answer.status not in SOMEBODY_ELSE:
                if len(self.answering) >= MAX_INTRODUCED:
                    self.answering.clear()
                self.answering[to.peer] = address
                return answer.status
            elsewhere = answer.status
        if elsewhere is None:
            raise problem
        return elsewhere

    def _addresses(self, to: Descriptor) -> list[str]:
        """That where the peer answered last comes first."""
        last = self.answering.get(to.peer)
        return sorted(to.addresses, key=lambda address: address != last)

    def link_speed(self, to: Descriptor) -> float | None:
        """Measured bytes per second towards a peer, if any of its addresses was measured."""
        speeds = [self.client.bytes_per_s(address) for address in to.addresses]
        return next((speed for speed in speeds if speed is not None), None)

    # --- who is there? ----------------------------------------------------------------------------------------

    async def dial(self, seeds: list[str]) -> None:
        """Say hello at every address of every seed."""
        tried: list[str] = []
        answered = False
        for seed in seeds:
            try:
                addresses = await resolve(seed)
            except (Unreachable, ConfigurationError) as error:
                tried.append(str(error))
                continue
            for address in addresses:
                problem = await self._hello(address)
                answered = answered or problem is None
                if problem is not None:
                    tried.append(problem)
        # the first peer of a network is often its only seed: that is no complaint
        self.observer.dialled(answered, [] if all(problem.endswith(_ITSELF) for problem in tried) else tried)

    async def _hello(self, address: str) -> str | None:
        """None if another member of this network answered; else one sentence."""
        try:
            descriptor = await self._who_is(address)
        except Unreachable as error:
            return str(error)
        except Refused as refused:
            return f"{address}: {refused}"
        if descriptor.peer == self.own().peer:
            return f"{address}: {_ITSELF}"
        self.found(descriptor)
        return None

    async def _newer(self, to: Descriptor) -> Descriptor | None:
        """The descriptor of a peer whose KEM key is gone (it has restarted), if it has a newer one."""
        for address in self._addresses(to):
            try:
                newer = await self._who_is(address)
            except (Unreachable, Refused):
                continue
            if newer.peer == to.peer and newer.kem_epoch > to.kem_epoch:
                self.found(newer)
                return newer
        return None

    async def _who_is(self, address: str) -> Descriptor:
        """The verified descriptor of whoever listens there.  Raises ``Unreachable`` or ``Refused``."""
        answer = await self.client.post(address, HELLO_PATH, self.own().raw, HELLO_TIMEOUT_S)
        if not answer.accepted:
            raise Unreachable(address, self._explain(answer))
        return self.verifier.verify(answer.body, self.clock())

    def _explain(self, answer: Answer) -> str:
        try:
            said = json.loads(answer.body)
            reason, ahead = Refusal[said["reason"]], float(said["time"]) - self.clock()
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # whatever a stranger may write
            return f"refuses this peer (status {answer.status})"
        sentence = f"refuses this peer: {reason.value}"
        if 60.0 < abs(ahead) < MAX_TIME:
            side = "behind" if ahead > 0 else "ahead of"
            sentence += f"; this machine's clock is {abs(ahead) / 3600:.1f} hours {side} the other's: set it"
        return sentence


def hello_refusal(refused: Refused, now: float) -> Answer:
    """How a hello is refused: the reason's name and this machine's time, so that a wrong clock is found."""
    return Answer(403, json.dumps({"reason": refused.reason.name, "time": now}).encode())
