"""A Linux machine's own words: the files below /sys/class.

Neighbours: ``sensors`` says what a reading is.
Invariants: reads only, in a thread (a battery's firmware can take its time); any file may be missing, unreadable or
nonsense, and is then not known; batteries of mice and keyboards (scope Device) do not count.

A connection counts as unmetered when a wireless interface is up.  Of any other the kernel does not say what it costs.
"""

import asyncio
import contextlib
from pathlib import Path

from peer.power.sensors import SYS, Reading
from peer.threads import LooseThreads

MAINS = ("Mains", "USB", "Wireless", "USB_C", "USB_PD")
MAX_FILE = 64


class LinuxSensor:
    """What ``root`` (/sys) holds."""

    name = "linux"

    def __init__(self, root: Path = SYS) -> None:
        self._supplies = root / "class" / "power_supply"
        self._interfaces = root / "class" / "net"
        self._aside = LooseThreads(1, "sensor")

    @property
    def present(self) -> bool:
        """Whether there is any power supply to ask."""
        return bool(_entries(self._supplies))

    async def read(self, *, power: bool, network: bool) -> Reading:
        """Read the files in a thread, which name lookups that hang do not take."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, self._read, power, network)

    def _read(self, power: bool, network: bool) -> Reading:
        charging, percent, degrees = self._power() if power else (None, None, None)
        unmetered = self._network() if network else None
        return Reading(
            charging, percent, degrees, unmetered,
            f"{self._supplies} does not say", f"{self._interfaces} shows no wireless interface",
        )  # fmt: skip

    def _power(self) -> tuple[bool | None, float | None, float | None]:
        online: list[bool] = []
        states: list[str] = []
        percents: list[float] = []
        degrees: list[float] = []
        for supply in _entries(self._supplies):
            kind = _word(supply / "type")
            if _word(supply / "scope") == "Device":
                continue
            if kind in MAINS and (said := _number(supply / "online", 0, 9)) is not None:
                online.append(said > 0)  # 2 is "online, with a program": USB supplies
            elif kind == "Battery":
                states.append(_word(supply / "status"))
                percents += _known(_number(supply / "capacity", 0, 100))
                degrees += _known(_number(supply / "temp", -600, 1500))
        # of several batteries the emptiest and the hottest decide
        return (
            _charging(online, states),
            min(percents, default=None),
            max(degrees) / 10 if degrees else None,
        )

    def _network(self) -> bool | None:
        wireless = [i for i in _entries(self._interfaces) if (i / "wireless").exists() or (i / "phy80211").exists()]
        return any(_word(interface / "operstate") == "up" for interface in wireless) if wireless else None


def _charging(online: list[bool], states: list[str]) -> bool | None:
    """From what chargers and batteries say; they may contradict each other, and then the battery loses."""
    if "Discharging" in states:
        return False
    if online:
        return any(online)
    if states and all(state in ("Charging", "Full") for state in states):
        return True
    return None


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _word(file: Path) -> str:
    with contextlib.suppress(OSError), file.open("rb") as stream:
        return stream.read(MAX_FILE).decode("ascii", "replace").strip()
    return ""


def _number(file: Path, low: int, high: int) -> float | None:
    with contextlib.suppress(ValueError):
        value = int(_word(file))
        return float(value) if low <= value <= high else None
    return None


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]
