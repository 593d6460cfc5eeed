"""The demo's peers: homes that ``run`` takes, processes that end with it, counters kept over kills."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.commands.run import check_membership
from peer.config import load_config
from peer.demo import cluster as cluster_module
from peer.demo.cluster import Cluster, DemoFailed, Member
from peer.home import open_home
from peer.learning.datasets import load_dataset
from peer.learning.readers import read_table
from peer.learning.taskfile import task_for_dataset

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);print('up', flush=True); time.sleep(60)"
)
"""A process that does not leave when it is asked to."""
PATIENT = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    data = load_dataset("digits")
    task = task_for_dataset(data, collusion_threshold=2, branching=2, cohort=4, modulus_bits=32, steps=10)
    made = Cluster(tmp_path, task, None)
    made.prepare(data, [np.arange(0, 20), np.arange(20, 45)])
    yield made
    await made.close()


async def put(member: Member, program: str) -> None:
    """This program stands in for a peer's process; it has said its first line when this returns."""
    member.process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    assert member.process.stdout is not None
    await asyncio.wait_for(member.process.stdout.readline(), 20)


def status(**values: Any) -> bytes:
    return json.dumps({"peak_rss_mb": 10.0, "addresses": ["127.0.0.1:1"]} | values).encode()


def answering(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *answers: bytes | None) -> None:
    """The peers' next answers; the last one for ever."""
    given = list(answers)

    async def get(member: Member, path: str) -> bytes | None:
        return given.pop(0) if len(given) > 1 else given[0]

    monkeypatch.setattr(cluster, "get", get)


def test_every_home_is_one_that_run_takes_with_its_own_shard(cluster: Cluster) -> None:
    networks, peers = set(), set()
    for member, records in zip(cluster.members, (20, 25), strict=True):
        config = load_config(member.home, {})
        assert (config.listen, config.preset) == ("127.0.0.1:0", "local")
        with open_home(member.home) as home:
            check_membership(home, cluster_module.time.time())
            assert home.chain is not None
            networks.add(home.chain.network)
            peers.add(home.signing_key.peer_id)
        binding = config.data["digits"]
        table = read_table(binding.path, target="digit", features=cluster.task.features, classes=cluster.task.classes)
        assert table.X.shape == (records, 64)
    assert (len(networks), len(peers)) == (1, 2)


def test_the_peers_do_not_get_the_users_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUSURRUS_PEER_SEEDS", "192.0.2.1:1")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environment = cluster_module._environment()
    assert not any(name.startswith("SUSURRUS_") for name in environment)
    first, second = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "peer" / "demo").is_dir()
    assert second == "/elsewhere"


async def test_counters_are_kept_over_kills(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    member = cluster.members[0]
    await put(member, STUBBORN)
    process = member.process
    assert process is not None
    answering(cluster, monkeypatch, status(bytes_out=100, peak_rss_mb=50.0), status(bytes_out=150), status(bytes_out=7))
    assert await cluster.ask(member)
    assert (member.total("bytes_out"), member.peak_rss_mb) == (100, 50.0)
    await cluster.kill(member)  # it asks once more first
    assert process.returncode == -signal.SIGKILL
    assert not member.alive
    assert (member.total("bytes_out"), member.status) == (150, {})
    assert await cluster.ask(member)  # its next life counts from nothing
    assert (member.total("bytes_out"), member.peak_rss_mb) == (157, 50.0)


async def test_a_peer_that_ends_instead_of_answering_is_quoted(cluster: Cluster) -> None:
    member = cluster.members[0]
    await put(member, "print('up', flush=True)")
    assert member.process is not None
    await member.process.wait()
    with pytest.raises(DemoFailed, match="peer 0 did not start: it said nothing"):
        await cluster.ready(member)
    member.log.write_text("INFO starting\nsusurrus: the port is taken\n")
    with pytest.raises(DemoFailed, match="^peer 0 did not start: the port is taken$"):
        await cluster.ready(member)


async def test_a_peer_that_never_answers_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "START_TIMEOUT_S", 0.0)
    await put(cluster.members[0], PATIENT)
    with pytest.raises(DemoFailed, match="did not answer within 0 s"):
        await cluster.ready(cluster.members[0])


async def test_a_home_in_which_nobody_runs_has_no_answer(cluster: Cluster) -> None:
    assert await cluster.get(cluster.members[0], "/status") is None
    assert not await cluster.ask(cluster.members[0])


async def test_no_process_survives_even_if_it_does_not_leave_when_asked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = asyncio.wait
    monkeypatch.setattr(asyncio, "wait", lambda tasks, timeout=None: wait(tasks, timeout=timeout and 0.05))
    one, two = cluster.members
    await put(one, STUBBORN)
    await put(two, PATIENT)
    await cluster.close()
    assert one.process is not None
    assert two.process is not None
    assert one.process.returncode == -signal.SIGKILL
    assert two.process.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(one.process.pid, 0)
        raise AssertionError("it is still there")
    await cluster.close()  # once more is harmless
