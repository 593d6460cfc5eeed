"""The power gate and freezes, with real processes: a phone's stub commands say what a phone would.

Every process is started by a test and gone when it ends; ports are chosen by the system; readiness is polled for.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from peer.home import read_admin
from peer.learning.datasets import load_dataset
from peer.learning.readers import write_csv
from tests.peer.power.termux import BATTERY, CHARGING, LOCK, UNLOCK, Prefix

PATIENCE_S = 60.0
FROZEN_S = float(os.environ.get("SUSURRUS_TEST_FROZEN_S", "20"))
USEFUL_S = 10.0
"""So soon a peer is useful again after a freeze of whatever length."""
COMMAND = [sys.executable, "-P", "-m", "peer"]
TASK = """
[task]
name = "digits"
public_data = true
[data]
schema = "digits"
[training]
learning_rate = 0.2
steps = 1000000
[aggregation]
collusion_threshold = 2
cohort = 16
"""
POWER = '[power]\ncharging = true\npoll_s = 1\nsensor = "termux"\n'


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("SUSURRUS_")}
    return own | {"OPENBLAS_NUM_THREADS": "1"} | more


def susurrus(*arguments: str, code: int = 0, timeout: float = 150.0) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment())
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)  # between two looks, not instead of one
    raise AssertionError(f"not within {patience_s:.0f} s: {what}")


class Peers:
    """Homes of one network, each with a Termux prefix of its own, and the processes that run in them."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.prefixes = [Prefix(root / f"prefix{i}") for i in range(count)]
        susurrus("network", "create", str(root / "net"))
        (root / "token").write_text(
            json.loads(susurrus("network", "token", str(root / "net"), "--json").stdout)["token"]
        )
        (root / "task.toml").write_text(TASK)
        data = load_dataset("digits")
        for i in range(count):
            shard, rows = root / f"shard{i}.csv", slice(i, 900, count)
            write_csv(shard, data.X[rows], data.y[rows], features=data.features, target="digit", classes=data.classes)
            susurrus(
                "init", "--home", str(self.home(i)), "--token-file", str(root / "token"), "--data", str(shard),
                "--schema", "digits", "--listen", "127.0.0.1:0", "--preset", "local",
            )  # fmt: skip

    def home(self, i: int) -> Path:
        return self.root / f"home{i}"

    def log(self, i: int) -> str:
        return (self.root / f"log{i}").read_text(errors="replace")

    def restrict(self, i: int, power: str = POWER) -> None:
        file = self.home(i) / "config.toml"
        file.write_text(file.read_text().replace("[power]", power, 1))

    def start(self, i: int, *more: str) -> None:
        seeds = [part for j in self.processes for at in self.status(j)["addresses"] for part in ("--seed", at)]
        with (self.root / f"log{i}").open("ab") as log:
            command = [*COMMAND, "run", "--home", str(self.home(i)), *seeds, *more]
            self.processes[i] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(PREFIX=str(self.prefixes[i].root)),
            )
        until(lambda: self.ask(i, "/status"), f"peer {i} answers: {self.log(i)}")

    def ask(self, i: int, path: str, timeout: float = 5.0) -> Any:
        """What the admin endpoint of a peer says; None if it does not answer."""
        assert self.processes[i].poll() is None, self.log(i)
        try:
            admin = read_admin(self.home(i))
            connection = http.client.HTTPConnection(admin.address, timeout=timeout)
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {admin.token}"})
                return json.loads(connection.getresponse().read())
            finally:
                connection.close()
        except Exception:
            return None

    def status(self, i: int) -> dict[str, Any]:
        found: dict[str, Any] = until(lambda: self.ask(i, "/status"), f"peer {i} answers")
        return found

    def state_of(self, i: int, seen_by: int) -> str:
        peer = self.status(i)["peer"]
        return next((row["state"] for row in self.ask(seen_by, "/peers") if row["peer"] == peer), "unknown")

    def stop(self, i: int, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(i)
        process.send_signal(number)
        return process.wait(timeout=15)

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path, 4)
    yield made
    made.close()


def untroubled(peers: Peers, *indices: int) -> None:
    for i in indices:
        assert "Traceback" not in peers.log(i), peers.log(i)


