"""The client against the real server and against scripted ones: round trips, bounds, retries, what goes wrong."""

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from peer.transport.client import Client, ClientLimits, Unreachable
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH, MAX_ANSWER
from peer.transport.largebody import TAKE_OVER_FROM, TRUSTED_FROM
from peer.transport.server import Answer, Body, Server
from protocol.simulation.network import TRIES
from protocol.simulation.network_model import UNACKNOWLEDGED_S
from tests.peer.driving import until

Script = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SIZES = [
    0,
    1,
    4096,
    65_536,
    *(n + d for n in (TAKE_OVER_FROM, TRUSTED_FROM) for d in (-1, 0, 1)),
    4_000_000,
    40_000_000,
]


async def checksum(body: Body, source: str) -> Answer:
    return Answer(202, zlib.crc32(body).to_bytes(4, "big"))


@asynccontextmanager
async def serving(handler: Callable[[Body, str], Awaitable[Answer]], host: str = "127.0.0.1") -> AsyncIterator[str]:
    server = Server(handler, lambda body, source: Answer(200, body))
    port = await server.start(host, 0)
    try:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        await server.stop(0.2)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that runs ``script(number of the connection, reader, writer)``, then closes; and its connections."""
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(len(seen))
        try:
            await script(seen[-1], reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()
        await server.wait_closed()


async def request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].split("\r\n")[0])
    return head, await reader.readexactly(length)


OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"


async def test_round_trips_on_one_connection() -> None:
    sources: list[str] = []

    async def handler(body: Body, source: str) -> Answer:
        sources.append(source)
        return await checksum(body, source)

    server = Server(handler, lambda body, source: Answer(200, body))
    port = await server.start("127.0.0.1", 0)
    async with Client() as client:
        for n in SIZES:
            body = os.urandom(n)
            answer = await client.post(f"127.0.0.1:{port}", ENVELOPE_PATH, body, 20)
            assert answer == Answer(202, zlib.crc32(body).to_bytes(4, "big"))
            assert answer.accepted
            assert server.connections == 1
            assert server.held_bytes == 0
        assert client.bytes_out == server.bytes_in == sum(SIZES)
    assert sources == ["127.0.0.1"] * len(SIZES)
    await server.stop()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("n", [3, 3_000_000])
async def test_every_kind_of_buffer(kind: Callable[[bytes], Body], n: int) -> None:
    body = os.urandom(n)
    async with serving(checksum) as address, Client() as client:
        answer = await client.post(address, ENVELOPE_PATH, kind(body), 10)
        assert answer.body == zlib.crc32(body).to_bytes(4, "big")


async def test_a_wide_memoryview_is_sent_as_its_bytes() -> None:
    body = os.urandom(800_000)
    async with serving(checksum) as address, Client() as client:
        wide: memoryview[Any] = memoryview(body).cast("d")
        answer = await client.post(address, ENVELOPE_PATH, wide, 10)
        assert answer.body == zlib.crc32(body).to_bytes(4, "big")


async def test_large_bodies_at_once_do_not_mix() -> None:
    async with serving(checksum) as address, Client() as client:
        bodies = [os.urandom(n) for n in (5_000_000, 400_000, 2_000_001, 100, 1_000_000, 3_000_000)]
        answers = await asyncio.gather(*(client.post(address, ENVELOPE_PATH, body, 20) for body in bodies * 3))
        assert [a.body for a in answers] == [zlib.crc32(b).to_bytes(4, "big") for b in bodies * 3]


async def test_a_body_may_be_kept_by_the_callback() -> None:
    kept: list[Body] = []

    async def keep(body: Body, source: str) -> Answer:
        kept.append(body)
        return Answer(202)

    async with serving(keep) as address, Client() as client:
        bodies = [os.urandom(1_000_000) for _ in range(4)]
        for body in bodies:
            await client.post(address, ENVELOPE_PATH, body, 10)
        assert kept == bodies
        assert {type(body) for body in kept} == {memoryview}  # received without aiohttp's copies


async def test_ipv6() -> None:
    try:
        async with serving(checksum, "::1") as address, Client() as client:
            assert address.startswith("[::1]:")
            assert (await client.post(address, HELLO_PATH, b"six", 5)).body == b"six"
    except ValueError as error:
        if "cannot assign" not in str(error) and "not supported" not in str(error):
            raise
        pytest.skip("no IPv6 here")


async def test_a_name_is_resolved() -> None:
    async with serving(checksum) as address, Client() as client:
        assert (await client.post(address.replace("127.0.0.1", "localhost"), HELLO_PATH, b"x", 5)).body == b"x"


async def test_nothing_but_what_is_needed_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await request(reader))[0])
            writer.write(b"HTTP/1.1 202 OK\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno")

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with scripted(script) as (address, _), Client() as client:
        for _ in range(2):
            assert (await client.post(address, ENVELOPE_PATH, b"12345", 5)).body == b"no"
    for head in heads:
        lines = head.split("\r\n")
        assert lines[0] == "post /v1/envelope http/1.1"
        assert sorted(line.split(":")[0] for line in lines[1:] if line) == ["content-length", "content-type", "host"]


async def test_a_redirect_is_not_followed() -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    async with scripted(script) as (address, seen), Client() as client:
        assert (await client.post(address, ENVELOPE_PATH, b"x", 5)).status == 307
        assert len(seen) == 1


async def until_entered(gate: "Gate", count: int) -> None:
    async with asyncio.timeout(5), gate.changed:
        await gate.changed.wait_for(lambda: gate.entered >= count)


class Gate:
    """A handler that lets its callers out one by one."""

    def __init__(self) -> None:
        self.entered = self.inside = self.peak = 0
        self.changed = asyncio.Condition()
        self.tickets = asyncio.Semaphore(0)

    async def __call__(self, body: Body, source: str) -> Answer:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        async with self.changed:
            self.entered += 1
            self.changed.notify_all()
        await self.tickets.acquire()
        self.inside -= 1
        return Answer(202)


async def test_posts_to_one_destination_are_bounded_and_others_go_on() -> None:
    gate, limits = Gate(), ClientLimits(posts_per_destination=3)
    async with serving(gate) as address, serving(checksum) as other, Client(limits=limits) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.post(address, ENVELOPE_PATH, b"x", 20)) for _ in range(10)]
            await until_entered(gate, 3)
            assert (await client.post(other, ENVELOPE_PATH, b"y", 20)).status == 202
            assert gate.inside == 3
            gate.tickets.release()
            await until_entered(gate, 4)
            for _ in tasks:
                gate.tickets.release()
        assert {task.result().status for task in tasks} == {202}
        assert (gate.entered, gate.peak) == (10, 3)


async def test_kept_connections_are_bounded_and_the_one_idle_longest_is_closed() -> None:
    async with AsyncExitStack() as stack:
        servers = [Server(checksum, lambda body, source: Answer(200, body)) for _ in range(4)]
        addresses = []
        for server in servers:
            addresses.append(f"127.0.0.1:{await server.start('127.0.0.1', 0)}")
            stack.push_async_callback(server.stop, 0.2)
        client = await stack.enter_async_context(Client(limits=ClientLimits(idle=2)))

        async def posted(number: int, *left: int) -> None:
            assert (await client.post(addresses[number], ENVELOPE_PATH, b"x", 20)).status == 202
            await until(lambda: [server.connections for server in servers] == list(left))

        await posted(0, 1, 0, 0, 0)
        await posted(1, 1, 1, 0, 0)
        await posted(0, 1, 1, 0, 0)
        await posted(2, 1, 0, 1, 0)
        await posted(3, 0, 0, 1, 1)
        await posted(0, 1, 0, 0, 1)


async def test_a_connection_in_use_is_not_closed_for_those_that_are_kept() -> None:
    gate = Gate()
    client = Client(limits=ClientLimits(idle=1, retry_pauses_s=()))
    async with client, serving(gate) as busy, serving(checksum) as one, serving(checksum) as two:
        gate.tickets.release()
        await client.post(busy, ENVELOPE_PATH, b"x", 20)  # kept, and then in use again
        waiting = asyncio.create_task(client.post(busy, ENVELOPE_PATH, b"x", 20))
        await until_entered(gate, 2)
        for address in (one, two, one, two):
            await client.post(address, ENVELOPE_PATH, b"x", 20)
        gate.tickets.release()
        assert (await waiting).status == 202
        assert gate.entered == 2


@pytest.mark.parametrize("n", [10, 3_000_000])
async def test_a_stale_connection_is_tried_again_once(n: int) -> None:
    """The server closes a kept connection in the moment when the next request arrives."""

    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await request(reader))[1] == b"first" if number == 0 else True
        writer.write(OK)
        await reader.readuntil(b"\r\n\r\n")

    async with scripted(script) as (address, seen), Client() as client:
        assert (await client.post(address, ENVELOPE_PATH, b"first", 5)).body == b"ok"
        assert (await client.post(address, ENVELOPE_PATH, bytes(n), 5)).body == b"ok"
        assert len(seen) == 2


@pytest.mark.parametrize("n", [10, 3_000_000])
@pytest.mark.parametrize("read", [False, True])
async def test_a_body_whose_connection_breaks_is_sent_again(n: int, read: bool) -> None:
    """Twice, in the middle or just before the answer; the third connection holds."""
    body = os.urandom(n)

    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number < 2 and not read:
            await reader.readuntil(b"\r\n\r\n")
            return
        assert (await request(reader))[1] == body
        if number == 2:
            writer.write(OK)

    limits = ClientLimits(retry_pauses_s=(0.0, 0.0, 0.0))
    async with scripted(script) as (address, seen), Client(limits=limits) as client:
        assert (await client.post(address, ENVELOPE_PATH, body, 20)).body == b"ok"
        assert len(seen) == 3


@pytest.mark.parametrize("n", [10, 3_000_000])
async def test_a_server_that_always_breaks_is_tried_so_often_and_no_more(n: int) -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    limits = ClientLimits(retry_pauses_s=(0.01, 0.02))
    async with scripted(script) as (address, seen), Client(limits=limits) as client:
        with pytest.raises(Unreachable, match="the connection broke before an answer came") as caught:
            await client.post(address, ENVELOPE_PATH, bytes(n), 20)
        assert caught.value.address == address
        assert len(seen) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the system decides")
async def test_a_connection_over_which_nothing_gets_through_is_given_up() -> None:
    release, body = asyncio.Event(), bytes(30_000_000)

    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 0:
            await release.wait()  # reads nothing: what does not fit into the buffers of both ends stays with the client
        else:
            await request(reader)
            writer.write(OK)

    limits = ClientLimits(unacknowledged_s=0.3, retry_pauses_s=(0.0,))
    async with scripted(script) as (address, seen), Client(limits=limits) as client:
        assert (await client.post(address, ENVELOPE_PATH, body, 60)).body == b"ok"
        assert len(seen) == 2
        release.set()


@pytest.mark.parametrize("busy", [2, 3])
async def test_where_there_was_no_room_it_is_sent_again(busy: int) -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK if number == busy else b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with scripted(script) as (address, seen), Client(limits=ClientLimits(retry_pauses_s=(0.0, 0.0))) as client:
        assert (await client.post(address, ENVELOPE_PATH, b"x", 20)).status == (202 if busy == 2 else 503)
        assert len(seen) == 3


async def test_a_stale_connection_costs_no_pause_and_no_try() -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if number == 0:
            writer.write(OK)
            await reader.readuntil(b"\r\n\r\n")

    async with scripted(script) as (address, seen), Client(limits=ClientLimits(retry_pauses_s=())) as client:
        await client.post(address, ENVELOPE_PATH, b"x", 5)
        with pytest.raises(Unreachable):
            await client.post(address, ENVELOPE_PATH, b"x", 5)
        assert len(seen) == 2


async def test_whoever_has_died_meanwhile_is_given_up_at_once() -> None:
    """Its connections break, and then nobody listens: no pause is waited out that could never end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Client(limits=ClientLimits(retry_pauses_s=(0.0, 1e9))) as client:
        with pytest.raises(Unreachable, match="nobody listens there"):
            await client.post(address, ENVELOPE_PATH, b"x", 20)
    await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(MAX_ANSWER + 1), "too long"),
        (b"SSH-2.0-OpenSSH_9.0\r\n", "not proper HTTP|connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "not proper HTTP"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, why: str) -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        await writer.drain()

    async with scripted(script) as (address, _), Client() as client:
        with pytest.raises(Unreachable, match=why):
            await client.post(address, ENVELOPE_PATH, b"x", 5)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:0", "port 0"),
        ("nonsense", "no port"),
        ("a/b:1", "no valid host name"),
        ("a?b:1", "no valid host name"),
        ("u@127.0.0.1:1", "no valid host name"),
    ],
)
async def test_what_is_no_address_is_unreachable(address: str, why: str) -> None:
    async with Client() as client:
        with pytest.raises(Unreachable, match=why):
            await client.post(address, ENVELOPE_PATH, b"x", 5)


