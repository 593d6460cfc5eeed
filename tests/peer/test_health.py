"""The admin endpoint of a real peer: health, readiness and metrics for anybody, the rest for this machine's token."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from peer import health
from peer.admin_client import ask
from peer.home import read_admin
from peer.observe.admin import AdminServer
from peer.transport.addresses import bind
from protocol.base.errors import ConfigurationError
from tests.peer.running import PATIENCE_S, Homes, Running, running, seeded


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path)


@pytest.fixture
async def alone(homes: Homes) -> AsyncIterator[Running]:
    async with running(homes.make("alone")) as peer:
        yield peer


async def test_a_peer_alone_is_healthy_but_not_ready(alone: Running) -> None:
    assert await alone.get("/healthz") == (200, b'{"ok": true}')
    status, body = await alone.get("/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "reason": "it hears no other peer"}
    assert await asyncio.to_thread(health.check, alone.home.path) == (False, "it hears no other peer")


async def test_two_peers_are_ready_once_they_hear_each_other(homes: Homes) -> None:
    async with running(homes.make("a")) as first, running(homes.make("b"), seeded(first)) as second:
        async with asyncio.timeout(PATIENCE_S):
            while {(await peer.get("/readyz"))[0] for peer in (first, second)} != {200}:  # noqa: ASYNC110  (looks)
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(health.check, second.home.path) == (True, "ready")


async def test_metrics_are_proper_and_their_labels_bounded(alone: Running) -> None:
    async with aiohttp.ClientSession() as session:
        for size in (10, 300, 5000):
            async with session.post(f"http://{alone.address}/v1/envelope", data=bytes(size)) as refused:
                assert refused.status >= 400
        async with session.get(f"http://{alone.address}/") as refused:
            assert refused.status == 404
    status, body = await alone.get("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["susurrus_members_alive"].samples[0].value == 1
    assert families["susurrus_gate_open"].samples[0].value == 1
    refusals = families["susurrus_messages_refused"]
    assert refusals.type == "counter"
    assert sum(sample.value for sample in refusals.samples) == 3
    assert {key for sample in refusals.samples for key in sample.labels} == {"reason"}
    (refusal,) = families["susurrus_requests_refused"].samples
    assert (refusal.labels, refusal.value) == ({"reason": "unknown path or method"}, 1)
    assert families["susurrus_http_body_bytes"].samples[0].name == "susurrus_http_body_bytes_total"
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert not [name for name in families if "loss" in name or "accuracy" in name]  # on records; for the token alone
    assert alone.daemon.driver.node.peer.hex() not in body.decode()
    assert read_admin(alone.home.path).token not in body.decode()


@pytest.mark.parametrize(
    ("remote", "status"), [("127.0.0.1", 401), ("::1", 401), ("10.0.0.7", 403), ("fe80::1%eth0", 403), (None, 403)]
)
async def test_nobody_from_elsewhere_gets_as_far_as_the_token(remote: str | None, status: int) -> None:
    server = AdminServer.__new__(AdminServer)
    server.token = "t" * 64
    transport = Mock(get_extra_info=lambda name: (remote, 1234) if remote and name == "peername" else None)
    request = make_mocked_request("GET", "/status", transport=transport)

    async def never(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("let in")

    assert (await server._guard(request, never)).status == status


async def test_commands_find_a_peer_that_lets_prometheus_in_from_everywhere(homes: Homes) -> None:
    async with running(homes.make("open"), '[admin]\nlisten = "0.0.0.0:0"\n') as peer:
        assert read_admin(peer.home.path).address.startswith("127.0.0.1:")
        status = (await asyncio.to_thread(ask, peer.home.path, "/status")).json()
        assert status["peer"] == peer.daemon.driver.node.peer.hex()


async def test_a_port_that_is_taken_is_one_sentence(homes: Homes) -> None:
    listening = await bind("127.0.0.1", 0, 1)
    config = f'[admin]\nlisten = "127.0.0.1:{listening.getsockname()[1]}"\n'
    with listening, pytest.raises(ConfigurationError, match="the port is taken"):
        async with running(homes.make("late"), config):
            pass


def test_no_peer_is_not_ready_and_says_so(homes: Homes, tmp_path: Path) -> None:
    ready, sentence = health.check(homes.make("idle"))
    assert not ready
    assert "no peer runs" in sentence
    ready, sentence = health.check(tmp_path / "nowhere")
    assert not ready
    assert "not a peer's home" in sentence
