"""The server against raw sockets: strangers that send too much, too little, too slowly, or no HTTP at all."""

import asyncio
import gc
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from peer.transport.client import Client
from peer.transport.door import Door, DoorLimits
from peer.transport.exchange import ENVELOPE_PATH, HELLO_PATH
from peer.transport.largebody import TAKE_OVER_FROM, TRUSTED_FROM
from peer.transport.server import Answer, Body, Server, ServerLimits
from protocol.base.errors import ConfigurationError

Handler = Callable[[Body, str], Awaitable[Answer]]
LARGE = 2 * TRUSTED_FROM


async def echo_length(body: Body, source: str) -> Answer:
    return Answer(200, f"{source} {len(body)}".encode())


def hello(body: bytes, source: str) -> Answer:
    return Answer(200, b"hello " + body)


@asynccontextmanager
async def serving(handler: Handler = echo_length, **limits: float) -> AsyncIterator[tuple[Server, int]]:
    server = Server(handler, hello, limits=ServerLimits(**limits))  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop(0.2)


class Stranger:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), fields, await self.reader.readexactly(int(fields["content-length"]))

    async def closed(self) -> bool:
        """Whether the server closes the connection (its reset counts)."""
        with suppress(ConnectionError):
            async with asyncio.timeout(5):
                await self.reader.read()
        return True


@asynccontextmanager
async def stranger(port: int) -> AsyncIterator[Stranger]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(length: int | None, path: str = ENVELOPE_PATH, method: str = "POST") -> bytes:
    field = "" if length is None else f"Content-Length: {length}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\n{field}\r\n".encode()


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0)


async def test_hello_and_envelope() -> None:
    async with serving() as (server, port), stranger(port) as s:
        s.send(head(3, HELLO_PATH), b"you")
        assert await s.answer() == (
            200,
            {"content-length": "9", "content-type": "application/octet-stream"},
            b"hello you",
        )
        s.send(head(0))
        assert (await s.answer())[2] == b"127.0.0.1 0"
        assert server.bytes_in == 3


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(3, "/"), 404),
        (head(3, "/v1/envelope/"), 404),
        (head(None, method="GET"), 404),
        (head(None, "/v1/hello", "OPTIONS"), 404),
        (head(None), 411),
        (b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (head(1001), 413),
        (head(10**15), 413),
        (head(101, HELLO_PATH), 413),
    ],
)
async def test_refused_before_the_body_is_read(request_head: bytes, status: int) -> None:
    async with serving(max_body=1000, max_hello=100) as (server, port), stranger(port) as s:
        s.send(request_head)
        got, fields, _ = await s.answer()
        assert got == status
        assert fields["connection"] == "close"
        s.writer.close()
        assert server.bytes_in == server.held_bytes == 0
        assert sum(server.refusals.values()) == 1


async def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    async with serving(max_body=1000) as (server, port), Client() as client:
        answer = await client.post(f"127.0.0.1:{port}", ENVELOPE_PATH, bytes(3_000_000), 5)
        assert answer.status == 413
        assert server.bytes_in == 0


@pytest.mark.parametrize("length", [1000, TAKE_OVER_FROM, LARGE])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.9])
async def test_a_slow_body_is_cut_off(length: int, share: float) -> None:
    async with serving(body_grace_s=0.1, body_bytes_per_s=1e12) as (server, port), stranger(port) as s:
        s.send(head(length), bytes(int(share * length)))
        status, fields, _ = await s.answer()
        assert status == 408
        assert fields["connection"] == "close"
        s.writer.close()
        assert server.held_bytes == 0
        assert server.refusals == {"slow body": 1}
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize("length", [1000, TAKE_OVER_FROM, LARGE])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.9])
async def test_a_sender_that_goes_away(length: int, share: float, caplog: pytest.LogCaptureFixture) -> None:
    part = bytes(int(share * length))
    async with serving() as (server, port):
        async with stranger(port) as s:
            s.send(head(length), part)
            await until(lambda: server.held_bytes == len(part) and server.connections == 1)
            s.writer.transport.abort()
        await until(lambda: server.connections == 0 and server.refusals["broken body"] == 1)
        assert server.held_bytes == 0
        assert server.bytes_in == len(part)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_slow_head_is_cut_off() -> None:
    async with serving(keepalive_s=0.1) as (server, port), stranger(port) as s:
        s.send(b"POST /v1/envelope HT")
        assert await s.closed()
        await until(lambda: server.connections == 0)


