"""What ``susurrus status``, ``peers`` and ``model`` show while the power gate is closed.

Neighbours: ``admin`` serves it in the place of a ``status.StatusBoard``, ``peer.daemon`` says when.
Invariants: the same keys as a peer's in the network; nothing is kept in memory for it: tasks and models are read from
storage when somebody asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peer.learning.application import LocalApplication
from peer.observe.observer import Observer
from peer.observe.status import Evaluation, Held, Tallies, Traffic
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
        status = self.tallies.document(self.observer, self.traffic) | await self.storage.totals()
        status |= {
            "peer": text(self.peer),
            "network": text(self.network),
            "members_alive": 0,
            "reachable": False,
            "gate": self.application.gate() or "open",
            "addresses": [],
        }
        if (held := await self.held(None)) is not None:
            status |= self.tallies.of_task(held.task, held.checkpoint.age if held.checkpoint is not None else None)
        return status

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
