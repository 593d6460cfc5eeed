"""The observer: counts and logs what a peer does, and keeps its history.

Neighbours: ``peer.driver`` reports to it, ``status`` reads its counts, ``peer.storage`` keeps rounds and totals,
``peer.audit`` gets recordings (public data only).
Invariants: never a value, seed, key or token in a log; each kind of refusal is logged once a day per source, of so
many a day, and counted always.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peer.audit.recording import Recorder
from peer.observe.logs import RefusalLog, where
from peer.storage import Storage
from peer.transport.once import OncePer
from protocol import reports
from protocol.base.errors import Refused
from protocol.base.ids import PeerId, TaskId, short, text
from protocol.wire.codec import kind_name
from protocol.wire.messages import Message, Partial

log = logging.getLogger("susurrus.peer")

PUBLISHED_EVERY_S = 5.0
"""A task's published rounds are told at most this often, as a person can follow; the others with ``debug``."""
MOST_TRIED = 5
"""Addresses named when no seed answers; a service's name may resolve to many."""


@dataclass(slots=True)
class Counts:
    """Totals since this process started (``peer.storage`` has those since the home was made)."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    undelivered: Counter[str] = field(default_factory=Counter)
    partial_bytes: int = 0
    """HTTP bodies of partials delivered."""
    contributions: int = 0
    rounds_published: int = 0
    rounds_failed: int = 0


class Observer:
    """Hears everything; ``hook`` is called with every report after it was counted and logged."""

    def __init__(self, storage: Storage, recorder: Recorder | None) -> None:
        self.counts = Counts()
        self.hook: Callable[[reports.Item], None] | None = None
        self.waiting: dict[TaskId, int] = {}
        """Tasks whose walk waits here for so many more peers."""
        self.last_round: reports.RoundEnded | None = None
        self._storage = storage
        self._recorder = recorder
        self._once = OncePer()
        self._refusals = RefusalLog(log)
        self._no_seed_said = False
        self._told_at: dict[TaskId, float] = {}
        """When a published round of each task was told last."""

    def stay_over(self) -> None:
        """The peer has left the network: what only a node can tell is no longer so."""
        self.hook = None
        self.waiting.clear()

    # --- the node's reports -----------------------------------------------------------------------------------

    def report(self, item: reports.Item) -> None:
        """One item of ``protocol.reports``."""
        match item:
            case reports.Recorded(record):
                if self._recorder is not None:
                    self._recorder.write(record)
            case reports.RoundEnded():
                self._round_ended(item)
            case reports.Contributed():
                self.counts.contributions += 1
                self._storage.add_contributions()
                log.debug("round %s: sent a partial of %d contributions", short(item.round), item.cohort)
            case reports.Abstained():
                log.debug("round %s: abstained, %s", short(item.round), item.reason)
            case reports.Declined():
                log.debug("round %s: declined, %s", short(item.round), item.reason)
            case reports.MessageRefused():
                self.counts.refused[item.reason.name] += 1
                if self._once.first(short(item.sender), f"{item.kind} {item.reason.name}"):
                    log.info("refused a %s of peer %s: %s", item.kind, short(item.sender), item.reason.value)
            case reports.ModelAdvanced():
                self.waiting.pop(item.task, None)
            case reports.TaskAdopted(task, refused):
                said = "takes part" if refused is None else f"does not take part: {refused}"
                log.info("task '%s' (%s): %s", task.name, short(task.id), said)
            case reports.TaskDropped(task):
                self.waiting.pop(task.id, None)
                self._told_at.pop(task.id, None)
                log.info("task '%s' (%s): makes room for another task", task.name, short(task.id))
            case reports.Waiting(task_id, missing):
                if self.waiting.get(task_id) != missing:
                    log.info("task %s: waiting for %d more peers", short(task_id), missing)
                self.waiting[task_id] = missing
            case reports.WalkStarted():
                log.info("task %s: %s walk %d", short(item.task), "revived" if item.revived else "started", item.walk)
        if self.hook is not None:
            self.hook(item)

    def _round_ended(self, item: reports.RoundEnded) -> None:
        self.last_round = item
        self.waiting.pop(item.task, None)
        self._storage.add_round(
            {
                "round": text(item.round),
                "task": text(item.task),
                "kind": item.kind.name.lower(),
                "age": item.age,
                "started": item.started,
                "finished": item.finished,
                "role": "root",
                "planned": item.planned,
                "cohort": item.cohort,
                "published": item.published,
                "reason": item.reason,
                "loss": item.loss,
                "accuracy": item.accuracy,
                "min_mask_neighbours": item.min_mask_neighbours if item.published else None,
            }
        )
        if not item.published:
            self.counts.rounds_failed += 1
            log.info("round %s at age %d published nothing: %s", short(item.round), item.age, item.reason)
            return
        self.counts.rounds_published += 1
        figures = "" if item.loss is None else f", loss {item.loss:.4f}, accuracy {item.accuracy:.4f}"
        now = time.monotonic()
        often = now - self._told_at.get(item.task, -math.inf) < PUBLISHED_EVERY_S
        if not often:
            self._told_at[item.task] = now
        log.log(
            logging.DEBUG if often else logging.INFO,
            "round %s published: age %d, %d of %d contributions%s",
            short(item.round), item.age + 1, item.cohort, item.planned, figures,
        )  # fmt: skip

    # --- the driver's own -------------------------------------------------------------------------------------

    def sent(self, message: Message, size: int) -> None:
        """A message was delivered in an HTTP body of ``size`` bytes."""
        self.counts.sent[kind_name(message)] += 1
        if isinstance(message, Partial):
            self.counts.partial_bytes += size

    def received(self, message: Message, size: int) -> None:
        """An authentic message arrived."""
        self.counts.received[kind_name(message)] += 1

    def refused(self, source: str, refused: Refused) -> None:
        """Bytes from an address were refused before they became a message."""
        self.counts.refused[refused.reason.name] += 1
        self._refusals.refused(source, refused)

    def not_delivered(self, to: PeerId, kind: str, why: str) -> None:
        """A message could not be delivered; the node hears of it apart from this."""
        self.counts.undelivered[kind] += 1
        if self._once.first(short(to), kind):
            log.info("a %s for peer %s was not delivered: %s", kind, short(to), why)

    def dialled(self, answered: bool, tried: list[str]) -> None:
        """The seeds were asked."""
        if answered:
            self._no_seed_said = False
            return
        if tried and not self._no_seed_said:
            self._no_seed_said = True
            more = [f"and {len(tried) - MOST_TRIED} more"] if len(tried) > MOST_TRIED else []
            log.warning("no seed answers; tried: %s", "; ".join(tried[:MOST_TRIED] + more))

    def work_failed(self, step: str, error: Exception) -> None:
        """A job raised, in code of ours or in a model class of the user's own; its text may quote a record."""
        if self._once.first("a job", f"{step} {type(error).__name__}"):
            log.error("%s in the step '%s' (further ones are not told)", where(error), step)

    def failed(self, what: str, error: Any) -> None:
        """Something of our own went wrong that the peer can live with."""
        log.error("%s: %s", what, error)
