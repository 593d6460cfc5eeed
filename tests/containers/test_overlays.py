"""The overlays of deploy/compose/: records of one's own, a peer by itself on a host, Prometheus' scrape."""

import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.learning.datasets import load_dataset
from peer.learning.readers import write_csv
from tests.containers.deployment import Container, Deployment
from tests.containers.engine import ROOT, Engine

TASK = """
[task]
name = "mine"
model = "softmax"
[data]
schema = "digits"
[training]
learning_rate = 1.0
steps = 60
[aggregation]
collusion_threshold = 2
cohort = 16
"""


class Overlaid:
    """A Compose project of docker-compose.yml and one overlay."""

    def __init__(self, engine: Engine, overlay: str, **variables: str) -> None:
        self.engine, self.variables = engine, variables
        self.project = f"susurrus-test-{secrets.token_hex(4)}"
        self._files = ("-f", "docker-compose.yml", "-f", f"deploy/compose/{overlay}.yml")

    def compose(self, *words: str) -> str:
        return self.engine.compose("-p", self.project, *self._files, *words, **self.variables)

    def container(self, service: str) -> Container:
        (identity,) = self.compose("ps", "-q", service).split()
        return Container(self.engine, identity)


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """Three files of records and a task file, readable by everybody."""
    data = load_dataset("digits")
    files = []
    for i in range(3):
        files.append(tmp_path / f"records{i}.csv")
        rows = slice(i, 900, 3)
        write_csv(files[i], data.X[rows], data.y[rows], features=data.features, target="digit", classes=data.classes)
        files[i].chmod(0o644)
    (tmp_path / "task.toml").write_text(TASK)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return files


@pytest.fixture
def cleared() -> Iterator[list[Overlaid]]:
    made: list[Overlaid] = []
    yield made
    for each in made:
        each.compose("down", "--volumes", "--remove-orphans", "-t", "5")


@pytest.fixture
def host_address(engine: Engine) -> Iterator[str]:
    """An address of this machine that containers of any network reach: that of a bridge of the test's own."""
    name = f"susurrus-test-{secrets.token_hex(4)}"
    identity = engine.docker("network", "create", name).strip()
    yield engine.docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", identity).strip()
    engine.docker("network", "rm", identity)


def free_ports(count: int) -> list[int]:
    """Ports that the system has just given out."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def age(peer: Container) -> int | None:
    """The age of a peer's model, by its own status; None while it does not answer."""
    return peer.status().get("age")


def test_three_people_with_records_of_their_own(
    engine: Engine, image: str, records: list[Path], deployment: Deployment, cleared: list[Overlaid]
) -> None:
    names = dict(zip(("ALICE", "BOB", "CAROL"), map(str, records), strict=True))
    own = Overlaid(
        engine, "own-data", TAG=image, SCHEMA="digits", TASK=str(records[0].parent / "task.toml"), SHARDS="1", **names
    )
    cleared.append(own)
    own.compose("up", "-d", "--no-build")
    peers = [own.container(name) for name in ("alice", "bob", "carol")]
    deployment.until(lambda: [age(peer) for peer in peers] == [60, 60, 60], "three models of age 60")
    accuracies = [peer.status()["accuracy"] for peer in peers]
    assert min(accuracies) > 0.85
    for peer in peers:  # nobody sees another's records or home
        mounts = {mount["Destination"]: mount for mount in engine.inspect(peer.id)["Mounts"]}
        assert not mounts["/records/own.csv"]["RW"]
        assert engine.docker("exec", peer.id, "ls", "/homes").split() == ["own", "own.lock"]


def test_peers_by_themselves_on_a_host_join_by_a_mounted_token(
    engine: Engine, image: str, records: list[Path], deployment: Deployment, cleared: list[Overlaid],
    host_address: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Three projects, as on three hosts, that reach each other only by the addresses they advertise."""
    gateway = host_address
    susurrus = [sys.executable, "-P", "-m", "peer"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*susurrus, *words], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
        )
        return done.stdout

    run("network", "create", "net")
    ports = free_ports(3)
    token = tmp_path / "token"
    token.write_text(run("network", "token", "net", "--seed", f"{gateway}:{ports[0]}"))
    token.chmod(0o644)
    hosts = []
    for i, (port, file) in enumerate(zip(ports, records, strict=True)):
        more: dict[str, Any] = {"TASK_FILE": str(tmp_path / "task.toml")} if i == 0 else {}
        host = Overlaid(
            engine, "hosts", TAG=image, SCHEMA="digits", TOKEN_FILE=str(token), DATA_FILE=str(file),
            PORT=str(port), ADVERTISE=f"{gateway}:{port}", **more,
        )  # fmt: skip
        cleared.append(host)
        host.compose("up", "-d", "--no-build")
        hosts.append(host.container("peer"))
    deployment.until(
        lambda: all(
            '"age": 60' in engine.docker("exec", h.id, "susurrus", "status", "--json", check=False) for h in hosts
        ),
        "three models of age 60",
    )


def test_the_prometheus_overlay_opens_metrics_and_nothing_else(engine: Engine, image: str) -> None:
    overlaid = Overlaid(engine, "prometheus", TAG=image)
    config = overlaid.compose("config")
    assert "SUSURRUS_ADMIN_LISTEN: 0.0.0.0:9400" in config
    assert "9400" not in "".join(line for line in config.splitlines() if "tcp" in line)  # not published
    scrape = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    assert "port: 9400" in scrape
    assert "names: [peer]" in scrape
