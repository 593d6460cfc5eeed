"""A tiny world in virtual time: real ``Membership`` machines that exchange messages through one heap.

It stands for node, driver and network: it signs descriptors, routes messages, calls ``tick`` at each deadline, and
answers ``Dial`` with the descriptor of a seed.  Nothing here decides anything about membership.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId
from protocol.base.settings import LAN, Settings
from protocol.effects import Dial, Effect, Send
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.membership import Liveness, Membership
from protocol.wire.messages import Gossip, GossipReply, Leave, Message, Ping, Pong, ProbeRequest

START = 1_800_000_000.0


@dataclass(frozen=True)
class Settled:
    """One message of the trace."""

    at: float
    sender: PeerId
    to: PeerId
    message: Message


class Peer:
    """One peer with its home: the keys outlive a restart, the machine does not."""

    def __init__(self, world: "World", name: str, settings: Settings) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.entropy = world.entropy.fork(name)
        self.keyring = Keyring(SigningKey(self.entropy.token(32)), KemSuite.X25519, self.entropy)
        self.keyring.rotate(world.now)
        self.chain = admit(world.token, self.keyring.signing.public_bytes, world.now)
        self.id = self.keyring.peer_id
        self.address = f"{name}.example:7000"
        self.incarnation = 1
        self.running = False
        self.paused = False
        self.inbox: list[Callable[[], None]] = []
        self.own: Descriptor
        self.members: Membership

    def sign(self) -> Descriptor:
        self.own = make_descriptor(
            self.keyring,
            self.chain,
            addresses=[self.address],
            incarnation=self.incarnation,
            now=self.world.now,
            lifetime_s=self.settings.descriptor_lifetime_s,
        )
        return self.own

    def start(self) -> None:
        world = self.world
        self.members = Membership(self.sign(), self.settings, self.entropy, world.verifier, world.now)
        self.running = True
        world.carry_out(self, [])

    def crash(self) -> None:
        self.running = False

    def restart(self, address: str) -> None:
        self.incarnation = self.members.incarnation + 1
        self.address = address
        self.start()

    def leave(self) -> None:
        self.world.carry_out(self, self.members.leave(self.world.now))
        self.running = False

    def resume(self) -> None:
        """Wake up after ``paused``: what arrived meanwhile lies unread until the first deadline was served."""
        self.paused = False
        self.world.tick(self)
        inbox, self.inbox = self.inbox, []
        for deliver in inbox:
            deliver()

    def state_of(self, other: "Peer") -> Liveness | None:
        return self.members.state_of(other.id)

    def known(self) -> set[PeerId]:
        return {descriptor.peer for descriptor in self.members.alive()}


class World:
    """The heap, the clock and the link rules."""

    def __init__(self, seed: int | str = 1, settings: Settings = LAN) -> None:
        self.now = START
        self.settings = settings
        self.entropy = SeededEntropy(seed)
        authority = Authority(SigningKey(self.entropy.token(32)))
        self.token = issue_token(authority, self.now, 90 * 86400.0, (), self.entropy)
        self.verifier = DescriptorVerifier(authority.key.public_bytes)
        self.peers: list[Peer] = []
        self.by_id: dict[PeerId, Peer] = {}
        self.seeds: list[Peer] = []
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.trace: list[Settled] = []
        self.dials: list[tuple[float, PeerId]] = []
        self.delay = (0.005, 0.03)
        self.lost: Callable[[Peer, Peer, Message], bool] = lambda sender, to, message: False
        self.unreachable_fails = True
        """Whether a closed port is noticed (``send_failed``); else silence is all there is."""

    def add(self, count: int, **changes: int | float) -> list[Peer]:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        new = [Peer(self, f"peer-{len(self.peers) + i}", settings) for i in range(count)]
        for peer in new:
            self.peers.append(peer)
            self.by_id[peer.id] = peer
        return new

    def at(self, when: float, action: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (when, self.count, action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.heap and self.heap[0][0] <= end:
            self.now, _, action = heapq.heappop(self.heap)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Run until the condition holds; the seconds that took.  Fails when it takes longer than ``within``."""
        begin, end = self.now, self.now + within
        while not condition():
            assert self.heap, "nothing happens any more"
            assert self.heap[0][0] <= end, f"not within {within} s"
            self.now, _, action = heapq.heappop(self.heap)
            action()
        return self.now - begin

    # --- driver ----------------------------------------------------------------------------------------------

    def tick(self, peer: Peer) -> None:
        if peer.running and not peer.paused and peer.members.next_deadline()[0] <= self.now:
            self.carry_out(peer, peer.members.tick(self.now, (), ()))

    def carry_out(self, peer: Peer, effects: Sequence[Effect]) -> None:
        if peer.members.incarnation > peer.own.incarnation:
            peer.incarnation = peer.members.incarnation
            peer.members.set_own(peer.sign())
        for effect in effects:
            match effect:
                case Send(to, message):
                    self.send(peer, to, message)
                case Dial():
                    self.dials.append((self.now, peer.id))
                    for seed in self.seeds:
                        if seed is not peer and seed.running and not seed.paused:
                            self.at(self.now + self.draw_delay(), lambda seed=seed: self.found(peer, seed))  # type: ignore[misc]
                case _:
                    raise AssertionError(effect)
        deadline = peer.members.next_deadline()[0]
        if deadline < float("inf"):
            self.at(max(deadline, self.now), lambda: self.tick(peer))

    def found(self, peer: Peer, seed: Peer) -> None:
        if peer.running:
            peer.members.found(seed.own, self.now)
            self.carry_out(peer, ())

    def draw_delay(self) -> float:
        low, high = self.delay
        return low + (high - low) * self.entropy.uniform()

    def send(self, sender: Peer, to: Descriptor, message: Message) -> None:
        self.trace.append(Settled(self.now, sender.id, to.peer, message))
        target = self.by_id[to.peer]
        if self.lost(sender, target, message):
            return
        session = sender.members
        there = target.running and target.address == to.addresses[0]
        if not there:
            if self.unreachable_fails:
                self.at(self.now + 0.01, lambda: self.failed(sender, session, to.peer))
            return
        self.at(self.now + self.draw_delay(), lambda: self.deliver(sender.own, target, message))

    def failed(self, sender: Peer, session: Membership, to: PeerId) -> None:
        if sender.running and sender.members is session:
            self.carry_out(sender, sender.members.send_failed(to, self.now))

    def deliver(self, own: Descriptor, target: Peer, message: Message) -> None:
        if not target.running:
            return
        if target.paused:
            target.inbox.append(lambda: self.deliver(own, target, message))
            return
        members, now = target.members, self.now
        sender = members.lookup(own.peer) or own  # an envelope brings a descriptor only to who has none
        members.heard(sender, now)
        match message:
            case Gossip():
                effects = members.on_gossip(sender, message, now, (), ())
            case GossipReply():
                effects = members.on_gossip_reply(sender, message, now)
            case Ping():
                effects = members.on_ping(sender, message, now)
            case Pong():
                effects = members.on_pong(sender, message, now)
            case ProbeRequest():
                effects = members.on_probe_request(sender, message, now)
            case Leave():
                effects = members.on_leave(sender, message, now)
            case _:
                raise AssertionError(message)
        self.carry_out(target, effects)

    # --- questions -------------------------------------------------------------------------------------------

    def running(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.running]

    def complete(self) -> bool:
        """Whether all running peers know one another, and nobody else, as alive."""
        everybody = {peer.id for peer in self.running()}
        return all(peer.known() == everybody - {peer.id} for peer in self.running())

    def all_say(self, of: Peer, *states: Liveness | None) -> bool:
        return all(peer.state_of(of) in states for peer in self.running() if peer is not of)

    def messages(self, since: float = START) -> Counter[str]:
        return Counter(type(s.message).__name__ for s in self.trace if s.at >= since)


def joined(count: int, seed: int | str = 1, settings: Settings = LAN, settle: float = 20.0) -> World:
    """A network of ``count`` peers, all started at once with the first as seed, that has found itself."""
    world = World(seed, settings)
    world.seeds = world.add(count)[:1]
    for peer in world.peers:
        peer.start()
    world.run_until(world.complete, within=settle)
    return world
