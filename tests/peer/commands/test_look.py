"""``susurrus status``, ``peers``, ``rounds``."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from peer.cli import app
from peer.commands import look
from tests.peer.admin import Stub, running_peer

STATUS = {"peer": "aa", "members_alive": 3, "accuracy": None, "loss": 0.25, "bytes_in": 1234567, "uptime_seconds": 61.4}
ROUND = {
    "round": "0123456789abcdef",
    "kind": "gradient",
    "age": 4,
    "started": 10.0,
    "finished": 10.25,
    "planned": 8,
    "cohort": 7,
    "published": False,
    "reason": "too few",
    "loss": None,
    "accuracy": 0.9,
}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with running_peer(tmp_path / "home") as running:
        yield running


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_status(stub: Stub) -> None:
    stub.answer("/status", STATUS)
    assert json.loads(invoke("status", "--home", stub.home, "--json").stdout) == STATUS
    lines = invoke("status", "--home", stub.home).stdout.splitlines()
    assert [line.split(maxsplit=2)[-1] for line in lines[1:3]] == ["3", "-"] or "members alive   3" in lines[1]
    assert "bytes in        1.2 MB" in lines
    assert "uptime seconds  61" in lines


def test_status_again_and_again(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answer("/status", STATUS)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(look.time, "sleep", pause)
    result = invoke("status", "--home", stub.home, "--watch", "--json")
    assert result.exit_code == 130
    assert [json.loads(line) for line in result.stdout.splitlines()] == [STATUS] * 3
    assert pauses == [look.WATCH_PERIOD_S] * 3


def test_peers(stub: Stub) -> None:
    stub.answer(
        "/peers", [{"peer": "aa", "state": "alive", "incarnation": 2, "addresses": ["x:1", "y:2"], "kem": "x25519"}]
    )
    text = invoke("peers", "--home", stub.home).stdout
    assert text.splitlines()[0].split() == ["peer", "state", "incarnation", "addresses", "kem"]
    assert text.splitlines()[1].split() == ["aa", "alive", "2", "x:1,", "y:2", "x25519"]
    stub.answer("/peers", [])
    assert "no other peer yet" in invoke("peers", "--home", stub.home).stdout


def test_rounds(stub: Stub) -> None:
    stub.answer("/rounds?limit=5", [ROUND])
    text = invoke("rounds", "--home", stub.home, "--limit", 5).stdout
    for part in ("01234567 ", "0.25 s", "7/8", "no ", "0.9", "too few"):
        assert part in text.splitlines()[1]
    assert json.loads(invoke("rounds", "--home", stub.home, "--limit", 5, "--json").stdout) == [ROUND]


@pytest.mark.parametrize("command", ["status", "peers", "rounds"])
def test_without_a_peer(tmp_path: Path, command: str) -> None:
    invoke("init", "--home", tmp_path / "h")
    result = invoke(command, "--home", tmp_path / "h")
    assert result.exit_code == 1
    assert result.stderr == f"susurrus: no peer runs in {tmp_path}/h; start it with: susurrus run --home {tmp_path}/h\n"
