"""A real Dask scheduler and two worker processes on loopback, one of which is killed in the middle."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from peer.errors import PeerError
from peer.laboratory import extras
from peer.laboratory.cluster import DaskCluster
from peer.laboratory.work import KILLED, Task
from protocol.base.errors import ConfigurationError
from tests.peer.laboratory.conftest import contents
from tests.peer.laboratory.trial import Trial, begun, experiment_text, wait_for

pytest.importorskip("distributed")


class Cluster:
    """A scheduler and its workers, each a process without a nanny that would start it again."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *args: str, **settings: str) -> "subprocess.Popen[bytes]":
        with (self._place / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "dask", *args, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
            environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(self._place), **settings}
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._place, env=environment)
        self._processes.append(process)
        return process

    def address(self) -> str:
        """The scheduler's, once it has one."""
        log = self._place / "scheduler.log"

        def found() -> list[str]:
            return [word for word in log.read_text().split() if word.startswith("tcp://")]

        wait_for(found)
        return found()[0]

    def workers(self, address: str, count: int) -> "list[subprocess.Popen[bytes]]":
        """Workers of one thread, all of them connected."""
        each = ("worker", address, "--worker-port", "0", "--nthreads", "1", "--no-nanny")
        started = [self.start(f"worker{i}", *each) for i in range(count)]
        log = self._place / "scheduler.log"
        wait_for(lambda: log.read_text().count("Register worker") == count)
        return started

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_lost_workers_runs_are_done_again(
    tmp_path: Path,
    cluster: Cluster,
    start: Callable[..., "subprocess.Popen[str]"],
    outcome: Callable[..., tuple[int, str, str]],
) -> None:
    file, log, gate = tmp_path / "e.toml", tmp_path / "log", tmp_path / "gate"
    file.write_text(experiment_text(log, values=range(4), repeats=1, more=f"gate = '{gate}'\ngated = 2"))
    cluster.start("scheduler", "scheduler", "--port", "0")
    address = cluster.address()
    workers = cluster.workers(address, 2)
    process = start(file, "--out", tmp_path / "out", "--scheduler", address)
    # Both workers wait inside a run.
    pids = {worker.pid for worker in workers}
    wait_for(lambda: process.poll() is not None or (len(begun(log)) == 6 and set(chain(*begun(log).values())) == pids))
    assert process.poll() is None, process.communicate()
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    gate.touch()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"8 runs, seed 7: {tmp_path / 'out' / 'report.html'}\n"), err
    assert f"on the Dask cluster at {address}" in err
    tries = begun(log)
    assert len(tries) == 8
    lost = [seed for seed, processes in tries.items() if processes[0] == workers[0].pid and len(processes) > 1]
    assert lost
    assert all(tries[seed][-1] == workers[1].pid for seed in lost)
    assert outcome(file, "--out", tmp_path / "local")[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_a_run_that_kills_its_worker_and_a_scheduler_that_goes_away(
    tmp_path: Path, cluster: Cluster, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    file, log, gate = tmp_path / "e.toml", tmp_path / "log", tmp_path / "gate"
    text = experiment_text(log, values=range(2), repeats=1, more="trouble = 'die 0'").replace("[0.5, 2.0]", "[0.5]")
    file.write_text(text)
    limit = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    scheduler = cluster.start("scheduler", "scheduler", "--port", "0", **limit)
    address = cluster.address()
    cluster.workers(address, 2)
    process = start(file, "--out", tmp_path / "out", "--scheduler", address, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    (told,) = json.loads(out)["experiments"]
    assert (told["runs"], [(each["value"], each["problem"]) for each in told["failures"]]) == (1, [(0, KILLED)])

    file.write_text(text.replace("trouble = 'die 0'", f"gate = '{gate}'\ngated = 0"))
    before = begun(log)
    process = start(file, "--out", tmp_path / "other", "--scheduler", address)
    wait_for(lambda: process.poll() is not None or begun(log) != before)
    scheduler.kill()  # while the worker that is left waits inside a run
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1] == f"susurrus: the scheduler at {address} is gone; the same command goes on later"


def test_nobody_answers() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        engine = DaskCluster(address, print)
        engine.connect_s = 0.5
        with pytest.raises(PeerError, match=f"no scheduler answers at {address}; start one with: dask scheduler"):
            next(engine.outcomes([Task("a", Trial(), {}, 0, "")]))


def test_what_is_no_address() -> None:
    with pytest.raises(ConfigurationError, match="--scheduler nonsense://x: .*; it is an address such as tcp://"):
        next(DaskCluster("nonsense://x", print).outcomes([Task("a", Trial(), {}, 0, "")]))


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(ConfigurationError) as caught:
        DaskCluster("tcp://127.0.0.1:1", print)
    assert caught.value.problems == ["--scheduler needs distributed: pip install 'susurrus[cluster]'"]
