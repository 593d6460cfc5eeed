"""Which sensor a machine has."""

from pathlib import Path

import pytest

from peer.power.sensors import Reading, choose
from tests.peer.power.termux import BATTERY, Prefix


@pytest.mark.parametrize("platform", ["android", "linux"])
@pytest.mark.parametrize(
    ("wanted", "termux", "supply", "name"),
    [
        ("auto", True, True, "termux"),
        ("auto", True, False, "termux"),
        ("auto", False, True, "linux"),
        ("auto", False, False, "none"),
        ("termux", False, True, "termux"),
        ("linux", True, False, "linux"),
        ("none", True, True, "none"),
    ],
)
def test_choice(
    prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, wanted: str, termux: bool,
    supply: bool, name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.platform", platform)  # "android" from Python 3.13 on, "linux" before
    if termux:
        prefix.script(BATTERY, "")
    if supply:
        (tmp_path / "class" / "power_supply" / "AC").mkdir(parents=True)
    assert choose(wanted, prefix.environment, tmp_path).name == name


@pytest.mark.parametrize(
    ("wanted", "problem"), [("auto", "this machine has no sensor"), ("none", 'power.sensor is "none"')]
)
async def test_no_sensor_says_so(tmp_path: Path, wanted: str, problem: str) -> None:
    reading = await choose(wanted, {}, tmp_path).read(power=True, network=True)
    assert reading == Reading(power_problem=problem, network_problem=problem)
