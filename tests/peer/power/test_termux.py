"""What the two commands of Termux:API say, in every state, and when they say nothing or nonsense."""

import json
from typing import Any

import pytest

from peer.power.sensors import Reading
from peer.power.termux import MISSING, TermuxSensor, battery_status, wifi_status
from tests.peer.power.termux import BATTERY, BATTERY_JSON, CHARGING, WIFI, WIFI_JSON, Prefix


def battery(**changes: Any) -> tuple[bool | None, float | None, float | None, str]:
    said = {name: value for name, value in (BATTERY_JSON | changes).items() if value is not ...}
    return battery_status(json.dumps(said).encode())


@pytest.mark.parametrize(
    ("plugged", "status", "charging"),
    [
        ("UNPLUGGED", "DISCHARGING", False),
        ("UNPLUGGED", "NOT_CHARGING", False),
        ("UNPLUGGED", "CHARGING", False),  # a moment after the plug was pulled
        ("UNPLUGGED", "UNKNOWN", False),
        ("PLUGGED_AC", "CHARGING", True),
        ("PLUGGED_USB", "CHARGING", True),
        ("PLUGGED_WIRELESS", "CHARGING", True),
        ("PLUGGED_DOCK", "CHARGING", True),
        ("PLUGGED_AC", "FULL", True),
        ("PLUGGED_AC", "NOT_CHARGING", True),  # full enough, says the phone
        ("PLUGGED_AC", "UNKNOWN", True),
        ("PLUGGED_USB", "DISCHARGING", False),  # the charger is too weak
        ("PLUGGED_-1", "UNKNOWN", None),
        ("nonsense", "CHARGING", None),
        (7, "CHARGING", None),
        (["PLUGGED_AC"], "CHARGING", None),
        (None, "CHARGING", True),
        (None, "FULL", True),
        (None, "DISCHARGING", False),
        (None, "NOT_CHARGING", None),
        (None, "UNKNOWN", None),
        (..., ..., None),
    ],
)
def test_charging(plugged: Any, status: Any, charging: bool | None) -> None:
    found, _, _, problem = battery(plugged=plugged, status=status)
    assert found is charging
    assert problem == ("" if charging is not None else f"{BATTERY} does not say")


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({}, 43.0),
        ({"percentage": 0}, 0.0),
        ({"percentage": 100}, 100.0),
        ({"percentage": 101, "level": ...}, None),
        ({"percentage": -1, "level": ...}, None),
        ({"percentage": "43", "level": ...}, None),
        ({"percentage": True, "level": ...}, None),
        ({"percentage": None, "level": 100, "scale": 200}, 50.0),
        ({"percentage": None, "level": 300, "scale": 200}, None),
        ({"percentage": None, "level": -1, "scale": -1}, None),
        ({"percentage": None, "level": 1, "scale": 0}, None),
        ({"percentage": float("nan"), "level": ...}, None),
    ],
)
def test_percent(changes: dict[str, Any], percent: float | None) -> None:
    assert battery(**changes)[1] == percent


@pytest.mark.parametrize(
    ("said", "degrees"),
    [
        (29.1, 29.1),
        (-10, -10.0),
        (0.0, 0.0),
        (-214748364.8, None),
        (1e9, None),
        ("29", None),
        (None, None),
        (..., None),
    ],
)
def test_temperature(said: Any, degrees: float | None) -> None:
    assert battery(temperature=said)[2] == degrees


NONSENSE = [
    (b"", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"Termux:API is not yet available on Google Play", "not JSON"),
    (b'{"plugged": "PLUGGED_AC"', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"percentage": ' + b"9" * 5000 + b"}", "not JSON"),
    (b"[]", "something else than an object"),
    (b"null", "something else than an object"),
    (b'"PLUGGED_AC"', "something else than an object"),
    (b'{"API_ERROR": "no\\n permission"}', "says: no permission"),
    ("termux-x did not answer within 20 s", "did not answer within 20 s"),
]


@pytest.mark.parametrize(("answer", "problem"), NONSENSE)
def test_nonsense_is_not_known(answer: bytes | str, problem: str) -> None:
    assert battery_status(answer)[:3] == (None, None, None)
    assert problem in battery_status(answer)[3]
    assert wifi_status(answer)[0] is None
    assert problem in wifi_status(answer)[1]


def test_an_empty_object_is_not_known() -> None:
    assert battery_status(b"{}") == (None, None, None, f"{BATTERY} does not say")
    assert wifi_status(b"{}") == (None, f"{WIFI} does not say")


@pytest.mark.parametrize(
    ("changes", "unmetered"),
    [
        ({}, True),
        ({"supplicant_state": "DISCONNECTED", "ip": "0.0.0.0"}, False),
        ({"supplicant_state": "ASSOCIATING"}, False),
        ({"supplicant_state": "COMPLETED", "ip": "0.0.0.0"}, False),
        ({"ip": None}, None),
        ({"ip": ""}, None),
        ({"ip": 17}, None),
        ({"supplicant_state": 3}, None),
        ({"supplicant_state": None}, None),
    ],
)
def test_wifi(changes: dict[str, Any], unmetered: bool | None) -> None:
    assert wifi_status(json.dumps(WIFI_JSON | changes).encode())[0] is unmetered


async def test_a_phone(prefix: Prefix) -> None:
    prefix.battery(**CHARGING)
    prefix.wifi()
    sensor = TermuxSensor(prefix.environment)
    assert await sensor.read(power=True, network=True) == Reading(True, 43.0, 29.1, True)


async def test_only_what_is_asked_for_is_called(prefix: Prefix) -> None:
    prefix.battery()
    prefix.wifi()
    sensor = TermuxSensor(prefix.environment)
    assert (await sensor.read(power=True, network=False)).unmetered is None
    assert prefix.calls() == [BATTERY]
    assert (await sensor.read(power=False, network=True)).charging is None
    assert prefix.calls() == [BATTERY, WIFI]


async def test_one_that_hangs_does_not_hide_what_the_other_says(prefix: Prefix) -> None:
    prefix.script(BATTERY, "sleep 1000 & sleep 1000")
    prefix.wifi()
    reading = await TermuxSensor(prefix.environment, timeout_s=0.5).read(power=True, network=True)
    assert reading == Reading(None, None, None, True, f"{BATTERY} did not answer within 0.5 s")


async def test_commands_that_are_not_there(prefix: Prefix) -> None:
    reading = await TermuxSensor({"PREFIX": str(prefix.root), "PATH": "/nowhere"}).read(power=True, network=True)
    assert reading == Reading(power_problem=f"{BATTERY} {MISSING}", network_problem=f"{WIFI} {MISSING}")


async def test_commands_that_fail(prefix: Prefix) -> None:
    prefix.script(BATTERY, "echo '{}'; exit 1")
    prefix.script(WIFI, "exec yes")
    reading = await TermuxSensor(prefix.environment).read(power=True, network=True)
    assert reading.power_problem == f"{BATTERY} failed with code 1"
    assert reading.network_problem == f"{WIFI} wrote more than 65536 bytes"
