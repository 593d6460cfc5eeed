"""The command as a whole: exit codes, one sentence per mistake, tracebacks only when asked for."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peer.cli import app, report
from peer.commands import network
from peer.errors import PeerError
from protocol.base.errors import ConfigurationError, PrivacyRefusal, Refusal, Refused


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def susurrus(*args: object, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "peer", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60, **options)


def test_help_names_every_command() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for name in ["demo", "audit", "bench", "network", "init", "run", "status", "peers", "rounds", "model"]:
        assert f"\n  {name} " in result.output


COMMANDS = (
    *("network create", "network token", "network show", "init", "run", "status", "peers", "rounds"),
    *("model show", "model export", "model predict", "demo", "bench", "audit"),
)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help(path: str) -> None:
    result = invoke(*path.split(), "--help")
    assert result.exit_code == 0
    assert f"Usage: root {path}" in result.output


@pytest.mark.parametrize("args", [["frobnicate"], ["status", "--nope"], ["network"], ["rounds", "--limit", "0"]])
def test_wrong_usage_is_2(args: list[str]) -> None:
    assert invoke(*args).exit_code == 2


ERRORS = [
    (ConfigurationError(["one thing", "another"]), 2, "susurrus: one thing\nsusurrus: another\n"),
    (PrivacyRefusal("the data is not public"), 3, "susurrus: the data is not public\n"),
    (PeerError("no"), 1, "susurrus: no\n"),
    (Refused(Refusal.BAD_SEAL), 1, "susurrus: the sealed body does not open\n"),
    (FileNotFoundError(2, "No such file or directory", "x.csv"), 1, "susurrus: x.csv: no such file or directory\n"),
    (KeyboardInterrupt(), 130, "susurrus: interrupted\n"),
    (PeerError("no column '\x1b[2J\nforged'"), 1, "susurrus: no column '\\x1b[2J\\nforged'\n"),
    (
        ZeroDivisionError("a\nb"),
        1,
        "susurrus: unexpected ZeroDivisionError: a (this is a bug; add --debug to see where)\n",
    ),
    (
        ExceptionGroup("g", [PeerError("x"), ExceptionGroup("h", [ConfigurationError(["y"])])]),
        2,
        "susurrus: x\nsusurrus: y\n",
    ),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS, ids=[type(e[0]).__name__ for e in ERRORS])
def test_every_error_is_a_sentence_and_a_code(
    error: BaseException, code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("peer.authority.load_network", fail)
    result = invoke("network", "show", tmp_path)
    assert (result.exit_code, result.stderr, result.stdout) == (code, text, "")
    for debugging in (["--debug", "network", "show", tmp_path], ["network", "show", tmp_path, "--debug"]):
        result = invoke(*debugging)
        assert result.exit_code == code
        assert "Traceback" in result.stderr
        assert result.stderr.endswith(text)
    monkeypatch.setenv("SUSURRUS_DEBUG", "1")
    assert "Traceback" in invoke("network", "show", tmp_path).stderr


def test_an_empty_group_still_fails() -> None:
    assert report(BaseExceptionGroup("g", [SystemExit(0)]), debug=False) == 1


def test_debug_behind_a_double_dash_is_an_argument() -> None:
    result = invoke("network", "show", "--", "--debug")
    assert result.exit_code == 2
    assert "--debug holds no network" in result.stderr


def test_as_a_process_from_anywhere(tmp_path: Path) -> None:
    done = susurrus("network", "show", "nowhere", cwd=tmp_path)
    path = tmp_path / "nowhere"
    sentence = f"susurrus: {path} holds no network; make one with: susurrus network create {path}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
    assert susurrus("--version", cwd=tmp_path).stdout.startswith("susurrus ")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    susurrus("network", "create", tmp_path / "n", cwd=tmp_path)
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-m", "peer", "network", "show", str(tmp_path / "n")]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


INTERRUPTED = """
import os, signal, sys
from peer import cli
from peer.commands import network
def show(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
import peer.authority
peer.authority.load_network = show
sys.argv = ["susurrus", "network", "show", "x"]
cli.main()
"""


def test_an_interrupt_is_130(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "susurrus: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is not None


LOADED = """
import sys
import peer.cli, peer.commands.run, peer.config, peer.home, peer.observe.logs, typer.main
typer.main.get_command(peer.cli.app)
heavy = {"rich", "numpy", "cryptography", "aiohttp", "pygments"}
print(*sorted(name for name in sys.modules if name.partition(".")[0] in heavy))
"""


def test_the_command_line_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_lifetimes_have_a_unit() -> None:
    assert network.DAY_S == 24 * 3600
