"""Honest recordings are clean; every tampering is found, of the right kind, with peer and round named."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peer.audit import audit
from peer.audit.report import AuditReport, Check
from protocol.base.entropy import Entropy, SeededEntropy
from protocol.base.ids import short


def name(node: int) -> str:
    return (bytes([0xA0 + node]) * 16).hex()


def flip(text: str) -> str:
    """The same base64 with one bit of the last byte changed."""
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def kinds(report: AuditReport) -> set[Check]:
    return {finding.check for finding in report.violations}


def test_honest_recordings_are_clean(honest: Any) -> None:
    report = audit(honest.write(), max_coalitions=1000, seed=0)
    assert report.clean, report.sentences()
    assert (report.peers, report.rounds, report.published, report.exact_totals) == (9, 3, 2, 2)
    assert report.contributions == 9 + 8
    assert report.records == 26
    assert report.min_mask_neighbours == 3
    assert report.coalitions_checked == 3 * (1 + 9 + 36)
    assert not report.coalitions_sampled
    assert report.seeds_checked == 3 * (5 * 2 + 2)  # five leaves at depth 3, two nodes at depth 2
    assert [n.check for n in report.notes].count(Check.MISSING) >= 1  # the dead root


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("s", [2, 3, 4])
def test_random_rounds_are_clean(empty: Any, scene: Any, bits: int, s: int) -> None:
    """Random trees with late and missing partials, several rounds; nothing that an honest peer does is a finding."""
    entropy = SeededEntropy(f"random {bits} {s}")
    published = 0
    for number in range(12):
        size = 5 + entropy.below(7)
        parents = [max(0, i - entropy.below(2 if i <= s else 4)) for i in range(size - 1)]
        fates = {i: entropy.choice(["late", "silent"]) for i in range(1, size) if entropy.below(8) == 0}
        seats = entropy.sample(range(14), size)
        records = scene(parents, s=s, bits=bits, fates=fates, seats=seats).play(number, entropy)
        published += records[0].published
        empty.add(records)
    report = audit(empty.write(), max_coalitions=300, seed=1)
    assert report.clean, report.sentences()
    assert report.published == report.exact_totals == published
    assert published >= 3, "the check must not be vacuous"


def test_the_order_of_lines_changes_nothing(honest: Any) -> None:
    before = audit(honest.write(), max_coalitions=40, seed=3)
    for lines in honest.lines.values():
        lines.reverse()
    assert audit(honest.write(), max_coalitions=40, seed=3) == before
    assert before.coalitions_sampled


# --- tampering: (what is done to the JSON, kind of the finding expected, node blamed, round) ----------------------

TREE = (0, 1, 1, 2, 2, 3, 3, 3)
Tamper = Callable[[Any], None]
TAMPERINGS: list[tuple[str, Tamper, Check, int, int]] = []


def tampering(check: Check, node: int, number: int = 0) -> Callable[[Tamper], Tamper]:
    def keep(function: Tamper) -> Tamper:
        TAMPERINGS.append((function.__name__, function, check, node, number))
        return function

    return keep


@tampering(Check.EXACT_SUM, 5)
def value_changed(d: Any) -> None:
    d.line(5)["value"] = flip(d.line(5)["value"])


@tampering(Check.EXACT_SUM, 0)
def value_changed_far_below_a_published_total(d: Any) -> None:
    d.line(5)["value"] = flip(d.line(5)["value"])


@tampering(Check.EXACT_SUM, 4)
def vector_changed_at_both_ends(d: Any) -> None:
    d.line(4)["sent_vector"] = d.line(2)["received"][name(4)] = flip(d.line(4)["sent_vector"])


@tampering(Check.EXACT_SUM, 4, 2)
def vector_changed_in_a_round_that_died(d: Any) -> None:
    d.line(4, 2)["sent_vector"] = d.line(2, 2)["received"][name(4)] = flip(d.line(4, 2)["sent_vector"])


@tampering(Check.TRANSPORT, 2)
def vector_changed_on_its_way(d: Any) -> None:
    d.line(2)["received"][name(4)] = flip(d.line(2)["received"][name(4)])


@tampering(Check.TRANSPORT, 3, 1)
def late_vector_changed(d: Any) -> None:
    d.line(3, 1)["received"][name(8)] = flip(d.line(3, 1)["received"][name(8)])


@tampering(Check.TRANSPORT, 2)
def received_vector_taken_out(d: Any) -> None:
    del d.line(2)["received"][name(4)]


@tampering(Check.EXACT_SUM, 0)
def total_changed(d: Any) -> None:
    d.line(0)["total"] = flip(d.line(0)["total"])


@tampering(Check.EXACT_SUM, 3, 1)
def late_child_said_to_be_combined(d: Any) -> None:
    d.line(3, 1)["children"].append(name(8))


@tampering(Check.EXACT_SUM, 2)
def combined_child_hidden(d: Any) -> None:
    d.line(2)["children"].remove(name(4))


@tampering(Check.MASKS, 4)
def mask_left_out(d: Any) -> None:
    del d.line(4)["masks"][name(0)]


@tampering(Check.MASKS, 4)
def mask_drawn_for_the_parent(d: Any) -> None:
    d.line(4)["masks"][name(2)] = d.line(4)["masks"].pop(name(1))


@tampering(Check.MASKS, 1)
def mask_seed_changed_at_the_trustee(d: Any) -> None:
    d.line(1)["opened"][name(6)] = flip(d.line(1)["opened"][name(6)])


@tampering(Check.MASKS, 0)
def opened_seed_taken_out(d: Any) -> None:
    del d.line(0)["opened"][name(7)]


@tampering(Check.MASKS, 0)
def seed_opened_of_a_late_peer(d: Any) -> None:
    d.line(0, 0)["opened"][name(1)] = base64.b64encode(b"x" * 32).decode()


@tampering(Check.COHORT, 3)
def cohort_inflated(d: Any) -> None:
    d.line(3)["cohort"] += 1


@tampering(Check.COHORT, 0)
def published_cohort_changed(d: Any) -> None:
    d.line(0)["cohort"] -= 1


@tampering(Check.STRUCTURE, 6)
def ancestors_swapped(d: Any) -> None:
    up = d.line(6)["ancestors"]
    up[1], up[2] = up[2], up[1]


@tampering(Check.STRUCTURE, 6)
def one_ancestor_twice(d: Any) -> None:
    d.line(6)["ancestors"][2] = d.line(6)["ancestors"][1]


@tampering(Check.STRUCTURE, 6)
def ancestor_exchanged_for_a_stranger(d: Any) -> None:
    d.line(6)["ancestors"][2] = name(13)


@tampering(Check.STRUCTURE, 3)
def forwarded_without_contributing(d: Any) -> None:
    d.line(3)["contributed"] = False


@tampering(Check.STRUCTURE, 3)
def sent_flag_cleared(d: Any) -> None:
    d.line(3)["sent"] = False


@tampering(Check.STRUCTURE, 0)
def published_without_contributing(d: Any) -> None:
    d.line(0)["contributed"] = False


@tampering(Check.STRUCTURE, 4)
def value_withheld(d: Any) -> None:
    d.line(4)["value"] = None


@tampering(Check.STRUCTURE, 7)
def smaller_threshold(d: Any) -> None:
    d.line(7)["collusion_threshold"] = 2


@tampering(Check.STRUCTURE, 7)
def other_ring(d: Any) -> None:
    d.line(7)["modulus_bits"] = 16


@tampering(Check.STRUCTURE, 7)
def vector_cut_short(d: Any) -> None:
    d.line(7)["value"] = base64.b64encode(base64.b64decode(d.line(7)["value"])[:-4]).decode()


@tampering(Check.STRUCTURE, 0)
def root_with_an_ancestor(d: Any) -> None:
    d.line(0)["ancestors"] = [name(9)]


@tampering(Check.STRUCTURE, 6)
def total_at_a_leaf(d: Any) -> None:
    d.line(6)["total"] = d.line(6)["value"]


@tampering(Check.STRUCTURE, 1, 2)
def other_parent_where_the_parent_left_no_record(d: Any) -> None:
    d.line(1, 2)["ancestors"] = [name(9)]


@tampering(Check.STRUCTURE, 1, 2)
def one_ancestor_twice_where_the_parent_left_no_record(d: Any) -> None:
    d.line(1, 2)["ancestors"] = [name(0), name(0)]


@tampering(Check.STRUCTURE, 3)
def child_of_two_parents(d: Any) -> None:
    d.line(3)["children"].append(name(4))
    d.line(3)["received"][name(4)] = d.line(4)["sent_vector"]


@tampering(Check.STRUCTURE, 8, 1)
def second_root(d: Any) -> None:
    x = d.line(8, 1)
    x.update(parent=None, ancestors=[], masks={}, sent=False, total=x["sent_vector"], sent_vector=None, published=True)


@tampering(Check.REUSE, 4, 1)
def seed_of_another_round(d: Any) -> None:
    d.line(4, 1)["masks"][name(1)] = d.line(4, 0)["masks"][name(1)]


@tampering(Check.REUSE, 4, 1)
def value_of_another_round(d: Any) -> None:
    d.line(4, 1)["value"] = d.line(4, 0)["value"]


@tampering(Check.REUSE, 4)
def same_round_twice(d: Any) -> None:
    d.lines[name(4)].append(dict(d.line(4)))


@tampering(Check.MISSING, 2)
def record_taken_away(d: Any) -> None:
    d.lines[name(4)].pop(0)


@tampering(Check.MISSING, 0)
def record_of_an_inner_node_taken_away(d: Any) -> None:
    d.lines[name(1)].pop(0)


@tampering(Check.FORMAT, 5)
def in_the_wrong_file(d: Any) -> None:
    d.lines[name(4)].append(d.lines[name(5)].pop(0))


@pytest.mark.parametrize(
    ("tamper", "check", "node", "number"), [t[1:] for t in TAMPERINGS], ids=[t[0] for t in TAMPERINGS]
)
def test_tampering_is_found(honest: Any, tamper: Tamper, check: Check, node: int, number: int) -> None:
    tamper(honest)
    report = audit(honest.write(), max_coalitions=10, seed=0)
    assert not report.clean
    blamed = [f for f in report.violations if f.check is check and f.peer == bytes.fromhex(name(node))]
    assert blamed, report.sentences()
    finding = blamed[0]
    assert finding.round == bytes([0x10 + number]) * 16
    assert short(finding.round) in str(finding)
    assert short(bytes.fromhex(name(node))) in str(finding)
    assert any(str(finding) in sentence for sentence in report.sentences())


@pytest.mark.parametrize("field", ["value", "sent_vector", "total"])
def test_every_changed_vector_is_found(honest: Any, field: str) -> None:
    """Wherever a bit of a published round is changed."""
    original = json.dumps(honest.lines)
    changed = 0
    for node in range(9):
        honest.lines = json.loads(original)
        x = honest.line(node)
        if x[field] is None:
            continue
        x[field] = flip(x[field])
        changed += 1
        report = audit(honest.write(), max_coalitions=1, seed=0)
        assert kinds(report) & {Check.EXACT_SUM, Check.TRANSPORT}
    assert changed == {"value": 9, "sent_vector": 8, "total": 1}[field]


def test_one_vector_in_two_places_is_told_in_both_ways(honest: Any) -> None:
    child_of_two_parents(honest)
    told = [str(f) for f in audit(honest.write(), max_coalitions=1, seed=0).violations if f.check is Check.STRUCTURE]
    assert [("another parent" in t, "combined too" in t) for t in told] == [(True, False), (False, True)]


def test_a_total_over_an_unrecorded_contribution_is_not_called_exact(honest: Any) -> None:
    record_taken_away(honest)
    report = audit(honest.write(), max_coalitions=1, seed=0)
    assert report.exact_totals == report.published - 1
    assert any("its published total cannot be verified" in f.sentence for f in report.violations)


def test_an_abstainer_with_masks_for_strangers_is_found(empty: Any, scene: Any, entropy: Entropy) -> None:
    empty.add(scene(TREE, fates={8: "silent"}).play(0, entropy))
    assert audit(empty.write(), max_coalitions=1).clean
    empty.line(8)["masks"] = {name(2): base64.b64encode(b"m" * 32).decode()}
    (finding,) = audit(empty.write(), max_coalitions=1).violations
    assert (finding.check, finding.peer) == (Check.MASKS, bytes.fromhex(name(8)))


def test_two_swapped_values_are_found_though_the_total_is_right(honest: Any) -> None:
    a, b = honest.line(4), honest.line(6)
    a["value"], b["value"] = b["value"], a["value"]
    report = audit(honest.write(), max_coalitions=1, seed=0)
    assert {f.peer for f in report.violations} == {bytes.fromhex(name(4)), bytes.fromhex(name(6))}
    assert kinds(report) == {Check.EXACT_SUM}


# --- whole rounds by peers that break the protocol, consistently recorded --------------------------------------


def test_a_seed_used_twice_is_all_that_is_wrong(empty: Any, scene: Any, entropy: Entropy) -> None:
    for number in range(2):
        seeds = {(4, 1): b"s" * 32}
        empty.add(scene((0, 1, 2), seed_of=lambda n, t, seeds=seeds: seeds.get((n, t), entropy.token(32))).play(
            number, entropy))  # fmt: skip
    assert audit(empty.write()).clean, "nobody is at node 4 here"
    again = scene((0, 1, 2), seed_of=lambda n, t: b"%d%d" % (n, t) + b"s" * 30)
    report = audit(empty.add([*again.play(2, entropy), *again.play(3, entropy)]).write())
    assert kinds(report) == {Check.REUSE}
    assert len(report.violations) == 2 * (2 + 1)  # three seeds, seen by who drew and by who opened them


def test_one_seed_for_two_trustees_is_reuse(empty: Any, scene: Any, entropy: Entropy) -> None:
    empty.add(scene((0, 1, 2), seed_of=lambda n, t: bytes([n]) * 32).play(0, entropy))
    report = audit(empty.write())
    assert kinds(report) == {Check.REUSE}
    assert report.violations[0].peer is not None


def test_a_value_contributed_twice_is_all_that_is_wrong(empty: Any, scene: Any, entropy: Entropy) -> None:
    for number in range(2):
        values = {2: b"v" * 20}
        play = scene((0, 1, 2), value_of=lambda n, values=values: values.get(n, entropy.token(20)))
        empty.add(play.play(number, entropy))
    report = audit(empty.write())
    assert [(f.check, f.peer) for f in report.violations] == [(Check.REUSE, bytes.fromhex(name(2)))]


def test_without_the_guard_rule_and_coalitions_fail(empty: Any, scene: Any, entropy: Entropy) -> None:
    """A star: every leaf has but the root for a neighbour."""
    empty.add(scene((0, 0, 0, 0), guarded=False).play(0, entropy))
    report = audit(empty.write())
    assert kinds(report) == {Check.RULE, Check.COALITION}
    exposed = {f.peer for f in report.violations if f.check is Check.COALITION}
    assert exposed == {bytes.fromhex(name(i)) for i in range(5)} - {bytes.fromhex(name(0))}
    assert report.exact_totals == 1


def test_too_small_a_published_cohort_fails(empty: Any, scene: Any, entropy: Entropy) -> None:
    empty.add(scene((0, 1), guarded=False).play(0, entropy))
    report = audit(empty.write())
    assert any("below S + 1" in f.sentence for f in report.violations if f.check is Check.RULE)


@pytest.mark.parametrize("trustees", [lambda up, s: up[:1], lambda up, s: up[1 : s - 1], lambda up, s: ()])
def test_other_masks_fail_twice_over(empty: Any, scene: Any, entropy: Entropy, trustees: Any) -> None:
    empty.add(scene((0, 1, 1, 2, 2, 3), trustees=trustees, guarded=False).play(0, entropy))
    report = audit(empty.write())
    assert {Check.MASKS, Check.COALITION} <= kinds(report)
    assert Check.EXACT_SUM not in kinds(report)


# --- what the death of a peer leaves -----------------------------------------------------------------------------


def test_a_torn_last_line_nobody_depends_on_is_a_note(honest: Any) -> None:
    path = honest.write() / f"{name(5)}.jsonl"
    with path.open("ab") as file:
        file.write(path.read_bytes()[:100])
    report = audit(honest.path, max_coalitions=10, seed=0)
    assert report.clean
    assert any("cut short" in f.sentence for f in report.notes)


def test_a_torn_last_line_that_a_total_depends_on_is_a_failure(honest: Any) -> None:
    path = honest.write() / f"{name(5)}.jsonl"
    honest.lines[name(5)].sort(key=lambda x: x["round"], reverse=True)
    honest.write()
    path.write_bytes(path.read_bytes()[:-40])
    report = audit(honest.path, max_coalitions=10, seed=0)
    assert kinds(report) >= {Check.MISSING}
    assert any("cannot be verified" in f.sentence for f in report.violations)
    assert any("cut short" in f.sentence for f in report.notes)


def test_a_bad_line_elsewhere_is_a_violation(honest: Any) -> None:
    path = honest.write() / f"{name(5)}.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    report = audit(honest.path, max_coalitions=10, seed=0)
    assert [(f.check, "line 1" in f.sentence) for f in report.violations] == [(Check.FORMAT, True)]


def test_missing_records_of_an_unpublished_round_are_notes(honest: Any) -> None:
    """The third round lost its root; take away a leaf and an inner node too."""
    for node in (2, 7):
        honest.lines[name(node)] = honest.lines[name(node)][:2]
    report = audit(honest.write(), max_coalitions=1000, seed=0)
    assert report.clean, report.sentences()
    assert {n.peer for n in report.notes} >= {bytes.fromhex(name(2)), bytes.fromhex(name(7))}


def test_the_command_module_sees_paths_and_numbers(honest: Any, tmp_path: Path) -> None:
    report = audit(honest.write(), max_coalitions=10, seed=5)
    assert report.directory == str(tmp_path / "recordings")
    document = json.loads(json.dumps(report.as_json()))
    assert document["clean"] is True
    assert document["violations"] == []
    assert document["seed"] == 5
    assert all(set(note) == {"check", "round", "peer", "sentence"} for note in document["notes"])
    assert "seed 5" in " ".join(report.sentences())
