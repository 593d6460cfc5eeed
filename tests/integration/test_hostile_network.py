"""What attackers and mishaps send to a running peer process: it says no, counts, logs once, changes nothing, goes on.

One process is under attack for most of this module.  It holds a task and a model that waits for more peers, so that
every kind of message means something to it; the last of its tests has it train after all of that.
"""

import asyncio
import io
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import psutil
import pytest

from peer.admin_client import ask
from peer.entropy import SystemEntropy
from peer.transport.largebody import KEEP_BYTES
from peer.transport.server import Answer, Server, ServerLimits
from protocol.aggregation.lineage import sign_hop
from protocol.aggregation.phases import DeclineReason
from protocol.base.errors import Refusal
from protocol.base.ids import Lineage, RoundId, TaskId
from protocol.base.limits import MAX_BODY, MAX_CONTROL_BODY, MAX_INLINE_STATE
from protocol.identity.admission import Authority, JoinToken, decode_token, issue_token
from protocol.identity.keys import SigningKey
from protocol.training import task as tasks
from protocol.training.task import Task
from protocol.wire import codec
from protocol.wire import messages as m
from tests.integration.homes import Homes, task_file, until
from tests.integration.insider import TTL_S, Insider, insider

STEPS = 12
ELSEWHERE = "127.0.0.2"
"""Another source than the one from which the tests themselves ask: all of 127/8 is loopback."""
SAID_ONCE = re.compile(
    r"refused a message from (\S+): ([^(\n]+)|refused a (\w+) of peer (\w+): (.*)|refused (.*)\(further"
)


