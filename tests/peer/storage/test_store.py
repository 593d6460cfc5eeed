"""What a peer remembers, and through what it survives."""

import asyncio
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peer.errors import StorageError
from peer.storage import Storage, history, store
from protocol.base.ids import RoundId, TaskId
from protocol.base.limits import MAX_BUDGET_S
from protocol.training.task import Task
from protocol.wire.messages import Checkpoint

A, B = RoundId(b"a" * 16), RoundId(b"b" * 16)
TASK, OTHER = TaskId(b"t" * 16), TaskId(b"u" * 16)
ROW = {
    "round": "aa",
    "task": "bb",
    "kind": "gradient",
    "age": 3,
    "started": 10.0,
    "finished": 10.5,
    "planned": 8,
    "cohort": 7,
    "published": True,
    "loss": 0.5,
    "accuracy": 0.9,
    "min_mask_neighbours": 3,
}


def a_task(name: str) -> Task:
    return Task(
        name, True, "softmax", (), "s", ("x",), "y", ("0", "1"), ((0.0, 1.0),), (0.0, 0.0), 0, 4, 0.5, 0.0, 0.0, 0.0, 8,
        10, 3, 4, 2, 8, 32, 1.0, 5.0, 1, 0,
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def test_rounds_are_remembered_until_they_expire(path: Path) -> None:
    storage = await Storage.open(path)
    await storage.remember_round(A, 100.0)
    await storage.remember_round(A, 100.0)
    await storage.remember_round(B, 200.0)
    await storage.close()
    storage = await Storage.open(path)
    assert await storage.rounds_remembered(99.0) == {A, B}
    assert await storage.rounds_remembered(100.0) == {B}
    await storage.forget_expired(150.0)
    assert await storage.rounds_remembered(0.0) == {B}
    await storage.close()


async def test_expired_rounds_do_not_pile_up_in_a_peer_that_never_restarts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PRUNE_EVERY", 8)
    storage = await Storage.open(path)
    for second in range(int(MAX_BUDGET_S), int(MAX_BUDGET_S) + 64):  # one round every ten seconds
        now = second * 10.0
        await storage.remember_round(RoundId(second.to_bytes(16, "big")), now + MAX_BUDGET_S)
    kept = await storage.rounds_remembered(0.0)
    assert await storage.rounds_remembered(now) <= kept
    assert len(await storage.rounds_remembered(now)) == 60
    assert len(kept) == 60
    await storage.close()


async def test_uses_are_remembered_for_ever(path: Path) -> None:
    storage = await Storage.open(path)
    await storage.remember_uses((b"model 1",))
    await storage.remember_uses((b"model 1",))
    await storage.forget_expired(1e12)
    await storage.close()
    storage = await Storage.open(path)
    assert await storage.uses() == {b"model 1"}
    await storage.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from peer.storage import Storage
async def main():
    storage = await Storage.open(Path(sys.argv[1]))
    await storage.remember_round(b"a" * 16, 1e12)
    await storage.remember_uses((b"used",))
    print(await storage.next_incarnation(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_the_journal_survives_a_kill(path: Path) -> None:
    for incarnation in (1, 2):
        done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, f"{incarnation}\n", "")
    storage = await Storage.open(path)
    assert await storage.rounds_remembered(0.0) == {A}
    assert await storage.uses() == {b"used"}
    assert await storage.next_incarnation() == 3
    await storage.close()


async def test_what_must_survive_a_power_cut_is_asked_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await Storage.open(path)
    run = storage._database.run
    asked: list[bool] = []

    async def spy(action: Any, *, durable: bool = False) -> Any:
        asked.append(durable)
        return await run(action, durable=durable)

    monkeypatch.setattr(storage._database, "run", spy)
    await storage.remember_round(A, 1e12)
    await storage.remember_uses((b"used",))
    await storage.save_task(b"encoding", b"k" * 32, b"s" * 64)
    await storage.next_incarnation()
    await storage.save_identity(5, 5)
    await storage.save_kem_epoch(5)
    assert asked == [True] * 6
    storage.save_checkpoint(Checkpoint(TASK, 1, b"one"))
    await storage.flush()
    assert asked[6:] == [False]
    await storage.close()


async def test_the_newest_checkpoint_of_each_task_wins(path: Path) -> None:
    storage = await Storage.open(path)
    storage.save_checkpoint(Checkpoint(TASK, 5, memoryview(b"five")))
    storage.save_checkpoint(Checkpoint(TASK, 4, b"four"))
    storage.save_checkpoint(Checkpoint(OTHER, 1, bytearray(b"one")))
    assert await storage.load_checkpoints() == [Checkpoint(TASK, 5, b"five"), Checkpoint(OTHER, 1, b"one")]
    storage.save_checkpoint(Checkpoint(TASK, 3, b"three"))
    assert await storage.load_checkpoints() == [Checkpoint(TASK, 5, b"five"), Checkpoint(OTHER, 1, b"one")]
    storage.save_checkpoint(Checkpoint(TASK, 6, b"six"))
    await storage.close()
    storage = await Storage.open(path)
    assert (await storage.load_checkpoints())[0] == Checkpoint(TASK, 6, b"six")
    await storage.close()


async def test_checkpoints_are_written_together_and_without_being_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FLUSH_S", 0.0)
    storage = await Storage.open(path)
    written = asyncio.Event()
    flushes = 0
    flush = storage.flush

    async def counted() -> None:
        nonlocal flushes
        await flush()
        flushes += 1
        written.set()

    monkeypatch.setattr(storage, "flush", counted)
    for age in range(50):
        storage.save_checkpoint(Checkpoint(TASK, age, b"%d" % age))
    await asyncio.wait_for(written.wait(), 10)
    assert flushes == 1
    other = await Storage.open(path)
    assert await other.load_checkpoints() == [Checkpoint(TASK, 49, b"49")]
    await other.close()
    await storage.close()


async def test_tasks_come_back_and_unreadable_ones_are_left_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage = await Storage.open(path)
    first, second = a_task("one"), a_task("two")
    for task in (first, second, first):
        await storage.save_task(task.encode(), b"k" * 32, b"s" * 64)
    await storage.save_task(b"from the future", b"k" * 32, b"s" * 64)
    with caplog.at_level(logging.WARNING):
        loaded = await storage.load_tasks()
    assert sorted(signed.task.name for signed in loaded) == ["one", "two"]
    assert {signed.signature for signed in loaded} == {b"s" * 64}
    assert "is left out" in caplog.text
    await storage.close()


async def test_tasks_keep_the_order_in_which_they_came(path: Path) -> None:
    """Which is not that of their digests, either way round."""
    names = [f"task {i}" for i in range(8)]
    for order in (names[:5], names[5:][::-1]):
        storage = await Storage.open(path)
        for name in order:
            await storage.save_task(a_task(name).encode(), b"k" * 32, b"s" * 64)
        await storage.close()
    storage = await Storage.open(path)
    assert [signed.task.name for signed in await storage.load_tasks()] == names[:5] + names[5:][::-1]
    await storage.close()


@pytest.mark.parametrize("pending", [True, False])
async def test_a_task_is_dropped_with_its_model_and_nothing_else(path: Path, pending: bool) -> None:
    storage = await Storage.open(path)
    tasks = [a_task("one"), a_task("two")]
    for task in tasks:
        await storage.save_task(task.encode(), b"k" * 32, b"s" * 64)
        storage.save_checkpoint(Checkpoint(task.id, 3, b"state"))
    await storage.remember_uses((b"used",))
    await storage.remember_round(A, 1e12)
    if not pending:
        await storage.flush()
    await storage.drop_task(tasks[0].id, tasks[0].encode())
    await storage.close()
    storage = await Storage.open(path)
    assert [signed.task for signed in await storage.load_tasks()] == tasks[1:]
    assert [checkpoint.task for checkpoint in await storage.load_checkpoints()] == [tasks[1].id]
    assert await storage.uses() == {b"used"}
    assert await storage.rounds_remembered(0.0) == {A}
    await storage.close()


async def test_descriptors_keep_their_order_and_are_replaced(path: Path) -> None:
    storage = await Storage.open(path)
    await storage.save_descriptors([b"x", b"a", b"m"])
    assert await storage.load_descriptors() == [b"x", b"a", b"m"]
    await storage.save_descriptors([b"z"])
    assert await storage.load_descriptors() == [b"z"]
    await storage.close()


async def test_counters_only_grow(path: Path) -> None:
    storage = await Storage.open(path)
    assert (await storage.kem_epoch(), await storage.listen_port()) == (0, None)
    assert [await storage.next_incarnation(), await storage.next_incarnation()] == [1, 2]
    await storage.save_identity(9, 1_000)
    await storage.save_identity(4, 999)
    assert await storage.kem_epoch() == 1_000
    assert await storage.next_incarnation() == 10
    assert await storage.next_incarnation(floor=1_700_000_000) == 1_700_000_000
    await storage.save_kem_epoch(1_700_000_000_123)
    await storage.save_kem_epoch(5)
    await storage.save_listen_port(7390)
    await storage.save_listen_port(7000)
    await storage.close()
    storage = await Storage.open(path)
    assert await storage.kem_epoch() == 1_700_000_000_123
    assert await storage.listen_port() == 7000
    assert await storage.next_incarnation(floor=5) == 1_700_000_001
    await storage.close()


async def test_history_and_totals(path: Path) -> None:
    storage = await Storage.open(path)
    storage.add_round(ROW)
    storage.add_round(ROW | {"published": False, "reason": "too few", "loss": None, "cohort": 0, "age": 4})
    storage.add_round(ROW | {"role": "member", "age": 5})
    storage.add_contributions(2)
    storage.add_contributions()
    assert [row["age"] for row in await storage.list_rounds()] == [5, 4, 3]
    assert (await storage.list_rounds(1))[0] == ROW | {"role": "member", "age": 5, "reason": "", "bytes": None}
    assert (await storage.list_rounds())[1]["published"] is False
    assert await storage.totals() == {"rounds_published": 1, "rounds_failed": 1, "contributions": 3}
    storage.add_contributions()
    await storage.close()
    storage = await Storage.open(path)
    assert await storage.totals() == {"rounds_published": 1, "rounds_failed": 1, "contributions": 4}
    await storage.close()


async def test_history_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ROUNDS", 5)
    storage = await Storage.open(path)
    for age in range(12):
        storage.add_round(ROW | {"age": age})
        await storage.flush()
    assert [row["age"] for row in await storage.list_rounds()] == [11, 10, 9, 8, 7]
    assert (await storage.totals())["rounds_published"] == 12
    await storage.close()


async def test_a_full_disk_delays_models_and_history_and_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = await Storage.open(path)
    run = storage._database.run

    async def full(*args: Any, **kwargs: Any) -> Any:
        raise StorageError("cannot write state.db: the disk is full; free some space")

    monkeypatch.setattr(storage._database, "run", full)
    storage.save_checkpoint(Checkpoint(TASK, 1, b"one"))
    storage.add_round(ROW)
    storage.add_contributions()
    with caplog.at_level(logging.ERROR):
        await storage._flush_quietly()
        await storage._flush_quietly()
    assert caplog.text.count("the disk is full") == 1
    with pytest.raises(StorageError, match="disk is full"):
        await storage.remember_round(A, 1e12)
    storage.save_checkpoint(Checkpoint(TASK, 2, b"two"))
    storage.add_round(ROW | {"age": 4})
    monkeypatch.setattr(storage._database, "run", run)
    assert await storage.load_checkpoints() == [Checkpoint(TASK, 2, b"two")]
    assert [row["age"] for row in await storage.list_rounds()] == [4, 3]
    assert await storage.totals() == {"rounds_published": 2, "rounds_failed": 0, "contributions": 1}
    await storage.close()


async def test_a_failed_flush_never_replaces_a_newer_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await Storage.open(path)

    async def overtaken(*args: Any, **kwargs: Any) -> Any:
        storage.save_checkpoint(Checkpoint(TASK, 8, b"newer"))
        raise StorageError("cannot write")

    storage.save_checkpoint(Checkpoint(TASK, 7, b"older"))
    with monkeypatch.context() as patch:
        patch.setattr(storage._database, "run", overtaken)
        with pytest.raises(StorageError):
            await storage.flush()
    assert await storage.load_checkpoints() == [Checkpoint(TASK, 8, b"newer")]
    await storage.close()


async def test_a_full_disk_at_the_end_is_an_error_and_the_file_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await Storage.open(path)
    storage.add_round(ROW)

    async def full(*args: Any, **kwargs: Any) -> Any:
        raise StorageError("cannot write: the disk is full")

    monkeypatch.setattr(storage._database, "run", full)
    with pytest.raises(StorageError, match="disk is full"):
        await storage.close()
    assert storage._database._closed


@pytest.mark.parametrize(
    "row", [ROW | {"extra": 1}, {k: v for k, v in ROW.items() if k != "age"}], ids=["unknown", "missing"]
)
async def test_rows_with_other_columns_are_a_mistake_of_ours(path: Path, row: dict[str, Any]) -> None:
    storage = await Storage.open(path)
    with pytest.raises(ValueError, match="columns"):
        storage.add_round(row)
    await storage.close()


async def test_a_model_of_ten_million_coordinates_fits(path: Path) -> None:
    storage = await Storage.open(path)
    state = bytes(40_000_000)
    storage.save_checkpoint(Checkpoint(TASK, 1, state))
    (loaded,) = await storage.load_checkpoints()
    assert loaded == replace(loaded, state=state)
    await storage.close()
