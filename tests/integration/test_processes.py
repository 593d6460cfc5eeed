"""Real peer processes on loopback: the demo, the auditor on its recordings, kills, a network made by hand.

Every process is started by a test and gone when it ends; ports are chosen by the system; readiness is polled for.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from peer.learning.datasets import load_dataset
from peer.learning.readers import write_csv

PATIENCE_S = 60.0
COMMAND = [sys.executable, "-P", "-m", "peer"]

TASK = """
[task]
name = "digits"
model = "softmax"
[data]
schema = "digits"
[training]
learning_rate = 1.0
steps = {steps}
[aggregation]
collusion_threshold = 2
cohort = 16
"""


def susurrus(*arguments: str, code: int = 0, timeout: float = 150.0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def until(holds: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)  # between two looks, not instead of one
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


class Homes:
    """Three homes of one network, each with a shard of the digits, and the processes that run in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        susurrus("network", "create", str(root / "net"))
        token = json.loads(susurrus("network", "token", str(root / "net"), "--json").stdout)["token"]
        (root / "token").write_text(token)
        data = load_dataset("digits")
        for i in range(3):
            shard = root / f"shard{i}.csv"
            rows = slice(i, 900, 3)
            write_csv(shard, data.X[rows], data.y[rows], features=data.features, target="digit", classes=data.classes)
            self.init(i, shard)

    def init(self, i: int, shard: Path) -> None:
        susurrus(
            "init", "--home", str(self.home(i)), "--token-file", str(self.root / "token"), "--data", str(shard),
            "--schema", "digits", "--listen", "127.0.0.1:0", "--preset", "local",
        )  # fmt: skip

    def home(self, i: int) -> Path:
        return self.root / f"home{i}"

    def log(self, i: int) -> str:
        return (self.root / f"log{i}").read_text(errors="replace")

    def start(self, i: int, *more: str) -> None:
        seeds = [part for j in self.processes for part in ("--seed", self.status(j)["addresses"][0])]
        with (self.root / f"log{i}").open("ab") as log:
            command = [*COMMAND, "run", "--home", str(self.home(i)), *seeds, *more]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes[i] = process
        until(lambda: self.status(i, missing_ok=True), f"peer {i} answers: {self.log(i)}")

    def status(self, i: int, missing_ok: bool = False) -> dict[str, Any]:
        done = subprocess.run(
            [*COMMAND, "status", "--home", str(self.home(i)), "--json"], capture_output=True, text=True, check=False
        )
        if done.returncode and missing_ok:
            assert self.processes[i].poll() is None, self.log(i)
            return {}
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def stop(self, i: int, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(i)
        process.send_signal(number)
        return process.wait(timeout=15)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path)
    yield made
    made.close()


def task_file(tmp_path: Path, steps: int) -> str:
    path = tmp_path / f"task{steps}.toml"
    path.write_text(TASK.format(steps=steps))
    return str(path)


def test_three_homes_wait_train_stop_and_come_back(homes: Homes, tmp_path: Path) -> None:
    homes.start(1)
    homes.start(0, "--task", task_file(tmp_path, 150))
    until(lambda: homes.status(0).get("waiting") == "waiting for 1 more peers", "says for whom it waits")
    assert "waiting for 1 more peers" in homes.log(0)
    homes.start(2)
    for i in range(3):
        until(lambda i=i: homes.status(i)["age"] == 150, f"peer {i} has the last model")
        final = until(lambda i=i: homes.status(i) if homes.status(i)["evaluated_age"] == 150 else None, "evaluated")
        assert final["accuracy"] > 0.85
    before = homes.status(2)
    assert homes.stop(2) == 0
    homes.start(2)
    again = until(lambda: homes.status(2) if homes.status(2)["age"] == 150 else None, "the model survives a restart")
    assert again["peer"] == before["peer"]
    assert again["contributions"] == before["contributions"]
    homes.stop(1, signal.SIGKILL)
    homes.start(1)
    until(lambda: homes.status(1)["age"] == 150, "and a SIGKILL")
    for i in range(3):
        assert homes.stop(i) == 0
        assert "Traceback" not in homes.log(i)


