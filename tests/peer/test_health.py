"""The admin endpoint of a real peer: health, readiness and metrics for anybody, the rest for this machine's token."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from peer import health
from peer.admin_client import ask
from peer.config import load_config
from peer.daemon import Daemon, Hooks, run_peer
from peer.demo.cluster import Cluster
from peer.home import open_home, read_admin
from peer.learning.datasets import load_dataset
from peer.learning.taskfile import task_for_dataset
from peer.observe.admin import AdminServer
from peer.transport.addresses import bind
from protocol.base.errors import ConfigurationError

PATIENCE_S = 30.0


class Running:
    """A peer that runs in this process until ``stop``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._up: asyncio.Queue[Daemon] = asyncio.Queue()

    async def start(self, **flags: object) -> None:
        self._opened = open_home(self.home)
        config = load_config(self.home, {}, {key.replace("__", "."): value for key, value in flags.items()})
        self._running = asyncio.create_task(run_peer(config, self._opened, hooks=Hooks(ready=self._up.put_nowait)))
        up = asyncio.create_task(self._up.get())
        await asyncio.wait([up, self._running], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        if self._running.done():
            up.cancel()
            self._opened.close()
            self._running.result()
        self.daemon = up.result()
        self.base = f"http://{read_admin(self.home).address}"

    async def stop(self) -> None:
        self.daemon.stop()
        assert await asyncio.wait_for(self._running, PATIENCE_S) == 0
        self._opened.close()

    async def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession() as session, session.get(self.base + path, headers=headers) as response:
            return response.status, await response.read()


@pytest.fixture
def homes(tmp_path: Path) -> list[Path]:
    data = load_dataset("digits")
    cluster = Cluster(tmp_path, task_for_dataset(data, steps=1, cohort=4), None)
    cluster.prepare(data, np.array_split(np.arange(100), 2))
    return [member.home for member in cluster.members]


@pytest.fixture
async def alone(homes: list[Path]) -> AsyncIterator[Running]:
    running = Running(homes[0])
    await running.start()
    yield running
    await running.stop()


async def test_a_peer_alone_is_healthy_but_not_ready(alone: Running) -> None:
    assert await alone.get("/healthz") == (200, b'{"ok": true}')
    status, body = await alone.get("/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "reason": "it hears no other peer"}
    assert await asyncio.to_thread(health.check, alone.home) == (False, "it hears no other peer")


async def test_two_peers_are_ready_once_they_hear_each_other(homes: list[Path]) -> None:
    first, second = Running(homes[0]), Running(homes[1])
    await first.start()
    await second.start(peer__seeds=list(first.daemon.driver.node.descriptor.addresses))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while {(await peer.get("/readyz"))[0] for peer in (first, second)} != {200}:  # noqa: ASYNC110  (looks)
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(health.check, second.home) == (True, "ready")
    finally:
        await second.stop()
        await first.stop()


async def test_metrics_are_proper_and_their_labels_bounded(alone: Running) -> None:
    async with aiohttp.ClientSession() as session:
        address = alone.daemon.driver.node.descriptor.addresses[0]
        for size in (10, 300, 5000):
            async with session.post(f"http://{address}/v1/envelope", data=bytes(size)) as refused:
                assert refused.status >= 400
    status, body = await alone.get("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["susurrus_members_alive"].samples[0].value == 1
    assert families["susurrus_gate_open"].samples[0].value == 1
    refusals = families["susurrus_messages_refused"]
    assert refusals.type == "counter"
    assert sum(sample.value for sample in refusals.samples) == 3
    assert {key for sample in refusals.samples for key in sample.labels} == {"reason"}
    assert families["susurrus_http_body_bytes"].samples[0].name == "susurrus_http_body_bytes_total"
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert alone.daemon.driver.node.peer.hex() not in body.decode()
    assert read_admin(alone.home).token not in body.decode()


@pytest.mark.parametrize("path", ["/status", "/peers", "/rounds", "/model", "/task", "/nothing"])
async def test_everything_else_wants_the_token(alone: Running, path: str) -> None:
    assert (await alone.get(path))[0] == 401
    assert (await alone.get(path, "0" * 64))[0] == 401
    assert (await alone.get(path, read_admin(alone.home).token))[0] in (200, 404)


@pytest.mark.parametrize(
    ("remote", "status"), [("127.0.0.1", 401), ("::1", 401), ("10.0.0.7", 403), ("fe80::1%eth0", 403), (None, 403)]
)
async def test_nobody_from_elsewhere_gets_as_far_as_the_token(remote: str | None, status: int) -> None:
    server = AdminServer.__new__(AdminServer)
    server.token = "t" * 64
    transport = Mock(get_extra_info=lambda name: (remote, 1234) if remote and name == "peername" else None)
    request = make_mocked_request("GET", "/status", transport=transport)

    async def never(_: web.Request) -> web.StreamResponse:
        raise AssertionError("let in")

    assert (await server._guard(request, never)).status == status


async def test_commands_find_a_peer_that_lets_prometheus_in_from_everywhere(homes: list[Path]) -> None:
    running = Running(homes[0])
    await running.start(admin__listen="0.0.0.0:0")
    try:
        assert running.base.startswith("http://127.0.0.1:")
        status = (await asyncio.to_thread(ask, running.home, "/status")).json()
        assert status["peer"] == running.daemon.driver.node.peer.hex()
    finally:
        await running.stop()


async def test_a_port_that_is_taken_is_one_sentence(homes: list[Path]) -> None:
    listening = await bind("127.0.0.1", 0, 1)
    with listening, pytest.raises(ConfigurationError, match="the port is taken"):
        await Running(homes[0]).start(admin__listen=f"127.0.0.1:{listening.getsockname()[1]}")


def test_no_peer_is_not_ready_and_says_so(homes: list[Path], tmp_path: Path) -> None:
    ready, sentence = health.check(homes[0])
    assert not ready
    assert "no peer runs" in sentence
    ready, sentence = health.check(tmp_path / "nowhere")
    assert not ready
    assert "not a peer's home" in sentence
