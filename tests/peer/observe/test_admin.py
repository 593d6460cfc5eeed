"""The admin endpoint: loopback alone, nothing without the token, and what commands read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from peer.observe import admin as admin_module
from peer.observe.admin import AdminServer
from peer.observe.status import StatusBoard
from peer.transport.addresses import own_addresses
from protocol.base.ids import text
from protocol.training.task import decode
from tests.peer.driving import until
from tests.peer.observe.conftest import TASK

Ask = Callable[..., Awaitable[tuple[int, Any, bytes]]]
PATHS = ("/status", "/peers", "/rounds", "/model", "/task")


async def asked(board: StatusBoard) -> AsyncIterator[Ask]:
    admin = AdminServer(board)
    await admin.start()
    async with aiohttp.ClientSession() as session:

        async def ask(path: str, token: str | None = admin.token, method: str = "GET") -> tuple[int, Any, bytes]:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with session.request(method, f"http://{admin.address}{path}", headers=headers) as response:
                return response.status, response.headers, await response.read()

        ask.address = admin.address  # type: ignore[attr-defined]
        yield ask
    await admin.stop()
    await admin.stop()  # once more is harmless


@pytest.fixture
async def ask(board: StatusBoard) -> AsyncIterator[Ask]:
    async for each in asked(board):
        yield each


@pytest.fixture
async def ask_empty(empty_board: StatusBoard) -> AsyncIterator[Ask]:
    async for each in asked(empty_board):
        yield each


@pytest.mark.parametrize("token", [None, "", "0" * 64, "\u00fc"])
async def test_nothing_is_told_without_the_token(ask: Ask, token: str | None) -> None:
    for path in (*PATHS, "/nowhere"):
        status, _, body = await ask(path, token)
        assert (status, json.loads(body)) == (401, {"error": "this needs the token of the home's admin.json"})
    assert (await ask("/healthz", token))[0] == 200


async def test_with_the_token_there_is_an_answer(ask: Ask) -> None:
    assert [(await ask(path))[0] for path in (*PATHS, "/nowhere")] == [200] * len(PATHS) + [404]


@pytest.mark.parametrize("token", [b"\xff\xfe", "\u2603".encode()])
async def test_a_token_that_is_no_text_is_no_token(ask: Ask, token: bytes) -> None:
    reader, writer = await asyncio.open_connection(*ask.address.split(":"))  # type: ignore[attr-defined]
    writer.write(b"GET /status HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


async def test_it_only_reads(ask: Ask) -> None:
    for path in PATHS:
        for method in ("POST", "PUT", "DELETE"):
            assert (await ask(path, method=method))[0] == 405


async def test_the_head_of_an_answer_may_be_asked_for_alone(ask: Ask) -> None:
    status, headers, body = await ask("/healthz", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(b'{"ok": true}')), b"")


async def test_an_error_of_its_own_is_logged_and_answered(
    ask: Ask, board: StatusBoard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(StatusBoard, "peers", lambda self: 1 // 0)
    assert (await ask("/peers"))[0] == 500
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["/peers could not be answered"]
    assert (await ask("/healthz"))[0] == 200


async def test_its_connections_are_bounded_and_told_of_once(
    board: StatusBoard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    admin = AdminServer(board)
    await admin.start()
    host, _, port = admin.address.partition(":")
    most = admin_module.LIMITS.connections_per_source
    strangers = [await asyncio.open_connection(host, port) for _ in range(most + 3)]
    async with asyncio.timeout(5):
        for reader, _ in strangers[most:]:
            with suppress(ConnectionError):
                assert await reader.read() == b""
        strangers[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert (await strangers[0][0].readline()).startswith(b"HTTP/1.1 200 ")
    assert caplog.text.count("refused too many connections from 127.0.0.1") == 1
    await admin.stop()
    for _, writer in strangers:
        writer.close()


async def test_stopping_waits_for_nobody_who_reads_no_answers(board: StatusBoard) -> None:
    admin = AdminServer(board)
    await admin.start()
    assert admin._door is not None
    host, _, port = admin.address.partition(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n" * 2000)
        door = admin._door
        await until(lambda: door.count == 1)
        ((_, transport),) = door._inside.values()
        await until(lambda: transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1])  # it is stuck
        async with asyncio.timeout(5):
            await admin.stop()
        await until(lambda: door.count == 0)


async def test_it_is_on_loopback_alone(ask: Ask) -> None:
    host, _, port = ask.address.partition(":")  # type: ignore[attr-defined]
    assert host == "127.0.0.1"
    for address in own_addresses("0.0.0.0", int(port)):
        if not address.startswith("127."):
            with socket.socket() as outside:
                assert outside.connect_ex((address.rpartition(":")[0], int(port))) != 0


async def test_every_peer_has_a_token_of_its_own(board: StatusBoard) -> None:
    tokens = {AdminServer(board).token for _ in range(5)}
    assert len(tokens) == 5
    assert {len(token) for token in tokens} == {64}


async def test_status_peers_and_rounds_are_json(ask: Ask, board: StatusBoard) -> None:
    status = json.loads((await ask("/status"))[2])
    assert status["task"] == "toy"
    assert set(status) == set(await board.status())
    assert json.loads((await ask("/peers"))[2]) == board.peers()
    assert json.loads((await ask("/rounds?limit=5"))[2]) == []


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "x", "", "1.5", "\u00b2", "1" * 5000])
async def test_a_limit_that_is_none(ask: Ask, limit: str) -> None:
    status, _, body = await ask(f"/rounds?limit={limit}")
    assert (status, json.loads(body)) == (400, {"error": "limit must be 1 to 10000"})


async def test_the_model_comes_as_it_is_with_what_it_is(ask: Ask, board: StatusBoard) -> None:
    entry = board.entry(None)
    assert entry is not None
    assert entry.walks.newest is not None
    status, headers, body = await ask(f"/model?task={text(TASK.id)}")
    assert (status, body) == (200, bytes(entry.walks.newest.checkpoint.state))
    about = json.loads(headers["X-Susurrus-Model"])
    assert (about["name"], about["parameters"], about["last_age"]) == ("toy", 3, TASK.last_age)
    assert about["age"] == entry.walks.newest.checkpoint.age
    assert about["digest"] == entry.walks.newest.digest.hex()
    assert decode((await ask("/task"))[2]) == TASK


async def test_what_this_peer_does_not_hold(ask: Ask, ask_empty: Ask) -> None:
    for path in ("/model", "/task"):
        status, _, body = await ask(f"{path}?task=00")
        assert (status, json.loads(body)) == (404, {"error": "this peer holds no such task"})
        status, _, body = await ask_empty(path)
        assert (status, json.loads(body)) == (404, {"error": "this peer knows of no task yet"})
