"""One network of containers, made from the checkout's own docker-compose.yml, and everything tests do to it.

Neighbours: ``engine`` runs the commands; ``conftest`` makes and removes a deployment for each test.
Invariants: peers are asked over ``/metrics`` (cheap) at their container's address, or by ``susurrus`` commands inside;
``settled`` holds whatever was done before: totals exact and rule kept by the auditor, everybody near the newest model,
nobody restarted by itself, nothing in the logs but what is expected.
"""

import contextlib
import http.client
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.containers.engine import Engine

ADMIN_PORT = 9400
PATIENCE_S = 90.0
NEAR_AGES = 10
"""Ages a peer may be behind the newest model.  Peers are asked one after another while training goes on."""

OVERLAY = """
services:
  peer:
    environment:
      SUSURRUS_ADMIN_LISTEN: 0.0.0.0:{port}
      AUDIT: /recordings
    volumes:
      - recordings:/recordings
volumes:
  recordings:
"""

EXPECTED = re.compile(
    r"made the peer's home|next: susurrus run|peer: claimed"
    r"|INFO    susurrus\."
    r"|WARNING susurrus\.peer: no seed answers; tried:"
    r"|WARNING susurrus\.peer: refused a message from [\d.]+: the message is addressed to another peer"
)
"""Lines that a peer's log may hold while containers come and go: an address that is given to another container gets a
last message or two that was meant for the one before."""


class Container:
    """One peer's container, by id."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self.engine = engine
        self.id = identity

    def __repr__(self) -> str:
        return self.id[:8]

    @property
    def address(self) -> str:
        """Its own address on its first network."""
        networks = self.engine.inspect(self.id)["NetworkSettings"]["Networks"]
        return next(str(network["IPAddress"]) for network in networks.values())

    @property
    def pid(self) -> int:
        """The process id, on this machine, of its first process."""
        return int(self.engine.inspect(self.id)["State"]["Pid"])

    @property
    def running(self) -> bool:
        return bool(self.engine.inspect(self.id)["State"]["Running"])

    def susurrus(self, *words: str) -> str:
        """What ``susurrus WORDS`` prints in there."""
        return self.engine.docker("exec", self.id, "susurrus", *words)

    def status(self) -> dict[str, Any]:
        """The peer's own status; empty while it does not answer."""
        said = self.engine.docker("exec", self.id, "susurrus", "status", "--json", check=False)
        answer: dict[str, Any] = json.loads(said) if said.strip() else {}
        return answer

    def metrics(self) -> dict[str, float]:
        """Its figures, counters summed over their labels; empty while it does not answer."""
        try:
            with contextlib.closing(http.client.HTTPConnection(self.address, ADMIN_PORT, timeout=2.0)) as asked:
                asked.request("GET", "/metrics")
                text = asked.getresponse().read().decode()
        except (OSError, http.client.HTTPException, StopIteration):
            return {}
        return {
            family.name.removeprefix("susurrus_"): sum(sample.value for sample in family.samples)
            for family in text_string_to_metric_families(text)
        }

    @property
    def age(self) -> int:
        """The age of its model; -1 while it does not answer or has none."""
        return int(self.metrics().get("model_age_steps", -1))

    def log(self) -> str:
        """Everything it has written."""
        return self.engine.logs(self.id)

    def do(self, verb: str, *more: str) -> None:
        """``docker VERB`` on it."""
        self.engine.docker(verb, *more, self.id)


