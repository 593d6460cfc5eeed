"""What a peer that is away shows: what it remembers, read from storage."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from peer.observe.asleep import SleepingBoard
from peer.observe.metrics import Metrics
from peer.observe.observer import Observer
from peer.observe.status import Evaluation, StatusBoard, Tallies, Traffic
from peer.storage import Storage
from protocol.base.ids import text
from protocol.identity.keys import SigningKey
from protocol.training import state
from protocol.training.catalogue import signed_bytes
from protocol.wire.messages import Checkpoint
from tests.protocol.world import World, make_task

TASK = make_task()


@pytest.fixture
async def boards(tmp_path: Path) -> AsyncIterator[tuple[StatusBoard, SleepingBoard]]:
    """One peer's board in the network and its board asleep, over one storage."""
    world = World(1, "asleep")
    world.start_all()
    node = world.peers[0].node
    assert node is not None
    storage = await Storage.open(tmp_path / "state.db")
    refusals = Counter({"too large": 3})
    parts: Any = SimpleNamespace(bytes_in=11, bytes_out=22, refusals=refusals, gate=lambda: "closed: not charging")
    observer, tallies = Observer(storage, None), Tallies(traffic=Traffic(100, 200, Counter({"too large": 1})))
    yield (
        StatusBoard(node, observer, parts, storage, parts, parts, lambda: world.now, tallies),
        SleepingBoard(node.peer, node.network, observer, parts, storage, tallies),
    )
    await storage.close()


async def test_the_same_keys_and_no_members(boards: tuple[StatusBoard, SleepingBoard]) -> None:
    awake, asleep = await boards[0].status(), await boards[1].status()
    assert set(awake) == set(asleep)
    assert (awake["peer"], awake["network"]) == (asleep["peer"], asleep["network"])
    assert asleep["gate"] == "closed: not charging"
    assert (asleep["members_alive"], asleep["reachable"], asleep["addresses"]) == (0, False, [])
    assert (asleep["bytes_in"], asleep["bytes_out"]) == (100, 200)
    assert (awake["bytes_in"], awake["bytes_out"]) == (111, 222)
    assert (asleep["requests_refused"], awake["requests_refused"]) == (1, 4)
    assert boards[1].peers() == []
    assert await boards[1].held(None) is None


async def test_tasks_and_models_come_from_storage(boards: tuple[StatusBoard, SleepingBoard]) -> None:
    asleep, key = boards[1], SigningKey(b"7" * 32)
    encoding = TASK.encode()
    await asleep.storage.save_task(encoding, key.public_bytes, key.sign(signed_bytes(encoding)))
    assert (await asleep.status())["age"] is None
    checkpoint = Checkpoint(TASK.id, 4, bytes(state.state_bytes(TASK)))
    asleep.storage.save_checkpoint(checkpoint)
    asleep.tallies.evaluations[TASK.id] = Evaluation(3, 0.5, 0.75)
    asleep.tallies.refusals[TASK.id] = "the file is gone"
    status = await asleep.status()
    assert (status["task"], status["age"], status["evaluated_age"]) == (TASK.name, 4, 3)
    assert (status["loss"], status["accuracy"], status["refused"]) == (0.5, 0.75, "the file is gone")
    for asked in (None, text(TASK.id)):
        held = await asleep.held(asked)
        assert held is not None
        assert (held.task, held.checkpoint, held.digest) == (TASK, checkpoint, state.digest(checkpoint))
    assert await asleep.held("00" * 32) is None


async def test_the_newest_task_is_the_one_that_came_last(boards: tuple[StatusBoard, SleepingBoard]) -> None:
    asleep, key = boards[1], SigningKey(b"7" * 32)
    for name in ("one", "two", "three", "four"):
        encoding = make_task(name=name).encode()
        await asleep.storage.save_task(encoding, key.public_bytes, key.sign(signed_bytes(encoding)))
        assert (await asleep.status())["task"] == name
        held = await asleep.held(None)
        assert held is not None
        assert held.task.name == name


async def test_metrics_go_on_from_what_was_counted_and_it_is_not_ready(
    boards: tuple[StatusBoard, SleepingBoard],
) -> None:
    def read(board: StatusBoard | SleepingBoard) -> dict[str, float]:
        families = text_string_to_metric_families(Metrics(lambda: board).text().decode())
        return {
            sample.name + str(sample.labels.get("direction", "")): sample.value
            for f in families
            for sample in f.samples
        }

    awake, asleep = read(boards[0]), read(boards[1])
    assert (awake["susurrus_http_body_bytes_totalin"], asleep["susurrus_http_body_bytes_totalin"]) == (111, 100)
    assert (asleep["susurrus_members_alive"], asleep["susurrus_gate_open"]) == (0, 0)
    assert asleep["susurrus_requests_refused_total"] == 1
    assert not [name for name in asleep if "model" in name]
    assert boards[1].unready() == "closed: not charging"
