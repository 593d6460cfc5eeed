"""The admin endpoint: what it says no to, and how."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from peer.observe.admin import AdminServer


async def test_whether_a_task_was_asked_for_makes_a_difference() -> None:
    board: Any = SimpleNamespace(entry=lambda task: None)
    server = AdminServer(cast(Any, board))
    await server.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.token}"}) as session:
            for path in ("/model", "/task"):
                for query, said in (
                    ("", "this peer knows of no task yet"),
                    ("?task=ff", "this peer holds no such task"),
                ):
                    async with session.get(f"http://{server.address}{path}{query}") as response:
                        assert (response.status, (await response.json())["error"]) == (404, said)
    finally:
        await server.stop()


@pytest.mark.parametrize("token", [b"", b"ab" * 32, b"\xff\xfe", "\u2603".encode()])
async def test_a_wrong_token_of_any_bytes_is_refused(token: bytes) -> None:
    server = AdminServer(cast(Any, SimpleNamespace()))
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
        assert b" 401 " in await reader.readline()
        writer.close()
    finally:
        await server.stop()
