"""One run, wherever it is done: what a worker is given, what it gives back.

Neighbours: ``local`` and ``cluster`` carry tasks to processes, ``runner`` makes them.
Invariants: ``execute`` raises nothing for what a run raises; its rows are plain finite values, the same whether they
were written to the journal and read again or not.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from peer.laboratory.experiment import package_version
from peer.laboratory.kinds import Kind, Row, Value

TRIES = 2
"""Workers that one run may kill."""
KILLED = "the process that carried it out was killed, each time (too little memory?)"


@dataclass(frozen=True, slots=True)
class Task:
    """A run as it goes to a worker."""

    id: str
    kind: Kind
    parameters: Mapping[str, Any]
    seed: int
    version: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: rows, or a sentence about what went wrong."""

    id: str
    rows: list[Row]
    problem: str | None = None


class Engine(Protocol):
    """What carries tasks out."""

    def outcomes(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """The outcome of every task, each as soon as it is there; closing the generator ends what still runs."""

    def describe(self) -> str:
        """For people: where the tasks are carried out."""


def execute(task: Task) -> Outcome:
    """Carry a task out, in this process."""
    if task.version != package_version():
        problem = f"its worker has version {package_version()} of susurrus, not {task.version}; install the same"
        return Outcome(task.id, [], problem)
    try:
        return Outcome(task.id, [plain(row) for row in task.kind.run(task.parameters, task.seed)])
    except Exception as error:
        text = " ".join(str(error).split())
        return Outcome(task.id, [], f"{type(error).__name__}: {text}" if text else type(error).__name__)


def plain(row: Mapping[str, object]) -> Row:
    """A row of plain values: numpy's scalars unwrapped, numbers that are not finite None.  ``TypeError`` for others."""
    return {key: _plain(key, value) for key, value in row.items()}


def _plain(key: str, value: object) -> Value:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the column {key} holds a {type(value).__name__}, not a number or a text")
