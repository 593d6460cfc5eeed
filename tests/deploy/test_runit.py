"""The service that ``deploy/termux/install.sh`` makes, under the real runit, which is what termux-services runs."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import Tokens
from tests.deploy.termux import Termux, copy_of_script

TOOLS = ("runsvdir", "runsv", "sv", "svlogd")


@pytest.fixture
def supervised(phone: Termux) -> Iterator[Termux]:
    """A phone with runit instead of its stand-ins."""
    found = [shutil.which(tool) for tool in TOOLS]
    if not all(found):
        pytest.skip("runit is not installed (runsvdir, runsv, sv, svlogd)")
    for tool, file in zip(TOOLS, found, strict=True):
        command = phone.prefix / "bin" / tool
        command.unlink(missing_ok=True)
        command.symlink_to(str(file))
    phone.environment |= {"SVDIR": str(phone.service.parent), "LOGDIR": str(phone.prefix / "var" / "log")}
    phone.stub(
        "service-daemon",
        '[ -e "$PREFIX/pid" ] || { setsid runsvdir "$SVDIR" >/dev/null 2>&1 & echo $! >"$PREFIX/pid"; }',
    )
    phone.stub("sv-enable", 'rm -f "$SVDIR/$1/down"; sv up "$1"')
    yield phone
    pid = phone.prefix / "pid"
    if pid.exists():
        shutil.rmtree(phone.service, ignore_errors=True)
        os.kill(int(pid.read_text()), 1)  # SIGHUP: runsvdir ends its services, and itself


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.05)  # between two looks
    return found


def test_installed_stopped_broken_mended_upgraded_removed(
    supervised: Termux, wheel: Path, tokens: Tokens, tmp_path: Path
) -> None:
    phone, log = supervised, supervised.prefix / "var" / "log" / "sv" / "susurrus" / "current"
    script = copy_of_script(tmp_path / "download", wheel)
    phone.install(script=script, SUSURRUS_TOKEN=tokens.good)
    assert phone.run("sv", "status", "susurrus").stdout.startswith("run:")
    until(lambda: log.exists() and log.read_text())

    # a mistake in the configuration: tried once, said in the log, and left alone
    phone.run("sv", "-w", "20", "stop", "susurrus")
    config = phone.home / "config.toml"
    good = config.read_text()
    config.write_text(good + "\n[nonsense]\nkey = 1\n")
    phone.run("sv", "up", "susurrus")
    until(lambda: "nonsense" in log.read_text())
    until(lambda: phone.run("sv", "status", "susurrus").stdout.startswith("down:"))
    time.sleep(2)  # runit would have started it again after one second
    assert log.read_text().count("nonsense") == 1
    config.write_text(good)
    phone.run("sv", "up", "susurrus")
    until(lambda: phone.run("sv", "status", "susurrus").stdout.startswith("run:"))

    # upgraded in place: the process is another one, of the new environment
    until(lambda: (phone.home / "admin.json").exists())
    before = (phone.service / "supervise" / "pid").read_text()
    phone.install(script=script)
    after = (phone.service / "supervise" / "pid").read_text()
    assert before != after
    (environment,) = phone.environments()
    command = Path(f"/proc/{after.strip()}/cmdline").read_bytes().split(b"\0")[0]
    assert command.decode().startswith(str(environment))

    phone.install("--uninstall")
    until(lambda: not Path(f"/proc/{after.strip()}").exists())
    phone.nothing_installed()
