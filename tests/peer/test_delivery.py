"""Delivery: every address in turn, introductions, restarted recipients, and whom a newcomer finds at its seeds."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from dataclasses import replace
from typing import Any

import pytest

from peer.delivery import INLINE_BYTES, Delivery, hello_refusal
from peer.observe.observer import Observer
from peer.transport.client import Client
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, Answer, Unreachable
from peer.transport.server import Body, Server
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import RoundId
from protocol.base.limits import MAX_BODY, MAX_ENVELOPE_TTL_S
from protocol.effects import Send
from protocol.identity.descriptor import Descriptor
from protocol.wire import codec
from protocol.wire.envelope import Sealer
from protocol.wire.messages import Leave, Message, Partial
from tests.peer.driving import NOW, Disk, Member, Time, Wire, members, until

FIRST, SECOND = "10.0.0.1:1", "10.0.0.2:2"


class Seat:
    """``me`` sends to ``other``, who answers as a real peer would, at the addresses that the test says."""

    def __init__(self) -> None:
        self.me, self.other, self.third = members(3, "delivery")
        self.wire, self.time, self.found = Wire(), Time(), list[Descriptor]()
        self.observer = Observer(Disk([]), None)  # type: ignore[arg-type]
        self.threads: list[str] = []
        self.took: list[tuple[bool, Message]] = []
        """What the other has opened, and whether the envelope brought a descriptor."""
        self.known: set[bytes] = set()
        """Raw descriptors that the other knows."""
        self.delivery = Delivery(
            client=self.wire,  # type: ignore[arg-type]
            sealer=Sealer(self.me.network, self.me.keyring, SeededEntropy("sealer")),
            verifier=self.me.verifier,
            observer=self.observer,
            clock=self.time,
            own=lambda: self.me.descriptor,
            found=self.found.append,
            in_thread=self.in_thread,
            introduced={},
        )

    async def in_thread(self, function: Any, *args: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        return function(*args)

    def at(self, address: str, member: Member | None = None) -> None:
        """Somebody real listens there."""
        who = member or self.other
        self.wire.replies[address, ENVELOPE_PATH] = lambda body: self.take(who, body)
        self.wire.replies[address, HELLO_PATH] = lambda body: self.greet(who, body)

    def take(self, who: Member, body: bytes) -> Answer:
        try:
            header = who.opener.inspect(body, self.time(), lambda peer: self.me.descriptor if self.known else None)
        except Refused as refused:
            status = {Refusal.UNKNOWN_SENDER: 428, Refusal.UNKNOWN_EPOCH: 410, Refusal.WRONG_RECIPIENT: 421}
            return Answer(status[refused.reason])
        self.took.append((self.me.descriptor.raw in body, codec.decode(who.opener.decrypt(header, body))))
        self.known.add(self.me.descriptor.raw)
        return Answer(202)

    def greet(self, who: Member, body: bytes) -> Answer:
        try:
            who.verifier.verify(body, self.time())
        except Refused as refused:
            return hello_refusal(refused, self.time())
        return Answer(200, who.descriptor.raw)

    async def send(self, message: Message, ttl_s: float = 30.0, to: Descriptor | None = None) -> bool:
        return await self.delivery.deliver(Send(to or self.other.descriptor, message, ttl_s))

    def asked(self, path: str = ENVELOPE_PATH) -> list[str]:
        return [address for address, at, *_ in self.wire.posts if at == path]


@pytest.fixture
def seat() -> Seat:
    return Seat()


# --- messages -----------------------------------------------------------------------------------------------------


async def test_addresses_are_tried_in_turn_until_one_answers(seat: Seat) -> None:
    seat.other.describe(FIRST, SECOND, "10.0.0.3:3")
    seat.at(SECOND)
    assert await seat.send(Leave(1))
    assert seat.asked() == [FIRST, SECOND]
    assert len({body for _, _, body, _ in seat.wire.posts}) == 1  # sealed once
    assert seat.took == [(True, Leave(1))]
    assert seat.observer.counts.sent == {"leave": 1}
    assert seat.observer.counts.undelivered == {}


async def test_the_address_that_has_answered_comes_first_from_then_on(seat: Seat) -> None:
    """A connection that nobody refuses costs seconds before it is given up: once, not at every message."""
    seat.other.describe(FIRST, SECOND)
    seat.at(SECOND)
    for _ in range(2):
        assert await seat.send(Leave(1))
    assert seat.asked() == [FIRST, SECOND, SECOND]
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    seat.wire.replies[SECOND, ENVELOPE_PATH] = lambda body: answer
    under_way = [asyncio.create_task(seat.send(Leave(1))) for _ in range(2)]  # neither knows how the other ends
    await until(lambda: len(seat.asked()) == 5)
    answer.set_result(Answer(202))
    assert await asyncio.gather(*under_way) == [True, True]
    assert seat.asked()[3:] == [SECOND, SECOND]
    del seat.wire.replies[SECOND, ENVELOPE_PATH]
    assert not await seat.send(Leave(1))
    seat.at(FIRST)
    for _ in range(2):
        assert await seat.send(Leave(1))
    assert seat.asked()[5:] == [SECOND, FIRST, FIRST, FIRST]


@pytest.mark.parametrize("stranger", ["another peer", "another network", "another program"])
async def test_somebody_else_at_the_first_address_does_not_hide_the_second(seat: Seat, stranger: str) -> None:
    seat.other.describe(FIRST, SECOND)
    seat.at(SECOND)
    if stranger == "another peer":
        seat.at(FIRST, seat.third)
    else:
        seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(403 if stranger == "another network" else 404)
    assert await seat.send(Leave(1))
    assert seat.asked() == [FIRST, SECOND]
    assert seat.took == [(True, Leave(1))]


async def test_a_recipient_that_is_busy_is_not_asked_again_at_its_other_addresses(seat: Seat) -> None:
    seat.other.describe(FIRST, SECOND)
    seat.at(SECOND)
    seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(429)
    assert not await seat.send(Leave(1))
    assert seat.asked() == [FIRST]


async def test_what_nobody_takes_is_told_once_for_each_peer_and_kind(
    seat: Seat, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seat.other.describe(FIRST, SECOND)
    seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(404)
    assert not await seat.send(Leave(1))
    assert not await seat.send(Leave(2))
    assert seat.observer.counts.undelivered == {"leave": 2}
    assert seat.observer.counts.sent == {}
    assert [line for line in caplog.messages if "was not delivered: refused with status 404" in line] == caplog.messages
    assert len(caplog.messages) == 1


async def test_a_peer_without_address_cannot_be_sent_to(seat: Seat, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert not await seat.send(Leave(1), to=replace(seat.other.descriptor, addresses=()))
    assert "the peer's descriptor names no address" in caplog.text
    assert seat.wire.posts == []


async def test_a_descriptor_goes_along_until_it_was_accepted_and_again_when_it_is_a_new_one(seat: Seat) -> None:
    assert not await seat.send(Leave(0))  # nobody is there yet
    seat.at(FIRST)
    for i in range(1, 4):
        assert await seat.send(Leave(i))
    seat.me.describe()
    assert await seat.send(Leave(4))
    assert await seat.send(Leave(5))
    assert seat.took == [(True, Leave(1)), (False, Leave(2)), (False, Leave(3)), (True, Leave(4)), (False, Leave(5))]


async def test_whoever_has_forgotten_this_peer_is_told_who_it_is(seat: Seat) -> None:
    seat.at(FIRST)
    await seat.send(Leave(1))
    seat.known.clear()
    assert await seat.send(Leave(2))
    assert seat.took[1:] == [(True, Leave(2))]
    assert len(seat.wire.posts) == 3


async def test_whoever_does_not_take_the_introduction_is_not_asked_for_ever(seat: Seat) -> None:
    seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(428)
    assert not await seat.send(Leave(1))
    assert len(seat.wire.posts) == 1


async def test_a_restarted_recipient_gets_the_message_under_its_new_key(seat: Seat) -> None:
    seat.at(FIRST)
    await seat.send(Leave(1))
    old = seat.other.descriptor
    new = seat.other.restart()
    seat.known.clear()  # and it has forgotten this peer, which believes itself introduced
    assert await seat.send(Leave(2), to=old)
    assert seat.took[1:] == [(True, Leave(2))]
    assert seat.found == [new]
    assert seat.asked(HELLO_PATH) == [FIRST]
    assert len(seat.asked()) == 3  # the key is gone, and then at once as to somebody who has forgotten
    seat.other.restart()
    assert await seat.send(Leave(3))  # when others have told of the restart first, it costs nothing at all
    assert seat.took[2:] == [(True, Leave(3))]
    assert len(seat.asked()) == 4


async def test_a_restarted_recipient_is_looked_for_at_all_its_addresses(seat: Seat) -> None:
    old = seat.other.describe(FIRST, SECOND)
    seat.at(FIRST)
    new = seat.other.restart()
    seat.wire.replies[FIRST, HELLO_PATH] = Unreachable(FIRST, "the connection broke")
    seat.wire.replies[SECOND, HELLO_PATH] = lambda body: seat.greet(seat.other, body)
    assert await seat.send(Leave(1), to=old)
    assert seat.found == [new]


async def test_a_restarted_recipient_is_asked_first_where_it_has_answered(seat: Seat) -> None:
    old = seat.other.describe(FIRST, SECOND)
    seat.at(SECOND)
    assert await seat.send(Leave(1))
    seat.other.restart()
    assert await seat.send(Leave(2), to=old)
    assert seat.asked(HELLO_PATH) == [SECOND]


@pytest.mark.parametrize("who", ["nobody", "the same key", "somebody else", "no member"])
async def test_without_a_newer_key_of_that_very_peer_nothing_is_sent(seat: Seat, who: str) -> None:
    seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(410)
    match who:
        case "the same key":
            seat.wire.replies[FIRST, HELLO_PATH] = Answer(200, seat.other.descriptor.raw)
        case "somebody else":
            seat.wire.replies[FIRST, HELLO_PATH] = Answer(200, seat.third.restart().raw)
        case "no member":
            seat.wire.replies[FIRST, HELLO_PATH] = Answer(200, members(1, "elsewhere")[0].descriptor.raw)
    assert not await seat.send(Leave(1))
    assert len(seat.asked()) == 1
    assert seat.found == []


async def test_what_was_seen_before_has_arrived(seat: Seat) -> None:
    seat.wire.replies[FIRST, ENVELOPE_PATH] = Answer(409)
    assert await seat.send(Leave(1))
    assert seat.observer.counts.sent == {"leave": 1}


async def test_a_large_body_is_sealed_in_a_thread_and_a_small_one_is_not(seat: Seat) -> None:
    seat.at(FIRST)
    large = Partial(RoundId(b"p" * 16), 1, 3, (), bytes(INLINE_BYTES + 2))
    await seat.send(Leave(1))
    assert seat.threads == []
    await seat.send(large)
    assert len(seat.threads) == 1
    assert seat.took[1] == (False, large)
    assert seat.observer.counts.partial_bytes == len(seat.wire.posts[-1][2]) > INLINE_BYTES


async def test_what_no_peer_would_take_is_our_error_and_no_reason_to_stop(
    seat: Seat, caplog: pytest.LogCaptureFixture
) -> None:
    seat.at(FIRST)
    assert not await seat.send(Partial(RoundId(b"p" * 16), 1, 3, (), bytes(MAX_BODY)))
    assert "a partial cannot be sent" in caplog.text
    assert seat.wire.posts == []
    assert await seat.send(Leave(1))


@pytest.mark.parametrize(("asked", "given"), [(-3.0, 1.0), (0.2, 1.0), (7.0, 7.0), (1e9, MAX_ENVELOPE_TTL_S)])
async def test_a_message_lives_as_long_as_is_asked_for_within_bounds(seat: Seat, asked: float, given: float) -> None:
    seat.at(FIRST)
    assert await seat.send(Leave(1), ttl_s=asked)
    assert seat.wire.posts[0][3] == pytest.approx(given, abs=0.5)  # less what waiting for its turn took


async def test_whoever_takes_nothing_costs_a_few_copies_and_holds_up_nobody_else(seat: Seat) -> None:
    """One that accepts connections at several addresses and never answers, and is sent large bodies and small ones."""
    end = asyncio.Event()
    connections, sealed = list[int](), list[int]()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("sockname")[1])
        await end.wait()
        writer.close()

    async def taken(body: Body, source: str) -> Answer:
        return Answer(202)

    class Counting(Sealer):
        def seal(self, to: Descriptor, head: bytes, tail: Any, **how: Any) -> list[bytes]:
            sealed.append(len(tail))
            return super().seal(to, head, tail, **how)

    large = Partial(RoundId(b"p" * 16), 1, 3, (), bytes(MAX_BODY // 4))
    async with contextlib.AsyncExitStack() as ends:
        tarpits = [await ends.enter_async_context(await asyncio.start_server(mute, "127.0.0.1", 0)) for _ in range(3)]
        ports = [tarpit.sockets[0].getsockname()[1] for tarpit in tarpits]
        ends.callback(end.set)
        server = Server(taken, lambda body, source: Answer(404))
        honest = seat.third.describe(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
        ends.push_async_callback(server.stop, 0.2)
        seat.delivery.client = await ends.enter_async_context(Client())
        seat.delivery.sealer = Counting(seat.me.network, seat.me.keyring, SeededEntropy("counting"))
        sends = []
        for port in ports:  # a new descriptor opens no further turns
            to = seat.other.describe(f"127.0.0.1:{port}", *(f"127.0.0.1:{p}" for p in ports if p != port))
            for message in [large] * 50 + [Leave(1)] * 50:
                sends.append(asyncio.create_task(seat.send(message, to=to)))
        await until(lambda: len(connections) == seat.delivery.turns.at_once)
        assert await seat.send(Leave(2), to=honest)
        assert await seat.send(large, to=honest)
        assert len(connections) == seat.delivery.turns.at_once
        assert seat.delivery.turns.bytes_under_way <= MAX_BODY
        assert sum(sealed) <= MAX_BODY + len(large.vector)
        assert sum(task.done() for task in sends) == 300 - seat.delivery.turns.most_to_one  # given up at once
        for task in sends:
            task.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
        assert seat.delivery.turns.bytes_under_way == 0


def test_the_speed_of_a_link_is_that_of_the_first_address_measured(seat: Seat) -> None:
    to = seat.other.describe(FIRST, SECOND)
    assert seat.delivery.link_speed(to) is None
    seat.wire.speeds[SECOND] = 3e6
    assert seat.delivery.link_speed(to) == 3e6
    seat.wire.speeds[FIRST] = 1e6
    assert seat.delivery.link_speed(to) == 1e6


# --- who is there? ------------------------------------------------------------------------------------------------


async def test_a_seed_is_asked_at_every_address_that_its_name_has(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(host: str, port: int, *_: object, **__: object) -> list[object]:
        if host != "seeds.example.org":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", (f"192.0.2.{i}", port)) for i in (1, 2, 3)]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    seat.at("192.0.2.1:7000", seat.other)
    seat.at("192.0.2.3:7000", seat.third)
    await seat.delivery.dial(["nowhere.example.org:7000", "nonsense", "seeds.example.org:7000"])
    assert seat.asked(HELLO_PATH) == ["192.0.2.1:7000", "192.0.2.2:7000", "192.0.2.3:7000"]
    assert seat.found == [seat.other.descriptor, seat.third.descriptor]
    assert {body for _, _, body, _ in seat.wire.posts} == {seat.me.descriptor.raw}


async def test_seeds_that_do_not_answer_are_told_with_what_was_tried_once(
    seat: Seat, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = members(1, "elsewhere")[0]
    one, two, three, four, five = seeds = [f"192.0.2.{i}:7000" for i in range(1, 6)]
    seat.at(one, seat.me)
    seat.wire.replies[two, HELLO_PATH] = hello_refusal(Refused(Refusal.NOT_A_MEMBER), NOW)
    seat.wire.replies[three, HELLO_PATH] = hello_refusal(Refused(Refusal.DESCRIPTOR_EXPIRED), NOW + 7200)
    seat.wire.replies[four, HELLO_PATH] = Answer(200, stranger.descriptor.raw)
    await seat.delivery.dial(seeds)
    await seat.delivery.dial(seeds)
    assert seat.found == []
    (warning,) = caplog.messages
    said = warning.removeprefix("no seed answers; tried: ").split("; 192")
    assert said[0] == f"{one}: is this peer itself"
    assert said[1].endswith("refuses this peer: the sender has no valid certificate of this network")
    assert said[2].endswith("; this machine's clock is 2.0 hours behind the other's: set it")
    assert said[3].endswith("the sender has no valid certificate of this network (another network's certificate)")
    assert f"192{said[4]}" == f"{five} cannot be reached: nobody listens there"

    seat.at(one, seat.other)  # one is enough ...
    await seat.delivery.dial(seeds)
    assert len(caplog.messages) == 1
    del seat.wire.replies[one, HELLO_PATH]
    await seat.delivery.dial(seeds)  # ... and when it is gone again that is news
    assert len(caplog.messages) == 2


async def test_no_seeds_but_itself_are_no_complaint(seat: Seat, caplog: pytest.LogCaptureFixture) -> None:
    await seat.delivery.dial([])
    seat.at(FIRST, seat.me)
    await seat.delivery.dial([FIRST])  # the first peer of a network
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"reason": "DESCRIPTOR_EXPIRED", "time": NOW - 5400}, "clock is 1.5 hours ahead of the other's: set it"),
        ({"reason": "NOT_A_MEMBER", "time": NOW + 59}, "no valid certificate of this network"),
        ({"reason": "NOT_A_MEMBER", "time": NOW - 59}, "no valid certificate of this network"),
        ({"reason": "NO_SUCH_REASON", "time": NOW}, "refuses this peer (status 403)"),
        ({"reason": ["BUSY"], "time": NOW}, "refuses this peer (status 403)"),
        ({"reason": "BUSY"}, "refuses this peer (status 403)"),
        ({"reason": "BUSY", "time": None}, "refuses this peer (status 403)"),
        ({"reason": "BUSY", "time": {}}, "refuses this peer (status 403)"),
        ({"reason": "BUSY", "time": 10**400}, "refuses this peer (status 403)"),
        (b'{"reason": "BUSY", "time": 1' + b"0" * 5000 + b"}", "refuses this peer (status 403)"),
        ({"reason": "EXPIRED", "time": float("nan")}, f"refuses this peer: {Refusal.EXPIRED.value}"),
        ({"reason": "EXPIRED", "time": float("inf")}, f"refuses this peer: {Refusal.EXPIRED.value}"),
        ({"reason": "EXPIRED", "time": -1e300}, f"refuses this peer: {Refusal.EXPIRED.value}"),
        ({"time": NOW}, "refuses this peer (status 403)"),
        (["BUSY", NOW], "refuses this peer (status 403)"),
        ([], "refuses this peer (status 403)"),
        (None, "refuses this peer (status 403)"),
        ("BUSY", "refuses this peer (status 403)"),
        (b"", "refuses this peer (status 403)"),
        (b"\xff", "refuses this peer (status 403)"),
        (b"[" * 60_000, "refuses this peer (status 403)"),
        (b'{"reason":' * 10_000, "refuses this peer (status 403)"),
    ],
)
async def test_whatever_a_refusal_says_becomes_a_sentence(
    seat: Seat, caplog: pytest.LogCaptureFixture, body: Any, sentence: str
) -> None:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    seat.wire.replies[FIRST, HELLO_PATH] = Answer(403, said)
    await seat.delivery.dial([FIRST])
    (warning,) = caplog.messages
    assert warning.endswith(sentence)
    assert seat.found == []


@pytest.mark.parametrize(
    ("answer", "detail"), [(Answer(200, b"hello " * 20), "ValueError"), (Answer(204), "descriptor")]
)
async def test_whoever_answers_without_a_descriptor_is_nobody(
    seat: Seat, caplog: pytest.LogCaptureFixture, answer: Answer, detail: str
) -> None:
    seat.wire.replies[FIRST, HELLO_PATH] = answer
    await seat.delivery.dial([FIRST])
    (warning,) = caplog.messages
    assert warning.endswith(f"{FIRST}: {Refusal.MALFORMED.value} ({detail})")
    assert seat.found == []
