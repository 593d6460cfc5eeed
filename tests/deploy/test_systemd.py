"""The systemd unit is well-formed and as confined as its README.md says; what it starts joins and renews."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deploy.conftest import Tokens
from tests.deploy.termux import ROOT

SYSTEMD = ROOT / "deploy" / "systemd"
UNIT = SYSTEMD / "susurrus.service"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    command = [tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stated_exposure() -> float:
    found = re.search(r"exposure level of (\d+\.\d)", (SYSTEMD / "README.md").read_text())
    assert found is not None
    return float(found[1])


def test_exposure_is_what_the_readme_states() -> None:
    threshold = round(stated_exposure() * 10)
    done = analyze("security", "--offline=true", f"--threshold={threshold}", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Overall exposure level for susurrus.service: (\d+\.\d)", done.stdout)
    assert found is not None
    assert float(found[1]) <= stated_exposure()


def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    # It wants to see the command that is started, which no test machine has where the unit looks for it.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/susurrus/bin/susurrus-start", str(SYSTEMD / "susurrus-start")))
    done = analyze("verify", "--man=no", unit)
    ours = [line for line in done.stderr.splitlines() if "susurrus" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


def test_no_confinement_that_matters_was_dropped() -> None:
    """The exposure is rounded: one of these less might not show in it."""
    assert {
        "CapabilityBoundingSet=",
        "DynamicUser=yes",
        "MemoryDenyWriteExecute=yes",
        "NoNewPrivileges=yes",
        "PrivateDevices=yes",
        "ProtectProc=invisible",
        "ProtectSystem=strict",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "SystemCallFilter=@system-service",
    } <= set(UNIT.read_text().splitlines())


def test_configuration_errors_do_not_restart_for_ever() -> None:
    lines = UNIT.read_text().splitlines()
    assert "Restart=on-failure" in lines
    assert "RestartPreventExitStatus=2 3" in lines


def test_the_clock_is_waited_for_where_something_sets_it() -> None:
    (after,) = (line for line in UNIT.read_text().splitlines() if line.startswith("After="))
    assert "time-sync.target" in after.partition("=")[2].split()


class Service:
    """``susurrus-start`` as the unit runs it, with the ``susurrus`` of this checkout beside it."""

    def __init__(self, root: Path) -> None:
        self.home, self.credentials, bin_ = root / "home", root / "credentials", root / "bin"
        for directory in (self.home, self.credentials, bin_):
            directory.mkdir()
        self.start = Path(shutil.copy(SYSTEMD / "susurrus-start", bin_))
        command = bin_ / "susurrus"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m peer "$@"\n')
        command.chmod(0o755)

    def token(self, text: str) -> None:
        (self.credentials / "susurrus.token").write_text(text)

    def run(self) -> subprocess.Popen[str]:
        environment = {"CREDENTIALS_DIRECTORY": str(self.credentials), "SUSURRUS_LISTEN": "127.0.0.1:0"}
        return subprocess.Popen(
            [self.start, self.home],
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def until_it_runs(self) -> subprocess.Popen[str]:
        process = self.run()
        end = time.monotonic() + 60
        while not (self.home / "admin.json").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)  # between two looks
        return process


def test_without_a_token_it_says_so_and_stays_down(tmp_path: Path) -> None:
    process = Service(tmp_path).run()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "/etc/credstore/susurrus.token" in said


def test_an_expired_token_stays_down_too(tmp_path: Path, tokens: Tokens) -> None:
    service = Service(tmp_path)
    service.token(tokens.expired)
    process = service.run()
    assert "expired" in process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert list(service.home.iterdir()) == []


def test_joins_renews_and_ends_at_sigterm(tmp_path: Path, tokens: Tokens) -> None:
    service = Service(tmp_path)
    service.token(tokens.good)
    process = service.until_it_runs()
    pid = json.loads((service.home / "admin.json").read_text())["pid"]
    assert pid == process.pid  # the peer itself gets the signals, no shell between
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    key, chain = (service.home / "key").read_text(), (service.home / "chain").read_bytes()

    process = service.until_it_runs()  # the token is still there: renewed
    process.terminate()
    process.communicate(timeout=60)
    renewed = (service.home / "chain").read_bytes()
    assert (service.home / "key").read_text() == key
    assert renewed != chain

    service.token(tokens.expired)  # a token that is no good any more does not keep a member from running
    process = service.until_it_runs()
    process.terminate()
    assert "was not accepted" in process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert (service.home / "chain").read_bytes() == renewed
