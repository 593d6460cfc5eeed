"""The demo's peers: their network, homes and shards, and their processes, started, killed and stopped by id.

Neighbours: ``run`` drives it; the processes are ``python -m peer run``; ``peer.observe.admin`` answers its questions.
Invariants: every process started here is gone when ``close`` returns; a killed peer comes back in its own home.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

import peer
from peer import lifeline
from peer.entropy import SystemEntropy
from peer.errors import PeerError
from peer.home import create_home, read_admin
from peer.learning.datasets import Dataset
from peer.learning.readers import write_npz
from protocol.base.errors import ConfigurationError
from protocol.identity.admission import Authority, JoinToken, admit, issue_token
from protocol.identity.keys import SigningKey
from protocol.training.task import Task

START_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 10.0
POLL_S = 0.05
ASK_TIMEOUT_S = 10.0

Status = dict[str, Any]
COUNTERS = ("bytes_out", "partials_sent", "partial_bytes_sent", "cpu_seconds", "messages_refused")
"""Of ``status``: totals of one process, to be added up over a peer's lives."""


class DemoFailed(Exception):
    """The demo cannot go on; one sentence."""


@dataclass(slots=True)
class Member:
    """One peer of the demo, over all its lives."""

    index: int
    home: Path
    process: asyncio.subprocess.Process | None = None
    status: Status = field(default_factory=dict)
    """As last asked."""
    before: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0.0))
    """Counters of earlier lives."""
    peak_rss_mb: float = 0.0

    @property
    def alive(self) -> bool:
        """Its process runs."""
        return self.process is not None and self.process.returncode is None

    @property
    def log(self) -> Path:
        """Where its log lines go, over all its lives."""
        return self.home.parent / f"{self.home.name}.log"

    def total(self, counter: str) -> float:
        """A counter over all lives."""
        return self.before[counter] + float(self.status.get(counter, 0.0))


class Cluster:
    """All peers of one demo under ``root``."""

    def __init__(self, root: Path, task: Task, audit: Path | None) -> None:
        self.root = root
        self.task = task
        self.members: list[Member] = []
        self._audit = audit
        self._session: aiohttp.ClientSession | None = None
        self._lifeline = list(os.pipe())
        """Closed with this process, however it ends: the peers notice (``peer.lifeline``)."""
        self._environment = _environment() | {lifeline.VARIABLE: str(self._lifeline[0])}

    def prepare(self, data: Dataset, shards: list[np.ndarray[Any, Any]]) -> None:
        """Make the network, and for each shard a home with its records."""
        now = time.time()
        authority = Authority(SigningKey(secrets.token_bytes(32)))
        token = issue_token(authority, now, 86_400.0, (), SystemEntropy(), "demo")
        for index, rows in enumerate(shards):
            home = self.root / f"peer-{index:03d}"
            self._make_home(home, token, now)
            write_npz(home / "shard.npz", data.X[rows], data.y[rows], features=data.features, classes=data.classes)
            self.members.append(Member(index, home))

    def _make_home(self, home: Path, token: JoinToken, now: float) -> None:
        key = SigningKey(secrets.token_bytes(32))
        config = (
            '[peer]\nlisten = "127.0.0.1:0"\npreset = "local"\n\n'
            f'[data.{json.dumps(self.task.schema)}]\npath = "shard.npz"\nformat = "npz"\n'
        )
        create_home(home, seed=key.seed, chain=admit(token, key.public_bytes, now).encode(), config=config)

    # --- processes --------------------------------------------------------------------------------------------

    async def start(self, member: Member, *, introduce: Path | None = None) -> None:
        """Start a peer's process; it is asked to find some of those that run."""
        # with --debug: a traceback in a log is a bug, and ``tracebacks`` looks for them
        command = [sys.executable, "-P", "-m", "peer", "--debug", "run", "--home", str(member.home)]
        for other in [m for m in self.members if m.alive and m.status.get("addresses")][:3]:
            command += ["--seed", other.status["addresses"][0]]
        if introduce is not None:
            command += ["--task", str(introduce)]
        if self._audit is not None:
            command += ["--audit", str(self._audit)]
        with member.log.open("ab") as log:
            member.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
                pass_fds=self._lifeline[:1],
            )  # fmt: skip

    async def ready(self, member: Member) -> None:
        """Wait until a peer answers.  Raises ``DemoFailed`` with its last words if it ends instead."""
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            if not member.alive:
                raise DemoFailed(f"peer {member.index} did not start: {self.last_words(member)}")
            if await self.ask(member):
                return
            await asyncio.sleep(POLL_S)
        raise DemoFailed(f"peer {member.index} did not answer within {START_TIMEOUT_S:.0f} s")

    async def kill(self, member: Member) -> None:
        """SIGKILL: nothing is handed over.  What its process has counted so far is kept."""
        await self.ask(member)
        for counter in COUNTERS:
            member.before[counter] = member.total(counter)
        member.status = {}
        if member.process is not None and member.alive:
            member.process.kill()
            await member.process.wait()

    async def close(self) -> None:
        """Ask every peer to leave, then make sure that it is gone."""
        running = [m.process for m in self.members if m.process is not None and m.process.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        try:
            if running:
                await asyncio.wait([asyncio.ensure_future(p.wait()) for p in running], timeout=LEAVE_TIMEOUT_S)
        finally:  # also when somebody loses patience and interrupts again
            late = [process for process in running if process.returncode is None]
            for process in late:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if late:
            await asyncio.wait([asyncio.ensure_future(p.wait()) for p in late])
        if self._session is not None:
            await self._session.close()
        while self._lifeline:
            os.close(self._lifeline.pop())

    # --- questions --------------------------------------------------------------------------------------------

    async def ask(self, member: Member) -> bool:
        """Refresh a peer's status; False if it does not answer (yet)."""
        found = await self.get(member, "/status")
        if found is None:
            return False
        member.status = json.loads(found)
        member.peak_rss_mb = max(member.peak_rss_mb, float(member.status["peak_rss_mb"]))
        return True

    async def ask_all(self) -> None:
        """Refresh everybody's status."""
        await asyncio.gather(*(self.ask(member) for member in self.members if member.alive))

    async def get(self, member: Member, path: str) -> bytes | None:
        """One question to a running peer; None if it does not answer."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        try:
            admin = read_admin(member.home)
            headers = {"Authorization": f"Bearer {admin.token}"}
            async with self._session.get(f"http://{admin.address}{path}", headers=headers) as response:
                return await response.read() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigurationError, PeerError):
            return None

    def last_words(self, member: Member) -> str:
        """The last line of a peer's log."""
        lines = member.log.read_text(errors="replace").strip().splitlines() if member.log.exists() else []
        return lines[-1].removeprefix("susurrus: ") if lines else "it said nothing"

    def tracebacks(self) -> int:
        """Tracebacks in all logs: there should be none."""
        return sum(m.log.read_text(errors="replace").count("Traceback (most") for m in self.members if m.log.exists())


def _environment() -> dict[str, str]:
    """What the peers' processes get: this program's packages, one thread of linear algebra each, no SUSURRUS_*."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUSURRUS_")}
    root = str(Path(peer.__file__).resolve().parent.parent)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = root + (os.pathsep + inherited if inherited else "")
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return environment
