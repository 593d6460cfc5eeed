"""What an audit found: numbers, sentences, and whether anything is wrong.

Neighbours: ``run`` fills it; the command prints it and turns it into an exit code.
Invariants: frozen; findings stand in a fixed order (files, then rounds by id), so equal recordings give equal reports.
"""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from protocol.base.ids import short


class Check(Enum):
    """What kind of check failed (or was noted).  Value: the name in JSON."""

    FORMAT = "format"
    """A line is not a recording, or stands in another peer's file."""
    STRUCTURE = "structure"
    """Tree, ancestors, flags, parameters of one round do not fit together."""
    EXACT_SUM = "exact sum"
    """A vector or a total is not what values, seeds and children give."""
    TRANSPORT = "transport"
    """A vector arrived that its sender did not send."""
    MASKS = "masks"
    """A mask is not where the protocol puts it."""
    RULE = "contribution rule"
    """A peer contributed, or a root published, where the guard forbids it."""
    COHORT = "cohort"
    """A number of contributions is wrong."""
    REUSE = "reuse"
    """A value, a seed or a round was used twice."""
    COALITION = "coalition"
    """A coalition below S learns a value."""
    MISSING = "missing"
    """A record is not there: a failure where something published depends on it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (or, among the notes, worth knowing)."""

    check: Check
    sentence: str
    round: bytes | None = None
    peer: bytes | None = None

    def __str__(self) -> str:
        where = [f"round {short(self.round)}"] if self.round is not None else []
        where += [f"peer {short(self.peer)}"] if self.peer is not None else []
        return (", ".join(where) + ": " if where else "") + self.sentence


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of one audit.  ``clean`` decides the exit code: 0, or 3."""

    directory: str
    peers: int
    """Files, one per peer."""
    records: int
    rounds: int
    """Rounds of which there is any record."""
    published: int
    contributions: int
    """Inside the published totals."""
    exact_totals: int
    """Published totals that are the sum of their contributions, to the bit."""
    vectors_checked: int
    """Masked vectors and totals derived anew."""
    seeds_checked: int
    """Mask seeds drawn, all different."""
    coalitions_checked: int
    coalition_rounds: int
    """Rounds in which coalitions were examined."""
    coalitions_sampled: bool
    """Some round had more coalitions than the limit: they were sampled."""
    seed: int
    """Of that sample."""
    min_mask_neighbours: int | None
    """Over published contributions."""
    violations: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not self.violations

    def sentences(self) -> list[str]:
        """The report for people: what was checked, what is wrong, what is worth knowing."""
        how = f"a sample (seed {self.seed}) of the coalitions" if self.coalitions_sampled else "every coalition"
        out = [
            f"{self.records} records of {self.peers} peers in {self.rounds} rounds; {self.published} published.",
            f"{self.exact_totals} of {self.published} published totals are exactly the sum of their contributions"
            f" ({self.contributions} in all).",
            f"{self.vectors_checked} vectors and totals were derived again from values, seeds and children;"
            f" {self.seeds_checked} mask seeds were drawn.",
            f"{self.coalitions_checked} coalitions were examined by linear algebra: {how} below the collusion"
            f" threshold in each of {self.coalition_rounds} rounds.",
        ]
        if self.min_mask_neighbours is not None:
            out.append(f"The least protected published contribution has {self.min_mask_neighbours} mask neighbours.")
        out += [f"VIOLATION ({finding.check.value}): {finding}" for finding in self.violations]
        out += [f"Note: {finding}" for finding in self.notes]
        out.append("Clean." if self.clean else f"{len(self.violations)} violations.")
        return out

    def as_json(self) -> dict[str, Any]:
        """The report as one flat JSON document; findings as objects with check, round, peer and sentence."""
        document = {k: v for k, v in asdict(self).items() if k not in ("violations", "notes")}
        document["clean"] = self.clean
        for name, findings in (("violations", self.violations), ("notes", self.notes)):
            document[name] = [
                {
                    "check": f.check.value,
                    "round": None if f.round is None else f.round.hex(),
                    "peer": None if f.peer is None else f.peer.hex(),
                    "sentence": f.sentence,
                }
                for f in findings
            ]
        return document
