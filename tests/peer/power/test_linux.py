"""Fake trees of /sys: laptops, servers, phones, wireless mice, and files full of nonsense."""

import asyncio
from pathlib import Path

import pytest

from peer.power.linux import LinuxSensor
from peer.power.sensors import Reading
from tests.peer.driving import Unused

BATTERY = {"type": "Battery", "status": "Discharging", "capacity": "43", "temp": "291"}
MAINS = {"type": "Mains", "online": "1"}


def tree(root: Path, supplies: dict[str, dict[str, str]], interfaces: dict[str, str] | None = None) -> LinuxSensor:
    """``interfaces``: name -> operstate; wireless ones are those whose name begins with ``w``."""
    for name, files in supplies.items():
        (root / "class" / "power_supply" / name).mkdir(parents=True)
        for file, content in files.items():
            (root / "class" / "power_supply" / name / file).write_text(content + "\n")
    for name, state in (interfaces or {}).items():
        directory = root / "class" / "net" / name
        (directory / "wireless" if name.startswith("w") else directory).mkdir(parents=True)
        (directory / "operstate").write_text(state + "\n")
    return LinuxSensor(root)


@pytest.mark.parametrize(
    ("supplies", "charging"),
    [
        ({"AC": MAINS, "BAT0": BATTERY | {"status": "Charging"}}, True),
        ({"AC": MAINS, "BAT0": BATTERY | {"status": "Full"}}, True),
        ({"AC": MAINS, "BAT0": BATTERY | {"status": "Not charging"}}, True),
        ({"AC": MAINS, "BAT0": BATTERY}, False),  # the charger is too weak
        ({"AC": MAINS | {"online": "0"}, "BAT0": BATTERY}, False),
        ({"AC": MAINS | {"online": "0"}, "BAT0": BATTERY | {"status": "Unknown"}}, False),
        (
            {"AC": MAINS | {"online": "0"}, "usb": {"type": "USB", "online": "1"}, "b": BATTERY | {"status": "Full"}},
            True,
        ),
        ({"usb": {"type": "USB", "online": "2"}}, True),
        ({"BAT0": BATTERY | {"status": "Charging"}}, True),
        ({"BAT0": BATTERY}, False),
        ({"BAT0": BATTERY | {"status": "Charging"}, "BAT1": BATTERY}, False),
        ({"BAT0": BATTERY | {"status": "Not charging"}}, None),
        ({"BAT0": BATTERY | {"status": "\xff\xfe"}}, None),
        ({"AC": MAINS}, True),
        ({"AC": MAINS | {"online": "nonsense"}}, None),
        ({"AC": {"type": "Mains"}}, None),
        ({"AC": {"type": "UPS", "online": "1"}}, None),
        ({"mouse": BATTERY | {"status": "Charging", "scope": "Device"}}, None),
        ({"mouse": BATTERY | {"scope": "Device"}, "AC": MAINS}, True),
        ({}, None),
    ],
)
async def test_charging(tmp_path: Path, supplies: dict[str, dict[str, str]], charging: bool | None) -> None:
    assert (await tree(tmp_path, supplies).read(power=True, network=False)).charging is charging


@pytest.mark.parametrize(
    ("supplies", "percent", "degrees"),
    [
        ({"BAT0": BATTERY}, 43.0, 29.1),
        ({"BAT0": BATTERY, "BAT1": BATTERY | {"capacity": "90", "temp": "412"}}, 43.0, 41.2),
        ({"BAT0": BATTERY | {"capacity": "101", "temp": "99999"}}, None, None),
        ({"BAT0": BATTERY | {"capacity": "", "temp": "warm"}}, None, None),
        ({"BAT0": {"type": "Battery"}}, None, None),
        ({"BAT0": BATTERY | {"temp": "-50"}}, 43.0, -5.0),
        ({"mouse": BATTERY | {"scope": "Device"}}, None, None),
    ],
)
async def test_battery(
    tmp_path: Path, supplies: dict[str, dict[str, str]], percent: float | None, degrees: float | None
) -> None:
    reading = await tree(tmp_path, supplies).read(power=True, network=False)
    assert (reading.battery, reading.temperature) == (percent, degrees)


@pytest.mark.parametrize(
    ("interfaces", "unmetered"),
    [
        ({"lo": "unknown", "wlan0": "up"}, True),
        ({"lo": "unknown", "wlan0": "down", "wlan1": "up"}, True),
        ({"lo": "unknown", "wlan0": "down"}, False),
        ({"lo": "unknown", "wlan0": "down", "eth0": "up"}, False),
        ({"lo": "unknown", "eth0": "up"}, None),
        ({}, None),
    ],
)
async def test_network(tmp_path: Path, interfaces: dict[str, str], unmetered: bool | None) -> None:
    reading = await tree(tmp_path, {"AC": MAINS}, interfaces).read(power=False, network=True)
    assert reading.unmetered is unmetered
    assert reading.charging is None


async def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(Unused())  # lookups that hang would keep it from being read
    sensor = LinuxSensor(tmp_path / "nowhere")
    assert not sensor.present
    reading = await sensor.read(power=True, network=True)
    assert reading == Reading(power_problem=reading.power_problem, network_problem=reading.network_problem)
    assert "does not say" in reading.power_problem
    assert "no wireless interface" in reading.network_problem


async def test_files_that_cannot_be_read_and_endless_ones(tmp_path: Path) -> None:
    sensor = tree(tmp_path, {"AC": MAINS, "BAT0": BATTERY})
    (tmp_path / "class/power_supply/BAT0/capacity").unlink()
    (tmp_path / "class/power_supply/BAT0/capacity").symlink_to("/dev/zero")
    (tmp_path / "class/power_supply/BAT0/status").unlink()
    (tmp_path / "class/power_supply/BAT0/status").mkdir()
    assert await sensor.read(power=True, network=False) == Reading(
        True, None, 29.1, None, f"{tmp_path}/class/power_supply does not say",
        f"{tmp_path}/class/net shows no wireless interface",
    )  # fmt: skip
