"""``susurrus run`` up to the daemon: everything a person can have got wrong is found first."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peer.authority import create_network
from peer.cli import app
from peer.commands import run as run_command
from peer.config import Config
from peer.home import Home, create_home, open_home, write_chain
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.identity.admission import admit, issue_token
from protocol.identity.keys import SigningKey

KEY = SigningKey(bytes(range(32)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    network = create_network(tmp_path / "net", "net", SeededEntropy(1))
    token = issue_token(network.authority, time.time(), 86400.0, (), SeededEntropy(2))
    chain = admit(token, KEY.public_bytes, time.time())
    create_home(tmp_path / "home", seed=KEY.seed, chain=chain.encode(), config='[log]\nlevel = "error"\n')
    return tmp_path / "home"


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for ``peer.daemon``: keeps what it is given, and exits with 7."""
    given: dict[str, Any] = {}

    async def run_peer(config: Config, home: Home, *, task_file: Path | None, audit_dir: Path | None) -> int:
        given.update(config=config, home=home, task_file=task_file, audit_dir=audit_dir)
        with pytest.raises(Exception, match="in use"):
            open_home(home.path)
        return 7

    monkeypatch.setitem(sys.modules, "peer.daemon", SimpleNamespace(run_peer=run_peer))
    monkeypatch.setattr(
        "peer.observe.logs.set_up_logs", lambda level, form, tracebacks: given.update(logs=(level, form, tracebacks))
    )
    return given


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["run", *(str(arg) for arg in args)])


def test_flags_reach_the_daemon(home: Path, tmp_path: Path, daemon: dict[str, Any]) -> None:
    (tmp_path / "task.toml").write_text("")
    result = invoke(
        *("--home", home, "--listen", "127.0.0.1:0", "--seed", "a:1", "--seed", "b:2", "--advertise", "c:3"),
        *("--task", tmp_path / "task.toml", "--audit", tmp_path / "audit", "--log-format", "json"),
    )
    assert result.exit_code == 7, result.output
    config = daemon["config"]
    assert (config.listen, config.seeds, config.advertise) == ("127.0.0.1:0", ("a:1", "b:2"), ("c:3",))
    assert (daemon["task_file"], daemon["audit_dir"]) == (tmp_path / "task.toml", tmp_path / "audit")
    assert daemon["logs"] == ("error", "json", False)
    open_home(home).close()


def test_mistakes_are_found_before_the_daemon_starts(home: Path, daemon: dict[str, Any]) -> None:
    (home / "config.toml").write_text("[peer]\nlistn = 'a'\nkem = 'b'\n")
    result = invoke("--home", home)
    assert (result.exit_code, result.stderr.count("susurrus: ")) == (2, 2)
    assert invoke("--home", home, "--task", "/nowhere").exit_code == 2
    assert invoke("--home", home / "nowhere").exit_code == 2
    assert daemon == {}


def test_a_home_in_use(home: Path, daemon: dict[str, Any]) -> None:
    with open_home(home):
        result = invoke("--home", home)
    assert (result.exit_code, "is in use by another peer (pid" in result.stderr) == (1, True)
    assert "config" not in daemon


def test_hybrid_where_there_is_none(home: Path, daemon: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.toml").write_text("[peer]\nkem = 'hybrid'\n")
    monkeypatch.setattr("protocol.identity.keys.hybrid_available", lambda: False)
    result = invoke("--home", home)
    assert (result.exit_code, 'use "x25519"' in result.stderr) == (2, True)
    assert "config" not in daemon


@pytest.mark.parametrize(
    ("offset_s", "sentence"),
    [(2 * 86400.0, "expired on .*; renew it with: susurrus init"), (-7200.0, "this machine's clock says .*; set it")],
)
def test_a_membership_that_is_over_or_not_yet(home: Path, offset_s: float, sentence: str) -> None:
    with open_home(home) as opened:
        run_command.check_membership(opened, time.time())
        with pytest.raises(ConfigurationError, match=sentence):
            run_command.check_membership(opened, time.time() + offset_s)


def test_a_membership_of_somebody_else_or_of_none(home: Path, daemon: dict[str, Any]) -> None:
    (home / "key").write_text("11" * 32)
    result = invoke("--home", home)
    assert (result.exit_code, "is not for its key" in result.stderr) == (2, True)
    (home / "chain").unlink()
    result = invoke("--home", home)
    assert (result.exit_code, "is in no network yet" in result.stderr) == (2, True)
    write_chain(home, b"rubbish")
    result = invoke("--home", home)
    assert (result.exit_code, "is damaged; renew it" in result.stderr) == (2, True)
    assert "config" not in daemon


def test_records_that_are_not_there(home: Path, daemon: dict[str, Any]) -> None:
    (home / "config.toml").write_text('[data.a]\npath = "a.csv"\n[data.b]\npath = "b.csv"\n[data.c]\npath = "c.csv"\n')
    (home / "b.csv").write_text("")
    result = invoke("--home", home)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"susurrus: data.{name}.path: there is no file {home / name}.csv" for name in ("a", "c")
    ]
    assert daemon == {}


def test_a_key_that_others_can_read_is_warned_of(home: Path, daemon: dict[str, Any]) -> None:
    assert "warning" not in invoke("--home", home).stderr
    (home / "key").chmod(0o644)
    result = invoke("--home", home)
    assert (result.exit_code, "can read" in result.stderr) == (7, True)


def test_tracebacks_are_for_who_asks(home: Path, daemon: dict[str, Any]) -> None:
    assert invoke("--home", home, "--debug").exit_code == 7
    assert daemon["logs"] == ("error", "plain", True)
