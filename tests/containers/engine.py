"""A Docker engine and Compose as tests use them: commands, their answers, and what is said when there is none.

Neighbours: ``deployment`` builds on it, ``conftest`` decides whether the tests run.
Invariants: only the ``docker`` command line is used, the one that people type; everything made carries a name that one
test made up, and is removed by id.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HOW_TO = (
    "these tests need a Docker engine and Compose: install them (on Debian: apt install docker.io docker-compose), "
    "start the engine and see that `docker info` answers"
)


class NoEngineError(Exception):
    """One sentence: what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers."""

    compose_command: tuple[str, ...]
    environment: dict[str, str]

    def docker(self, *words: str, check: bool = True, timeout: float = 120.0) -> str:
        """The standard output of ``docker WORDS``; the command's own words when it fails."""
        return _run(("docker", *words), self.environment, check=check, timeout=timeout)

    def compose(self, *words: str, timeout: float = 300.0, **variables: str) -> str:
        """The same for Compose, in the root of the checkout."""
        return _run((*self.compose_command, *words), self.environment | variables, check=True, timeout=timeout)

    def logs(self, container: str) -> str:
        """Everything a container has written, standard output and standard error in order."""
        return _run(("docker", "logs", container), self.environment, check=True, timeout=60.0, merged=True)

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: dict[str, Any] = json.loads(self.docker("inspect", container))[0]
        return found


def find_engine() -> Engine:
    """The engine of this machine.  Raises ``NoEngineError``."""
    environment = dict(os.environ) | {"COMPOSE_DOCKER_CLI_BUILD": "0", "DOCKER_BUILDKIT": "0"}
    if shutil.which("docker") is None:
        raise NoEngineError(f"there is no docker command; {HOW_TO}")
    said = subprocess.run(["docker", "info"], capture_output=True, text=True, env=environment, check=False)
    older = re.search(r"[Mm]aximum supported API version is ([\d.]+)", said.stderr + said.stdout)
    if older:  # a newer client than the engine: speak the engine's version
        environment["DOCKER_API_VERSION"] = older[1]
        said = subprocess.run(["docker", "info"], capture_output=True, text=True, env=environment, check=False)
    if said.returncode or "ERROR" in said.stdout:
        raise NoEngineError(f"no Docker engine answers; {HOW_TO}")
    for command in (("docker", "compose"), ("docker-compose",)):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, env=environment, check=False).returncode
        ):
            return Engine(command, environment)
    raise NoEngineError(f"there is an engine, but no Compose; {HOW_TO}")


def _run(
    command: tuple[str, ...], environment: dict[str, str], *, check: bool, timeout: float, merged: bool = False
) -> str:
    error = subprocess.STDOUT if merged else subprocess.PIPE
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=error,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = f"{done.stdout}{done.stderr or ''}"
    assert not check or done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{said}"
    return done.stdout
