"""The tables of phases and places: every move in them and no other, ends that are ends, sentences for people."""

from itertools import product

import pytest

from protocol.aggregation.phases import PHASES, PLACES, AbstainReason, DeclineReason, Phase, Place, advance


@pytest.mark.parametrize(("now", "then"), [*product(Phase, Phase), *product(Place, Place)])
def test_a_move_is_allowed_exactly_if_it_is_in_the_table(now: Phase | Place, then: Phase | Place) -> None:
    allowed = PHASES[now] if isinstance(now, Phase) else PLACES[now]
    if then in allowed:
        assert advance(now, then) is then
    else:
        with pytest.raises(AssertionError, match=f"{now.name} to {then.name}"):
            advance(now, then)


def test_every_phase_and_place_is_in_its_table_and_can_be_reached_and_left_to_an_end() -> None:
    for table, start in ((PHASES, Phase.GATHERING), (PLACES, Place.EMPTY)):
        reached, waiting = {start}, [start]
        while waiting:
            for then in table[waiting.pop()]:
                if then not in reached:
                    reached.add(then)
                    waiting.append(then)
        assert reached == set(type(start)) == set(table)


def test_nothing_is_sent_twice_and_the_frozen_set_never_thaws() -> None:
    ends = {Phase.SENT, Phase.PUBLISHED, Phase.ABSTAINED}
    assert {phase for phase, then in PHASES.items() if not then} == ends
    assert Phase.GATHERING not in {then for moves in PHASES.values() for then in moves}
    assert {place for place, then in PLACES.items() if not then} == {Place.DELIVERED, Place.GONE}


@pytest.mark.parametrize("reasons", [DeclineReason, AbstainReason])
def test_every_reason_has_its_own_sentence(reasons: type[DeclineReason] | type[AbstainReason]) -> None:
    sentences = [reason.sentence for reason in reasons]
    assert len(set(sentences)) == len(sentences)
    assert all(s and s[0].islower() and not s.endswith(".") for s in sentences)
