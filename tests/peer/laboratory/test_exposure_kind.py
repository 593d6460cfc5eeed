"""The kind ``exposure``: theory, Monte Carlo and rounds of real nodes agree; without masks they would not."""

from dataclasses import replace
from typing import Any

import pytest

from peer.laboratory import rounds
from peer.laboratory.exposure import Exposure, exposed_share, learned_values
from peer.laboratory.rounds import PlayedRound, play
from protocol.privacy.exposure import Faults, Shape, closed_form
from protocol.privacy.leakage import DescribedRound, Leakage

KIND = Exposure()
ERRORS = 3.0


@pytest.mark.parametrize(("branching", "threshold"), [(2, 2), (3, 2), (2, 3), (2, 4)])
def test_the_three_engines_agree(branching: int, threshold: int) -> None:
    given: dict[str, Any] = {"branching": branching, "collusion_threshold": threshold, "corrupt": [0.3, 0.5]}
    rows = KIND.run({**given, "trees": 20_000, "rounds": 5, "coalitions": 200}, 11)
    assert [row["engine"] for row in rows] == 2 * ["theory", "monte carlo", "simulation"]
    scores = [row["z"] for row in rows if row["engine"] != "theory"]
    assert None not in scores
    assert all(isinstance(z, float) and abs(z) <= ERRORS for z in scores), rows


def test_they_agree_where_partials_are_lost() -> None:
    given = {"collusion_threshold": 2, "corrupt": 0.5, "lost": 0.2, "trees": 20_000, "rounds": 250}
    rows = {row["engine"]: row for row in KIND.run(given, 3)}
    assert rows["simulation"]["z"] is not None
    for engine in ("monte carlo", "simulation"):
        z = rows[engine]["z"]
        assert isinstance(z, float)
        assert abs(z) <= ERRORS, rows
    # A tree from which nothing is lost exposes another share, far enough away to be told apart by Monte Carlo.
    whole = closed_form(Shape(2, 2, 0, 2), Faults(), 0.5).arrived.share
    share, error = rows["monte carlo"]["share"], rows["monte carlo"]["share_se"]
    assert isinstance(share, float)
    assert isinstance(error, float)
    assert abs(share - whole) > ERRORS * error


def test_played_rounds_are_whole_and_lose_what_is_lost() -> None:
    shape = Shape(3, 2, 0, 2)
    whole = play(shape, 0.0, 4, 1)
    assert all(r.published and len(r.leakage.arrived) == len(r.leakage.published) == shape.nodes for r in whole)
    lossy = play(shape, 0.3, 12, 1)
    assert any(len(r.leakage.published) < shape.nodes for r in lossy)
    assert any(len(r.leakage.arrived) > len(r.leakage.published) for r in lossy)
    sent = [sum(node.sent for node in r.leakage.described.nodes) for r in lossy]
    assert any(len(r.leakage.arrived) < count for r, count in zip(lossy, sent, strict=True))


def test_components_say_what_algebra_says() -> None:
    for one in play(Shape(2, 3, 0, 3), 0.2, 4, 2):
        for first in range(len(one.leakage.peers)):
            coalition = one.leakage.peers[first::2]
            assert one.leakage.by_components(coalition).values == learned_values(one.leakage, coalition)


def test_a_protocol_without_masks_is_told_apart() -> None:
    """The control: the same rounds, had nobody drawn a mask."""
    honest = play(Shape(2, 2, 0, 2), 0.0, 4, 5)
    naked = [PlayedRound(Leakage(_without_masks(r.leakage.described)), r.published) for r in honest]
    share, _ = exposed_share(honest, 0.3, 100, 1)
    broken, _ = exposed_share(naked, 0.3, 100, 1)
    assert broken > 2 * share


def _without_masks(described: DescribedRound) -> DescribedRound:
    return replace(described, nodes=tuple(replace(node, trustees=()) for node in described.nodes))


def test_large_trees_are_not_simulated() -> None:
    rows = KIND.run({"branching": 4, "corrupt": 0.1, "trees": 100, "simulated_nodes": 84}, 1)
    assert [row["engine"] for row in rows] == ["theory", "monte carlo"]
    assert rows[0]["nodes"] == 85


def test_a_tree_of_another_shape_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "SPARE", 0.5)
    monkeypatch.setattr(rounds, "_PATIENCE_S", 20.0)
    with pytest.raises(RuntimeError, match="0 of 1 rounds came about"):
        play(Shape(2, 3, 0, 2), 0.0, 1, 1)


def test_all_mistakes_at_once() -> None:
    given = {"branching": 99, "depth": 1, "corrupt": [0.1, 1.0], "lost": 2.0, "trees": 0, "rounds": 0, "share": 1}
    told = "\n".join(KIND.check(given, "f: parameters"))
    for part in (
        "branching 99 is not",
        "corrupt must be at least 0 and below 1",
        "trees must be",
        "rounds must be",
        "no key 'share'",
        "lost partials must be",
    ):
        assert part in told, told
    deep = "\n".join(KIND.check({"depth": 2, "corrupt": 0.1}, "f: parameters"))
    assert "collusion threshold" in deep
    assert KIND.check({"corrupt": 0.1}, "f") == []
    assert any("needs corrupt" in problem for problem in KIND.check({}, "f"))


def test_one_seed_gives_one_table() -> None:
    given = {"corrupt": [0.2], "trees": 1000, "rounds": 3, "coalitions": 5}
    assert KIND.run(given, 9) == KIND.run(given, 9)
    assert KIND.run(given, 9) != KIND.run(given, 10)
