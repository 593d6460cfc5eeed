"""One round against the protocol: tree, vectors, masks, counts, the contribution rule, the published total.

Neighbours: ``run`` gives it the records of one round; ``coalitions`` takes what it found usable.
Invariants: every check works on what is recorded alone.  A record that is missing (its peer died, or the file was
taken away) is a violation only where something published depends on it, else a note.  What is checked of a peer
whose vector never left is only that what it says agrees with what others say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from peer.audit.arithmetic import combine
from peer.audit.report import Check, Finding
from protocol.base.ids import PeerId, RoundId, short
from protocol.privacy.guard import mask_neighbours
from protocol.privacy.record import RoundRecord
from protocol.wire.messages import Buffer


@dataclass(slots=True)
class RoundResult:
    """What the checks of one round found."""

    records: dict[PeerId, RoundRecord]
    """Those that take part in arithmetic and coalitions, in id order: of one ring and one threshold."""
    violations: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    published: bool = False
    contributions: int = 0
    """Inside the published total."""
    exact: bool = False
    vectors_checked: int = 0
    min_mask_neighbours: int | None = None


def check_round(round_id: RoundId, records: Mapping[PeerId, RoundRecord]) -> RoundResult:
    """All checks of one round, given its records by peer."""
    return _RoundCheck(round_id, records).run()


class _RoundCheck:
    def __init__(self, round_id: RoundId, records: Mapping[PeerId, RoundRecord]) -> None:
        self._round = round_id
        self._all = {peer: records[peer] for peer in sorted(records)}
        self._records: dict[PeerId, RoundRecord] = {}
        self._result = RoundResult(self._records)
        self._needed: list[PeerId] = []
        """Contributors inside the published total, the root first."""

    def run(self) -> RoundResult:
        roots = [r for r in self._all.values() if r.parent is None]
        for root in roots[1:]:
            self._violation(Check.STRUCTURE, root.peer, f"is a second root beside {short(roots[0].peer)}")
        self._keep_compatible(roots)
        if not roots:
            self._note(None, "no root recorded this round, so nothing is known to be published of it")
        publisher = next((r for r in roots if r.published and r.peer in self._records), None)
        if publisher is not None:
            self._result.published = True
            self._needed = list(self._inside(publisher))
            self._result.contributions = len(self._needed)
        for record in self._records.values():
            self._check_flags(record)
            self._check_ancestors(record)
            self._check_received(record)
            self._check_masks(record)
            self._check_opened(record)
            self._check_vector(record)
            self._check_cohort(record)
            self._check_rule(record)
        self._check_combined_once()
        if publisher is not None:
            self._check_publication(publisher)
        return self._result

    # --- findings -------------------------------------------------------------------------------------------

    def _violation(self, check: Check, peer: PeerId | None, sentence: str) -> None:
        self._result.violations.append(Finding(check, sentence, self._round, peer))

    def _note(self, peer: PeerId | None, sentence: str) -> None:
        finding = Finding(Check.MISSING, sentence, self._round, peer)
        if finding not in self._result.notes:
            self._result.notes.append(finding)

    def _missing(self, peer: PeerId, needed_by: RoundRecord, what: str, *, combined: bool = True) -> None:
        """A record is not there: does something published depend on it (as far as it was combined)?"""
        if combined and needed_by.peer in self._needed:
            self._violation(
                Check.MISSING,
                needed_by.peer,
                f"{what} cannot be verified: there is no usable record of {short(peer)}, and a published total"
                " depends on it",
            )
        else:
            self._note(peer, f"left no record; {what} of {short(needed_by.peer)} was not checked, nor published")

    # --- the tree -------------------------------------------------------------------------------------------

    def _keep_compatible(self, roots: list[RoundRecord]) -> None:
        """Records whose ring, threshold or vector length is not the round's are put aside."""
        kinds = [_kind(r) for r in roots] or sorted(map(_kind, self._all.values()), key=lambda k: k[:2])
        threshold, bits = kinds[0][:2]
        lengths = [len(v) for r in [*roots, *self._all.values()] for v in _vectors(r)]
        for peer, record in self._all.items():
            mine = sorted({len(v) for v in _vectors(record)})
            if (record.collusion_threshold, record.modulus_bits) != (threshold, bits):
                self._violation(
                    Check.STRUCTURE,
                    peer,
                    f"says S = {record.collusion_threshold} and w = {record.modulus_bits} where the round has"
                    f" S = {threshold} and w = {bits}",
                )
            elif mine and mine != [lengths[0]]:
                self._violation(Check.STRUCTURE, peer, f"has vectors of {mine} bytes in a round of {lengths[0]}")
            else:
                self._records[peer] = record

    def _inside(self, top: RoundRecord) -> Iterator[PeerId]:
        """The peers whose contributions are inside a node's vector, by walking down ``children``; missing ones too.

        A peer met again is not walked again (``_check_combined_once`` reports it).
        """
        waiting, seen = [top.peer], {top.peer}
        while waiting:
            peer = waiting.pop()
            yield peer
            record = self._records.get(peer)
            for child in record.children if record is not None else ():
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)

    def _distance(self, lower: PeerId, upper: PeerId) -> int | None:
        """How far above ``lower`` its ancestor ``upper`` is; ``None``: not within S, or unknown."""
        record = self._records.get(lower)
        if record is None or upper not in record.ancestors:
            return None
        return record.ancestors.index(upper) + 1

    def _check_flags(self, r: RoundRecord) -> None:
        wrong = []
        if r.parent is None:
            if r.sent or r.sent_vector is not None or r.masks or r.ancestors:
                wrong.append("is the root, yet says that it sent a vector, drew masks or has ancestors")
            if r.published and (r.total is None or r.value is None or not r.contributed):
                wrong.append("published, yet there is no total or no contribution of its own")
        else:
            if r.total is not None or r.published:
                wrong.append("is not the root, yet has a total or published")
            if r.sent != (r.sent_vector is not None):
                wrong.append("says that it sent a vector and has none, or the other way round")
            if r.sent and not r.contributed:
                wrong.append("forwarded without contributing: there are no pure relays")
        if r.contributed and r.value is None:
            wrong.append("contributed, yet its value is not recorded")
        for sentence in wrong:
            self._violation(Check.STRUCTURE, r.peer, sentence)

    def _check_ancestors(self, r: RoundRecord) -> None:
        s = r.collusion_threshold
        if r.parent is None:
            return  # the flags check has seen to it
        if not r.ancestors or r.ancestors[0] != r.parent or len(r.ancestors) > s:
            self._violation(Check.STRUCTURE, r.peer, f"has not its parent first among at most {s} ancestors")
        if len({r.peer, *r.ancestors}) != len(r.ancestors) + 1:
            self._violation(Check.STRUCTURE, r.peer, "has an ancestor twice, or is its own ancestor")
        parent = self._records.get(r.parent)
        if parent is None:
            if r.sent:
                self._missing(r.parent, r, "the chain of ancestors")
        elif r.ancestors != (parent.peer, *parent.ancestors)[:s]:
            self._violation(Check.STRUCTURE, r.peer, f"its ancestors are not its parent {short(r.parent)} and those of"
                            " its parent, nearest first")  # fmt: skip

    def _check_combined_once(self) -> None:
        taken: dict[PeerId, PeerId] = {}
        for r in self._records.values():
            for child in r.children:
                if child in taken:
                    self._violation(
                        Check.STRUCTURE, r.peer, f"combined {short(child)}, which {short(taken[child])} combined too"
                    )
                taken.setdefault(child, r.peer)

    def _check_received(self, r: RoundRecord) -> None:
        for child in r.children:
            if child not in r.received:
                self._violation(Check.TRANSPORT, r.peer, f"combined {short(child)}, whose vector it did not receive")
        for child in sorted(r.received):
            sender = self._records.get(child)
            if sender is None:
                self._missing(child, r, f"the vector received from {short(child)}", combined=child in r.children)
            elif sender.parent != r.peer:
                self._violation(Check.STRUCTURE, r.peer, f"received from {short(child)}, which has another parent")
            elif not sender.sent or sender.sent_vector != r.received[child]:
                self._violation(
                    Check.TRANSPORT, r.peer, f"the vector received from {short(child)} is not the one that peer sent"
                )

    # --- masks and vectors ----------------------------------------------------------------------------------

    def _check_masks(self, r: RoundRecord) -> None:
        trustees = r.ancestors[1 : r.collusion_threshold]
        if r.sent and sorted(r.masks) != sorted(trustees):
            self._violation(
                Check.MASKS,
                r.peer,
                f"drew masks for {_names(r.masks)} where the protocol wants {_names(trustees)}"
                " (its ancestors from the second to the S-th)",
            )
        elif not set(r.masks) <= set(trustees):
            self._violation(Check.MASKS, r.peer, "drew a mask for a peer that is no trustee of it")

    def _check_opened(self, r: RoundRecord) -> None:
        for contributor in sorted(r.opened):
            drawer = self._records.get(contributor)
            if drawer is None:
                self._missing(contributor, r, f"the seed opened of {short(contributor)}")
            elif drawer.masks.get(r.peer) != r.opened[contributor]:
                self._violation(
                    Check.MASKS, r.peer, f"the seed opened of {short(contributor)} is not the one drawn by that peer"
                )
        if not _forwards(r):
            return
        inside = list(self._inside(r))
        expected = {p for p in inside if (self._distance(p, r.peer) or 0) >= 2}
        for peer in inside:
            if peer not in self._records and peer not in r.children:
                self._missing(peer, r, "the set of seeds opened")
        whole = all(p in self._records for p in inside)
        for peer in sorted(expected ^ set(r.opened) if whole else expected - set(r.opened)):
            what = "did not open the seed" if peer in expected else "opened a seed that is not due"
            self._violation(Check.MASKS, r.peer, f"{what} of {short(peer)} (due: whoever is 2 to S below)")

    def _check_vector(self, r: RoundRecord) -> None:
        """What left is what values, masks and children give."""
        out = r.total if r.parent is None else r.sent_vector
        if out is None or r.value is None or any(c not in r.received for c in r.children):
            return  # nothing left, or reported by the flags or the vectors received
        derived = combine(
            r.modulus_bits,
            len(out),
            [bytes(r.value), *(bytes(r.received[c]) for c in r.children)],
            add=[bytes(seed) for seed in r.masks.values()],
            subtract=[bytes(seed) for seed in r.opened.values()],
        )
        self._result.vectors_checked += 1
        if derived != out:
            what = "its total" if r.parent is None else "the vector it sent"
            self._violation(Check.EXACT_SUM, r.peer, f"{what} is not value + children + masks drawn - masks opened")

    # --- counts, rule, publication --------------------------------------------------------------------------

    def _check_cohort(self, r: RoundRecord) -> None:
        if not _forwards(r):
            return
        inside = list(self._inside(r))
        if any(p not in self._records for p in inside):
            return  # reported as missing where it matters
        if r.cohort != len(inside):
            self._violation(Check.COHORT, r.peer, f"counts {r.cohort} contributions where {len(inside)} are inside")

    def _check_rule(self, r: RoundRecord) -> None:
        if not _forwards(r) or (r.parent is None and not r.published):
            return
        s = r.collusion_threshold
        inside = [p for p in self._inside(r) if p != r.peer]
        if any(p not in self._records for p in inside):
            return  # reported as missing where it matters
        seeds = sum((self._distance(p, r.peer) or 0) >= 2 for p in inside)
        neighbours = mask_neighbours(len(r.ancestors), s, len(r.children), seeds if r.children else 0)
        if neighbours < s:
            self._violation(Check.RULE, r.peer, f"contributed with {neighbours} mask neighbours, fewer than S = {s}")
        if r.peer in self._needed:
            fewest = self._result.min_mask_neighbours
            self._result.min_mask_neighbours = neighbours if fewest is None else min(fewest, neighbours)

    def _check_publication(self, root: RoundRecord) -> None:
        missing = [p for p in self._needed if p not in self._records]
        if root.cohort < root.collusion_threshold + 1:
            self._violation(Check.RULE, root.peer, f"published a sum of {root.cohort} contributions, below S + 1")
        values = [r.value for p in self._needed if (r := self._records.get(p)) is not None and r.value is not None]
        if missing or len(values) != len(self._needed) or root.total is None:
            self._violation(
                Check.MISSING,
                root.peer,
                f"its published total cannot be verified: {len(self._needed) - len(values)} of"
                f" {len(self._needed)} contributions are not recorded",
            )
            return
        total = combine(root.modulus_bits, len(root.total), [bytes(v) for v in values])
        self._result.vectors_checked += 1
        self._result.exact = total == root.total
        if not self._result.exact:
            self._violation(
                Check.EXACT_SUM, root.peer, f"its published total is not the sum of its {len(values)} contributions"
            )


def _forwards(r: RoundRecord) -> bool:
    """Whether the node's own value went on with those of its children (from the root: to a total)."""
    return r.sent if r.parent is not None else r.contributed and r.total is not None


def _vectors(r: RoundRecord) -> list[Buffer]:
    return [v for v in (r.total, r.value, r.sent_vector, *r.received.values()) if v is not None]


def _kind(r: RoundRecord) -> tuple[int, int]:
    return (r.collusion_threshold, r.modulus_bits)


def _names(peers: Mapping[PeerId, object] | tuple[PeerId, ...]) -> str:
    return ", ".join(short(p) for p in sorted(peers)) or "nobody"
