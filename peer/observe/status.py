"""What ``susurrus status``, ``peers`` and ``rounds`` show: plain dictionaries, flat, with stable keys.

Neighbours: ``admin`` serves them, ``observer`` counts, ``peer.session`` composes.
Invariants: reads only; nothing secret.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peer.learning.application import LocalApplication
from peer.observe.observer import Observer
from peer.storage import Storage
from peer.transport.client import Client
from peer.transport.server import Server
from protocol.base.ids import TaskId, text
from protocol.node import Node
from protocol.training.catalogue import Entry
from protocol.training.task import Task
from protocol.wire.messages import Checkpoint


@dataclass(slots=True)
class Evaluation:
    """The newest model's figures on this peer's own held-out records."""

    age: int
    loss: float
    accuracy: float


@dataclass(slots=True)
class Traffic:
    """What the transport has counted: HTTP bodies either way, requests that never became messages, by reason."""

    bytes_in: int = 0
    bytes_out: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tallies:
    """What is counted over all stays of one process in the network."""

    started: float = field(default_factory=time.monotonic)
    traffic: Traffic = field(default_factory=Traffic)
    """Of stays that are over."""
    evaluations: dict[TaskId, Evaluation] = field(default_factory=dict)
    refusals: dict[TaskId, str] = field(default_factory=dict)
    """Why this peer takes no part in a task: its user does not agree, or its records do not fit."""

    def document(self, observer: Observer, traffic: Traffic) -> dict[str, Any]:
        """What ``status`` says of the process, and of a task that there is not."""
        counts = observer.counts
        return {
            "uptime_seconds": round(time.monotonic() - self.started, 3),
            "task": None,
            "age": None,
            "accuracy": None,
            "loss": None,
            "is_root": False,
            "last_progress_seconds": None,
            "bytes_in": traffic.bytes_in,
            "bytes_out": traffic.bytes_out,
            "partials_sent": counts.sent["partial"],
            "partial_bytes_sent": counts.partial_bytes,
            "messages_refused": sum(counts.refused.values()),
            "requests_refused": traffic.refusals.total(),  # by the transport: they never became messages
            "cpu_seconds": time.process_time(),
            "peak_rss_mb": peak_rss_mb(),
        }

    def of_task(self, task: Task, age: int | None) -> dict[str, Any]:
        """What ``status`` says of a task; ``age``: of its newest model, if there is one."""
        evaluation = self.evaluations.get(task.id)
        return {
            "task": task.name,
            "task_id": text(task.id),
            "refused": self.refusals.get(task.id),
            "waiting": None,
            "age": age,
            "last_age": task.last_age,
            "accuracy": evaluation.accuracy if evaluation is not None else None,
            "loss": evaluation.loss if evaluation is not None else None,
            "evaluated_age": evaluation.age if evaluation is not None else None,
        }

    def add(self, server: Server, client: Client) -> None:
        """A stay is over: its server and its client will count no more."""
        self.traffic = self.with_stay(server, client)

    def with_stay(self, server: Server, client: Client) -> Traffic:
        """All traffic, that of a stay under way included."""
        before = self.traffic
        return Traffic(
            before.bytes_in + server.bytes_in, before.bytes_out + client.bytes_out, before.refusals + server.refusals
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A task and the newest model of it that this peer holds."""

    task: Task
    checkpoint: Checkpoint | None
    digest: bytes


@dataclass(slots=True)
class StatusBoard:
    """Reads everything that people may ask a running peer."""

    node: Node
    observer: Observer
    application: LocalApplication
    storage: Storage
    client: Client
    server: Server
    clock: Callable[[], float]
    tallies: Tallies = field(default_factory=Tallies)

    @property
    def evaluations(self) -> dict[TaskId, Evaluation]:
        """The newest figures of each task."""
        return self.tallies.evaluations

    @property
    def traffic(self) -> Traffic:
        """Of this process, over all its stays."""
        return self.tallies.with_stay(self.server, self.client)

    @property
    def open(self) -> bool:
        """Whether this peer's user lets it take part now."""
        return self.application.gate() is None

    def unready(self) -> str | None:
        """Why this peer cannot be of use now, in one sentence; None: it is a member and hears others."""
        if (closed := self.application.gate()) is not None:
            return closed
        if self.node.membership_expires <= self.clock():
            return "its membership has expired"
        if not self.node.membership.alive():
            return "it hears no other peer"
        return None

    async def status(self) -> dict[str, Any]:
        """The flat document that ``susurrus status --json`` prints."""
        node, entry = self.node, self.entry(None)
        members = node.membership.alive()
        status = self.tallies.document(self.observer, self.traffic) | await self.storage.totals()
        status |= {
            "peer": text(node.peer),
            "network": text(node.network),
            "members_alive": len(members) + 1,
            "reachable": bool(members),
            "gate": self.application.gate() or "open",
            "addresses": list(node.descriptor.addresses),
        }
        if entry is not None:
            task, newest, missing = entry.task, entry.walks.newest, self.observer.waiting.get(entry.task.id)
            status |= self.tallies.of_task(task, newest.checkpoint.age if newest is not None else None)
            status |= {
                "waiting": f"waiting for {missing} more peers" if missing else None,
                "is_root": node.rounds.running(task.id),
                "last_progress_seconds": round(max(0.0, self.clock() - entry.walks.last_progress()), 3),
            }
        return status

    def entry(self, task: str | None) -> Entry | None:
        """The task of this id (hexadecimal), or the newest one held: the one that came last, restarts or not."""
        entries = self.node.tasks.entries()
        if task is None:
            return entries[-1] if entries else None
        return next((e for e in entries if text(e.task.id) == task), None)

    async def held(self, task: str | None) -> Held | None:
        """What ``susurrus model`` shows of the task of this id (hexadecimal), or of the newest one."""
        entry = self.entry(task)
        if entry is None:
            return None
        newest = entry.walks.newest
        return Held(entry.task, None, b"") if newest is None else Held(entry.task, newest.checkpoint, newest.digest)

    def peers(self) -> list[dict[str, Any]]:
        """Everybody remembered, in id order."""
        return [
            {
                "peer": text(descriptor.peer),
                "state": state.name.lower(),
                "addresses": list(descriptor.addresses),
                "incarnation": descriptor.incarnation,
                "kem": descriptor.suite.name.lower(),
                "expires": descriptor.expires,
            }
            for descriptor, state in self.node.membership.peers()
        ]


def peak_rss_mb() -> float:
    """Largest resident set of this process so far, in 10**6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
