"""A study: one experiment, or several in one report, from their files to a directory of results.

Neighbours: ``commands.simulate`` asks for one; every other module of the room does a part of it.
Invariants: mistakes of all files are told before the first run; of what is in the directory, only ``run-info.json``
knows of times, machines and interruptions.

    DIR/journal.jsonl  results.csv  [results.parquet]  summary.csv  report.html  run-info.json

A nested study may have several experiments: each has a directory of its own inside; the report and ``run-info.json``
are one.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from peer import progress
from peer.files import use_directory, write_atomic
from peer.laboratory import journal, table
from peer.laboratory.experiment import FULL, Experiment, load, package_version, parse, scales
from peer.laboratory.report import Section, default_table, render
from peer.laboratory.runner import Results, carry_out, journal_of
from peer.laboratory.summary import Record, summarise
from peer.laboratory.work import Engine
from protocol.base.errors import ConfigurationError

_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Study:
    """What to do and where."""

    name: str
    title: str
    experiments: tuple[Experiment, ...]
    directory: Path
    seed: int
    formats: tuple[str, ...]
    nested: bool = False
    """Whether each experiment has a directory of its own; else there is one experiment."""

    def place(self, experiment: Experiment) -> Path:
        """The directory of one of its experiments."""
        return self.directory / experiment.name if self.nested else self.directory


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it."""

    study: Study
    results: tuple[Results, ...]

    @property
    def failures(self) -> int:
        """Runs that failed."""
        return sum(len(results.failures) for results in self.results)

    @property
    def runs(self) -> int:
        """Runs with results."""
        return sum(len(results.runs) for results in self.results)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "title": self.study.title,
            "out": str(self.study.directory),
            "seed": self.study.seed,
            "runs": self.runs,
            "resumed": sum(results.resumed for results in self.results),
            "failed": self.failures,
            "experiments": [_told(results) for results in self.results],
        }


def evaluation(scale: str) -> list[Experiment]:
    """The experiments that are part of the package, at one scale.  ``ConfigurationError`` with the mistakes of all."""
    found: list[Experiment] = []
    problems: list[str] = []
    folder = files("peer.laboratory").joinpath("evaluation")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            path = Path(str(entry))
            try:
                found.append(parse(load(path), path, scale))
            except ConfigurationError as error:
                problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return found


def scale_of(data: dict[str, Any], path: Path, wanted: str | None) -> str:
    """The wanted scale of a file, or its full one.  ``ConfigurationError`` if it has no such."""
    if wanted is not None and wanted not in scales(data):
        raise ConfigurationError([f"--scale {wanted}: {path} has the scales {', '.join(scales(data))}"])
    return wanted or FULL


def carry_out_study(study: Study, engine: Engine, remark: Callable[[str], None]) -> Done:
    """Do all runs that are not done yet, then write the tables and the report; ``remark`` is told what begins."""
    began, clock = time.time(), time.monotonic()
    if study.nested:
        use_directory(study.directory, "--out", empty=seed_before(study.directory, study.experiments) is None)
    with ExitStack() as held:
        journals = [held.enter_context(journal_of(e, study.seed, study.place(e))) for e in study.experiments]
        total = sum(len(e.points) * e.repeats for e in study.experiments)
        remark(f"{study.name}: {total} runs, seed {study.seed}, on {engine.describe()}")
        done = sum(len(opened.finished) for opened in journals)
        shown = held.enter_context(progress.shown(total, done))

        def moved() -> None:
            nonlocal done
            done += 1
            shown.move(done)

        results = []
        for experiment, opened in zip(study.experiments, journals, strict=True):
            shown.about(experiment.name)
            results.append(carry_out(experiment, study.seed, opened, engine, moved))
        finished = Done(study, tuple(results))
        _write(finished)
        info = {
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": round(time.monotonic() - clock, 3),
            "runs": finished.runs,
            "resumed": sum(result.resumed for result in results),
            "failed": finished.failures,
            "carried_out_by": engine.describe(),
            "machine": f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
            "version": package_version(),
        }
        _put(study.directory / "run-info.json", json.dumps(info, indent=2).encode() + b"\n")
    return finished


def seed_before(directory: Path, experiments: Sequence[Experiment]) -> int | None:
    """The seed of what was begun in a directory, if anything was."""
    places = [directory, *(directory / experiment.name for experiment in experiments)]
    seeds = (journal.seed_of(place) for place in places)
    return next((seed for seed in seeds if seed is not None), None)


def _write(done: Done) -> None:
    sections = []
    for results in done.results:
        place, records = done.study.place(results.experiment), table.records(results)
        sections.append(Section(results, records))
        _put(place / "results.csv", table.as_csv(records))
        if table.PARQUET in done.study.formats:
            _put(place / "results.parquet", table.as_parquet(records))
        _put(place / "summary.csv", table.as_csv(_summary(results, records)))
    _put(done.study.directory / "report.html", render(done.study.title, sections))


def _summary(results: Results, records: list[Record]) -> list[Record]:
    return summarise(records, *default_table(results, records))


def _told(results: Results) -> dict[str, Any]:
    return {
        "experiment": results.experiment.name,
        "kind": results.experiment.kind.name,
        "scale": results.experiment.scale,
        "runs": len(results.runs),
        "summary": _summary(results, table.records(results)),
        "failures": [
            {"run": failure.run.index, "seed": failure.run.seed, **dict(failure.run.point.values),
             "problem": failure.problem}
            for failure in results.failures
        ],
    }  # fmt: skip


def _put(path: Path, content: bytes) -> None:
    write_atomic(path, content, _FILE_MODE)
