"""SPEC.md and the code say the same: kinds of messages, refusals, limits, settings, task fields, phases, reasons."""

import re
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path

import pytest

import protocol
from peer.delivery import STATUS
from protocol.aggregation.phases import PHASES, PLACES, AbstainReason, DeclineReason, Phase, advance
from protocol.base import limits
from protocol.base.errors import Refusal
from protocol.base.settings import PRESETS, Settings
from protocol.training.task import Task
from protocol.wire import codec

SPEC = (Path(protocol.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
SOURCES = Path(protocol.__file__).parent

TABLES = ("kinds", "refusals", "limits", "settings", "task", "decline", "phases", "places", "abstain")
BULK = {"state", "vector", "checkpoint"}
INSIDE = {
    Refusal.OUT_OF_PHASE,
    Refusal.NOT_EXPECTED,
    Refusal.OVER_CAP,
    Refusal.BAD_SEEDS,
    Refusal.WRONG_LENGTH,
}
"""Said after the envelope was answered."""


def table(name: str) -> list[list[str]]:
    """The rows between the table's comment and the next ``end``, without heading, cells without backquotes."""
    (text,) = re.findall(rf"^<!-- {name} -->\n(.*?)^<!-- end -->$", SPEC, re.DOTALL | re.MULTILINE)
    lines = text.strip().splitlines()
    assert re.fullmatch(r"\|( --- \|)+", lines[1]), f"{name}: a heading and a rule come first"
    return [[cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in cell.split(",") if name.strip())


def value(cell: str) -> float:
    return float(cell.replace(",", ""))


def test_every_table_is_compared() -> None:
    assert sorted(re.findall(r"^<!-- (\w+) -->$", SPEC, re.MULTILINE)) == sorted([*TABLES, *["end"] * len(TABLES)])


def test_kinds_of_messages() -> None:
    said = [(int(row[0]), row[1], names(row[2]), row[3]) for row in table("kinds")]
    built = [
        (
            kind.tag,
            kind.cls.__name__,
            tuple(f.name + "*" * (f.name in BULK) for f in fields(kind.cls)),
            "MAX_BODY" if kind.limit == limits.MAX_BODY else "MAX_CONTROL_BODY",
        )
        for kind in codec._KINDS
    ]
    assert said == built
    assert {kind.limit for kind in codec._KINDS} == {limits.MAX_BODY, limits.MAX_CONTROL_BODY}


def test_refusals() -> None:
    built = [[r.name, "-" if r in INSIDE else str(STATUS.get(r, 400)), r.value] for r in Refusal]
    assert table("refusals") == built
    assert not INSIDE & set(STATUS)


def test_limits() -> None:
    said = {row[0]: value(row[1]) for row in table("limits")}
    assert said == {name: number for name, number in vars(limits).items() if name.isupper()}


def test_settings() -> None:
    said = {row[0]: tuple(map(value, row[1:5])) for row in table("settings")}
    presets = (PRESETS["local"], PRESETS["lan"], PRESETS["wan"], PRESETS["phones"])
    assert said == {f.name: tuple(getattr(preset, f.name) for preset in presets) for f in fields(Settings)}
    assert list(said) == [f.name for f in fields(Settings)]


def test_task_fields_in_canonical_order() -> None:
    assert [row[0] for row in table("task")] == [f.name for f in fields(Task)]


@pytest.mark.parametrize(("name", "reasons"), [("decline", DeclineReason), ("abstain", AbstainReason)])
def test_reasons(name: str, reasons: type[DeclineReason] | type[AbstainReason]) -> None:
    assert table(name) == [[str(int(reason)), reason.name, reason.sentence] for reason in reasons]


@pytest.mark.parametrize(("name", "moves"), [("phases", PHASES), ("places", PLACES)])
def test_phases(name: str, moves: Mapping[Enum, tuple[Enum, ...]]) -> None:
    said = [(row[0], names(row[1])) for row in table(name)]
    assert said == [(state.name, tuple(then.name for then in allowed)) for state, allowed in moves.items()]


def test_a_move_outside_the_table_is_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError):
        advance(Phase.SENT, Phase.COMBINING)


def test_every_domain_tag_is_named() -> None:
    """Whatever is signed or hashed under a tag of its own in the code stands in the file, and the other way round."""
    built: set[str] = set()
    for source in sorted(SOURCES.rglob("*.py")):
        built |= set(re.findall(r'b"(susurrus [a-z0-9 ]+)\\0"', source.read_text(encoding="utf-8")))
    assert built == set(re.findall(r"(susurrus [a-z0-9 ]+)\\0", SPEC))


def test_tests_that_are_named_exist() -> None:
    root = Path(__file__).parents[2]
    for name in re.findall(r"`(tests/[\w/.]+)`", SPEC):
        assert (root / name).exists(), name
