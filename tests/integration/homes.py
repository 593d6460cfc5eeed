"""Homes of one network and the processes that run in them, for tests that need real peers on loopback.

Every process is started by a test and gone when it ends; ports are chosen by the system; readiness is polled for.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer.admin_client import ask
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


def susurrus(
    *arguments: str, code: int = 0, timeout: float = 150.0, command: list[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
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
    """Three homes of one network, each with a shard of the digits, and the processes that run in them.

    ``command`` says how ``susurrus`` is called (with another clock, say).
    """

    def __init__(self, root: Path, command: list[str] = COMMAND) -> None:
        self.root = root
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        susurrus("network", "create", str(root / "net"), command=command)
        made = susurrus("network", "token", str(root / "net"), "--json", command=command)
        self.token: str = json.loads(made.stdout)["token"]
        (root / "token").write_text(self.token)
        data = load_dataset("digits")
        for i in range(3):
            shard = root / f"shard{i}.csv"
            rows = slice(i, 900, 3)
            write_csv(shard, data.X[rows], data.y[rows], features=data.features, target="digit", classes=data.classes)
            self.init(i, shard, command)

    def init(self, i: int, shard: Path, command: list[str]) -> None:
        susurrus(
            "init", "--home", str(self.home(i)), "--token-file", str(self.root / "token"), "--data", str(shard),
            "--schema", "digits", "--listen", "127.0.0.1:0", "--preset", "local", command=command,
        )  # fmt: skip

    def home(self, i: int) -> Path:
        return self.root / f"home{i}"

    def log(self, i: int) -> str:
        return (self.root / f"log{i}").read_text(errors="replace")

    def start(self, i: int, *more: str, command: list[str] = COMMAND, seeded: bool = True) -> None:
        others = self.processes if seeded else ()
        seeds = [part for j in others for part in ("--seed", self.status(j)["addresses"][0])]
        with (self.root / f"log{i}").open("ab") as log:
            arguments = ["run", "--home", str(self.home(i)), *seeds, *more]
            process = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
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

    def ask(self, i: int, path: str = "/status") -> Any:
        """As the commands ask a running peer, without a process for each question."""
        return ask(self.home(i), path).json()

    def stop(self, i: int, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(i)
        process.send_signal(number)
        return process.wait(timeout=15)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def task_file(tmp_path: Path, steps: int) -> str:
    path = tmp_path / f"task{steps}.toml"
    path.write_text(TASK.format(steps=steps))
    return str(path)
