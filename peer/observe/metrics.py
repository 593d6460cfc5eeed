"""Metrics for Prometheus: what a peer has counted, in the text format, made when somebody asks.

Neighbours: ``admin`` serves them at ``/metrics``, ``status`` and ``observer`` have the figures, ``deploy/prometheus``
scrapes.
Invariants: reads only; names and units follow Prometheus' conventions (base units, ``_total`` for counters); labels are
bounded whatever strangers do: kinds of messages and reasons of refusal are fixed sets, tasks are the newest
``MAX_TASKS_SHOWN``; nothing is told that depends on records (``/status`` tells it, to whoever has the token): anybody
who can ask might also have made the model that is evaluated on them.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from peer.observe.asleep import SleepingBoard
from peer.observe.status import StatusBoard
from protocol.base.ids import short
from protocol.training.catalogue import Entry

MAX_TASKS_SHOWN = 16
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


Board = StatusBoard | SleepingBoard


class PeerCollector(Collector):
    """Everything of the board that ``board()`` gives, read afresh at every ``collect``."""

    def __init__(self, board: Callable[[], Board]) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """The families, always the same and in the same order."""
        board = self._board()
        counts, traffic = board.observer.counts, board.traffic
        node = board.node if isinstance(board, StatusBoard) else None
        entries = node.tasks.entries() if node is not None else []
        members = len(node.membership.alive()) + 1 if node is not None else 0
        running = [entry for entry in entries if node is not None and node.rounds.running(entry.task.id)]
        yield _gauge("uptime_seconds", "Seconds since this process started.", time.monotonic() - board.tallies.started)
        yield _gauge("members_alive", "Members believed alive, this peer included.", members)
        yield _gauge("gate_open", "1 if this peer takes part now, 0 if its user's limits forbid it.", board.open)
        yield _gauge("rounds_as_root", "Tasks of which this peer runs a round as root now.", len(running))
        yield _counters(
            "rounds",
            "Rounds that this peer started as root.",
            "outcome",
            {"published": counts.rounds_published, "failed": counts.rounds_failed},
        )
        yield _counter("contributions", "Contributions that left in a partial to a parent.", counts.contributions)
        yield _counters("messages_sent", "Messages delivered.", "kind", counts.sent)
        yield _counters("messages_received", "Authentic messages that arrived.", "kind", counts.received)
        yield _counters("messages_undelivered", "Messages that nobody took.", "kind", counts.undelivered)
        yield _counters("messages_refused", "Messages and bodies refused.", "reason", counts.refused)
        yield _counters("requests_refused", "Requests that never became messages.", "reason", traffic.refusals)
        yield _counter("partial_bytes", "HTTP bodies of partials delivered.", counts.partial_bytes)
        yield _counters(
            "http_body_bytes",
            "HTTP bodies, whole and broken off.",
            "direction",
            {"in": traffic.bytes_in, "out": traffic.bytes_out},
        )
        yield from _tasks(board, entries)


def _tasks(board: Board, entries: Sequence[Entry]) -> Iterator[Metric]:
    age = _family("model_age_steps", "Age of the newest model held.")
    progress = _family("last_progress_seconds", "Seconds since a task's model last advanced, as known here.")
    now = board.clock() if isinstance(board, StatusBoard) else 0.0  # asleep it holds no entries
    for entry in entries[-MAX_TASKS_SHOWN:]:
        label = [short(entry.task.id)]
        progress.add_metric(label, max(0.0, now - entry.walks.last_progress()))
        if entry.walks.newest is not None:
            age.add_metric(label, entry.walks.newest.checkpoint.age)
    yield from (age, progress)


class Metrics:
    """The registry of one peer: its own figures, and the process's CPU time, memory and file descriptors."""

    def __init__(self, board: Callable[[], Board]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(PeerCollector(board))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """What a scraper reads."""
        return generate_latest(self._registry)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"susurrus_{name}", meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"susurrus_{name}", meaning, value=value)


def _counters(name: str, meaning: str, label: str, values: Mapping[str, int] | Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"susurrus_{name}", meaning, labels=[label])
    for key in sorted(values):
        family.add_metric([key.lower()], values[key])
    return family


def _family(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"susurrus_{name}", meaning, labels=["task"])