def test_an_unplugged_peer_leaves_and_comes_back_with_the_newest_model(peers: Peers) -> None:
    phone = peers.prefixes[2]
    phone.battery(**CHARGING)
    for name in (LOCK, UNLOCK):
        phone.script(name, "")
    peers.restrict(2)
    peers.start(0, "--task", str(peers.root / "task.toml"))
    for i in (1, 3, 2):
        peers.start(i)
    until(lambda: (s := peers.status(2))["contributions"] and s["age"] > 0, "four peers train")
    assert peers.status(2)["gate"] == "open"
    assert phone.calls(LOCK), "the wake lock is held while rounds run"
    before = peers.status(2)
    incarnation = next(row["incarnation"] for row in peers.ask(0, "/peers") if row["peer"] == before["peer"])

    phone.battery(percentage=43)
    closed = until(lambda: (s := peers.status(2))["gate"] != "open" and not s["addresses"] and s, "it leaves", 15.0)
    assert closed["gate"] == "closed: not charging"
    assert (closed["members_alive"], closed["reachable"], closed["is_root"]) == (0, False, False)
    assert closed["peer"] == before["peer"]
    assert closed["age"] >= before["age"] > 0
    assert closed["contributions"] >= before["contributions"]
    for other in (0, 1, 3):
        until(lambda other=other: peers.state_of(2, other) == "left", "the others see it leave", 5.0)
        assert "dead" not in peers.log(other)
    until(lambda: phone.calls(UNLOCK), "the wake lock is given back")
    assert json.loads(susurrus("status", "--home", str(peers.home(2)), "--json").stdout)["gate"] == closed["gate"]
    assert "not charging" in susurrus("status", "--home", str(peers.home(2))).stdout
    assert f"{closed['age']}" in susurrus("model", "show", "--home", str(peers.home(2))).stdout
    unlocked = len(phone.calls(UNLOCK))

    phone.battery(**CHARGING)
    back = until(lambda: (s := peers.status(2))["gate"] == "open" and s["addresses"] and s, "it is back", 10.0)
    assert back["peer"] == before["peer"]
    until(lambda: peers.status(2)["age"] > closed["age"], "training goes on", 15.0)
    newest = peers.status(0)["age"]
    until(lambda: peers.status(2)["age"] >= newest, "it has the newest model", 5.0)
    until(lambda: peers.status(2)["contributions"] > closed["contributions"], "and takes part", 10.0)
    again = next(row for row in peers.ask(0, "/peers") if row["peer"] == before["peer"])
    assert again["state"] == "alive"
    assert again["incarnation"] > incarnation
    assert len(phone.calls(UNLOCK)) == unlocked
    for i in (2, 3, 1, 0):
        assert peers.stop(i) == 0
    untroubled(peers, 0, 1, 2, 3)


def test_stopping_while_the_gate_is_closed_is_immediate(peers: Peers) -> None:
    peers.prefixes[0].battery()
    peers.restrict(0)
    peers.start(0)
    assert peers.status(0)["gate"] == "closed: not charging"
    process = psutil.Process(peers.processes[0].pid)
    ports = {each.laddr[1] for each in process.net_connections()}
    assert ports == {int(read_admin(peers.home(0)).address.split(":")[1])}, "the admin endpoint and nothing else"
    switches = process.num_ctx_switches().voluntary
    time.sleep(3.0)  # three looks at a stub that answers at once
    assert process.num_ctx_switches().voluntary - switches < 100, "nothing else wakes it"
    began = time.monotonic()
    assert peers.stop(0) == 0
    assert time.monotonic() - began < 3.0
    untroubled(peers, 0)


def test_a_sensor_that_hangs_keeps_the_peer_away_and_does_not_keep_it_from_stopping(peers: Peers) -> None:
    phone = peers.prefixes[0]
    phone.script(BATTERY, "sleep 1000 & sleep 1000")
    peers.restrict(0)
    peers.start(0)
    assert peers.status(0)["gate"] == "closed: the sensors have not been read yet"
    until(lambda: phone.pids(), "the command was called")
    assert peers.stop(0) == 0
    assert all(not Path(f"/proc/{pid}").exists() for pid in phone.pids())
    untroubled(peers, 0)


def test_a_frozen_peer_is_soon_useful_again_and_contributes_to_no_round_twice(peers: Peers) -> None:
    """``SUSURRUS_TEST_FROZEN_S=180`` freezes it for three minutes."""
    records = peers.root / "records"
    peers.start(0, "--task", str(peers.root / "task.toml"), "--audit", str(records))
    for i in (1, 3, 2):
        peers.start(i, "--audit", str(records))
    until(lambda: peers.status(2)["contributions"] > 5, "four peers train")
    before = peers.status(2)
    peers.processes[2].send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_S)  # the freeze itself
    newest = max(peers.status(i)["age"] for i in (0, 1, 3))
    assert newest > before["age"]
    assert next(r["state"] for r in peers.ask(0, "/peers") if r["peer"] == before["peer"]) == "dead"
    peers.processes[2].send_signal(signal.SIGCONT)
    began = time.monotonic()

    def soon(holds: Callable[[], Any], what: str) -> float:
        until(holds, what, began + USEFUL_S - time.monotonic())
        return time.monotonic() - began

    answered = soon(lambda: peers.ask(2, "/status"), "it answers")
    caught_up = soon(lambda: peers.status(2)["age"] >= newest, "its model is the newest")
    contributed = peers.status(2)["contributions"]
    alive = soon(lambda: peers.state_of(2, 0) == "alive", "the others know that it is back")
    useful = soon(lambda: peers.status(2)["contributions"] > contributed + 2, "it contributes again")
    print(
        f"frozen {FROZEN_S:g} s: answers after {answered:.2f}, caught up {caught_up:.2f}, known {alive:.2f}, ", end=""
    )
    print(f"useful {useful:.2f}")
    for i in (2, 3, 1, 0):
        assert peers.stop(i) == 0
    print(susurrus("audit", str(records), timeout=600).stdout)
    entered = [json.loads(line)["round"] for line in (records / f"{before['peer']}.jsonl").read_text().splitlines()]
    assert len(entered) == len(set(entered))
    untroubled(peers, 0, 1, 2, 3)