async def test_a_stranger_at_the_door_changes_nothing(homes: Homes, tmp_path: Path) -> None:
    homes.start(0)
    address = homes.status(0)["addresses"][0]
    async with aiohttp.ClientSession() as session:
        for path in ("/v1/envelope", "/v1/hello"):
            for body in (b"", b"\x00" * 10, os.urandom(300), b"susu" + os.urandom(500), os.urandom(100_000)):
                async with session.post(f"http://{address}{path}", data=body) as response:
                    assert response.status >= 400, (path, len(body))
    status = homes.status(0)
    assert status["messages_refused"] > 0
    assert status["members_alive"] == 1
    assert homes.log(0).count("refused a message from 127.0.0.1") <= 6  # once for each kind
    assert "Traceback" not in homes.log(0)


def test_bad_input_is_one_sentence_and_its_exit_code(homes: Homes, tmp_path: Path) -> None:
    homes.start(0)
    locked = susurrus("run", "--home", str(homes.home(0)), code=1)
    assert "in use" in locked.stderr
    port = homes.status(0)["addresses"][0]
    taken = susurrus("run", "--home", str(homes.home(1)), "--listen", port, code=2)
    assert len(taken.stderr.strip().splitlines()) == 1
    bad = tmp_path / "bad.toml"
    bad.write_text(TASK.format(steps=5) + "branching = 0\nmodulus_bits = 12\nnonsense = 1\n")
    refused = susurrus("run", "--home", str(homes.home(1)), "--task", str(bad), code=2)
    assert all(word in refused.stderr for word in ("branching", "modulus_bits", "nonsense"))
    private = susurrus(
        "run", "--home", str(homes.home(1)), "--task", task_file(tmp_path, 5), "--audit", str(tmp_path / "rec"), code=3
    )
    assert "public_data" in private.stderr
    database = homes.home(2) / "state.db"
    database.write_bytes(b"this is no database, whatever it is called" * 100)
    corrupt = susurrus("run", "--home", str(homes.home(2)), code=2)
    assert "state.db" in corrupt.stderr
    assert database.read_bytes().startswith(b"this is no database")


def test_demo_and_audit_and_a_tampered_recording(tmp_path: Path) -> None:
    records = tmp_path / "recordings"
    arguments = ["demo", "--peers", "5", "--steps", "30", "--seed", "3", "--audit", str(records), "--json"]
    summary = json.loads(susurrus(*arguments).stdout.strip().splitlines()[-1])
    assert summary["steps"] == 30
    assert summary["tracebacks"] == summary["killed"] == 0
    assert summary["test_accuracy"] > summary["centralised_accuracy"] - 0.04
    assert summary["min_mask_neighbours"] >= 3
    assert summary["bytes_sent_per_contribution"] <= 1.6 * summary["plain_bytes_per_contribution"]
    assert "30 published" in susurrus("audit", str(records)).stdout
    tampered = next(
        path for path in sorted(records.glob("*.jsonl")) if '"published":true' in path.read_text().replace(" ", "")
    )
    lines = tampered.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["published"])
    record = json.loads(lines[at])
    total = bytearray(base64.b64decode(record["total"]))
    total[0] ^= 1
    record["total"] = base64.b64encode(bytes(total)).decode()
    lines[at] = json.dumps(record)
    tampered.write_text("\n".join(lines) + "\n")
    susurrus("audit", str(records), code=3)


def test_demo_under_kills(tmp_path: Path) -> None:
    done = susurrus("demo", "--peers", "6", "--steps", "120", "--seed", "5", "--kill", "60", "--json")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert summary["killed"] >= 1
    assert summary["steps"] >= 120
    assert summary["tracebacks"] == 0
    assert summary["models_evaluated"] == 6
    assert summary["test_accuracy"] > summary["centralised_accuracy"] - 0.04


def test_a_demo_too_small_for_its_threshold_says_for_how_many_it_would_wait() -> None:
    assert "waiting for 1 more peers" in susurrus("demo", "--peers", "3", code=2).stderr
