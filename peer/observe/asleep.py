"""What ``susurrus status``, ``peers`` and ``model`` show while the power gate is closed.

Neighbours: ``admin`` serves it in the place of a ``status.StatusBoard``, ``peer.daemon`` says when.
Invariants: the same keys as a peer's in the network; nothing is kept in memory for it: tasks and models are read from
storage when somebody asks.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peer.learning.application import LocalApplication
from peer.observe.observer import Observer
from peer.observe.status import Evaluation, Held, Tallies, Traffic, peak_rss_mb
from peer.storage import Storage
from protocol.base.ids import NetworkId, PeerId, TaskId, text
from protocol.training.state import digest


@dataclass(frozen=True, slots=True)
class SleepingBoard:
    """Reads what a peer that is away remembers."""

    peer: PeerId
    network: NetworkId
    observer: Observer
    application: LocalApplication
    storage: Storage
    tallies: Tallies

    @property
    def evaluations(self) -> Mapping[TaskId, Evaluation]:
        """The newest figures of each task, from before it went away."""
        return self.tallies.evaluations

    @property
    def traffic(self) -> Traffic:
        """Of this process, over all its stays."""
        return self.tallies.traffic

    @property
    def open(self) -> bool:
        """It is away because the gate was closed; the next look may open it."""
        return False

    def unready(self) -> str:
        """Why this peer cannot be of use now."""
        return self.application.gate() or "it is coming back"

    async def status(self) -> dict[str, Any]:
        """As ``StatusBoard.status``."""
        counts = self.observer.counts
        held = await self.held(None)
        status: dict[str, Any] = {
            "peer": text(self.peer),
            "network": text(self.network),
            "uptime_seconds": round(time.monotonic() - self.tallies.started, 3),
            "members_alive": 0,
            "reachable": False,
            "gate": self.application.gate() or "open",
            "addresses": [],
            "task": None,
            "age": None,
            "accuracy": None,
            "loss": None,
            "is_root": False,
            "last_progress_seconds": None,
            **await self.storage.totals(),
            "bytes_in": self.traffic.bytes_in,
            "bytes_out": self.traffic.bytes_out,
            "partials_sent": counts.sent["partial"],
            "partial_bytes_sent": counts.partial_bytes,
            "messages_refused": sum(counts.refused.values()),
            "requests_refused": self.traffic.refusals.total(),
            "cpu_seconds": time.process_time(),
            "peak_rss_mb": peak_rss_mb(),
        }
        return status if held is None else status | self._of_task(held)

    def _of_task(self, held: Held) -> dict[str, Any]:
        task, evaluation = held.task, self.evaluations.get(held.task.id)
        return {
            "task": task.name,
            "task_id": text(task.id),
            "refused": self.tallies.data_problems.get(task.id),
            "waiting": None,
            "age": held.checkpoint.age if held.checkpoint is not None else None,
            "last_age": task.last_age,
            "accuracy": evaluation.accuracy if evaluation is not None else None,
            "loss": evaluation.loss if evaluation is not None else None,
            "evaluated_age": evaluation.age if evaluation is not None else None,
        }

    def peers(self) -> list[dict[str, Any]]:
        """Nobody: it is in no network now."""
        return []

    async def held(self, task: str | None) -> Held | None:
        """The task of this id (hexadecimal), or the one in storage that came last, with its newest model."""
        tasks = [signed.task for signed in await self.storage.load_tasks()]
        if task is not None:
            tasks = [each for each in tasks if text(each.id) == task]
        if not tasks:
            return None
        found = {checkpoint.task: checkpoint for checkpoint in await self.storage.load_checkpoints()}
        checkpoint = found.get(tasks[-1].id)
        return Held(tasks[-1], checkpoint, b"" if checkpoint is None else digest(checkpoint))
