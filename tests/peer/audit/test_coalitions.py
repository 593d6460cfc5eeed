"""Which coalitions are looked at, what is assumed of silent recordings, and what the description says."""

from itertools import combinations
from typing import Any

from peer.audit.coalitions import all_coalitions, check_coalitions, sample_coalitions
from peer.audit.report import Check
from protocol.base.entropy import Entropy, SeededEntropy
from protocol.privacy.description import describe
from protocol.privacy.leakage import Leakage

TREE = (0, 1, 1, 2, 2, 3, 3, 3)


def by_peer(records: Any) -> dict[Any, Any]:
    return {r.peer: r for r in records}


def test_all_coalitions_below_the_threshold() -> None:
    peers = tuple(bytes([i]) for i in range(5))
    assert list(all_coalitions(peers, 3)) == [(), *[(p,) for p in peers], *combinations(peers, 2)]


def test_a_sample_is_repeatable_distinct_and_within_its_bound(scene: Any, entropy: Entropy) -> None:
    engine = Leakage(describe(scene(TREE).play(0, entropy)))
    one, two, other = (list(sample_coalitions(engine, 20, SeededEntropy(seed))) for seed in (1, 1, 2))
    assert one == two
    assert one != other
    assert len(one) == len(set(one)) == 20
    assert {len(c) for c in one} == {0, 2}
    assert all(list(c) == sorted(set(c)) for c in one)


def test_a_sample_of_few_ends(scene: Any, entropy: Entropy) -> None:
    engine = Leakage(describe(scene((0, 1, 2)).play(0, entropy)))
    assert len(list(sample_coalitions(engine, 100, SeededEntropy(1)))) == 1 + 6


def test_half_of_a_sample_is_drawn_from_mask_neighbours(scene: Any, entropy: Entropy) -> None:
    """On a long path few pairs are neighbours of one contributor: uniform draws alone would hardly meet one."""
    engine = Leakage(describe(scene(range(40)).play(0, entropy)))
    around = [set(engine.neighbours(peer)) for peer in engine.peers]
    near = [c for c in sample_coalitions(engine, 60, SeededEntropy(4)) if c and any(set(c) <= a for a in around)]
    assert 25 <= len(near) <= 45


def test_a_leak_is_found_in_a_sample_too(scene: Any, entropy: Entropy) -> None:
    """A star of 14: half of the sample is drawn around contributors, so the few that leak are met."""
    records = by_peer(scene((0,) * 13, guarded=False).play(0, entropy))
    result = check_coalitions(next(iter(records.values())).round, records, max_coalitions=40, seed=7)
    assert result.sampled
    assert result.examined == 40
    assert {f.check for f in result.violations} == {Check.COALITION}


def test_a_partial_that_was_sent_counts_as_seen(scene: Any, entropy: Entropy) -> None:
    """The parent's record was written before a late partial came; it holds it all the same."""
    records = scene(TREE, fates={8: "late"}).play(0, entropy)
    parent = records[3]
    del parent.received[records[8].peer]
    node = next(n for n in describe(records).nodes if n.peer == parent.peer)
    assert records[8].peer in node.received
    assert records[8].peer not in node.combined


def test_a_dead_parent_still_holds_what_it_was_sent(scene: Any, entropy: Entropy) -> None:
    """Without its record; and a single value that only it holds would be found."""
    star = scene((0, 1), s=2, guarded=False, trustees=lambda up, s: ()).play(0, entropy)
    result = check_coalitions(star[0].round, by_peer(star[2:]), max_coalitions=10, seed=0)
    assert [f.peer for f in result.violations] == [star[2].peer]


def test_an_unrecorded_child_is_an_unknown_not_a_leak(scene: Any, entropy: Entropy) -> None:
    records = by_peer(scene(TREE).play(0, entropy)[1:])
    gone = [r.peer for r in records.values()][3]
    del records[gone]
    result = check_coalitions(next(iter(records.values())).round, records, max_coalitions=1000, seed=0)
    assert result.violations == ()
    assert result.examined == 1 + 9 + 36


def test_a_description_that_is_no_tree_is_a_finding(scene: Any, entropy: Entropy) -> None:
    records = scene(TREE).play(0, entropy)
    parent, stray = records[2], records[8]
    parent.received[stray.peer] = stray.sent_vector
    object.__setattr__(parent, "children", (*parent.children, stray.peer))
    (finding,) = check_coalitions(parent.round, by_peer(records), max_coalitions=9, seed=0).violations
    assert "cannot be worked out" in finding.sentence


def test_nothing_recorded_is_nothing_examined() -> None:
    assert check_coalitions(b"r" * 16, {}, max_coalitions=9, seed=0).examined == 0  # type: ignore[arg-type]
