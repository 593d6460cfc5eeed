"""The kind ``exposure``: the share of honest contributors that colluding peers expose: theory, chance, and real rounds.

Neighbours: ``kinds`` lists it; ``protocol.privacy.exposure`` has theory and Monte Carlo, ``rounds`` simulates nodes and
describes their rounds, ``protocol.privacy.leakage`` says what a coalition learns of one.
Invariants: those of a kind; the simulated rounds know neither the theory nor its assumptions: real nodes send each
other real masked vectors, and what a coalition learns is whatever follows from what its members recorded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peer.laboratory.rounds import PlayedRound, play
from protocol.base.errors import ConfigurationError
from protocol.privacy.exposure import Faults, Shape, closed_form, monte_carlo
from protocol.privacy.exposure.theory import Expected
from protocol.privacy.leakage import Leakage
from protocol.simulation.plain import Table
from protocol.simulation.streams import generator, number

if TYPE_CHECKING:
    from peer.laboratory.kinds import Row

ALGEBRA_NODES = 128
"""Up to so many nodes a round goes through linear algebra; beyond, through the theorem (the components of its mask
graph), which the tests of ``leakage`` compare with it on every small tree."""
MAX_ROUNDS = 1_000_000
LEAST_EXPECTED = 20.0
"""Exposed contributors over all draws; with fewer, a share is too far from normally distributed for a z-score."""


class Exposure:
    """Parameters: ``branching``, ``collusion_threshold``, ``depth`` (0: as small as the threshold allows);
    ``corrupt``, a share of corrupt peers or a list of them; ``lost`` (0), the probability that a partial is lost;
    ``trees`` (100000) of Monte Carlo; ``rounds`` (100) simulated, and ``coalitions`` (1) drawn for each of them (with
    nothing lost all rounds have one shape, so that several are as good as several rounds);
    ``simulated_nodes`` (400): larger trees are not simulated.

    Rows, one for each of ``engine`` (``theory``, ``monte carlo``, ``simulation``) and ``corrupt``: ``share`` of the
    honest contributors whose vectors reached their parents that are exposed, and ``share_se``, its standard error (0
    for theory); ``z``: how many standard errors it lies above theory, where at least ``LEAST_EXPECTED`` are exposed on
    average (Monte Carlo's error serves for both: that of a few simulated rounds is itself a matter of chance);
    ``nodes`` of the tree; ``threshold``: S as text.
    """

    name = "exposure"
    axes = ("corrupt",)

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes."""
        problems: list[str] = []
        table = Table(parameters, place, problems)
        branching, threshold = table.whole("branching", 2), table.whole("collusion_threshold", 3)
        depth = table.whole("depth", 0) or threshold
        if table.ok:
            problems += _impossible(place, lambda: Shape(branching, depth, 0, threshold))
        lost = table.number("lost", 0.0)
        problems += _impossible(place, lambda: Faults(lost))
        table.whole("trees", 100_000, least=1)
        table.whole("rounds", 100, least=1, most=MAX_ROUNDS)
        table.whole("coalitions", 1, least=1)
        table.whole("simulated_nodes", 400)
        if isinstance(table.get("corrupt"), list | tuple):
            shares = table.numbers("corrupt", longest=1000) or []
        else:
            shares = [table.number("corrupt")] if "corrupt" in table else []
            if not shares:
                table.say(f"{place} needs corrupt: a share of corrupt peers, or a list of them")
        if any(not q < 1 for q in shares):
            table.say(f"{table.at('corrupt')} must be at least 0 and below 1: somebody must be honest")
        table.close()
        return problems

    def run(self, parameters: Mapping[str, Any], seed: int) -> "list[Row]":
        """One shape of tree."""
        threshold = parameters.get("collusion_threshold", 3)
        shape = Shape(parameters.get("branching", 2), parameters.get("depth", 0) or threshold, 0, threshold)
        faults = Faults(parameters.get("lost", 0.0))
        given = parameters["corrupt"]
        shares = [float(q) for q in given] if isinstance(given, list | tuple) else [float(given)]
        rounds: list[PlayedRound] = []
        if shape.nodes <= parameters.get("simulated_nodes", 400):
            rounds = play(shape, faults.lost, parameters.get("rounds", 100), seed)
        trees, coalitions = parameters.get("trees", 100_000), parameters.get("coalitions", 1)
        rows: list[Row] = []
        for q in shares:
            expected = closed_form(shape, faults, q).arrived
            sampled = monte_carlo(shape, faults, q, trees=trees, seed=number(seed, "trees", repr(q))).arrived
            found = {
                "theory": (expected.share, 0.0, 0),
                "monte carlo": (sampled.share, sampled.share_error, trees),
            }
            if rounds:
                # Coalitions of one round are independent draws only if all rounds are alike.
                draws = len(rounds) * coalitions if coalitions == 1 or not faults.lost else 0
                found["simulation"] = (*exposed_share(rounds, q, coalitions, seed), draws)
            rows += [
                {
                    "engine": engine,
                    "threshold": f"S = {threshold}",
                    "nodes": shape.nodes,
                    "corrupt": q,
                    "share": share,
                    "share_se": error,
                    "z": _z(share, expected, sampled.share_error * math.sqrt(trees), draws, q),
                }
                for engine, (share, error, draws) in found.items()
            ]
        return rows


def _impossible(place: str, make: Callable[[], object]) -> list[str]:
    try:
        make()
    except ConfigurationError as error:
        return [f"{place}: {problem}" for problem in error.problems]
    return []


def _z(share: float, expected: Expected, deviation: float, draws: int, corrupt: float) -> float | None:
    """``deviation``: the standard error of one draw."""
    if deviation == 0.0 or draws * expected.exposed * (1 - corrupt) < LEAST_EXPECTED:
        return None
    return (share - expected.share) / (deviation / math.sqrt(draws))


def exposed_share(rounds: Sequence[PlayedRound], corrupt: float, coalitions: int, seed: int) -> tuple[float, float]:
    """(share exposed, its standard error) over the rounds, with ``coalitions`` draws of who is corrupt for each.

    The error is that of a ratio of means over rounds: contributors of one round are not taken to be independent.
    """
    rng = generator(seed, "coalitions", repr(corrupt))
    pairs = []
    for one in rounds:
        engine = one.leakage
        arrived = frozenset(engine.arrived)
        exposed = honest = 0
        for _ in range(coalitions):
            bad = rng.random(len(engine.peers)) < corrupt
            coalition = [peer for peer, is_bad in zip(engine.peers, bad.tolist(), strict=True) if is_bad]
            exposed += len(arrived.intersection(learned_values(engine, coalition)))
            honest += len(arrived.difference(coalition))
        pairs.append((exposed, honest))
    total = sum(honest for _, honest in pairs)
    share = sum(exposed for exposed, _ in pairs) / total if total else 0.0
    residual = math.fsum((exposed - share * honest) ** 2 for exposed, honest in pairs)
    count = len(pairs)
    return share, math.sqrt(residual * count / (count - 1)) / total if total and count > 1 else 0.0


def learned_values(engine: Leakage, coalition: Sequence[bytes]) -> tuple[bytes, ...]:
    """The peers whose single value the coalition learns."""
    small = len(engine.peers) <= ALGEBRA_NODES
    return (engine.by_algebra(coalition) if small else engine.by_components(coalition)).values
