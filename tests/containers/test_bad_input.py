"""What a person can get wrong with a container: one sentence, and an exit code that an orchestrator can act on."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.authority import create_network
from peer.entropy import SystemEntropy
from protocol.identity.admission import issue_token
from tests.containers.engine import Engine

DAY_S = 86_400.0
CONFIGURATION = 2


class Bench:
    """One volume, one token, and containers that use them by hand."""

    def __init__(self, engine: Engine, image: str, folder: Path) -> None:
        self.engine, self.image, self.folder = engine, f"susurrus:{image}", folder
        self.volume = f"susurrus-test-{secrets.token_hex(4)}"
        self.network = create_network(folder / "net", "net", SystemEntropy())
        folder.chmod(0o755)
        for parent in folder.parents[:2]:
            parent.chmod(0o755)
        engine.docker("volume", "create", self.volume)
        self.containers: list[str] = []

    def token(self, age_s: float = 0.0, lifetime_s: float = DAY_S) -> str:
        """The file of a token that was issued ``age_s`` ago, readable by everybody."""
        made = issue_token(self.network.authority, time.time() - age_s, lifetime_s, (), SystemEntropy(), "test")
        file = self.folder / f"token-{secrets.token_hex(4)}"
        file.write_text(made.encode())
        file.chmod(0o644)
        return str(file)

    def run(
        self, *words: str, options: tuple[str, ...] = (), volume: str = "/var/lib/susurrus"
    ) -> tuple[int, list[str]]:
        """Exit code and lines of ``docker run OPTIONS IMAGE WORDS``."""
        mounted = ("-v", f"{self.volume}:{volume}") if volume else ()
        command = ["docker", "run", "--rm", "--read-only", "--network", "none", *mounted, *options, self.image, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.engine.environment, timeout=60, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip().splitlines()

    def join(self) -> None:
        """A home in the volume."""
        file = self.token()
        code, said = self.run("init", "--token-file", "/token", options=("-v", f"{file}:/token:ro"))
        assert code == 0, said

    def start(self, *options: str) -> str:
        """A peer that runs in the background; its container."""
        mount = ("-v", f"{self.volume}:/var/lib/susurrus")
        made = self.engine.docker("run", "-d", "--read-only", *mount, *options, self.image).strip()
        self.containers.append(made)
        return made

    def until_said(self, container: str, words: str) -> None:
        end = time.monotonic() + 30
        while words not in self.engine.logs(container):
            assert time.monotonic() < end, self.engine.logs(container)
            time.sleep(0.1)  # between two looks

    def close(self) -> None:
        for container in self.containers:
            self.engine.docker("rm", "-f", container)
        self.engine.docker("volume", "rm", "-f", self.volume)


@pytest.fixture
def bench(engine: Engine, image: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(engine, image, tmp_path)
    yield made
    made.close()


def only(said: list[str]) -> str:
    """The one sentence that was said; that others can read the test's tokens is said apart from it."""
    errors = [line for line in said if not line.startswith("warning: others on this machine can read /token")]
    assert len(errors) == 1, said
    return errors[0]


def test_no_home_no_volume_no_writable_place(bench: Bench) -> None:
    code, said = bench.run()
    assert (code, "is not a peer's home; make one with" in only(said)) == (CONFIGURATION, True)
    token = ("-v", f"{bench.token()}:/token:ro")
    code, said = bench.run("init", "--token-file", "/token", options=token, volume=False)
    assert code in (1, CONFIGURATION)
    assert "read-only file system" in only(said).lower()
    code, said = bench.run("init", "--token-file", "/token", options=(*token, "--user", "12345"))
    assert code in (1, CONFIGURATION)
    assert "permission denied" in only(said).lower()
    assert (
        bench.engine.docker(
            "run", "--rm", "-v", f"{bench.volume}:/v", "--entrypoint", "ls", bench.image, "-A", "/v"
        ).split()
        == []
    )  # nothing half-written


def test_tokens_that_do_not_do(bench: Bench) -> None:
    code, said = bench.run("init", "--token-file", "/run/secrets/join_token")
    assert (code, "/run/secrets/join_token" in only(said)) == (CONFIGURATION, True)
    expired = ("-v", f"{bench.token(age_s=2 * DAY_S)}:/token:ro")
    code, said = bench.run("init", "--token-file", "/token", options=expired)
    assert code != 0
    assert "expired" in only(said)


def test_an_unknown_variable(bench: Bench) -> None:
    bench.join()
    code, said = bench.run(options=("-e", "SUSURRUS_SEED=peer:7390", "-e", "SUSURRUS_LOG_LEVEL=loud"))
    assert code == CONFIGURATION
    assert len(said) == 2
    assert "SUSURRUS_SEED: there is no such variable; did you mean SUSURRUS_SEEDS?" in "\n".join(said)


def test_two_peers_on_one_home_or_one_port_and_no_seed_that_answers(bench: Bench) -> None:
    bench.join()
    running = bench.start("-e", "SUSURRUS_SEEDS=nobody.invalid:7390,127.0.0.1:9")
    bench.until_said(running, "no seed answers; tried: ")
    tried = next(line for line in bench.engine.logs(running).splitlines() if "no seed answers" in line)
    assert "nobody.invalid" in tried
    assert "127.0.0.1:9" in tried
    code, said = bench.run()
    assert (code, "is in use by another peer" in only(said)) == (1, True)
    other = ("--network", f"container:{running}", "-e", "SUSURRUS_HOME=/var/lib/susurrus/other")
    file = bench.token()
    code, said = bench.run("init", "--token-file", "/token", options=(*other[2:], "-v", f"{file}:/token:ro"))
    assert code == 0, said
    command = ["docker", "run", "--rm", "--read-only", "-v", f"{bench.volume}:/var/lib/susurrus", *other, bench.image]
    done = subprocess.run(
        command, capture_output=True, text=True, env=bench.engine.environment, timeout=60, check=False
    )
    assert done.returncode == CONFIGURATION
    assert "the port is taken" in only(done.stderr.strip().splitlines())


def test_a_configuration_error_does_not_restart_for_ever(bench: Bench) -> None:
    container = bench.start("--restart", "on-failure:5")
    end = time.monotonic() + 60
    while True:
        state = bench.engine.inspect(container)
        if state["RestartCount"] == 5 and not state["State"]["Running"] and not state["State"]["Restarting"]:
            break
        assert time.monotonic() < end, state["State"]
        time.sleep(0.2)  # between two looks
    assert state["State"]["ExitCode"] == CONFIGURATION