async def test_nobody_listens() -> None:
    async with serving(checksum) as address:
        pass
    async with Client() as client:
        with pytest.raises(Unreachable, match=f"{address} cannot be reached: nobody listens there") as caught:
            await client.post(address, ENVELOPE_PATH, b"x", 5)
        assert caught.value.why == "nobody listens there"
        assert client.bytes_out == 0


@pytest.mark.parametrize("n", [10, 30_000_000])
async def test_silence_is_cut_off(n: int) -> None:
    release = asyncio.Event()

    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with scripted(script) as (address, _), Client() as client:
        with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
            await client.post(address, ENVELOPE_PATH, bytes(n), 0.1)
        release.set()


async def test_the_speed_of_a_link_is_measured() -> None:
    delay = asyncio.Event()

    async def handler(body: Body, source: str) -> Answer:
        if delay.is_set():
            await asyncio.sleep(0.2)  # what the client is to measure
        return Answer(202)

    async with serving(handler) as address, Client() as client:
        assert client.bytes_per_s(address) is None
        await client.post(address, ENVELOPE_PATH, b"small", 5)
        assert client.bytes_per_s(address) is None
        await client.post(address, ENVELOPE_PATH, bytes(1_000_000), 5)
        fast = client.bytes_per_s(address)
        assert fast is not None
        assert fast > 5e6
        delay.set()
        await client.post(address, ENVELOPE_PATH, bytes(1_000_000), 5)
        slower = client.bytes_per_s(address)
        assert slower is not None
        assert 0.7 * fast < slower < 0.7 * fast + 0.3 * 5e6


