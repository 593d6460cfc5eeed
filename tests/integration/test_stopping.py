"""A peer that is told to stop is gone at once, whatever hangs: a name lookup, records, a start half done."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.homes import Homes, task_file, until

GONE_S = 12.0
"""Five seconds are promised; a machine that is busy with other tests gets more.  What hangs here hangs for minutes."""
HANGING = """
import pathlib, socket, sys, time
what, mark = sys.argv.pop(1), pathlib.Path(sys.argv.pop(1))
def hang(*args, **options):
    if what == "records" or args[0] == "hangs.example":
        mark.touch()
        time.sleep(600)
    return look_up(*args, **options)
look_up = socket.getaddrinfo
if what == "lookup":
    socket.getaddrinfo = hang
else:
    from peer.learning import application
    application.read_table = hang
from peer.cli import main
main()
"""


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path)
    yield made
    made.close()


def hanging(what: str, mark: Path) -> list[str]:
    """How to call ``susurrus`` on a machine where this hangs; ``mark`` is made when it does."""
    return [sys.executable, "-P", "-c", HANGING, what, str(mark)]


def stop(homes: Homes) -> None:
    """SIGTERM, and it has ended by itself; whatever has not is killed with the homes."""
    homes.processes[0].send_signal(signal.SIGTERM)
    assert homes.processes[0].wait(GONE_S) == 0, homes.log(0)


@pytest.mark.parametrize("what", ["lookup", "records"])
def test_what_hangs_beside_a_peer_does_not_keep_it(homes: Homes, tmp_path: Path, what: str) -> None:
    homes.start(0, "--task", task_file(tmp_path, 5))
    assert homes.stop(0) == 0
    mark = tmp_path / "hangs"
    homes.start(0, "--seed", "hangs.example:1", command=hanging(what, mark))
    until(mark.exists, f"it hangs: {homes.log(0)}")
    stop(homes)
    assert homes.log(0).splitlines()[-1].endswith("leaving")
    assert not (homes.home(0) / "admin.json").exists()


def test_a_start_is_given_up_too(homes: Homes, tmp_path: Path) -> None:
    mark = tmp_path / "hangs"
    with (tmp_path / "log0").open("wb") as log:
        arguments = ["run", "--home", str(homes.home(0)), "--task", task_file(tmp_path, 5)]
        command = [*hanging("records", mark), *arguments]
        homes.processes[0] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until(mark.exists, "it reads its records")
    stop(homes)
    assert homes.log(0) == ""
    assert not (homes.home(0) / "state.db").exists()