@dataclass
class Deployment:
    """A Compose project of its own."""

    engine: Engine
    folder: Path
    tag: str
    steps: int = 1_000_000
    more: str = ""
    """Compose text added to the overlay, at the top level."""

    def __post_init__(self) -> None:
        self.project = f"susurrus-test-{secrets.token_hex(4)}"
        self._overlay = self.folder / f"{self.project}.yml"
        self._overlay.write_text(OVERLAY.format(port=ADMIN_PORT) + self.more)
        self._seen: dict[str, Container] = {}

    # --- life -------------------------------------------------------------------------------------------------

    def compose(self, *words: str, tag: str | None = None) -> str:
        """Compose, for this project."""
        return self.engine.compose(
            "-p", self.project, "-f", "docker-compose.yml", "-f", str(self._overlay), *words,
            TAG=tag or self.tag, STEPS=str(self.steps),
        )  # fmt: skip

    def scale(self, count: int, tag: str | None = None) -> list[Container]:
        """That many peers run; those that run already are left alone.  All of them, once they have a model."""
        self.compose("up", "-d", "--no-recreate", "--no-build", "--scale", f"peer={count}", tag=tag)
        peers = self.peers()
        assert len(peers) == count
        self.until(lambda: all(peer.age >= 1 for peer in peers), "everybody has a model")
        return peers

    @property
    def network(self) -> str:
        """The name of its Docker network."""
        return f"{self.project}_default"

    def run(self, *options: str) -> Container:
        """One more peer, by ``docker run`` with ``options``, in the same network under the same name."""
        identity = self.engine.docker(
            "run", "-d", "--label", f"com.docker.compose.project={self.project}", "--network", self.network,
            "--network-alias", "peer", "--read-only", "--tmpfs", "/tmp", "--tmpfs",  # noqa: S108
            "/run/susurrus:uid=10001,gid=10001", "-e", "SUSURRUS_HOME=/run/susurrus/home",
            "-e", f"SUSURRUS_ADMIN_LISTEN=0.0.0.0:{ADMIN_PORT}", "-e", "AUDIT=/recordings", "-e", "TASK_FILE=",
            "-v", f"{self.project}_join:/join:ro", "-v", f"{self.project}_recordings:/recordings", *options,
            "--entrypoint", "python", f"susurrus:{self.tag}", "/opt/susurrus/compose/claim_shard.py",
        )  # fmt: skip
        return self._seen.setdefault(identity.strip(), Container(self.engine, identity.strip()))

    def peers(self) -> list[Container]:
        """The peers' containers that run, oldest first."""
        found = self.engine.docker(
            "ps", "--no-trunc", "--format", "{{.ID}}",
            "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", "label=com.docker.compose.service=peer",
        ).split()  # fmt: skip
        for identity in found:
            self._seen.setdefault(identity, Container(self.engine, identity))
        return [self._seen[identity] for identity in reversed(found)]

    def remove(self) -> None:
        """Everything that this deployment has made."""
        for container in self.engine.docker(
            "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}"
        ).split():
            self.engine.docker("rm", "-f", container, check=False)
        self.compose("down", "--volumes", "--remove-orphans", "-t", "1")

    # --- looking ----------------------------------------------------------------------------------------------

    def until(self, holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait for a condition; what it gave."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.2)  # between two looks, not instead of one
        left = [peer for peer in self._seen.values() if _exists(self.engine, peer.id)]
        logs = "\n".join(f"--- {peer}\n{peer.log()[-1500:]}" for peer in left)
        raise AssertionError(f"not within {patience_s:.0f} s: {what}\n{logs}")

    def figures(self, peer: Container) -> dict[str, float]:
        """A peer's metrics, as soon as the question comes through: links lose packets, and machines are busy."""
        return dict(self.until(peer.metrics, f"{peer} answers"))

    def root(self, among: Iterable[Container]) -> Container | None:
        """A peer whose status says that it is the root of a round."""
        return next((peer for peer in among if peer.status().get("is_root")), None)

    def goes_on(self, peers: list[Container], steps: int = 10) -> None:
        """Training advances by ``steps`` from where it is, as each of ``peers`` sees it."""
        start = max(peer.age for peer in peers)
        self.until(lambda: all(peer.age >= start + steps for peer in peers), f"{steps} steps from age {start}")

    def settled(self, expected: re.Pattern[str] = EXPECTED, started: dict[str, int] | None = None) -> dict[str, Any]:
        """What must hold after any scenario; the auditor's own figures."""
        peers = self.peers()
        self.until(lambda: _near(peers), f"everybody within {NEAR_AGES} ages of the newest", 30.0)
        for container in self._seen.values():
            state = self.engine.inspect(container.id) if _exists(self.engine, container.id) else None
            assert state is None or state["RestartCount"] == 0, f"{container} was restarted: {container.log()[-2000:]}"
        unexpected = [
            line for peer in self._seen.values() for line in _lines(self.engine, peer) if not expected.search(line)
        ]
        assert not unexpected, "\n".join(unexpected[:20])
        self.compose("stop", "-t", "10", "peer")
        for peer in peers:
            assert self.engine.inspect(peer.id)["State"]["ExitCode"] == 0, peer.log()[-2000:]
        return self.audit()

    def audit(self) -> dict[str, Any]:
        """``susurrus audit`` over the recordings of everybody; it fails by its exit code."""
        said = self.engine.docker(
            "run", "--rm", "--network", "none", "-v", f"{self.project}_recordings:/recordings:ro",
            f"susurrus:{self.tag}", "audit", "/recordings", "--json", timeout=300.0,
        )  # fmt: skip
        report: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
        return report


def _near(peers: list[Container]) -> bool:
    ages = [peer.age for peer in peers]
    return min(ages) >= 0 and max(ages) - min(ages) <= NEAR_AGES


def _exists(engine: Engine, container: str) -> bool:
    return bool(engine.docker("ps", "-aq", "--no-trunc", "--filter", f"id={container}").strip())


def _lines(engine: Engine, container: Container) -> list[str]:
    if not _exists(engine, container.id):
        return []
    return [line for line in engine.logs(container.id).splitlines() if line.strip()]
