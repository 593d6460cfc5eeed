"""What a running peer would show: a real node that holds a task and a model, real storage, the rest by hand."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from peer.observe.observer import Observer
from peer.observe.status import StatusBoard
from peer.storage import Storage
from tests.protocol.world import START, World, make_task

TASK = make_task()


@pytest.fixture
def world() -> World:
    """Five peers that know each other; the first has brought a task and trained a little."""
    made = World(5, "status")
    made.start_all()
    made.introduce(made.peers[0], TASK)
    made.run(2.0)
    return made


@pytest.fixture
async def board(world: World, tmp_path: Path) -> AsyncIterator[StatusBoard]:
    storage = await Storage.open(tmp_path / "state.db")
    peer = world.peers[0]
    assert peer.node is not None
    refusals = Counter({"oversized body": 2, "unknown path or method": 3})
    parts = SimpleNamespace(bytes_in=11, bytes_out=22, gate=peer.application.gate, refusals=refusals)
    yield StatusBoard(
        peer.node, Observer(storage, None), parts, storage, parts, parts, lambda: world.now  # type: ignore[arg-type]
    )  # fmt: skip
    await storage.close()


@pytest.fixture
async def empty_board(tmp_path: Path) -> AsyncIterator[StatusBoard]:
    """Of a peer that is alone and holds no task."""
    world = World(1, "alone")
    world.start_all()
    storage = await Storage.open(tmp_path / "empty.db")
    node = world.peers[0].node
    parts = cast("object", SimpleNamespace(bytes_in=0, bytes_out=0, gate=lambda: "on battery", refusals=Counter()))
    yield StatusBoard(node, Observer(storage, None), parts, storage, parts, parts, lambda: START)  # type: ignore[arg-type]
    await storage.close()
