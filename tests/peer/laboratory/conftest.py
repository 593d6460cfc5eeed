"""Experiments of trials, in the test's process and in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.laboratory.kinds import KINDS
from tests.peer.laboratory.trial import Trial

SEED = "7"
NOT_COMPARED = ("journal.jsonl", "run-info.json")
"""The order of completion stands in the one, times in the other."""


@pytest.fixture(autouse=True)
def _trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "trial", Trial())


@pytest.fixture
def start() -> Any:
    """Start ``susurrus simulate`` with trials, with a hash seed; what still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def started(*args: object, hash_seed: int = 0) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.peer.laboratory.trial", "simulate", "--seed", SEED, *map(str, args)]
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def outcome(start: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and remarks of ``susurrus simulate``."""

    def run(*args: object, hash_seed: int = 0) -> tuple[int, str, str]:
        process = start(*args, hash_seed=hash_seed)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def contents(directory: Path) -> dict[str, bytes]:
    """All files that have to be the same."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in NOT_COMPARED
    }
