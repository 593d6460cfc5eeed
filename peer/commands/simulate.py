"""``susurrus simulate``: experiments, single scenarios, the package's own evaluation, and random worlds.

Neighbours: ``peer.laboratory`` does the work.  Invariants: mistakes in flags and in the file are told at once, before
the first run; the result alone goes to standard output.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peer.commands.common import FAILED, MAX_SEED, JsonOption, out_of_range, print_json, say, shown, table, tried
from protocol.base.errors import ConfigurationError

if TYPE_CHECKING:
    from peer.laboratory.experiment import Experiment
    from peer.laboratory.kinds import Row
    from peer.laboratory.study import Done
    from peer.laboratory.work import Engine

SCALES = ("small", "full")
FORMATS = ("csv", "parquet")


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags, as given."""

    file: Path | None
    out: Path | None
    seed: int | None
    scale: str | None
    workers: int | None
    scheduler: str | None
    form: str | None
    paper: str | None
    worlds: int | None
    trace: Path | None
    replay: Path | None
    until_step: int | None
    json: bool


def simulate(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An experiment or a scenario (TOML).", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="NAME-results")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn at random.", show_default="random")] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the experiment's scales.", show_default="full")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one for each core")] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the Dask cluster of this scheduler.", show_default=False)
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|parquet", help="Tables; Parquet comes beside CSV.", show_default=False),
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(metavar="small|full", help="Instead of FILE: the paper's evaluation.", show_default=False),
    ] = None,
    worlds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Instead of FILE: so many small random worlds.", show_default=False),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a scenario: write each step there.", show_default=False)
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a scenario: compare with this trace.", show_default=False)
    ] = None,
    until_step: Annotated[
        int | None, typer.Option(metavar="N", help="Of a scenario: stop there.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The protocol under virtual time: carry out an experiment's runs, or one scenario, and report what was found."""
    asked = Asked(
        file, out, seed, scale, workers, scheduler, form, paper, worlds, trace, replay, until_step, as_json
    )  # fmt: skip
    if problems := _contradictions(asked):
        raise ConfigurationError(problems)
    if worlds is not None:
        raise typer.Exit(_worlds(asked, worlds))
    if paper is not None:
        raise typer.Exit(_paper(asked, paper))
    assert file is not None  # one of the three is there
    from peer.laboratory.experiment import load

    path = file.expanduser()
    data = load(path)
    raise typer.Exit(_experiment(asked, data, path) if "experiment" in data else _scenario(asked, data, path))


def _contradictions(asked: Asked) -> list[str]:
    problems = [
        *out_of_range("--seed", asked.seed, 0, MAX_SEED),
        *out_of_range("--workers", asked.workers, 1),
        *out_of_range("--worlds", asked.worlds, 1),
        *out_of_range("--until-step", asked.until_step, 1),
    ]
    if sum(way is not None for way in (asked.file, asked.paper, asked.worlds)) != 1:
        problems.append("give one of FILE, --paper and --worlds")
    if asked.paper not in (None, *SCALES):
        problems.append(f"--paper must be small or full, not {asked.paper!r}")
    if asked.form not in (None, *FORMATS):
        problems.append(f"--format must be csv or parquet, not {asked.form!r}")
    if asked.scheduler is not None and asked.workers is not None:
        problems.append("give --workers or --scheduler: a cluster has its own workers")
    if asked.paper is not None and asked.scale is not None:
        problems.append("--paper names the scale itself; leave out --scale")
    if _same(asked.trace, asked.replay):
        problems.append("--trace and --replay name the same file: it would be overwritten before it is compared")
    if _same(asked.trace, asked.file):
        problems.append("--trace names the scenario itself: it would be overwritten")
    if asked.file is None:
        problems += _out_of_place("a single scenario", _for_scenarios(asked))
    if asked.worlds is not None:
        problems += _out_of_place("experiments", {k: v for k, v in _for_experiments(asked).items() if k != "--workers"})
    return problems


def _same(one: Path | None, other: Path | None) -> bool:
    try:
        return one is not None and other is not None and one.samefile(other)
    except OSError:  # one of them is not there (yet)
        return False


def _for_scenarios(asked: Asked) -> dict[str, object]:
    return {"--trace": asked.trace, "--replay": asked.replay, "--until-step": asked.until_step}


def _for_experiments(asked: Asked) -> dict[str, object]:
    return {
        "--out": asked.out,
        "--scale": asked.scale,
        "--workers": asked.workers,
        "--scheduler": asked.scheduler,
        "--format": asked.form,
    }


def _out_of_place(what: str, flags: Mapping[str, object]) -> list[str]:
    return [f"{flag} is for {what}" for flag, value in flags.items() if value is not None]


def _experiment(asked: Asked, data: dict[str, Any], path: Path) -> int:
    from peer.laboratory.experiment import parse
    from peer.laboratory.study import scale_of

    problems = _out_of_place("a single scenario", _for_scenarios(asked))
    experiment = tried(problems, lambda: parse(data, path, scale_of(data, path, asked.scale)))
    return _study(asked, [experiment] if experiment else [], problems)


def _paper(asked: Asked, scale: str) -> int:
    from peer.laboratory.study import evaluation

    problems: list[str] = []
    experiments = tried(problems, lambda: evaluation(scale))
    return _study(asked, experiments or [], problems, name="paper", title="Evaluation")


def _study(
    asked: Asked,
    experiments: "list[Experiment]",
    problems: list[str],
    name: str | None = None,
    title: str | None = None,
) -> int:
    from peer.laboratory import table as tables
    from peer.laboratory.study import Study, carry_out_study, seed_before

    formats = tried(problems, lambda: tables.formats(asked.form))
    engine = tried(problems, lambda: _engine(asked))
    if problems or formats is None or engine is None:
        raise ConfigurationError(problems)
    name = name or experiments[0].name
    directory = (asked.out.expanduser() if asked.out else Path(f"{name}-results")).absolute()
    before = seed_before(directory, experiments)
    seed = _seed(asked) if asked.seed is not None or before is None else before
    study = Study(name, title or name, tuple(experiments), directory, seed, formats, nested=asked.paper is not None)
    try:
        done = carry_out_study(study, engine, say)
    except KeyboardInterrupt:
        say(f"what is finished is in {directory}; the same command goes on from there")
        raise
    return _tell(asked, done)


def _tell(asked: Asked, done: "Done") -> int:
    directory = done.study.directory
    if done.failures:
        say(f"{done.failures} runs failed, as the report says; the same command tries them again")
    if asked.json:
        print_json(done.as_json())
    else:
        typer.echo(f"{done.runs} runs, seed {done.study.seed}: {directory / 'report.html'}")
    return FAILED if done.failures else 0


def _engine(asked: Asked) -> "Engine":
    from peer.laboratory.cluster import DaskCluster
    from peer.laboratory.local import LocalWorkers, cores

    if asked.scheduler is not None:
        return DaskCluster(asked.scheduler, say)
    return LocalWorkers(asked.workers or cores())


def _scenario(asked: Asked, data: dict[str, Any], path: Path) -> int:
    from peer.laboratory import kinds
    from peer.laboratory.experiment import Texts

    problems = _out_of_place("experiments: a file with a table [experiment]", _for_experiments(asked))
    parameters = tried(problems, lambda: Texts(path.parent).put_into(kinds.SCENARIO, data))
    if parameters is not None:
        problems += kinds.SCENARIO.check(parameters, f"{path}: scenario")
    if problems or parameters is None:
        raise ConfigurationError(problems)
    seed = _seed(asked)
    say(f"{path.stem}: one scenario, seed {seed}")
    rows = _run_once(asked, parameters, seed, path.stem)
    if asked.json:
        print_json({"scenario": str(path), "seed": seed, "rows": rows})
    elif len(rows) == 1:
        width = max(map(len, rows[0]), default=0)
        typer.echo("\n".join(f"{key.ljust(width)}  {shown(value)}" for key, value in rows[0].items()))
    else:
        typer.echo(table(rows, {key: key for key in dict.fromkeys(key for row in rows for key in row)}))
    return 0


def _run_once(asked: Asked, parameters: Mapping[str, Any], seed: int, name: str) -> "list[Row]":
    from peer import progress
    from peer.laboratory import kinds
    from peer.laboratory.work import plain

    with progress.shown(1.0) as moving:
        moving.about(name)
        rows = kinds.SCENARIO.run_traced(
            parameters,
            seed,
            progress=moving.move,
            trace=asked.trace,
            replay=asked.replay,
            until_step=asked.until_step,
        )
    return [plain(row) for row in rows]


def _worlds(asked: Asked, count: int) -> int:
    from peer import progress
    from peer.laboratory.local import cores
    from peer.laboratory.worlds import run_worlds

    seed = _seed(asked)
    say(f"{count} worlds from seed {seed} on")
    with progress.shown(float(count)) as moving:
        moving.about("worlds")
        report = run_worlds(count, seed, asked.workers or cores(), lambda done, _: moving.move(done))
    if asked.json:
        print_json(asdict(report))
    else:
        typer.echo("\n".join(report.lines()))
    return FAILED if report.failed_seeds else 0


def _seed(asked: Asked) -> int:
    return int.from_bytes(os.urandom(4)) if asked.seed is None else asked.seed