async def test_closing_ends_what_is_under_way() -> None:
    gate = Gate()
    async with serving(gate) as address:
        client = Client()
        post = asyncio.create_task(client.post(address, ENVELOPE_PATH, b"x", 20))
        await until_entered(gate, 1)
        await client.close()
        with pytest.raises(Unreachable):
            await post
        with pytest.raises(Unreachable):
            await client.post(address, ENVELOPE_PATH, b"x", 20)
        gate.tickets.release()
        await client.close()


async def test_renew_gives_up_every_connection_and_the_next_post_makes_its_own() -> None:
    async def keep(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST"):
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    async with scripted(keep) as (address, seen), Client() as client:
        for _ in range(2):
            assert (await client.post(address, HELLO_PATH, b"", 5.0)).status == 202
        assert len(seen) == 1
        await client.renew()
        assert (await client.post(address, HELLO_PATH, b"", 5.0)).status == 202
        assert len(seen) == 2


async def test_a_post_under_way_goes_on_over_the_renewed_connections() -> None:
    async def script(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if number == 0:
            await reader.read()  # never answers, as if this machine's address were gone
        writer.write(OK)

    async with scripted(script) as (address, seen), Client(limits=ClientLimits(retry_pauses_s=())) as client:
        waiting = asyncio.create_task(client.post(address, HELLO_PATH, b"x", 60.0))
        while not seen:  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await client.renew()
        assert (await waiting).body == b"ok"
        assert len(seen) == 2


def test_the_laboratory_sends_again_as_the_client_does() -> None:
    limits = ClientLimits()
    assert limits.unacknowledged_s == UNACKNOWLEDGED_S
    assert len(limits.retry_pauses_s) + 1 == TRIES
