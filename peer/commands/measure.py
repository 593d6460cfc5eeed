"""``susurrus demo`` and ``susurrus bench``: the project's own measurements on this machine.

Neighbours: ``peer.demo`` and ``peer.bench`` do the work.  Invariants: flags are checked here, all mistakes at once.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from peer.commands.common import MAX_SEED, JsonOption, out_of_range
from peer.options import DemoOptions
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_BRANCHING, MAX_COHORT, MAX_COLLUSION_THRESHOLD, MAX_WALKS

DEFAULT_STEPS = 150
MAX_PEERS = 1000
MAX_STEPS = 100_000_000


def demo(
    peers: Annotated[int, typer.Option(help="Peer processes.")] = 12,
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
        typer.Option(help="Stop after so many steps.", show_default=str(DEFAULT_STEPS)),
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option(help="Stop at this test accuracy.", show_default=False)
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.", show_default=False)] = None,
    collusion_threshold: Annotated[int, typer.Option(help="S: fewer colluding peers learn no value.")] = 3,
    branching: Annotated[int, typer.Option(help="B: children of a node of the tree.")] = 2,
    cohort: Annotated[int | None, typer.Option(help="Contributions in one round.", show_default="all peers")] = None,
    walks: Annotated[int, typer.Option(help="Models that walk side by side.")] = 1,
    modulus_bits: Annotated[int, typer.Option(help="16, 32 or 64: bits of one coordinate on the wire.")] = 32,
    kill: Annotated[float, typer.Option(metavar="RATE", help="Peers killed and restarted per minute.")] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Of everything drawn at random by the demo.", show_default="random"),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record every round there, for susurrus audit.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the peers' homes and logs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model with real peer processes on this machine, each with its own share of a real data set."""
    problems = _number_problems(steps, target_accuracy, seconds, branching, walks, kill, seed)
    problems += _size_problems(peers, collusion_threshold, cohort)
    problems += _word_problems(partition, modulus_bits)
    if sum(stop is not None for stop in (steps, target_accuracy, seconds)) > 1:
        problems.append("give one of --steps, --target-accuracy and --seconds")
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


def _number_problems(
    steps: int | None,
    target_accuracy: float | None,
    seconds: float | None,
    branching: int,
    walks: int,
    kill: float,
    seed: int | None,
) -> list[str]:
    return [
        *out_of_range("--steps", steps, 1, MAX_STEPS),
        *out_of_range("--target-accuracy", target_accuracy, 0, 1),
        *out_of_range("--seconds", seconds, 1),
        *out_of_range("--branching", branching, 1, MAX_BRANCHING),
        *out_of_range("--walks", walks, 1, MAX_WALKS),
        *out_of_range("--kill", kill, 0),
        *out_of_range("--seed", seed, 0, MAX_SEED),
    ]


def _size_problems(peers: int, threshold: int, cohort: int | None) -> list[str]:
    problems = [
        *out_of_range("--peers", peers, 1, MAX_PEERS),
        *out_of_range("--collusion-threshold", threshold, 2, MAX_COLLUSION_THRESHOLD),
        *out_of_range("--cohort", cohort, 3, MAX_COHORT),
    ]
    if problems:
        return problems  # nothing can be said of how they go together
    minimum = threshold + 1
    if peers < minimum:
        problems.append(
            f"--peers {peers}: a round with collusion threshold {threshold} needs {minimum} contributions; "
            f"these peers would be waiting for {minimum - peers} more peers"
        )
    if cohort is not None and cohort < minimum:
        problems.append(f"--cohort {cohort} must be at least collusion threshold + 1 = {minimum}")
    return problems


def _word_problems(partition: str, modulus_bits: int) -> list[str]:
    problems = []
    match = re.fullmatch(r"iid|dirichlet:(.+)", partition)
    if match is None or (match[1] is not None and not _is_alpha(match[1])):
        problems.append(
            f"--partition must be iid, or dirichlet:ALPHA with ALPHA from 0.001 to 1000000, not {partition!r}"
        )
    if modulus_bits not in (16, 32, 64):
        problems.append(f"--modulus-bits must be 16, 32 or 64, not {modulus_bits}")
    return problems


def _is_alpha(text: str) -> bool:
    try:
        return 1e-3 <= float(text) <= 1e6
    except ValueError:
        return False
