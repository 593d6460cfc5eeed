"""Recorded rounds, for what coalitions could learn of them and nothing else.

Neighbours: ``recording`` reads, ``coalitions`` looks at coalitions below S, ``protocol.privacy.exposure`` at those of a
size or of a share of corrupt peers; the leakage command prints the result.
Invariants: whether what is recorded is true is not asked here (``run`` does that); one seed gives one result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peer.audit.coalitions import CoalitionResult, check_coalitions
from peer.audit.recording import read_rounds
from protocol.base.errors import ConfigurationError
from protocol.base.ids import RoundId, short
from protocol.privacy.description import describe
from protocol.privacy.exposure import RoundExposure, round_exposure
from protocol.privacy.leakage import DescribedRound, Leakage


@dataclass(frozen=True, slots=True)
class RoundLeaks:
    """One round."""

    round: RoundId
    exposure: RoundExposure
    below: CoalitionResult
    """What coalitions of fewer than S peers learn: nothing, or violations."""


def round_leaks(
    path: Path, *, corrupt: Sequence[float], sizes: Sequence[int] | None, max_coalitions: int, samples: int, seed: int
) -> list[RoundLeaks]:
    """What coalitions could learn of every round recorded in ``path`` (see ``read_rounds``), rounds by id.

    ``max_coalitions`` below S are examined in one round, and ``samples`` drawn for each of ``corrupt`` and of ``sizes``
    (default: S).  Raises as ``read_rounds``, and ``ConfigurationError`` naming every round whose records do not fit
    together.
    """
    described: dict[RoundId, DescribedRound] = {}
    problems = []
    rounds = read_rounds(path)
    for round_id, records in rounds.items():
        try:
            described[round_id] = describe(records)
            Leakage(described[round_id])
        except ValueError as error:
            problems.append(f"{path}: round {short(round_id)} cannot be made sense of: {error}")
    if problems:
        raise ConfigurationError(problems)
    found = []
    for round_id, records in rounds.items():
        of_size = (described[round_id].collusion_threshold,) if sizes is None else sizes
        exposure = round_exposure(described[round_id], corrupt=corrupt, sizes=of_size, samples=samples, seed=seed)
        by_peer = {record.peer: record for record in records}
        below = check_coalitions(round_id, by_peer, max_coalitions=max_coalitions, seed=seed)
        found.append(RoundLeaks(round_id, exposure, below))
    return found
