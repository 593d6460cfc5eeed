"""``susurrus leakage``: what coalitions learn, of a shape of tree or of recorded rounds.

Neighbours: ``protocol.privacy.exposure`` works it out, ``peer.audit`` reads recordings; ``leakage_report`` words it.
Invariants: flags are checked here, all mistakes at once; exit code 3 if a coalition below S learned a value.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from peer.commands.common import MAX_SEED, VIOLATED, JsonOption, out_of_range, print_json, tried
from peer.errors import PeerError
from protocol.base.errors import ConfigurationError

DEFAULT_BRANCHING, DEFAULT_DEPTH, DEFAULT_THRESHOLD = 2, 5, 3
DEFAULT_CORRUPT = (0.05, 0.1, 0.2, 0.4)
DEFAULT_TREES = 100_000
MAX_TREES = 10**9
COALITIONS_BELOW, SAMPLES = 2000, 200
"""Looked at in one recorded round: coalitions below S, and those drawn for each share or size."""


def leakage(
    branching: Annotated[
        int | None,
        typer.Option(help="B: children of a node of the tree.", show_default=str(DEFAULT_BRANCHING)),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            help="D: edges between root and leaves, at least S.", show_default=f"{DEFAULT_DEPTH}, or S if larger"
        ),
    ] = None,
    trunk: Annotated[
        int | None, typer.Option(help="Leading levels of nodes with a single child.", show_default="0")
    ] = None,
    collusion_threshold: Annotated[
        int | None,
        typer.Option(help="S: fewer colluding peers learn no value.", show_default=str(DEFAULT_THRESHOLD)),
    ] = None,
    corrupt: Annotated[
        list[float] | None,
        typer.Option(
            metavar="Q",
            help="Probability that a peer is corrupt; may be given several times.",
            show_default=", ".join(map(str, DEFAULT_CORRUPT)),
        ),
    ] = None,
    failures: Annotated[
        float | None, typer.Option(metavar="F", help="Probability that a partial is lost.", show_default="0")
    ] = None,
    late: Annotated[
        float | None,
        typer.Option(metavar="L", help="Probability that one that is not lost comes too late.", show_default="0"),
    ] = None,
    trees: Annotated[
        int | None,
        typer.Option(help="Rounds of Monte Carlo for each Q; 0 for none.", show_default=str(DEFAULT_TREES)),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    round_path: Annotated[
        Path | None,
        typer.Option(
            "--round",
            metavar="FILE|DIR",
            help="Instead of a shape: recorded rounds, as demo --audit DIR leaves them.",
            show_default=False,
        ),
    ] = None,
    coalition: Annotated[
        list[int] | None,
        typer.Option(
            metavar="SIZE",
            help="With --round: coalitions of so many peers; may be given several times.",
            show_default="S",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what coalitions learn: closed form, Monte Carlo and exact for a shape; or of recorded rounds."""
    chances = list(DEFAULT_CORRUPT if corrupt is None else corrupt)
    problems = out_of_range("--seed", seed, 0, MAX_SEED)
    if round_path is None:
        if coalition:
            problems.append("--coalition needs recorded rounds: --round FILE|DIR")
        s = DEFAULT_THRESHOLD if collusion_threshold is None else collusion_threshold
        _shape(
            branching=DEFAULT_BRANCHING if branching is None else branching,
            depth=max(DEFAULT_DEPTH, s) if depth is None else depth,
            trunk=trunk or 0,
            threshold=s,
            corrupt=chances,
            faults=(failures or 0.0, late or 0.0),
            trees=DEFAULT_TREES if trees is None else trees,
            seed=seed,
            as_json=as_json,
            problems=problems,
        )
        return
    given = {
        "--branching": branching,
        "--depth": depth,
        "--trunk": trunk,
        "--collusion-threshold": collusion_threshold,
        "--failures": failures,
        "--late": late,
        "--trees": trees,
    }
    problems += [f"{flag} is known of recorded rounds" for flag, value in given.items() if value is not None]
    _rounds(round_path.expanduser(), chances, coalition or None, seed=seed, as_json=as_json, problems=problems)


def _shape(
    *,
    branching: int,
    depth: int,
    trunk: int,
    threshold: int,
    corrupt: list[float],
    faults: tuple[float, float],
    trees: int,
    seed: int,
    as_json: bool,
    problems: list[str],
) -> None:
    from peer.commands import leakage_report
    from protocol.privacy.exposure import Faults, Shape, study
    from protocol.privacy.exposure.tree import check_corrupt

    shape = tried(problems, partial(Shape, branching, depth, trunk, threshold))
    chances = tried(problems, partial(Faults, *faults))
    for q in corrupt:
        tried(problems, partial(check_corrupt, q))
    problems += out_of_range("--trees", trees, 0, MAX_TREES)
    if problems or shape is None:
        raise ConfigurationError(problems)
    result = study(shape, corrupt, chances, trees=trees, seed=seed)
    if as_json:
        print_json(leakage_report.study_document(shape, result))
    else:
        typer.echo(leakage_report.study_text(shape, result))


def _rounds(
    path: Path, corrupt: list[float], sizes: list[int] | None, *, seed: int, as_json: bool, problems: list[str]
) -> None:
    from peer.audit.leaks import round_leaks
    from peer.audit.recording import Unreadable
    from peer.commands import leakage_report
    from protocol.privacy.exposure.tree import check_corrupt

    for q in corrupt:
        tried(problems, partial(check_corrupt, q))
    problems += [f"--coalition must not be negative, but is {size}" for size in sizes or () if size < 0]
    if problems:
        raise ConfigurationError(problems)
    try:
        found = round_leaks(
            path, corrupt=corrupt, sizes=sizes, max_coalitions=COALITIONS_BELOW, samples=SAMPLES, seed=seed
        )
    except Unreadable as error:
        raise PeerError(str(error).rstrip(".")) from error
    if as_json:
        print_json(leakage_report.rounds_document(path, found, seed))
    else:
        typer.echo(leakage_report.rounds_text(found))
    raise typer.Exit(VIOLATED if any(one.below.violations for one in found) else 0)
