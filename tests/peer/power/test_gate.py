"""The gate as a table: every condition, known and not, alone and together; how it settles; hours and the clock."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from peer.config import Power
from peer.power.gate import BATTERY_MARGIN, TEMPERATURE_MARGIN, Gate, objection, open_at
from peer.power.sensors import Reading
from peer.power.watch import local_minute

NOON = 12 * 60
UNKNOWN = Reading(power_problem="it hangs", network_problem="no radio")


def reading(
    charging: bool | None = None, battery: float | None = None, degrees: float | None = None, wifi: bool | None = None
) -> Reading:
    return Reading(charging, battery, degrees, wifi, "it hangs", "no radio")


@pytest.mark.parametrize(
    ("power", "found", "sentence"),
    [
        ({}, UNKNOWN, None),
        ({}, reading(False, 1, 90, False), None),
        # on a charger
        ({"charging": True}, reading(True), None),
        ({"charging": True}, reading(True, 1, 90, False), None),
        ({"charging": True}, reading(False, 100), "not charging"),
        ({"charging": True}, reading(None, 100), "cannot tell whether it is charging (it hangs)"),
        # above so many percent
        ({"battery_above": 80}, reading(True, 81), None),
        ({"battery_above": 80}, reading(None, 80.5), None),
        ({"battery_above": 80}, reading(True, 80), "battery 80 % is not above 80 %"),
        ({"battery_above": 80}, reading(True, 43), "battery 43 % is not above 80 %"),
        ({"battery_above": 80}, reading(True), "cannot tell how full the battery is (it hangs)"),
        # either of the two
        ({"charging": True, "battery_above": 80}, reading(True, 5), None),
        ({"charging": True, "battery_above": 80}, reading(True), None),
        ({"charging": True, "battery_above": 80}, reading(False, 81), None),
        ({"charging": True, "battery_above": 80}, reading(None, 81), None),
        ({"charging": True, "battery_above": 80}, reading(False, 43), "not charging, battery 43 % is not above 80 %"),
        (
            {"charging": True, "battery_above": 80},
            reading(False),
            "not charging, cannot tell how full the battery is (it hangs)",
        ),
        (
            {"charging": True, "battery_above": 80},
            reading(None, 43),
            "cannot tell whether it is charging (it hangs), battery 43 % is not above 80 %",
        ),
        (
            {"charging": True, "battery_above": 80},
            UNKNOWN,
            "cannot tell whether it is charging (it hangs), cannot tell how full the battery is",
        ),
        # cool
        ({"temperature_below": 40}, reading(degrees=39.9), None),
        ({"temperature_below": 40}, reading(degrees=40), "battery at 40.0 C is not below 40 C"),
        ({"temperature_below": 40}, reading(True, 100), "cannot tell how warm the battery is (it hangs)"),
        # on Wi-Fi
        ({"unmetered": True}, reading(wifi=True), None),
        ({"unmetered": True}, reading(wifi=False), "not on Wi-Fi"),
        ({"unmetered": True}, UNKNOWN, "cannot tell whether it is on unmetered Wi-Fi (no radio)"),
        # at night
        ({"hours": "22-06"}, UNKNOWN, "outside the hours 22-06 (it is 12:00)"),
        ({"hours": "11:30-12:01"}, UNKNOWN, None),
        ({"hours": "22-06", "charging": True}, reading(False), "outside the hours 22-06 (it is 12:00)"),
        # all of it
        (
            {"charging": True, "unmetered": True, "temperature_below": 40, "hours": "12-13"},
            reading(True, 50, 30, True),
            None,
        ),
        (
            {"charging": True, "unmetered": True, "temperature_below": 40},
            reading(False, 50, 41.25, False),
            "not charging; battery at 41.2 C is not below 40 C; not on Wi-Fi",
        ),
    ],
)
def test_decisions(power: dict[str, Any], found: Reading, sentence: str | None) -> None:
    assert objection(Power(**power), found, NOON) == sentence


@pytest.mark.parametrize("state", [None, False])
@pytest.mark.parametrize(
    "power",
    [{"charging": True}, {"unmetered": True}, {"temperature_below": 40}, {"battery_above": 1}],
    ids=lambda power: next(iter(power)),
)
def test_what_is_asked_for_and_not_known_closes_the_gate(power: dict[str, Any], state: bool | None) -> None:
    """Whatever else is known: only the one thing that matters is missing."""
    known = {"charging": True, "battery": 100.0, "temperature": 20.0, "unmetered": True}
    missing = {"charging": "charging", "unmetered": "unmetered"}.get(next(iter(power)))
    missing = missing or {"temperature_below": "temperature", "battery_above": "battery"}[next(iter(power))]
    assert objection(Power(**power), Reading(**known), NOON) is None  # type: ignore[arg-type]
    if missing in ("temperature", "battery"):
        state = None
    assert objection(Power(**power), Reading(**known | {missing: state}), NOON) is not None  # type: ignore[arg-type]


# --- over time -------------------------------------------------------------------------------------------------


def judged(power: Power, *readings: Reading) -> list[bool]:
    """Whether the gate is open after each look."""
    gate = Gate(power)
    assert gate.closed is not None
    found = []
    for each in readings:
        gate.judge(each, NOON)
        found.append(gate.closed is None)
    return found


def test_the_first_look_decides_alone() -> None:
    assert judged(Power(charging=True), reading(True)) == [True]
    assert judged(Power(charging=True), reading(False)) == [False]
    assert judged(Power(charging=True), UNKNOWN) == [False]


def test_it_closes_at_once_and_opens_at_the_second_look() -> None:
    on, off = reading(True), reading(False)
    assert judged(Power(charging=True), on, off, on, on, off) == [True, False, False, True, False]


def test_a_loose_plug_never_opens_it() -> None:
    on, off = reading(True), reading(False)
    assert judged(Power(charging=True), off, *[on, off] * 5) == 11 * [False]


def test_a_sensor_that_fails_now_and_then_counts_as_closed() -> None:
    on = reading(True)
    assert judged(Power(charging=True), on, UNKNOWN, on, on) == [True, False, False, True]


def test_a_closed_gate_wants_a_margin() -> None:
    def at(percent: float) -> Reading:
        return reading(battery=percent)

    power = Power(battery_above=80)
    assert judged(power, at(81), at(80.5), at(80), at(81), at(81), at(83), at(83)) == 2 * [True] + 5 * [False]
    assert judged(power, at(80), at(80 + BATTERY_MARGIN + 1), at(80 + BATTERY_MARGIN + 1)) == [False, False, True]
    for limit in (97.0, 98.0, 99.0):  # a full battery always opens it
        assert judged(Power(battery_above=limit), at(50), at(100), at(100)) == [False, False, True]

    def warm(degrees: float) -> Reading:
        return reading(degrees=degrees)

    power = Power(temperature_below=40)
    assert judged(power, warm(39), warm(40), warm(39), warm(39), warm(38), warm(38)) == [True] + 5 * [False]
    below = 40 - TEMPERATURE_MARGIN - 0.1
    assert judged(power, warm(41), warm(below), warm(below)) == [False, False, True]


def test_the_margin_is_said() -> None:
    gate = Gate(Power(battery_above=80, temperature_below=40))
    gate.judge(reading(battery=70, degrees=45), NOON)
    gate.judge(reading(battery=82, degrees=39), NOON)
    assert gate.closed == "battery 82 % is not above 80 % by 3; battery at 39.0 C is not below 40 C by 2"


# --- hours -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("22-06", [(22, 0), (23, 59), (0, 0), (5, 59)], [(6, 0), (12, 0), (21, 59)]),
        ("08-17", [(8, 0), (16, 59)], [(7, 59), (17, 0), (0, 0), (23, 59)]),
        ("22:30-06:15", [(22, 30), (6, 14)], [(22, 29), (6, 15)]),
        ("00-24", [(0, 0), (12, 0), (23, 59)], []),
        ("18-24", [(18, 0), (23, 59)], [(0, 0), (17, 59)]),
        ("23-0", [(23, 0), (23, 59)], [(0, 0), (22, 59)]),
        ("", [(0, 0), (12, 0), (23, 59)], []),
    ],
)
def test_hours(hours: str, inside: list[tuple[int, int]], outside: list[tuple[int, int]]) -> None:
    window = Power(hours=hours).window
    assert all(open_at(window, 60 * hour + minute) for hour, minute in inside)
    assert not any(open_at(window, 60 * hour + minute) for hour, minute in outside)


@pytest.fixture
def central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("central_europe")
@pytest.mark.parametrize(
    ("utc", "clock", "is_open"),
    [
        ("2026-03-28 21:30", "22:30", True),  # the evening before
        ("2026-03-29 00:59", "01:59", True),
        ("2026-03-29 01:00", "03:00", True),  # the hour from two to three does not exist
        ("2026-03-29 03:59", "05:59", True),
        ("2026-03-29 04:00", "06:00", False),  # an hour earlier than a count of eight hours would say
        ("2026-10-25 00:30", "02:30", True),  # and this one comes twice
        ("2026-10-25 01:30", "02:30", True),
        ("2026-10-25 04:59", "05:59", True),
        ("2026-10-25 05:00", "06:00", False),
    ],
)
def test_hours_go_by_the_clock_on_the_wall_when_clocks_change(
    monkeypatch: pytest.MonkeyPatch, utc: str, clock: str, is_open: bool
) -> None:
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    local = time.localtime
    monkeypatch.setattr("peer.power.watch.time.localtime", lambda: local(at))
    minute = local_minute()
    assert f"{minute // 60:02d}:{minute % 60:02d}" == clock
    assert open_at(Power(hours="22-06").window, minute) is is_open
