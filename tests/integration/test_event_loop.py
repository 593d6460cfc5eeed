"""With a model of a million parameters the event loop of a peer is never blocked for long: measured, not assumed.

The peer under test shares the machine with three others, which yield the CPU to it; what it still waits for a CPU is
not its loop being blocked and does not count.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from peer.config import load_config
from peer.daemon import Daemon, run_peer
from peer.demo.cluster import Cluster
from peer.home import open_home
from peer.learning.datasets import load_dataset
from peer.learning.taskfile import task_for_dataset
from peer.learning.tasktoml import task_to_toml
from peer.process import tune_process
from protocol.training.task import Task
from tests.integration.lag import LoopLag, granted_clock

LONGEST_MS = 50.0
STEPS = 6
PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def as_a_peer_runs() -> Iterator[None]:
    """The process settings of ``susurrus run``, and no more to collect than it has; afterwards what was before."""
    before = sys.getswitchinterval()
    tune_process()
    gc.collect()
    gc.freeze()  # what the other tests have left takes an eighth of a second to look through
    yield
    gc.unfreeze()
    sys.setswitchinterval(before)


def age(daemon: Daemon, task: Task) -> int:
    entry = daemon.driver.node.tasks.get(task.id)
    newest = entry.walks.newest if entry is not None else None
    return -1 if newest is None else newest.checkpoint.age


async def test_the_loop_is_never_blocked_for_long(tmp_path: Path) -> None:
    data = load_dataset("digits")
    task = task_for_dataset(data, steps=STEPS, cohort=4, model="mlp", hyper=(("hidden", 13_333),), learning_rate=0.2)
    assert task.dimension > 999_000
    cluster = Cluster(tmp_path, task, None)
    cluster.prepare(data, np.array_split(np.arange(2000), 4))
    file = tmp_path / "task.toml"
    file.write_text(task_to_toml(task))
    *others, own = cluster.members
    up: asyncio.Queue[Daemon] = asyncio.Queue()
    try:
        for member in others:
            await cluster.start(member)
            await cluster.ready(member)
            assert member.process is not None
            os.setpriority(os.PRIO_PROCESS, member.process.pid, 19)
        config = load_config(own.home, {}, {"peer.seeds": [others[0].status["addresses"][0]]})
        with open_home(own.home) as home:
            running = asyncio.create_task(run_peer(config, home, task_file=file, ready=up.put_nowait))
            daemon = await asyncio.wait_for(up.get(), PATIENCE_S)
            end = time.monotonic() + PATIENCE_S
            async with LoopLag() as wall, LoopLag(clock=granted_clock) as own:
                while age(daemon, task) < STEPS and time.monotonic() < end:  # noqa: ASYNC110  (nobody is told)
                    await asyncio.sleep(0.01)  # between two looks
            reached = age(daemon, task)
            daemon.stop()
            assert await running == 0
    finally:
        await cluster.close()
    print(f"longest gap of the event loop: {own.longest_ms:.1f} ms, {wall.longest_ms:.1f} ms with waiting for a CPU")
    assert reached == STEPS
    assert own.ticks > 100
    assert own.longest_ms <= LONGEST_MS
