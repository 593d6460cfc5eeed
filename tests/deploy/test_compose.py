"""What a peer of docker-compose.yml does before it runs: here without containers, with the command of this checkout."""

import importlib.util
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from peer.entropy import SystemEntropy
from peer.home import read_chain
from protocol.identity.admission import Authority, issue_token
from protocol.identity.keys import SigningKey
from tests.deploy.termux import ROOT

DAY_S = 86_400.0


class Runs(BaseException):
    """The process has become ``susurrus run``."""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``claim_shard.py`` of a peer with records of its own, all of its places below the test's directory."""
    command = tmp_path / "bin" / "susurrus"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m peer "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    (tmp_path / "homes").mkdir()
    for name, value in {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "SUSURRUS_HOME": str(tmp_path / "link"),
        "JOIN_TOKEN": str(tmp_path / "token"),
        "DATA_FILE": str(tmp_path / "own.csv"),
        "DATA_SCHEMA": "heart",
        "TASK_FILE": "",
    }.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("claim_shard", ROOT / "deploy" / "compose" / "claim_shard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOMES", tmp_path / "homes")
    monkeypatch.setattr(module, "claim", lambda names: names[0])  # this process does not end, and would keep the lock

    def becomes(*command: object) -> None:
        raise Runs(command)

    monkeypatch.setattr(module.os, "execvp", becomes)
    return module


@pytest.fixture
def token(tmp_path: Path) -> Callable[..., None]:
    """Puts a join token where the service looks for it."""
    authority = Authority(SigningKey(SystemEntropy().token(32)))

    def put(days: float, *, made_days_ago: float = 0.0, of: Authority = authority) -> None:
        made = time.time() - made_days_ago * DAY_S
        (tmp_path / "token").write_text(issue_token(of, made, days * DAY_S, (), SystemEntropy()).encode())
        (tmp_path / "token").chmod(0o600)

    return put


def start(service: ModuleType) -> None:
    """Until the service becomes its peer."""
    with pytest.raises(Runs):
        service.main()


def days_left(tmp_path: Path) -> float:
    chain = read_chain(tmp_path / "homes" / "own")
    assert chain is not None
    return (chain.expires - time.time()) / DAY_S


def test_a_home_that_is_there_is_renewed_with_the_token_of_now(
    service: ModuleType, token: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token(3)
    start(service)
    assert days_left(tmp_path) == pytest.approx(3, abs=0.1)
    capfd.readouterr()
    token(90)
    start(service)
    assert days_left(tmp_path) == pytest.approx(90, abs=0.1)
    assert capfd.readouterr() == ("peer: claimed own\n", "")


def test_a_token_that_is_of_no_use_leaves_the_membership_that_there_is(
    service: ModuleType, token: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token(3)
    start(service)
    for put in (
        lambda: token(1, made_days_ago=2),
        lambda: token(90, of=Authority(SigningKey(bytes(32)))),
        (tmp_path / "token").unlink,
    ):
        capfd.readouterr()
        put()
        start(service)
        assert days_left(tmp_path) == pytest.approx(3, abs=0.1)
        said = capfd.readouterr().err
        assert ("going on with the membership that there is" in said) is (tmp_path / "token").exists()
        assert "Traceback" not in said


def test_an_older_token_does_not_shorten_a_membership(
    service: ModuleType, token: Callable[..., None], tmp_path: Path
) -> None:
    for days in (90, 10):
        token(days)
        start(service)
        assert days_left(tmp_path) == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/compose/own-data.yml"])
def test_a_signal_reaches_a_container_before_its_peer_asks_for_any(file: str) -> None:
    """Process 1 hears no signal by default: what all services of a file have in common says that it is another."""
    common = (ROOT / file).read_text().partition("\nservices:")[0]
    assert "\n  init: true" in common
