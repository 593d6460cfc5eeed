"""``susurrus demo`` and ``susurrus bench``: the project's own measurements on this machine.

Neighbours: ``peer.demo`` and ``peer.bench`` do the work.  Invariants: flags are checked here, all mistakes at once.
"""

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from peer.commands.common import JsonOption
from peer.options import DemoOptions
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_BRANCHING, MAX_COHORT, MAX_COLLUSION_THRESHOLD, MAX_WALKS

DEFAULT_STEPS = 150
MAX_PEERS = 1000
MAX_STEPS = 100_000_000
MAX_SEED = 2**63 - 1


def demo(
    peers: Annotated[int, typer.Option(min=1, max=MAX_PEERS, help="Peer processes.")] = 12,
    dataset: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="digits, spambase, pendigits, or a CSV file.")
    ] = "digits",
    partition: Annotated[
        str,
        typer.Option(
            metavar="iid|dirichlet:ALPHA", help="How records are dealt: alike, or the smaller ALPHA the less alike."
        ),
    ] = "iid",
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_STEPS, help="Stop after so many steps.", show_default=str(DEFAULT_STEPS)),
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Stop at this test accuracy.", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1.0, help="Stop after so many seconds.", show_default=False)
    ] = None,
    collusion_threshold: Annotated[
        int, typer.Option(min=2, max=MAX_COLLUSION_THRESHOLD, help="S: fewer colluding peers learn no value.")
    ] = 3,
    branching: Annotated[int, typer.Option(min=1, max=MAX_BRANCHING, help="B: children of a node of the tree.")] = 2,
    cohort: Annotated[
        int | None, typer.Option(min=3, max=MAX_COHORT, help="Contributions in one round.", show_default="all peers")
    ] = None,
    walks: Annotated[int, typer.Option(min=1, max=MAX_WALKS, help="Models that walk side by side.")] = 1,
    modulus_bits: Annotated[int, typer.Option(help="16, 32 or 64: bits of one coordinate on the wire.")] = 32,
    kill: Annotated[float, typer.Option(min=0.0, metavar="RATE", help="Peers killed and restarted per minute.")] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Of everything drawn at random by the demo.", show_default="random"),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record every round there, for susurrus audit.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the peers' homes and logs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model with real peer processes on this machine, each with its own share of a real data set."""
    problems = _demo_problems(partition, modulus_bits, kill, steps, target_accuracy, seconds)
    problems += _size_problems(peers, collusion_threshold, cohort)
    if problems:
        raise ConfigurationError(problems)
    options = DemoOptions(
        peers=peers,
        dataset=dataset,
        partition=partition,
        steps=DEFAULT_STEPS if (steps, target_accuracy, seconds) == (None, None, None) else steps,
        target_accuracy=target_accuracy,
        seconds=seconds,
        collusion_threshold=collusion_threshold,
        branching=branching,
        cohort=cohort,
        walks=walks,
        modulus_bits=modulus_bits,
        kill=kill,
        seed=seed,
        audit=audit.expanduser().absolute() if audit else None,
        keep=keep,
        json=as_json,
    )
    from peer.demo import run_demo

    raise typer.Exit(run_demo(options))


def bench(as_json: JsonOption = False) -> None:
    """Measure what the secure sum costs on this machine, beside the plain sum."""
    from peer.bench import run_bench

    raise typer.Exit(run_bench(as_json))


def _demo_problems(
    partition: str,
    modulus_bits: int,
    kill: float,
    steps: int | None,
    target_accuracy: float | None,
    seconds: float | None,
) -> list[str]:
    problems = []
    match = re.fullmatch(r"iid|dirichlet:(.+)", partition)
    if match is None or (match[1] is not None and not _is_alpha(match[1])):
        problems.append(
            f"--partition must be iid, or dirichlet:ALPHA with ALPHA from 0.001 to 1000000, not {partition!r}"
        )
    if modulus_bits not in (16, 32, 64):
        problems.append(f"--modulus-bits must be 16, 32 or 64, not {modulus_bits}")
    if not math.isfinite(kill) or (seconds is not None and not math.isfinite(seconds)):
        problems.append("--kill and --seconds must be finite numbers")
    if sum(stop is not None for stop in (steps, target_accuracy, seconds)) > 1:
        problems.append("give one of --steps, --target-accuracy and --seconds")
    return problems


def _size_problems(peers: int, threshold: int, cohort: int | None) -> list[str]:
    problems, minimum = [], threshold + 1
    if peers < minimum:
        problems.append(
            f"--peers {peers}: a round with collusion threshold {threshold} needs {minimum} contributions; "
            f"these peers would be waiting for {minimum - peers} more peers"
        )
    if cohort is not None and cohort < minimum:
        problems.append(f"--cohort {cohort} must be at least collusion threshold + 1 = {minimum}")
    return problems


def _is_alpha(text: str) -> bool:
    try:
        return 1e-3 <= float(text) <= 1e6
    except ValueError:
        return False
