"""The runs of an experiment that are not finished yet, until all are.

Neighbours: ``local`` or ``cluster`` carries them out, ``journal`` keeps what they give, ``study`` makes tables of it.
Invariants: what is finished is never done again; results stand in the order of the runs, whoever finished first.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from peer.laboratory.experiment import Experiment, Run, digest, package_version
from peer.laboratory.journal import Header, Journal, open_journal
from peer.laboratory.kinds import Row
from peer.laboratory.work import Engine, Task


@dataclass(frozen=True, slots=True)
class Failure:
    """A run without results."""

    run: Run
    problem: str


@dataclass(frozen=True, slots=True)
class Results:
    """Of one experiment, in the order of its runs."""

    experiment: Experiment
    seed: int
    runs: tuple[tuple[Run, list[Row]], ...]
    failures: tuple[Failure, ...]
    resumed: int
    """Runs that were finished before."""


def journal_of(experiment: Experiment, seed: int, directory: Path) -> Journal:
    """The experiment's journal in a directory, opened.  Raises what ``open_journal`` raises."""
    runs = digest([run.id for run in experiment.runs(seed)])
    header = Header(experiment.name, experiment.kind.name, experiment.scale, seed, package_version(), runs)
    return open_journal(directory, header)


def carry_out(
    experiment: Experiment, seed: int, journal: Journal, engine: Engine, moved: Callable[[], None]
) -> Results:
    """Do what the journal does not hold yet; ``moved`` is called after each run.

    A run that raises, or that no worker survives, is a failure; the next call tries it again.
    """
    runs = experiment.runs(seed)
    left = [run for run in runs if run.id not in journal.finished]
    tasks = [Task(run.id, experiment.kind, run.point.parameters, run.seed, package_version()) for run in left]
    problems: dict[str, str] = {}
    with closing(engine.outcomes(tasks)) as outcomes:
        for outcome in outcomes if tasks else ():
            if outcome.problem is None:
                journal.append(outcome.id, outcome.rows)
            else:
                problems[outcome.id] = outcome.problem
            moved()
    return Results(
        experiment,
        seed,
        tuple((run, journal.finished[run.id]) for run in runs if run.id in journal.finished),
        tuple(Failure(run, problems[run.id]) for run in runs if run.id in problems),
        resumed=len(runs) - len(left),
    )
