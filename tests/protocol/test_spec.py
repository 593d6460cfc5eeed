"""SPEC.md and the code say the same of the phases."""

from enum import Enum
from pathlib import Path

import pytest

import protocol
from protocol.aggregation.phases import PHASES, PLACES, Phase, advance

SPEC = (Path(protocol.__file__).parent / "SPEC.md").read_text(encoding="utf-8")


def table(begin: str, end: str) -> dict[str, tuple[str, ...]]:
    lines = SPEC.split(f"<!-- {begin} -->")[1].split(f"<!-- {end} -->")[0].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: tuple(name.strip() for name in row[1].split(",") if name.strip()) for row in rows}


def named(moves: dict[Enum, tuple[Enum, ...]]) -> dict[str, tuple[str, ...]]:
    return {state.name: tuple(then.name for then in allowed) for state, allowed in moves.items()}


def test_phases() -> None:
    assert table("phases", "places") == named(dict(PHASES))


def test_places() -> None:
    assert table("places", "end") == named(dict(PLACES))


def test_a_move_outside_the_table_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        advance(Phase.SENT, Phase.COMBINING)
