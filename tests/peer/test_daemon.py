"""The daemon: parts come up and go down in order, the others hear of a leave, an error of its own is a clean end."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from peer import session as session_module
from peer.driver import Driver
from peer.errors import StorageError
from peer.home import read_admin
from peer.observe.admin import AdminServer
from peer.observe.logs import LoopErrors
from peer.storage import Storage
from peer.transport.client import Client
from peer.transport.server import Server
from protocol.application import Freshness
from protocol.base.errors import ConfigurationError, PrivacyRefusal
from protocol.base.ids import RoundId
from protocol.effects import PersistRound, Send
from protocol.events import TimePassed
from protocol.identity.keys import SigningKey
from protocol.node import Node
from protocol.training import catalogue
from protocol.training.catalogue import signed_bytes
from protocol.wire.messages import Leave
from tests.peer.driving import until
from tests.peer.running import Homes, Running, running, seeded
from tests.protocol.world import make_task

TASK = """
[task]
name = "digits"
model = "softmax"
[data]
schema = "digits"
[training]
learning_rate = 1.0
steps = 5
[aggregation]
collusion_threshold = 2
cohort = 16
"""


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path)


def digits(directory: Path) -> Path:
    """Two records of a digit."""
    pixels = [f"pixel_{i}_{j}" for i in range(8) for j in range(8)]
    records = directory / "records.csv"
    records.write_text("\n".join([",".join([*pixels, "digit"])] + [",".join(["1"] * 64 + ["7"])] * 2))
    return records


def tables(path: Path) -> str:
    """What SQLite itself says of the database in a home."""
    with contextlib.closing(sqlite3.connect(path / "state.db")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def spied(monkeypatch: pytest.MonkeyPatch, trace: list[str], **methods: tuple[type, str]) -> None:
    """Note in ``trace`` when each method begins."""
    for what, (owner, name) in methods.items():
        original = getattr(owner, name)

        def noted(self: Any, *args: Any, original: Any = original, what: str = what) -> Any:
            trace.append(what)
            return original(self, *args)

        monkeypatch.setattr(owner, name, noted)


# --- up and down --------------------------------------------------------------------------------------------------


async def test_a_peer_comes_up_answers_and_leaves_nothing_behind(homes: Homes) -> None:
    path = homes.make("a")
    async with running(path) as peer:
        assert isinstance(asyncio.get_running_loop().get_exception_handler(), LoopErrors)
        admin = read_admin(path)
        assert admin.pid == os.getpid()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {admin.token}"}) as session:
            async with session.get(f"http://{admin.address}/status") as response:
                status = await response.json()
            async with session.post(f"http://{peer.address}/v1/hello", data=b"who is there?") as response:
                assert response.status == 403
        assert status["addresses"] == [peer.address]
        assert status["peer"] == peer.daemon.driver.node.peer.hex()
        assert await peer.stop() == 0
        for address in (peer.address, admin.address):
            host, port = address.split(":")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, int(port))
        assert (path / "lock").exists()  # the home is the command's to give back
    assert not (path / "admin.json").exists()
    assert tables(path) == "ok"
    assert {t.get_name() for t in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_what_is_held_is_handed_over_then_the_door_closes_then_storage(
    homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace: list[str] = []
    spied(
        monkeypatch, trace, drained=(Driver, "drained"), members=(Storage, "save_descriptors"),
        admin=(AdminServer, "stop"), door=(Server, "stop"), driver=(Driver, "close"), client=(Client, "close"),
        storage=(Storage, "close"),
    )  # fmt: skip
    async with running(homes.make("b")) as other, running(homes.make("a"), seeded(other)) as peer:
        await until(peer.daemon.driver.node.membership.descriptors_to_save)  # it has heard from somebody
        assert trace == []
        await peer.stop()
        assert trace == ["drained", "members", "door", "driver", "client", "admin", "storage"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_a_clean_leave_that_the_others_hear_of(homes: Homes, number: signal.Signals) -> None:
    async with running(homes.make("a")) as a:
        async with running(homes.make("b"), seeded(a)) as leaving:
            await until(lambda: a.others == leaving.others == 1)
            # signal handlers are the process's: this peer started last, so they are its own
            os.kill(os.getpid(), number)
            assert await asyncio.wait_for(leaving.run, 10) == 0
            # once is enough: the next one ends the process, as for a program that knows no signals
            assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
        await until(lambda: a.others == 0)
        assert not a.run.done()


async def test_leaving_takes_no_longer_than_its_budget(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HANDOVER_S", 0.05)
    monkeypatch.setattr(Node, "idle", property(lambda node: False))  # an answer is owed that never comes
    async with running(homes.make("a")) as peer:
        assert await asyncio.wait_for(peer.stop(), 2) == 0


async def test_a_disk_too_full_for_what_others_tell_again_neither_ends_a_peer_nor_its_leave(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[Any] = []

    async def full(raw: Any) -> None:
        tried.append(raw)
        raise StorageError("the disk is full; free some space")

    monkeypatch.setattr(session_module, "SAVE_MEMBERS_S", 0.01)
    path = homes.make("a")
    async with running(homes.make("b")) as other, running(path, seeded(other)) as peer:
        await until(lambda: peer.others == other.others == 1)
        storage, save = peer.daemon.storage, peer.daemon.storage.save_descriptors
        storage.save_descriptors = full  # type: ignore[method-assign]
        await until(lambda: len(tried) > 3)
        storage.save_descriptors = save  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            while not await storage.load_descriptors():  # noqa: ASYNC110  (tried again, and nobody is told)
                await asyncio.sleep(0.01)
        storage.save_descriptors = full  # type: ignore[method-assign]
        await until(lambda: len(tried) > 6)
        assert await peer.stop() == 0
        await until(lambda: other.others == 0)
    said = [record.getMessage() for record in caplog.records if "the disk is full" in record.getMessage()]
    assert said == ["the disk is full; free some space; where other peers are is not kept meanwhile"] * 2
    assert tables(path) == "ok"


# --- errors of its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "error"), [("node", KeyError), ("storage", StorageError), ("beside the node", StorageError)]
)
async def test_an_error_of_its_own_ends_the_peer_and_is_told_by_whoever_started_it(
    homes: Homes, where: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    path, handed = homes.make("a"), list[Any]()
    async with running(path) as peer:
        driver = peer.daemon.driver
        other = driver.node.descriptor

        def handle(event: Any, now: float) -> list[Any]:
            handed.append(event)
            if where == "node":
                raise KeyError("a bug of ours")
            return [PersistRound(RoundId(b"r" * 16), now + 60), Send(other, Leave(1))] if where == "storage" else []

        async def full(*_: Any) -> None:
            raise StorageError("a bug of ours: the disk is full")

        driver.node.handle = handle  # type: ignore[method-assign]
        peer.daemon.storage.remember_round = full  # type: ignore[method-assign]
        if where == "beside the node":
            assert peer.daemon.session is not None
            peer.daemon.session.spawn(full())
        else:
            asyncio.get_running_loop().call_soon(driver.post, TimePassed())
        with pytest.raises(error, match="a bug of ours"):
            await asyncio.wait_for(peer.run, 5)
    ours = [record for record in caplog.records if record.name != "asyncio"]  # it tells what a callback raises
    assert "a bug of ours" not in " ".join(record.getMessage() for record in ours)
    assert not [record for record in (caplog.records if error is StorageError else ours) if record.exc_info]
    assert handed == ([] if where == "beside the node" else [TimePassed()])  # nothing is handed over by a broken peer
    assert tables(path) == "ok"
    assert not (path / "admin.json").exists()
    async with running(path) as again:  # and it can be started again at once
        assert await again.stop() == 0


async def test_what_goes_wrong_while_it_comes_up_closes_what_is_open(
    homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace: list[str] = []
    spied(
        monkeypatch, trace, door=(Server, "stop"), driver=(Driver, "close"), client=(Client, "close"),
        storage=(Storage, "close"),
    )  # fmt: skip
    port = free_port()
    path = homes.make("late", age_s=2 * 86_400.0)
    with pytest.raises(ConfigurationError, match="certificate has expired"):
        async with running(path, f'[peer]\nlisten = "127.0.0.1:{port}"\n'):
            pass
    assert trace == ["door", "driver", "client", "storage"]
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody listens there any more
    assert not (path / "admin.json").exists()


@pytest.mark.parametrize(
    ("task", "audit", "error", "sentence"),
    [
        (TASK, True, PrivacyRefusal, "does not say public_data = true"),
        (TASK, False, ConfigurationError, "this peer itself would not take part in .*no data is bound to its schema"),
        ("[task]\n", False, ConfigurationError, "data.schema: is missing"),
    ],
)
async def test_a_task_that_cannot_work_is_refused_before_anything_is_opened(
    homes: Homes, tmp_path: Path, task: str, audit: bool, error: type[Exception], sentence: str
) -> None:
    path, file, records = homes.make("a"), tmp_path / "task.toml", tmp_path / "records"
    file.write_text(task)
    with pytest.raises(error, match=sentence):
        async with running(path, task_file=file, audit_dir=records if audit else None):
            pass
    assert not (path / "state.db").exists()
    assert not records.exists()


async def test_a_task_for_which_there_is_no_room_is_refused_before_anybody_is_met(
    homes: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MAX_TASKS", 0)
    path, file, records = homes.make("a"), tmp_path / "task.toml", digits(tmp_path)
    file.write_text(TASK)
    with pytest.raises(ConfigurationError, match="task 'digits' cannot be introduced: 0 tasks are held"):
        async with running(path, f'[data.digits]\npath = "{records}"\n', task_file=file):
            pass
    assert not (path / "admin.json").exists()


async def test_whoever_records_takes_no_part_in_a_private_task_that_others_introduce_or_that_it_remembers(
    homes: Homes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, recorded = tmp_path / "task.toml", tmp_path / "audit"
    file.write_text(TASK)
    data = f'[data.digits]\npath = "{digits(tmp_path)}"\n'
    caplog.set_level(logging.INFO, "susurrus")
    a, b = homes.make("a"), homes.make("b")

    async def refuses(peer: Running) -> None:
        said = "does not take part: --audit records values, and it does not say public_data = true"
        await until(lambda: said in caplog.text)
        (entry,) = peer.daemon.driver.node.tasks.entries()
        assert entry.refused is not None
        assert caplog.text.count(said) == 1
        assert (await peer.daemon.session.board.status())["refused"] == entry.refused  # type: ignore[union-attr]

    async with running(a, data, task_file=file) as first, running(b, seeded(first) + data, audit_dir=recorded) as peer:
        await refuses(peer)
    caplog.clear()
    async with running(a, data, audit_dir=recorded) as peer:
        await refuses(peer)


# --- over several lives -------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def port_of(peer: Running) -> int:
    return int(peer.address.rpartition(":")[2])


async def test_a_port_that_the_system_chose_is_kept_over_restarts_unless_somebody_has_taken_it(homes: Homes) -> None:
    path = homes.make("a")
    async with running(path) as peer:
        first = port_of(peer)
    async with running(path) as peer:
        assert port_of(peer) == first
    with socket.create_server(("127.0.0.1", first)):
        async with running(path) as peer:
            second = port_of(peer)
            assert second != first
    async with running(path) as peer:
        assert port_of(peer) == second


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error(homes: Homes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
            async with running(homes.make("a"), f'[peer]\nlisten = "127.0.0.1:{port}"\n'):
                pass


async def test_what_is_advertised_is_what_others_are_told(homes: Homes) -> None:
    config = '[peer]\nlisten = "127.0.0.1:0"\nadvertise = ["peer.example.org:7000", "192.0.2.1:0", "[2001:db8::1]:9"]\n'
    async with running(homes.make("a"), config) as peer:
        name, bound, six = peer.daemon.driver.node.descriptor.addresses
        assert (name, six) == ("peer.example.org:7000", "[2001:db8::1]:9")
        assert bound.startswith("192.0.2.1:")
        assert not bound.endswith(":0")


async def test_a_restart_is_a_newer_word_of_the_same_peer_with_new_keys(homes: Homes) -> None:
    path = homes.make("a")
    async with running(path) as peer:
        first = peer.daemon.driver.node.descriptor
    async with running(path) as peer:
        second = peer.daemon.driver.node.descriptor
    assert second.peer == first.peer
    assert second.supersedes(first)
    assert second.incarnation > first.incarnation
    assert second.kem_epoch > first.kem_epoch
    assert second.kem_key != first.kem_key


async def test_the_newest_task_is_the_one_that_came_last_also_after_a_restart(homes: Homes) -> None:
    path, key = homes.make("a"), SigningKey(b"7" * 32)
    for name in ("one", "two", "three", "four"):
        storage = await Storage.open(path / "state.db")
        encoding = make_task(name=name).encode()
        await storage.save_task(encoding, key.public_bytes, key.sign(signed_bytes(encoding)))
        await storage.close()
        async with running(path) as peer:
            assert json.loads((await peer.get("/status", read_admin(path).token))[1])["task"] == name


async def test_what_a_schemas_tasks_ask_outlives_the_task_that_asked_it_first(homes: Homes, tmp_path: Path) -> None:
    path, key = homes.make("a"), SigningKey(b"7" * 32)
    (tmp_path / "toy.csv").write_text("a,b,y,z\n" + "0.5,-0.5,1,0\n0.25,0.5,0,1\n" * 5)
    config = f'[data.toy]\npath = "{tmp_path / "toy.csv"}"\n'
    first = make_task(model="logistic", target="y", classes=("0", "1"), dimension=3)
    for task, agreed in ((first, True), (replace(first, name="other", target="z"), False)):
        storage = await Storage.open(path / "state.db")
        for held in await storage.load_tasks():
            await storage.drop_task(held.task.id, held.task.encode())
        encoding = task.encode()
        await storage.save_task(encoding, key.public_bytes, key.sign(signed_bytes(encoding)))
        await storage.close()
        async with running(path, config) as peer:
            freshness = partial(peer.daemon.application.freshness, task)
            (entry,) = peer.daemon.driver.node.tasks.entries()
            assert (entry.refused is None) is agreed
            if agreed:
                await until(lambda freshness=freshness: freshness() is not Freshness.NONE)


async def test_the_network_is_found_again_without_seeds(homes: Homes) -> None:
    a, b = homes.make("a"), homes.make("b")
    async with running(a) as first:
        async with running(b, seeded(first)) as second:
            await until(lambda: first.others == second.others == 1)
        await until(lambda: first.others == 0)
        async with running(b) as second:  # it remembers where the first one was
            await until(lambda: first.others == second.others == 1)
