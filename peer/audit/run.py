"""``audit``: all recordings of a directory against the protocol.

Neighbours: the command calls it; ``recording`` reads, ``checks`` and ``coalitions`` look at one round each; what spans
rounds (nothing used twice) is here.
Invariants: two passes over the files, so that only one round's vectors are held at a time; the order of the files in
the directory, or of lines in a file, changes nothing.
"""

import hashlib
from pathlib import Path

from peer.audit.checks import check_round
from peer.audit.coalitions import check_coalitions
from peer.audit.recording import BadLine, Line, Unreadable, read_lines, recording_files
from peer.audit.report import AuditReport, Check, Finding
from protocol.base.ids import PeerId, RoundId, short
from protocol.privacy.record import RoundRecord

DEFAULT_MAX_COALITIONS = 2000
"""Coalitions examined in one round: all of them up to 62 peers with S = 3."""


def audit(directory: Path, *, max_coalitions: int = DEFAULT_MAX_COALITIONS, seed: int = 0) -> AuditReport:
    """Check every recording in ``directory``.

    ``max_coalitions``: how many coalitions to examine in one round; where there are more, a sample drawn from ``seed``.
    Raises ``Unreadable`` when the directory cannot be read or holds no record at all; whatever is wrong with what
    is recorded is in the report.
    """
    if max_coalitions < 1:
        raise ValueError("at least one coalition must be examined")
    files = recording_files(directory)
    index = _Index()
    for path in files:
        for line in read_lines(path):
            index.add(line)
    if not index.records:
        first = next(iter([*index.violations, *index.notes]), None)
        detail = f": {first.sentence.rstrip('.')}" if first is not None else ""
        raise Unreadable(f"{directory} holds no complete record{detail}.")
    violations, notes = index.violations, index.notes
    published = contributions = exact = vectors = examined = coalition_rounds = 0
    sampled = False
    fewest: list[int] = []
    for round_id in sorted(index.rounds):
        result = check_round(round_id, index.load(round_id))
        coalitions = check_coalitions(round_id, result.records, max_coalitions=max_coalitions, seed=seed)
        violations += [*result.violations, *coalitions.violations]
        notes += result.notes
        published += result.published
        contributions += result.contributions
        exact += result.exact
        vectors += result.vectors_checked
        examined += coalitions.examined
        coalition_rounds += coalitions.examined > 0
        sampled = sampled or coalitions.sampled
        if result.min_mask_neighbours is not None:
            fewest.append(result.min_mask_neighbours)
    return AuditReport(
        directory=str(directory),
        peers=len(files),
        records=index.records,
        rounds=len(index.rounds),
        published=published,
        contributions=contributions,
        exact_totals=exact,
        vectors_checked=vectors,
        seeds_checked=len(index.seeds),
        coalitions_checked=examined,
        coalition_rounds=coalition_rounds,
        coalitions_sampled=sampled,
        seed=seed,
        min_mask_neighbours=min(fewest, default=None),
        violations=tuple(violations),
        notes=tuple(notes),
    )


class _Index:
    """The first pass: where each round's records are, and what must not happen twice anywhere."""

    def __init__(self) -> None:
        self.records = 0
        self.rounds: dict[RoundId, dict[PeerId, Line]] = {}
        self.seeds: dict[bytes, tuple[RoundId, PeerId, PeerId]] = {}
        """Seed -> (round, contributor, trustee), whoever recorded it."""
        self.violations: list[Finding] = []
        self.notes: list[Finding] = []
        self._values: dict[tuple[PeerId, bytes], RoundId] = {}

    def add(self, line: Line) -> None:
        where = f"line {line.number} of {line.path.name}"
        record = line.record
        if isinstance(record, BadLine):
            if line.torn:
                self.notes.append(Finding(Check.FORMAT, f"{where} is cut short: its peer died while it wrote."))
            else:
                self.violations.append(Finding(Check.FORMAT, f"{where} is not a recording: {record}"))
            return
        if line.path.stem != record.peer.hex():
            sentence = f"{where} speaks for this peer in the file of another"
            self.violations.append(Finding(Check.FORMAT, sentence, record.round, record.peer))
        peers = self.rounds.setdefault(record.round, {})
        if record.peer in peers:
            sentence = f"took part twice in this round ({where})"
            self.violations.append(Finding(Check.REUSE, sentence, record.round, record.peer))
        else:
            peers[record.peer] = Line(line.path, line.number, line.offset, line.length, _WITHOUT_VECTORS, False)
        self.records += 1
        self._note_value(record)
        self._note_seeds(record)

    def load(self, round_id: RoundId) -> dict[PeerId, RoundRecord]:
        """The records of one round, read again.  Raises ``Unreadable`` when the files have changed since."""
        try:
            return {peer: line.again() for peer, line in self.rounds[round_id].items()}
        except (OSError, BadLine) as error:
            raise Unreadable(f"the recordings changed while they were read ({error}).") from error

    def _note_value(self, record: RoundRecord) -> None:
        if not record.contributed or record.value is None:
            return
        key = (record.peer, hashlib.sha256(record.value).digest())
        before = self._values.setdefault(key, record.round)
        if before != record.round:
            sentence = f"contributed the same value as in round {short(before)}"
            self.violations.append(Finding(Check.REUSE, sentence, record.round, record.peer))

    def _note_seeds(self, record: RoundRecord) -> None:
        drawn = [((record.round, record.peer, trustee), seed) for trustee, seed in record.masks.items()]
        opened = [((record.round, who, record.peer), seed) for who, seed in record.opened.items()]
        for use, seed in drawn + opened:
            before = self.seeds.setdefault(bytes(seed), use)
            if before != use:
                sentence = (
                    f"the mask seed of {short(use[1])} for {short(use[2])} was used before: in round"
                    f" {short(before[0])}, of {short(before[1])} for {short(before[2])}"
                )
                self.violations.append(Finding(Check.REUSE, sentence, record.round, record.peer))


_WITHOUT_VECTORS = BadLine("not kept")
