"""A prefix like Termux's in a temporary directory: commands that record their calls, real Python, real packages."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "termux" / "install.sh"
FROM_TERMUX = ("numpy", "cryptography", "cffi", "pycparser", "msgpack", "pip")
"""What Termux's own packages bring; here it comes from the environment that runs the tests."""

_RECORD = """#!/bin/sh
printf '%s\\n' "${0##*/} $*" >>"$STUB_CALLS"
"""

_STUBS = {
    "pkg": '[ ! -e "$PREFIX/pkg-says" ] || { cat "$PREFIX/pkg-says"; exit 1; }',
    # runsvdir's part: it sees the new service and has something ready to be told what to do
    "service-daemon": 'for s in "$SVDIR"/*/run; do d=${s%/run}/supervise; mkdir -p "$d"; : >"$d/ok"; done',
    "sv-enable": 'sv up "$1"',
    "sv": """
[ "$1" != -w ] || shift 2
here=$SVDIR/$2
down() {
    [ -e "$here/supervise/pid" ] || return 0
    kill "$(cat "$here/supervise/pid")" 2>/dev/null
    while kill -0 "$(cat "$here/supervise/pid")" 2>/dev/null; do sleep 0.1; done
    rm "$here/supervise/pid"
}
up() {
    [ ! -e "$here/supervise/pid" ] || return 0
    cd "$here" && setsid ./run </dev/null >"$LOGDIR/sv/$1/current" 2>&1 &
    echo $! >"$here/supervise/pid"
}
case $1 in
    up) up "$2" ;;
    restart) down && up "$2" ;;
    stop | down) down ;;
esac
""",
    "svlogd": "",
    "termux-wake-lock": "",
    "termux-wake-unlock": "",
}

# Every Python process of the installation, pip and susurrus included, says how it was called and with what in its
# environment: that is what "the list of processes" could have shown.
_SITECUSTOMIZE = """
import json, os, sys
with open(os.environ["STUB_CALLS"] + ".python", "a") as calls:
    calls.write(json.dumps([sys.orig_argv, dict(os.environ)]) + "\\n")
"""


class Termux:
    """One imitation of a phone: ``prefix``, ``home`` of the user, and what was called in it."""

    def __init__(self, root: Path, wheels: Path) -> None:
        self.prefix = root / "files" / "usr"
        self.user = root / "files" / "home"
        self.calls_file = root / "calls"
        self.packages = root / "site-packages"
        for directory in (self.prefix / "bin", self.prefix / "tmp", self.user, self.packages):
            directory.mkdir(parents=True)
        for name, body in _STUBS.items():
            self.stub(name, body)
        start = self.prefix / "etc" / "profile.d" / "start-services.sh"
        start.parent.mkdir(parents=True)
        start.write_text("export SVDIR=$PREFIX/var/service LOGDIR=$PREFIX/var/log\nservice-daemon start\n")
        (self.prefix / "bin" / "sh").symlink_to("/bin/sh")
        (self.prefix / "bin" / "python").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
        (self.packages / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        for name in FROM_TERMUX:
            self._bring(name)
        self.environment = {
            "PREFIX": str(self.prefix),
            "HOME": str(self.user),
            "PATH": f"{self.prefix / 'bin'}:/usr/bin:/bin",
            "TMPDIR": str(self.prefix / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.packages),
            "STUB_CALLS": str(self.calls_file),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_INDEX": "1",
            "PIP_NO_COMPILE": "1",  # a second for each test
            "PIP_FIND_LINKS": str(wheels),
            "SUSURRUS_LISTEN": "127.0.0.1:0",
        }

    def _bring(self, name: str) -> None:
        files = distribution(name).files or []
        for top in sorted({file.parts[0] for file in files} - {"..", "__pycache__"}):
            (self.packages / top).symlink_to(Path(str(distribution(name).locate_file(top))).resolve())

    def stub(self, name: str, body: str) -> None:
        """A command that records its call and does what ``body`` says."""
        file = self.prefix / "bin" / name
        file.write_text(f"{_RECORD}{body}\n")
        file.chmod(0o755)

    def remove_package(self, name: str) -> None:
        """As if Termux had not brought it."""
        for file in self.packages.glob(f"{name}*"):
            file.unlink()

    def run(
        self, *command: str | Path, code: int = 0, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a Termux shell would, and expect this exit code."""
        done = subprocess.run(
            [str(part) for part in command],
            input=stdin,
            env=self.environment | environment,
            cwd=self.user,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def install(
        self, *arguments: str | Path, script: Path = SCRIPT, code: int = 0, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the script, as ``sh install.sh ARGUMENTS``."""
        return self.run("/bin/sh", script, *arguments, code=code, stdin=stdin, **environment)

    def susurrus(self, *arguments: str | Path, code: int = 0) -> str:
        """What the installed command prints."""
        return self.run(self.prefix / "bin" / "susurrus", *arguments, code=code).stdout

    @property
    def home(self) -> Path:
        return self.user / ".susurrus"

    @property
    def service(self) -> Path:
        return self.prefix / "var" / "service" / "susurrus"

    @property
    def boot(self) -> Path:
        return self.user / ".termux" / "boot" / "susurrus"

    @property
    def calls(self) -> list[str]:
        """Calls of the stand-in commands, in order."""
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    @property
    def python_calls(self) -> list[tuple[list[str], dict[str, str]]]:
        """Arguments and environment of every Python process."""
        file = Path(f"{self.calls_file}.python")
        return [(call[0], call[1]) for call in map(json.loads, file.read_text().splitlines())]

    def environments(self) -> list[Path]:
        """Virtual environments under the prefix."""
        return sorted((self.prefix / "opt" / "susurrus").glob("env.*"))

    def nothing_installed(self) -> None:
        """Assert that a failed installation left nothing that looks like one."""
        assert not (self.prefix / "bin" / "susurrus").is_symlink()
        assert self.environments() == []
        assert not self.service.exists()
        assert not self.boot.exists()
        assert list((self.prefix / "tmp").iterdir()) == []

    def stop(self) -> None:
        """End the peer, if one runs."""
        pid = self.service / "supervise" / "pid"
        if pid.exists():
            subprocess.run(
                [self.prefix / "bin" / "sv", "stop", "susurrus"],
                env=self.environment | {"SVDIR": str(self.service.parent)},
                timeout=30,
                check=True,
            )


def copy_of_script(directory: Path, *beside: Path) -> Path:
    """The script alone, away from its checkout, with these files beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in beside:
        shutil.copy(file, directory)
    return Path(shutil.copy(SCRIPT, directory))


def unreachable(output: str) -> bool:
    """Whether pip says that it cannot reach its index, which is no fault of what is tested."""
    return any(
        word in output
        for word in ("name resolution", "NewConnectionError", "ConnectTimeout", "Name or service not known")
    )


def pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """pip of the environment that runs the tests."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