@dataclass
class Victim:
    """Peer 0 of some homes, which runs, and what it may not do however it is treated."""

    homes: Homes
    token: JoinToken = field(init=False)

    def __post_init__(self) -> None:
        self.token = decode_token(self.homes.token)

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.homes.ask(0)
        return status

    @property
    def address(self) -> str:
        address: str = self.status["addresses"][0]
        return address

    def state(self) -> dict[str, Any]:
        """What nobody but its user and honest rounds may change."""
        status = self.status
        kept = ("peer", "network", "members_alive", "addresses", "task_id", "age", "contributions", "refused")
        peers = {p["peer"]: (p["state"], p["incarnation"]) for p in self.homes.ask(0, "/peers") if p["state"] != "left"}
        return {key: status[key] for key in kept} | {"peers": peers}

    def refused(self) -> int:
        """Messages and requests refused so far."""
        status = self.status
        return int(status["messages_refused"] + status["requests_refused"])

    def calm(self) -> None:
        """It runs, has not stumbled, and has said nothing about any source twice."""
        log = self.homes.log(0)
        assert self.homes.processes[0].poll() is None, log
        assert "Traceback" not in log
        assert " ERROR " not in log
        said = Counter(tuple(part.strip() for part in found if part) for found in SAID_ONCE.findall(log))
        assert said
        assert max(said.values()) == 1, said.most_common(3)

    async def suspects_nobody(self) -> None:
        """A member of this module that has answered late, on a busy machine, is cleared when it next answers."""
        async with asyncio.timeout(20):
            while any(state == "suspect" for state, _ in self.state()["peers"].values()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def unchanged(self, refusals: int | None = None) -> AsyncIterator[None]:
        """Around an attack that must be refused (so many times) and leave nothing behind."""
        await self.suspects_nobody()
        state, before = self.state(), self.refused()
        yield
        self.calm()
        await self.suspects_nobody()
        assert self.state() == state
        if refusals is not None:
            assert self.refused() - before == refusals


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    root = tmp_path_factory.mktemp("hostile")
    homes = Homes(root)
    try:
        homes.start(0, "--task", task_file(root, STEPS))
        until(lambda: homes.ask(0)["waiting"], "it holds the task and waits for others")
        yield Victim(homes)
    finally:
        homes.close()


def flip(envelope: bytes, bit: int) -> bytes:
    changed = bytearray(envelope)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- envelopes ----------------------------------------------------------------------------------------------------


def regions(envelope: bytes, descriptor: int) -> dict[str, tuple[int, int, set[int]]]:
    """Of an envelope with a descriptor of so many bytes: name -> (first, end, statuses that a change may earn)."""
    signature = 88 + descriptor
    return {
        "magic": (0, 4, {400}),
        "version": (4, 5, {400}),
        "suite": (5, 6, {410}),
        "length of the descriptor": (6, 8, {400}),
        "network": (8, 24, {403}),
        "sender": (24, 40, {428}),
        "recipient": (40, 56, {421}),
        "message id": (56, 72, {400}),
        "epoch": (72, 80, {410}),
        "expiry": (80, 88, {400}),
        "descriptor": (88, signature, {400, 403}),
        "signature": (signature, signature + 64, {400}),
        "encapsulated key": (signature + 64, signature + 96, {400}),
        "tag": (len(envelope) - 16, len(envelope), {400}),
    }


async def test_an_envelope_with_any_part_changed_is_refused(victim: Victim) -> None:
    draw = random.Random(1)
    async with insider(victim.token, victim.address) as member:
        ping = member.ping()
        genuine = member.seal(ping)
        parts = regions(genuine, len(member.descriptor.raw))
        assert member.descriptor.raw in genuine[88 : parts["descriptor"][1]]
        changed = [(f"header bit {bit}", flip(genuine, bit), None) for bit in range(88 * 8)]
        for name, (first, end, statuses) in parts.items():
            for bit in {first * 8, end * 8 - 1, *(draw.randrange(first * 8, end * 8) for _ in range(10))}:
                changed.append((f"{name}, bit {bit}", flip(genuine, bit), statuses))
        first, end, _ = parts["signature"]
        changed.append(("no signature", genuine[:first] + bytes(64) + genuine[end:], {400}))
        changed.append(("two bits of the signature", flip(flip(genuine, first * 8), first * 8 + 9), {400}))
        for keep in (0, 1, 87, 88, first, end, end + 32, len(genuine) - 16, len(genuine) - 1):
            changed.append((f"the first {keep} bytes", genuine[:keep], {400}))
        for more in (1, 16, 1000, 300_000):
            changed.append((f"and {more} more bytes", genuine + bytes(more), {400}))
        async with victim.unchanged(refusals=len(changed)):
            for what, envelope, statuses in changed:
                status, body = await member.post(envelope)
                assert status in statuses if statuses else status >= 400, (what, status)
                assert status not in (409, 429), what
                assert body == b""
            await member.everything_is_answered()
        assert not [p for p in member.heard if isinstance(p, m.Pong) and p.nonce == ping.nonce]
        # none of that has touched the genuine one: its id is still good, once
        assert (await member.post(genuine))[0] == 202
        await member.answer(m.Pong, nonce=ping.nonce)


async def test_a_changed_ciphertext_does_not_open_and_uses_its_envelope_up(victim: Victim) -> None:
    async with insider(victim.token, victim.address) as member, victim.unchanged(refusals=7 * 2):
        heard = []

        async def send(change: Callable[[bytes], bytes]) -> None:
            ping = member.ping()
            heard.append(ping.nonce)
            genuine = member.seal(ping)
            assert (await member.post(change(genuine)))[0] == 400
            assert (await member.post(genuine))[0] == 409  # the signature was right: that id is used up

        for byte in range(17, 33, 4):  # the ciphertext of a ping is the 16 bytes before the tag
            await send(lambda genuine, byte=byte: flip(genuine, (len(genuine) - byte) * 8))  # type: ignore[misc]
        await send(lambda genuine: genuine * 2)  # longer and shorter, and yet with its own tag at the end
        await send(lambda genuine: genuine[:-24] + genuine[-16:])
        await send(lambda genuine: genuine[:-16] + bytes(100_000) + genuine[-16:])
        await member.everything_is_answered()
        assert not [p for p in member.heard if isinstance(p, m.Pong) and p.nonce in heard]


async def test_an_envelope_is_good_once_for_one_recipient_now(victim: Victim) -> None:
    async with (
        insider(victim.token, victim.address) as member,
        insider(victim.token, victim.address) as other,
        aiohttp.ClientSession() as session,
    ):
        foreign_authority = Authority(SigningKey(SystemEntropy().token(32)))
        foreign = Insider(issue_token(foreign_authority, time.time(), 3600.0, (), SystemEntropy()), session)
        foreign.listens_on("127.0.0.1:9")
        also_foreign = Insider(issue_token(foreign_authority, time.time(), 3600.0, (), SystemEntropy()), session)
        also_foreign.listens_on("127.0.0.1:9")
        unknown = Insider(victim.token, session)
        unknown.listens_on("127.0.0.1:9")
        unknown.target = member.target
        genuine, ping = member.seal(captured := member.ping()), member.ping
        stripped = b"".join(unknown.sealer.seal(member.target, *codec.encode(ping()), now=time.time(), ttl_s=TTL_S))
        assert (await member.post(genuine))[0] == 202
        bad = {
            "replayed": (genuine, 409),
            "replayed again": (genuine, 409),
            "for another peer": (member.seal(ping(), other.descriptor), 421),
            "for another peer, redirected": (_with(member.seal(ping(), other.descriptor), 40, member.target.peer), 410),
            "of another network": (foreign.seal(ping(), also_foreign.descriptor), 403),
            "of another network, relabelled": (
                _with(foreign.seal(ping(), also_foreign.descriptor), 8, victim.token.network), 421,
            ),
            "of another network, redirected": (
                _with(foreign.seal(ping(), also_foreign.descriptor), 8,
                      victim.token.network + foreign.keyring.peer_id + member.target.peer), 410,
            ),
            "of a stranger that does not introduce itself": (stripped, 428),
            "expired": (member.seal(ping(), late_s=400.0), 400),
            "of the future": (member.seal(ping(), late_s=-400.0), 400),
            "of next year": (member.seal(ping(), late_s=-3e7), 400),
            "as if sent by the victim": (_with(member.seal(ping()), 24, member.target.peer), 400),
            "as if sent by another": (_with(member.seal(ping()), 24, other.keyring.peer_id), 428),
        }  # fmt: skip
        async with victim.unchanged(refusals=len(bad)):
            for what, (envelope, status) in bad.items():
                assert (what, (await member.post(envelope))[0]) == (what, status)
            await member.everything_is_answered()
        log = victim.homes.log(0)
        assert all(r.value in log for r in (Refusal.REPLAYED, Refusal.WRONG_RECIPIENT, Refusal.WRONG_NETWORK))
        assert all(r.value in log for r in (Refusal.EXPIRED, Refusal.FAR_FUTURE, Refusal.UNKNOWN_SENDER))
        pongs = Counter(p.nonce for p in member.heard if isinstance(p, m.Pong))
        assert pongs[captured.nonce] == 1
        assert len(pongs) == 3  # the first, the one captured, the last


async def test_a_member_of_another_network_gets_no_hello(victim: Victim) -> None:
    foreign = Authority(SigningKey(SystemEntropy().token(32)))
    async with aiohttp.ClientSession() as session:
        stranger = Insider(issue_token(foreign, time.time(), 3600.0, (), SystemEntropy()), session)
        stranger.listens_on("127.0.0.1:9")
        stranger.target_address = victim.address
        async with victim.unchanged(refusals=3):
            for raw in (stranger.descriptor.raw, stranger.descriptor.raw[:-1], b""):
                status, body = await stranger.post(raw, "/v1/hello")
                assert status == 403
                said = json.loads(body)
                assert set(said) == {"reason", "time"}  # and nothing about the peer
                assert abs(said["time"] - time.time()) < 60.0


def _with(envelope: bytes, at: int, value: bytes) -> bytes:
    return envelope[:at] + value + envelope[at + len(value) :]


# --- messages of a member that fit nothing -------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """The task and the newest model of the victim."""

    task: Task
    age: int
    digest: bytes
    state: bytes

    @classmethod
    def by(cls, victim: Victim) -> "Held":
        home = victim.homes.home(0)
        model = ask(home, "/model")
        about = json.loads(model.headers["x-susurrus-model"])
        return cls(tasks.decode(ask(home, "/task").body), about["age"], bytes.fromhex(about["digest"]), model.body)


def checkpoint(held: Held, age: int) -> m.Checkpoint:
    return m.Checkpoint(held.task.id, age, held.state)


async def test_messages_that_fit_no_round_are_counted_and_forgotten(victim: Victim) -> None:
    held = Held.by(victim)
    rounds = RoundId(b"r" * 16)
    late = held.task.last_age + 1
    head = m.Head(held.task.id, late, bytes(32), 0, Lineage(b"w" * 8), 0.0)  # type: ignore[arg-type]
    refused: list[m.Message] = [
        m.Accept(rounds, True),
        m.Decline(rounds, 0),
        m.Abstain(rounds, 255),
        m.Partial(rounds, 1, 2, (), bytes(4 * held.task.dimension)),
        m.Partial(rounds, 10**6, 10**6, ((), ()), bytes(4_000_000)),
        m.Parameters(rounds, checkpoint(held, 3)),
        m.ModelReply(checkpoint(held, 3)),
        m.ModelReply(replace(checkpoint(held, 3), state=bytes(4_000_000))),
        m.TaskReply(held.task.encode(), bytes(32), bytes(64)),
        m.Gossip(1, (), (), (head,), ()),
        m.GossipReply(1, (), (), (head,), ()),
        m.Walk(1, 0, Lineage(b"w" * 8), False, checkpoint(held, late)),
        m.Walk(1, held.task.walks, Lineage(b"w" * 8), False, checkpoint(held, 3)),
    ]
    ignored: list[m.Message] = [
        m.WalkAck(1, True),
        m.Pong(2**64 - 1, bytes(16)),  # type: ignore[arg-type]
        m.ModelRequest(held.task.id, 2**50),
        m.ModelRequest(TaskId(bytes(16)), -1),
        m.TaskRequest((TaskId(bytes(16)),) * 64),
    ]
    async with insider(victim.token, victim.address) as member:
        async with victim.unchanged(refusals=2 * len(refused)):
            for message in [*refused, *ignored] * 2:
                assert await member.send(message) == 202, message
            await member.everything_is_answered()
        log = victim.homes.log(0)
        for kind in ("accept", "decline", "abstain", "partial", "parameters", "model_reply", "task_reply", "walk"):
            assert log.count(f"refused a {kind} of peer {member.keyring.peer_id.hex()[:8]}") == 1, kind
        said = {type(message) for message in member.heard} - {m.Gossip, m.GossipReply, m.Ping, m.Pong}
        assert said == set(), said
        # a walk of a task that nobody knows is turned down, and the task asked for
        strange = m.Walk(77, 0, Lineage(bytes(8)), False, m.Checkpoint(TaskId(b"t" * 16), 1, bytes(8)))
        async with victim.unchanged(refusals=0):
            assert await member.send(strange) == 202
            assert (await member.answer(m.WalkAck, nonce=77)).accepted is False  # type: ignore[union-attr]
            await member.answer(m.TaskRequest, tasks=(b"t" * 16,))


async def test_sealed_bodies_that_are_no_messages_are_refused(victim: Victim) -> None:
    draw = random.Random(2)
    held = Held.by(victim)
    whole = b"".join(codec.encode(m.Ping(1)))
    bad = [b"", b"\0" * 8, whole[:-1], whole + b"\0", b"\xff" * 64, bytes([1, 0, 0, 0, 200]) + bytes(27)]
    bad += [draw.randbytes(draw.randrange(1, 3000)) for _ in range(50)]
    bad += [whole[:4] + bytes([tag]) + draw.randbytes(59) for tag in range(60)]
    async with insider(victim.token, victim.address) as member:
        too_large = [
            whole + bytes(MAX_CONTROL_BODY),
            codec.encode(offer(held, member))[0] + bytes(MAX_INLINE_STATE + 16),
        ]
        async with victim.unchanged(refusals=len(bad) + len(too_large) + 1):
            for plaintext in bad:
                assert (await member.post(member.seal_plain(plaintext)))[0] == 400, plaintext
            for plaintext in too_large:
                assert (await member.post(member.seal_plain(plaintext)))[0] == 413
            # as large as an envelope can be, and well-formed: it goes all the way, and is nobody's partial
            assert await member.send(m.Partial(RoundId(b"r" * 16), 1, 2, (), bytes(MAX_BODY - 4096))) == 202
            await member.everything_is_answered()


def offer(held: Held, member: Insider) -> m.Offer:
    """One as an honest root would make it."""
    task = held.task
    made = m.Offer(
        round=RoundId(SystemEntropy().token(16)), task=task.id, kind=int(task.kind_at(held.age)), age=held.age,
        digest=held.digest, collusion_threshold=task.collusion_threshold, minimum_cohort=task.minimum_cohort,
        branching=task.branching, depth=1, cap=2, cohort_cap=3, budget_s=4.0, slice_low=0, slice_high=2**63, walk=0,
        lineage=Lineage(bytes(8)), ancestors=(),
    )  # type: ignore[arg-type]  # fmt: skip
    return replace(made, ancestors=(hop(made, member, member.target.peer),))


def hop(made: m.Offer, upper: Insider, lower: bytes, **other: Any) -> m.Ancestor:
    said = {"offer_round": made.round, "threshold": made.collusion_threshold, "depth": made.depth, **other}
    signature = sign_hop(upper.keyring.signing, upper.network, task=made.task, lower=lower, **said)  # type: ignore[arg-type]
    return m.Ancestor(upper.descriptor.raw, signature)


async def test_offers_of_nonsense_are_declined_each_for_its_reason(victim: Victim) -> None:
    held = Held.by(victim)
    s = held.task.collusion_threshold
    other_kind = next(kind for kind in (0, 1) if kind != int(held.task.kind_at(held.age)))
    async with (
        insider(victim.token, victim.address) as member,
        insider(victim.token, victim.address) as other,
        aiohttp.ClientSession() as session,
    ):
        lower = member.target.peer
        foreign_authority = Authority(SigningKey(SystemEntropy().token(32)))
        foreign = Insider(issue_token(foreign_authority, time.time(), 3600.0, (), SystemEntropy()), session)
        foreign.listens_on("127.0.0.1:9")

        def made(**changes: Any) -> m.Offer:
            return replace(offer(held, member), **changes)

        def below(*hops: Any, **changes: Any) -> m.Offer:
            """With other ancestors, each made from the offer itself."""
            bare = made(**changes)
            return replace(bare, ancestors=tuple(h(bare) for h in hops))

        def own(o: m.Offer) -> m.Ancestor:
            return hop(o, member, lower)

        def second(o: m.Offer, upper: Insider = other) -> m.Ancestor:
            return hop(o, upper, member.keyring.peer_id, depth=o.depth - 1)

        def under_other(o: m.Offer) -> m.Ancestor:
            return hop(o, member, other.keyring.peer_id, depth=o.depth - 1)

        nonsense: dict[DeclineReason, list[m.Offer]] = {
            DeclineReason.BAD_SHAPE: [
                below(own, collusion_threshold=s + 1), below(own, collusion_threshold=16),
                made(minimum_cohort=held.task.minimum_cohort - 1), made(minimum_cohort=10**6),
                made(branching=held.task.branching + 1), made(branching=64), made(kind=other_kind),
                made(cap=1), made(cap=3), made(cap=10**6),
                made(cohort_cap=held.task.cohort + 1), made(cohort_cap=10**6),
                made(slice_low=2**63, slice_high=0), made(slice_low=1, slice_high=0),
            ],
            DeclineReason.TOO_LATE: [made(budget_s=0.0)],
            DeclineReason.BAD_ANCESTORS: [
                made(depth=2), made(depth=64),
                made(ancestors=(m.Ancestor(member.descriptor.raw, bytes(64)),)),
                below(lambda o: hop(o, member, lower, offer_round=bytes(16))),
                below(lambda o: hop(o, member, lower, threshold=s + 1)),
                below(lambda o: hop(o, member, lower, depth=2)),
                below(lambda o: hop(o, member, other.keyring.peer_id)),
                below(lambda o: hop(o, other, lower)),  # somebody else's, passed off as the sender's
                below(lambda o: hop(o, foreign, lower)),
                below(lambda o: replace(hop(o, member, lower), descriptor=b"\0" * 4096)),
                below(lambda o: replace(hop(o, member, lower), descriptor=flip(member.descriptor.raw, 999))),
                below(own, own, depth=2),
                below(own, lambda o: second(o, member), depth=2),
                below(own, lambda o: second(o, foreign), depth=2),
                below(own, lambda o: replace(second(o), descriptor=member.target.raw), depth=2),
                below(lambda o: hop(o, other, lower), under_other, depth=2),  # a good chain, sent by its upper end
                below(own, second, second, depth=3),
            ],
            DeclineReason.UNKNOWN_TASK: [made(task=TaskId(b"u" * 16))],
        }  # fmt: skip
        outside = [made(age=held.task.last_age), made(age=2**53 - 1), made(walk=held.task.walks)]
        async with victim.unchanged(refusals=len(outside)):
            for reason, offers in nonsense.items():
                for number, bad in enumerate(offers):
                    assert await member.send(bad) == 202
                    declined = await member.answer(m.Decline, round=bad.round)
                    assert (number, declined.reason) == (number, reason)  # type: ignore[union-attr]
            for bad in outside:
                assert await member.send(bad) == 202
            await member.everything_is_answered()
            assert not [x for x in member.heard if isinstance(x, m.Accept | m.Partial | m.Abstain)]
        # the same hands make an offer that is taken: it was the nonsense that was declined
        end: type[m.Message]
        for good, end in ((made(), m.Abstain), (below(own, second, depth=2, cap=1), m.Partial)):
            assert await member.send(good) == 202
            await member.answer(m.Accept, round=good.round)
            await member.answer(end, round=good.round)  # S = 2 others must stand between a value and the light
            # and is taken once
            assert await member.send(good) == 202
            declined = await member.answer(m.Decline, round=good.round)
            assert declined.reason == DeclineReason.ALREADY_IN_ROUND  # type: ignore[union-attr]
    victim.calm()


# --- HTTP ---------------------------------------------------------------------------------------------------------


async def test_requests_that_are_none_of_ours_are_refused_before_their_bodies(victim: Victim) -> None:
    host, port = victim.address.split(":")

    async def raw(head: str) -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"{head}\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(5):
                return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    post = "POST /v1/envelope HTTP/1.1"
    bad = {
        f"{post}\r\nContent-Length: {MAX_BODY + 1}": 413,
        f"{post}\r\nContent-Length: {10**15}": 413,
        f"{post}\r\nTransfer-Encoding: chunked": 411,
        post: 411,
        f"POST /v1/hello HTTP/1.1\r\nContent-Length: {MAX_CONTROL_BODY + 1}": 413,
        "POST / HTTP/1.1\r\nContent-Length: 3": 404,
        "POST /v1/envelope/../admin HTTP/1.1\r\nContent-Length: 3": 404,
        "POST /status HTTP/1.1\r\nContent-Length: 3": 404,
        "GET /v1/envelope HTTP/1.1": 404,
        "PUT /v1/envelope HTTP/1.1\r\nContent-Length: 3": 404,
        "DELETE /v1/hello HTTP/1.1": 404,
        "GET /metrics HTTP/1.1": 404,
        "nonsense": 400,
    }
    async with victim.unchanged(refusals=len(bad)):
        for head, status in bad.items():
            assert (head, await raw(head)) == (head, status)

    # a body of 64 MB in chunks, written as far as the peer lets it: never taken, never held
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(2**20)

    async with aiohttp.ClientSession() as session, victim.unchanged():
        before = victim.status["bytes_in"]
        try:
            async with session.post(f"http://{victim.address}/v1/envelope", data=endless()) as response:
                assert response.status == 411
        except (aiohttp.ClientConnectionError, aiohttp.ClientOSError):
            pass  # it was cut off while it was still writing
        assert victim.status["bytes_in"] == before


async def test_one_source_with_hundreds_of_slow_connections_leaves_room_for_others(victim: Victim) -> None:
    host, port = victim.address.split(":")
    most = ServerLimits().connections_per_source
    try:
        with socket.socket() as probe:
            probe.bind((ELSEWHERE, 0))
    except OSError:
        pytest.skip(f"this system has no {ELSEWHERE}")

    async def slow(number: int) -> asyncio.StreamWriter | None:
        _, writer = await asyncio.open_connection(host, int(port), local_addr=(ELSEWHERE, 0))
        stack.callback(writer.close)
        head = b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % MAX_BODY
        writer.write(head[:30] if number % 2 else head + b"\r\nsusu")
        return writer

    async with insider(victim.token, victim.address) as member, victim.unchanged():
        before = victim.refused()
        async with AsyncExitStack() as stack:
            for number in range(most + 40):
                await slow(number)
            await asyncio.to_thread(
                until, lambda: victim.refused() >= before + 40, "those beyond the bound are dropped"
            )
            assert victim.refused() == before + 40
            await member.everything_is_answered()  # from elsewhere it is as always
            assert victim.homes.log(0).count(f"refused too many connections from {ELSEWHERE}") == 1
        connector = aiohttp.TCPConnector(local_addr=(ELSEWHERE, 0))
        async with aiohttp.ClientSession(connector=connector) as session:

            async def let_in() -> int:
                try:
                    async with session.post(f"http://{victim.address}/v1/hello", data=member.descriptor.raw) as answer:
                        return answer.status
                except aiohttp.ClientConnectionError:
                    return 0

            async with asyncio.timeout(20):
                while await let_in() != 200:  # noqa: ASYNC110  (once the closed ones are noticed)
                    await asyncio.sleep(0.01)
        assert victim.homes.log(0).count(f"refused broken body from {ELSEWHERE}") == 1


async def test_whoever_answers_at_a_seeds_address_cannot_stop_a_peer(victim: Victim) -> None:
    """Seven liars among the seeds, and one honest seed behind them."""
    foreign_authority = Authority(SigningKey(SystemEntropy().token(32)))
    late = time.time() + 1e5
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        foreign = Insider(issue_token(foreign_authority, time.time(), 3600.0, (), SystemEntropy()), session)
        foreign.listens_on("127.0.0.1:9")
        answers = [
            Answer(403, b'{"reason": "EXPIRED", "time": 1' + b"0" * 400 + b"}"),
            Answer(403, b"[" * 60_000),
            Answer(403, f'{{"reason": "EXPIRED", "time": {late}}}'.encode()),
            Answer(200, foreign.descriptor.raw),
            Answer(200, b"\x9c" * 5000),
            Answer(500, bytes(200_000)),
            Answer(302),
        ]
        asked: Counter[int] = Counter()
        addresses = []
        for number, answer in enumerate(answers):

            def hello(body: bytes, source: str, number: int = number, answer: Answer = answer) -> Answer:
                asked[number] += 1
                return answer

            server = Server(foreign.on_envelope, hello)
            addresses.append(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
            stack.push_async_callback(server.stop, 0.1)
        seeds = [part for address in [*addresses, victim.address] for part in ("--seed", address)]

        def run() -> None:
            victim.homes.start(1, *seeds, seeded=False)
            until(lambda: victim.homes.ask(1)["members_alive"] == 2, f"it finds the honest one: {victim.homes.log(1)}")
            assert victim.homes.stop(1) == 0

        await asyncio.to_thread(run)
        assert set(asked) == set(range(len(answers)))
    log = victim.homes.log(1)
    assert "Traceback" not in log
    assert " ERROR " not in log
    victim.calm()


BODIES, AT_ONCE, LARGEST = 3000, 4, 4 * 2**20


async def test_garbage_in_any_amount_leaves_memory_bounded(victim: Victim) -> None:
    """At one time the peer holds ``AT_ONCE`` bodies of at most ``LARGEST`` bytes, each perhaps twice while its buffer
    grows; the pool keeps ``KEEP_BYTES`` of buffers.  The rest is allowance for the allocator, and for what is kept for
    each source and kind, which is one source here."""
    bound = 2 * AT_ONCE * LARGEST + KEEP_BYTES + 16 * 2**20
    process = psutil.Process(victim.homes.processes[0].pid)
    draw = random.Random(3)
    noise = draw.randbytes(LARGEST)
    usual = [draw.choice((0, 1, 87, 200, 1000, 10_000, 70_000, 300_000)) for _ in range(BODIES - 60)]
    sizes = iter([*usual, *[LARGEST] * 60])
    peak = before = process.memory_info().rss
    total = 0
    # a header that goes as far as a stranger's can, and then noise
    header = b"susu" + bytes([1, 1, 0, 200]) + victim.token.network + bytes(16)
    status = victim.status
    header += bytes.fromhex(status["peer"])

    async def send(session: aiohttp.ClientSession, url: str) -> None:
        nonlocal peak, total
        for number, size in enumerate(sizes):
            start = draw.randrange(LARGEST - size + 1)
            body = noise[start : start + size]
            if number % 3 == 0 and size > len(header):
                body = header + body[len(header) :]
            path = "/v1/hello" if number % 7 == 0 and size < MAX_CONTROL_BODY else "/v1/envelope"
            async with session.post(url + path, data=io.BytesIO(body)) as response:
                assert response.status >= 400
            total += size
            if number % 10 == 0:
                peak = max(peak, process.memory_info().rss)

    async with aiohttp.ClientSession() as session, victim.unchanged(refusals=BODIES), asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send(session, f"http://{victim.address}"))
    print(f"{total / 2**20:.0f} MiB sent; resident memory grew by at most {(peak - before) / 2**20:.1f} MiB")
    assert total > 2 * bound
    assert peak - before < bound


# --- and after all that -------------------------------------------------------------------------------------------


def test_after_all_that_it_trains(victim: Victim) -> None:
    homes = victim.homes
    for i in (1, 2):
        homes.start(i)
    for i in range(3):
        until(lambda i=i: homes.ask(i)["age"] == STEPS, f"peer {i} has the last model: {homes.log(i)}")
    assert homes.ask(0)["members_alive"] == 3
    for i in range(3):
        assert homes.stop(i) == 0
        assert "Traceback" not in homes.log(i)
