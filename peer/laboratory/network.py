"""The kind ``network``: one simulated network, as a scenario tells it, and its figures.

Neighbours: ``kinds`` lists it; ``protocol.simulation`` has scenarios, worlds and measures.
Invariants: those of a kind.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer.errors import PeerError
from peer.files import why
from peer.laboratory.garbage import uncollected
from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation import churn, scenario
from protocol.simulation.run import Run, finish, prepare
from protocol.simulation.trace import Comparison, Diverged, StopHere, Tracer

if TYPE_CHECKING:
    from peer.laboratory.kinds import Row

SERIES = ("figures", "progress", "rounds")


class Network:
    """Parameters: those of a scenario (see ``scenario.parse``), and ``series``.

    Rows: the figures of the run, one row (``figures``, the default); the newest model's ``age`` by ``at_s``
    (``progress``); or every round that was started, by ``started`` (``rounds``).
    """

    name = "network"
    axes = ("at_s", "started")

    def files(self, parameters: Mapping[str, Any]) -> list[str]:
        """The trace's."""
        return churn.files(parameters.get("churn"))

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes."""
        series = parameters.get("series", "figures")
        problems = []
        if series not in SERIES:
            problems.append(f"{place}.series is {shown(series)}: one of {', '.join(SERIES)}")
        return problems + scenario_problems(parameters, place, own=("series", "texts"))

    def run(self, parameters: Mapping[str, Any], seed: int) -> "list[Row]":
        """One network."""
        return _rows(_prepared(parameters, seed), parameters, None)

    def run_traced(
        self,
        parameters: Mapping[str, Any],
        seed: int,
        *,
        progress: Callable[[float], None],
        trace: Path | None,
        replay: Path | None,
        until_step: int | None,
    ) -> "list[Row]":
        """``run`` in the open; stopped before its end, the row says where.  Raises ``PeerError``, and
        ``ConfigurationError`` for a ``replay`` that is no text.
        """
        run = _prepared(parameters, seed)
        try:
            with ExitStack() as stack:
                writers: list[Callable[[str], object]] = []
                comparison = Comparison(iter(()))
                if replay is not None:
                    comparison = Comparison(_lines(replay, stack.enter_context(replay.open(encoding="utf-8"))))
                    writers.append(comparison)
                if trace is not None:
                    out = stack.enter_context(trace.open("w", encoding="utf-8", newline="\n"))
                    writers.append(lambda line: out.write(line + "\n"))
                if writers or until_step is not None:
                    run.world.tracer = Tracer(partial(_to_all, writers), until_step)
                rows = _rows(run, parameters, progress)
                comparison.close()
                return rows
        except StopHere:
            return [{"step": run.world.steps, "at_s": run.world.now - run.world.making.start}]
        except Diverged as error:
            raise PeerError(f"step {run.world.steps}: {error}") from error
        except OSError as error:  # only opening names its file; what is read names it in ``_lines``
            raise PeerError(f"{error.filename or trace}: {why(error)}") from error


def _lines(replay: Path, file: Iterable[str]) -> Iterator[str]:
    """The lines of a trace."""
    try:
        for line in file:
            yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"--replay {replay} is no trace: it is not text"]) from error
    except OSError as error:
        raise PeerError(f"{replay}: {why(error)}") from error


def _to_all(writers: Sequence[Callable[[str], object]], line: str) -> None:
    for write in writers:
        write(line)


def _prepared(parameters: Mapping[str, Any], seed: int) -> Run:
    plain = {key: value for key, value in parameters.items() if key not in ("series", "texts")}
    return prepare(scenario.parse(plain, "parameters", seed, parameters.get("texts")), seed)


def _rows(run: Run, parameters: Mapping[str, Any], progress: Callable[[float], None] | None) -> "list[Row]":
    with uncollected():
        summary = finish(run, progress)
    gc.collect()
    match parameters.get("series", "figures"):
        case "progress":
            return [{"at_s": at, "age": age} for at, age in summary.progress]
        case "rounds":
            return [dict(line) for line in summary.rounds]
        case _:
            return [dict(summary.flat())]


def scenario_problems(parameters: Mapping[str, Any], place: str, own: tuple[str, ...]) -> list[str]:
    """What is wrong with a scenario whose table has keys of its kind's ``own`` beside its own."""
    plain = {key: value for key, value in parameters.items() if key not in own}
    try:
        scenario.parse(plain, place, 0, parameters.get("texts"))
    except ConfigurationError as error:
        return list(error.problems)
    return []
