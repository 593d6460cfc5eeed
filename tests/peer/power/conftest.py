"""A Termux-like prefix for every test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peer.power.termux import Prefix, gone


@pytest.fixture
def prefix(tmp_path: Path) -> Iterator[Prefix]:
    """An empty prefix; afterwards no stub of it may still run."""
    made = Prefix(tmp_path / "usr")
    yield made
    assert all(gone(pid) for pid in made.pids()), "a child process is left behind"
