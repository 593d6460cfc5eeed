"""What coalitions below S could learn from one recorded round.

Neighbours: ``run`` calls it for every round; the engine is ``protocol.privacy.leakage``.
Invariants: the worst is assumed where recordings are silent, see ``protocol.privacy.description``.  (What an unrecorded
peer put into a vector is an unknown of its own; ``checks`` has reported it.)  Linear algebra and the theorem must
agree.  One seed gives one sample.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb

from peer.audit.report import Check, Finding
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId, RoundId, short
from protocol.privacy.description import describe
from protocol.privacy.leakage import Leakage
from protocol.privacy.record import RoundRecord


@dataclass(frozen=True, slots=True)
class CoalitionResult:
    """How many coalitions were examined in one round, and what they learn."""

    examined: int
    sampled: bool
    violations: tuple[Finding, ...]


def check_coalitions(
    round_id: RoundId, records: Mapping[PeerId, RoundRecord], *, max_coalitions: int, seed: int
) -> CoalitionResult:
    """Examine the coalitions of fewer than S of the round's peers: all, or at most ``max_coalitions`` sampled.

    A value that falls is reported once, with the first coalition that learns it.
    """
    if not records:
        return CoalitionResult(0, False, ())
    try:
        described = describe(records.values())
        engine = Leakage(described)
    except ValueError as error:
        sentence = f"what coalitions learn cannot be worked out: {error}"
        return CoalitionResult(0, False, (Finding(Check.COALITION, sentence, round_id),))
    s = described.collusion_threshold
    chosen = all_coalitions(engine.peers, s)
    sampled = sum(comb(len(engine.peers), k) for k in range(s)) > max_coalitions
    if sampled:
        chosen = sample_coalitions(engine, max_coalitions, SeededEntropy(seed).fork(bytes(round_id)))
    fallen: dict[bytes, Finding] = {}
    disagreement: Finding | None = None
    examined = 0
    for coalition in chosen:
        examined += 1
        known = engine.by_algebra(coalition)
        who = ", ".join(map(short, coalition)) or "nobody"
        for peer in known.values:
            if peer not in fallen:
                sentence = f"its value is learned by a coalition of {len(coalition)} below S = {s}: {who}"
                fallen[peer] = Finding(Check.COALITION, sentence, round_id, peer)
        if disagreement is None and described.follows_protocol and engine.by_components(coalition) != known:
            sentence = f"linear algebra and the theorem disagree about what the coalition of {who} learns"
            disagreement = Finding(Check.COALITION, sentence, round_id)
    violations = (*fallen.values(), *([] if disagreement is None else [disagreement]))
    return CoalitionResult(examined, sampled, violations)


def all_coalitions(peers: tuple[bytes, ...], s: int) -> Iterator[tuple[bytes, ...]]:
    """Every coalition of fewer than S peers, the outside alone first."""
    for size in range(s):
        yield from combinations(peers, size)


def sample_coalitions(engine: Leakage, count: int, entropy: SeededEntropy) -> Iterator[tuple[bytes, ...]]:
    """``count`` distinct coalitions of S - 1 (smaller ones see less), one more or less; the outside alone is first.

    Every other one is drawn around a contributor, from its mask neighbours, where a leak would be; the rest uniformly.
    """
    yield ()
    seen: set[tuple[bytes, ...]] = set()
    size = engine.described.collusion_threshold - 1
    contributors = [n.peer for n in engine.described.nodes if n.sent and n.contributed]
    for attempt in range(4 * count):
        pool = engine.peers
        if attempt % 2 and contributors:
            pool = engine.neighbours(entropy.choice(contributors))
        coalition = tuple(sorted(entropy.sample(pool, size)))
        if coalition not in seen:
            seen.add(coalition)
            yield coalition
        if len(seen) + 1 >= count:
            return