async def test_a_claimed_length_sets_nothing_aside() -> None:
    """Forty strangers claim 48 MB each and send a little: an honest body still passes, in little memory."""
    tracemalloc.start()
    async with serving() as (server, port):
        async with asyncio.TaskGroup() as group, stranger(port) as s:
            release = asyncio.Event()

            async def claim() -> None:
                async with stranger(port) as other:
                    other.send(head(server.limits.max_body), bytes(1000))
                    await release.wait()

            for _ in range(40):
                group.create_task(claim())
            await until(lambda: server.held_bytes == 40_000)
            s.send(head(server.limits.max_body // 2), bytes(server.limits.max_body // 2))
            assert (await s.answer())[0] == 200
            release.set()
        await until(lambda: server.held_bytes == 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * server.limits.max_body


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/envelope HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(1000),
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + bytes(1000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n" * 1000,
    ],
)
async def test_what_is_not_http_kills_nothing(junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(keepalive_s=0.1, linger_s=0.1) as (server, port):
        for _ in range(3):
            async with stranger(port) as s:
                s.send(junk)
                assert await s.closed()
        async with Client() as client:
            assert (await client.post(f"127.0.0.1:{port}", HELLO_PATH, b"x", 5)).body == b"hello x"
        assert server.held_bytes == 0
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]
    assert len(caplog.records) <= 2  # once per source and kind


@pytest.mark.parametrize("length", [1, TAKE_OVER_FROM, LARGE])
async def test_requests_sent_back_to_back_are_answered_in_order(length: int) -> None:
    async with serving() as (server, port), stranger(port) as s:
        lengths = [length, 5, length + 1, 7]
        for n in lengths:
            s.send(head(n), bytes(n))
        for n in lengths:
            status, _, body = await s.answer()
            assert (status, body) == (200, f"127.0.0.1 {n}".encode())
        assert server.connections == 1
        assert server.bytes_in == sum(lengths)


@pytest.mark.parametrize("length", [10, LARGE])
async def test_connection_close_is_honoured(length: int) -> None:
    async with serving() as (server, port), stranger(port) as s:
        s.send(head(length).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), bytes(length))
        status, fields, _ = await s.answer()
        assert (status, fields["connection"]) == (200, "close")
        assert await s.closed()
        await until(lambda: server.connections == 0)


class Gate:
    """A handler that waits until it is let go, and counts."""

    def __init__(self) -> None:
        self.entered = 0
        self.inside = 0
        self.peak = 0
        self.open = asyncio.Event()

    async def __call__(self, body: Body, source: str) -> Answer:
        self.entered += 1
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return Answer(202)


@pytest.mark.parametrize("length", [800, 800_000])
async def test_too_much_under_way_is_refused_until_some_is_done(length: int) -> None:
    gate = Gate()
    async with serving(gate, held_bytes=length * 3 // 2) as (server, port):
        async with stranger(port) as first, stranger(port) as second:
            first.send(head(length), bytes(length))
            await until(lambda: gate.inside == 1)
            assert server.held_bytes == length
            second.send(head(length))
            status, fields, _ = await second.answer()
            assert (status, fields["retry-after"]) == (503, "1")
            second.writer.close()
            gate.open.set()
            assert (await first.answer())[0] == 202
            first.send(head(length), bytes(length))
            assert (await first.answer())[0] == 202
        assert server.held_bytes == 0


@pytest.mark.parametrize("length", [80_000, 800_000])
async def test_bodies_that_grow_beyond_the_bound_together_are_cut(length: int) -> None:
    async with serving(held_bytes=length * 3 // 2) as (server, port), stranger(port) as one, stranger(port) as two:
        one.send(head(length), bytes(100))
        two.send(head(length), bytes(100))
        await until(lambda: server.held_bytes == 200)
        one.send(bytes(length - 101))
        await until(lambda: server.held_bytes == length + 99)
        two.send(bytes(length - 101))
        assert (await two.answer())[0] == 503
        one.send(bytes(1))
        assert (await one.answer())[0] == 200
        assert server.held_bytes == 0


async def test_connections_are_bounded_by_source(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(connections_per_source=2) as (server, port):
        async with stranger(port) as one, stranger(port) as two:
            await until(lambda: server.connections == 2)
            async with stranger(port) as three:
                assert await three.closed()
            assert server.refusals == {"too many connections": 1}
            for n in (10, LARGE, 10):  # A large body changes protocols and must keep its place.
                one.send(head(n), bytes(n))
                assert (await one.answer())[0] == 200
                assert server.connections == 2
            two.writer.close()
            await until(lambda: server.connections == 1)
            async with stranger(port) as three:
                three.send(head(0))
                assert (await three.answer())[0] == 200
        await until(lambda: server.connections == 0)
    gc.collect()  # what asyncio says of a task that failed unheard, it says then
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_addresses_of_one_network_are_one_source_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(echo_length, hello)
    for i in range(5):
        server._note(f"2001:db8::{i}", "slow body")
    server._note("2001:db8:0:1::1", "slow body")
    assert server.refusals == {"slow body": 6}
    assert len(caplog.records) == 2


@pytest.mark.parametrize("length", [10, LARGE])
async def test_our_own_bug_is_logged_and_answered(length: int, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(body: Body, source: str) -> Answer:
        raise ValueError("a bug")

    async with serving(broken) as (server, port), stranger(port) as s:
        for _ in range(2):
            s.send(head(length), bytes(length))
            assert (await s.answer())[0] == 500
        assert server.held_bytes == 0
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@pytest.mark.parametrize("length", [10, LARGE])
async def test_stop_lets_a_request_under_way_finish(length: int) -> None:
    gate = Gate()
    server = Server(gate, hello)
    port = await server.start("127.0.0.1", 0)
    async with stranger(port) as s, stranger(port) as idle:
        s.send(head(length), bytes(length))
        await until(lambda: gate.inside == 1)
        stopping = asyncio.create_task(server.stop(5))
        assert await idle.closed()
        assert not stopping.done()
        gate.open.set()
        assert (await s.answer())[0] == 202
        await stopping
        assert await s.closed()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("length", [10, LARGE])
@pytest.mark.parametrize("missing", [0, 1])
async def test_stop_cuts_off_what_does_not_finish(length: int, missing: int, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    server = Server(gate, hello)
    port = await server.start("127.0.0.1", 0)
    async with stranger(port) as s:
        s.send(head(length), bytes(length - missing))
        await until(lambda: server.held_bytes == length - missing)
        async with asyncio.timeout(5):
            await server.stop(0.05)
        assert await s.closed()
    await until(lambda: gate.inside == 0)
    assert server.held_bytes == 0
    assert not caplog.records


async def test_stop_waits_for_nobody_who_reads_no_answers(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(echo_length, lambda body, source: Answer(403, bytes(60_000)))
    port = await server.start("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port)) as deaf:
        deaf.sendall(head(0, HELLO_PATH) * 500)
        assert server._door is not None
        await until(lambda: server.connections == 1)
        ((_, transport),) = server._door._inside.values()
        await until(lambda: transport.get_write_buffer_size() > 0)  # what the kernel has no room for
        async with asyncio.timeout(5):
            await server.stop(0.05)
        await until(lambda: server.connections == 0)
    assert not caplog.records


async def test_whoever_is_accepted_while_the_door_closes_is_dropped() -> None:
    door = Door(cast("Any", None), DoorLimits(), lambda source, kind: None)
    port = await door.open("127.0.0.1", 0)
    door.closed = True  # as for one whose turn in the event loop comes only now
    async with stranger(port) as late:
        assert await late.closed()
        assert door.count == 0
    await door.close(0.05)


async def test_a_taken_port_is_a_configuration_error() -> None:
    async with serving() as (_, port):
        second = Server(echo_length, hello)
        with pytest.raises(ConfigurationError, match="taken"):
            await second.start("127.0.0.1", port)
        await second.stop()
