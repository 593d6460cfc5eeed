"""A home can be packed up, restored elsewhere and run: it is the same peer in the same network."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from tests.deploy.conftest import Tokens

COMMAND = [sys.executable, "-P", "-m", "peer"]


def run_and_stop(home: Path) -> dict[str, object]:
    """Status of the peer that runs in ``home``; it has stopped cleanly afterwards."""
    environment = os.environ | {"SUSURRUS_LISTEN": "127.0.0.1:0"}
    process = subprocess.Popen(
        [*COMMAND, "run", "--home", home], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not (home / "admin.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)  # between two looks
    look = subprocess.run([*COMMAND, "status", "--json", "--home", home], capture_output=True, text=True, check=True)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    return dict(json.loads(look.stdout))


def test_packed_restored_elsewhere_and_run(tmp_path: Path, tokens: Tokens) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "another machine"
    command = [*COMMAND, "init", "--home", home, "--token-file", "-"]
    subprocess.run(command, input=tokens.good, capture_output=True, text=True, check=True)
    before = run_and_stop(home)
    with tarfile.open(tmp_path / "backup.tar", "w") as archive:
        archive.add(home, "home")
    shutil.rmtree(home)
    with tarfile.open(tmp_path / "backup.tar") as archive:
        archive.extractall(elsewhere, filter="data")
    after = run_and_stop(elsewhere / "home")
    assert (after["peer"], after["network"]) == (before["peer"], before["network"])
