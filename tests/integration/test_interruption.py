"""Ending the demo from outside: whatever ends it, its processes end with it and its files are gone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE_S = 20.0
PEERS = ["--peers", "4", "--collusion-threshold", "2", "--seconds", "600"]


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.05)  # between two looks, not instead of one


def running_in(root: str) -> list[str]:
    """Command lines of processes that were started for ``root``."""
    lines = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if f"--home {root}/" in line]


def _hears(background: bool) -> None:
    """Whoever runs these tests may ignore hangups (``nohup``); a background job of a shell ignores SIGINT."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if background:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_the_demo_takes_its_peers_with_it(tmp_path: Path, ending: signal.Signals, background: bool) -> None:
    if background and ending == signal.SIGINT:
        pytest.skip("a background job of a shell does not hear SIGINT")
    log = tmp_path / "log"
    with log.open("w") as stream:
        demo = subprocess.Popen(
            [sys.executable, "-P", "-m", "peer", "demo", *PEERS],
            stdout=subprocess.DEVNULL, stderr=stream, env=os.environ | {"TMPDIR": str(tmp_path)},
            preexec_fn=lambda: _hears(background),
        )  # fmt: skip
    try:
        until(lambda: "logs in" in log.read_text(), "the demo starts")
        found = re.search(r"logs in (\S+)", log.read_text())
        assert found is not None
        until(lambda: len(running_in(found[1])) >= 2, "its peers run")
        demo.send_signal(ending)
        assert demo.wait(PATIENCE_S) == (-signal.SIGKILL if ending == signal.SIGKILL else 130)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
    if ending == signal.SIGKILL:  # it can do nothing any more: they notice that it is gone
        until(lambda: running_in(found[1]) == [], "its peers leave")
        assert "Traceback" not in "".join(path.read_text() for path in Path(found[1]).glob("*.log"))
        return
    assert running_in(found[1]) == []
    assert not Path(found[1]).exists()
    assert log.read_text().splitlines()[-1] == "susurrus: interrupted"
