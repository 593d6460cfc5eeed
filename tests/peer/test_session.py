"""Stays in the network, inside this process: changed addresses, gates that close and open, errors that end it all."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peer import daemon as daemon_module
from peer import session as session_module
from peer.admin_client import ask
from peer.config import parse_config
from peer.daemon import Daemon
from peer.driver import Clock
from peer.entropy import SystemEntropy
from peer.home import Home, create_home, open_home, read_admin
from peer.observe.status import Evaluation
from peer.power.sensors import Reading
from peer.transport.client import Client
from protocol import reports
from protocol.events import AddressesChanged
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.keys import SigningKey
from protocol.training.task import Task
from protocol.wire.messages import Checkpoint
from tests.protocol.world import make_task

PATIENCE_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> AsyncIterator[Home]:
    now = time.time()
    token = issue_token(Authority(SigningKey(bytes(32))), now, 3600.0, (), SystemEntropy(), "test")
    chain = admit(token, SigningKey(b"1" * 32).public_bytes, now)
    create_home(tmp_path / "home", seed=b"1" * 32, chain=chain.encode(), config="")
    with open_home(tmp_path / "home") as opened:
        yield opened


async def until(holds: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (found := holds()):  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0.01)
    return found


class Running:
    """A daemon in this process, and how often it came up."""

    def __init__(self, home: Home, text: str) -> None:
        self.ups = 0
        config = parse_config(home.path, text)
        self.daemon = Daemon(config, home, None, self._up)
        self.task = asyncio.create_task(self.daemon.run(None))

    def _up(self, daemon: Daemon) -> None:
        self.ups += 1

    async def status(self) -> dict[str, Any]:
        return dict((await asyncio.to_thread(ask, self.daemon.home.path, "/status")).json())

    async def stop(self) -> int:
        self.daemon.stop()
        async with asyncio.timeout(PATIENCE_S):
            return await self.task


LISTEN = '[peer]\nlisten = "0.0.0.0:0"\npreset = "local"\n'


async def test_a_task_that_was_dropped_is_forgotten(home: Home) -> None:
    running, task = Running(home, LISTEN), make_task()
    await until(lambda: running.ups)
    board, forgotten = running.daemon.session.board, []
    running.daemon.application.forget = forgotten.append
    board.tallies.refusals[task.id], board.evaluations[task.id] = "unreadable", Evaluation(1, 0.5, 0.5)
    board.observer.report(reports.TaskDropped(task))
    assert (board.tallies.refusals, board.evaluations, forgotten) == ({}, {}, [task.id])
    await running.daemon.session._load(task)  # which was under way, and can read nothing
    assert (board.tallies.refusals, forgotten) == ({}, 2 * [task.id])
    assert await running.stop() == 0


async def test_figures_of_a_task_that_goes_while_it_is_evaluated_do_not_come_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, task = Running(home, LISTEN), make_task()
    await until(lambda: running.ups)
    session = running.daemon.session
    newest = SimpleNamespace(checkpoint=Checkpoint(task.id, 1, b""))
    held = [SimpleNamespace(task=task, walks=SimpleNamespace(newest=newest))]

    def evaluate(task: Task, checkpoint: Checkpoint) -> tuple[float, float]:
        held.clear()
        return 0.5, 0.5

    monkeypatch.setattr(session.driver.node.tasks, "get", lambda _: held[0] if held else None)
    monkeypatch.setattr(running.daemon.application, "evaluate", evaluate)
    await session._evaluate(task.id)
    assert (held, session.board.evaluations) == ([], {})
    assert await running.stop() == 0


async def test_changed_addresses_are_noticed_and_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    at = ["192.168.1.5"]
    renewed: list[Client] = []
    monkeypatch.setattr(session_module, "ADDRESSES_S", 0.02)
    monkeypatch.setattr(session_module, "own_addresses", lambda host, port: tuple(f"{each}:{port}" for each in at))
    renew = Client.renew

    async def noted(client: Client) -> None:
        renewed.append(client)
        await renew(client)

    monkeypatch.setattr(Client, "renew", noted)
    running = Running(home, LISTEN)
    await until(lambda: running.ups)
    first = running.daemon.driver.node.descriptor
    assert first.addresses[0].startswith("192.168.1.5:")
    at[:] = ["127.0.0.1"]  # no network at all: whom should it tell?
    await asyncio.sleep(0.1)
    assert running.daemon.driver.node.descriptor is first
    at[:] = ["10.0.0.7", "172.16.0.1"]
    second = await until(lambda: (d := running.daemon.driver.node.descriptor) is not first and d)
    assert [address.split(":")[0] for address in second.addresses] == ["10.0.0.7", "172.16.0.1"]
    assert second.incarnation > first.incarnation
    assert second.addresses[0].split(":")[1] == first.addresses[0].split(":")[1]
    await asyncio.sleep(0.1)
    assert running.daemon.driver.node.descriptor is second
    assert len(renewed) == 1
    assert await running.stop() == 0


async def test_advertised_addresses_stay(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ADDRESSES_S", 0.02)
    monkeypatch.setattr(session_module, "own_addresses", lambda host, port: (f"10.0.0.{time.monotonic_ns() % 250}:1",))
    running = Running(home, LISTEN + 'advertise = ["peer.example:7"]\n')
    await until(lambda: running.ups)
    posted: list[object] = []
    post = running.daemon.driver.post
    running.daemon.driver.post = lambda event: (posted.append(event), post(event))[1]  # type: ignore[method-assign]
    await asyncio.sleep(0.2)
    assert running.daemon.driver.node.descriptor.addresses == ("peer.example:7",)
    assert not [event for event in posted if isinstance(event, AddressesChanged)]
    assert await running.stop() == 0


async def test_a_clock_that_is_set_back_for_good_ends_the_stay_and_the_next_one_goes_by_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ahead, looks = [1800.0], [0]
    monkeypatch.setattr(daemon_module, "CLOCK_LOOK_S", 0.01)
    wall = SimpleNamespace(time=lambda: time.time() + ahead[0], monotonic=time.monotonic)
    monkeypatch.setattr("peer.driver.time", wall)

    def counted(clock: Clock, ahead_s: Callable[[Clock], float] = Clock.ahead_s) -> float:
        looks[0] += 1
        return ahead_s(clock)

    monkeypatch.setattr(Clock, "ahead_s", counted)
    running = Running(home, LISTEN)
    await until(lambda: running.ups)
    first = running.daemon.driver.node.descriptor
    assert first.issued - time.time() > 1700
    for harmless in (1800.0, 1740.0, -600.0):  # right; within what others bear; before the membership began
        ahead[0], before = harmless, looks[0]
        await until(lambda before=before: looks[0] > before + daemon_module.CLOCK_LOOKS + 1)
        assert running.ups == 1
    ahead[0] = 0.0
    await until(lambda: running.ups == 2)
    second = running.daemon.driver.node.descriptor
    assert abs(second.issued - time.time()) < 60
    assert second.supersedes(first)
    assert second.addresses == first.addresses
    assert caplog.text.count("this machine's clock was set back by 1800 s") == 1
    before = looks[0]
    await until(lambda: looks[0] > before + daemon_module.CLOCK_LOOKS + 1)
    assert running.ups == 2
    assert await running.stop() == 0


class Plug:
    """A sensor with a switch."""

    name = "plug"

    def __init__(self, charging: bool | None) -> None:
        self.charging = charging

    async def read(self, *, power: bool, network: bool) -> Reading:
        return Reading(self.charging, power_problem="it is broken")


GATED = LISTEN + "[power]\ncharging = true\npoll_s = 1\n"


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    made = Plug(True)
    monkeypatch.setattr("peer.daemon.choose", lambda wanted: made)
    return made


async def test_every_stay_is_made_afresh_and_asleep_nothing_runs(home: Home, plug: Plug) -> None:
    running = Running(home, GATED)
    daemon = running.daemon
    seen: list[tuple[int, int, int]] = []
    for charging in (False, None):
        await until(lambda: running.ups == len(seen) + 1)
        session = daemon.session
        assert session is not None
        descriptor = daemon.driver.node.descriptor
        seen.append((descriptor.incarnation, descriptor.kem_epoch, id(session)))
        awake = await running.status()
        assert awake["gate"] == "open"
        assert awake["addresses"] == list(descriptor.addresses)
        plug.charging = charging
        asleep = await until(lambda: daemon.power.closed)
        assert asleep == ("not charging" if charging is False else "cannot tell whether it is charging (it is broken)")
        await until(lambda session=session: not session._background)
        async with asyncio.timeout(PATIENCE_S):
            while (status := await running.status())["addresses"]:  # noqa: ASYNC110  (nobody is told)
                await asyncio.sleep(0.01)
        assert status["gate"] == f"closed: {asleep}"
        assert set(awake) == set(status)
        assert daemon.session is daemon.observer.hook is None, "node and models are let go"
        assert (await asyncio.to_thread(ask, home.path, "/peers")).json() == []
        plug.charging = True
    await until(lambda: running.ups == 3)
    descriptor = daemon.driver.node.descriptor
    seen.append((descriptor.incarnation, descriptor.kem_epoch, 0))
    assert seen == sorted(seen, key=lambda each: each[0])
    assert len({each[0] for each in seen}) == len({each[1] for each in seen}) == 3
    assert await running.stop() == 0


async def test_the_admin_endpoint_stays_the_same(home: Home, plug: Plug) -> None:
    plug.charging = False
    running = Running(home, GATED)
    await until(lambda: running.daemon.power.closed == "not charging" and (home.path / "admin.json").exists())
    before = read_admin(home.path)
    plug.charging = True
    await until(lambda: running.ups)
    assert read_admin(home.path) == before
    assert await running.stop() == 0


async def test_an_error_of_ours_ends_the_process_and_not_only_the_stay(home: Home, plug: Plug) -> None:
    running = Running(home, GATED)
    await until(lambda: running.ups)

    async def broken() -> None:
        raise RuntimeError("broken")

    assert running.daemon.session is not None
    running.daemon.session.spawn(broken())
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RuntimeError, match="broken"):
            await running.task
    assert running.ups == 1


async def test_a_watch_that_breaks_ends_the_process(home: Home, plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(home, GATED)
    await until(lambda: running.ups)

    def broken(reading: Reading, minute: int) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("peer.power.watch.Gate.judge", lambda self, reading, minute: broken(reading, minute))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RuntimeError, match="broken"):
            await running.task
