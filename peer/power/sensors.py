"""What a machine says about itself, and which sensor it has to say it with.

Neighbours: ``termux`` and ``linux`` are sensors, ``gate`` decides from a ``Reading``, ``watch`` asks again and again.
Invariants: a reading never guesses: what a sensor does not say in so many words is ``None``, and why is said.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine; ``None``: not known."""

    charging: bool | None = None
    """On a charger, and not losing charge all the same."""
    battery: float | None = None
    """Percent."""
    temperature: float | None = None
    """Of the battery, in degrees Celsius."""
    unmetered: bool | None = None
    """On Wi-Fi (whether that Wi-Fi is another phone's, no sensor says)."""
    power_problem: str = ""
    """Why something about the battery is not known."""
    network_problem: str = ""
    """Why ``unmetered`` is not known."""


class Sensor(Protocol):
    """Whoever can give a ``Reading``."""

    @property
    def name(self) -> str:
        """As ``[power] sensor`` calls it."""
        ...

    async def read(self, *, power: bool, network: bool) -> Reading:
        """Look now, at what is asked for only: every look costs something.  Never raises but for cancellation."""
        ...


class NoSensor:
    """A machine that says nothing."""

    name = "none"

    def __init__(self, problem: str = "this machine has no sensor") -> None:
        self._problem = problem

    async def read(self, *, power: bool, network: bool) -> Reading:
        """Nothing is known."""
        return Reading(power_problem=self._problem, network_problem=self._problem)


def choose(wanted: str, environment: Mapping[str, str] | None = None, sys_root: Path = SYS) -> Sensor:
    """The sensor called ``wanted``; ``auto``: Termux's where its commands are, else Linux's where /sys has a power
    supply, else none."""
    from peer.power.command import find
    from peer.power.linux import LinuxSensor
    from peer.power.termux import BATTERY, TermuxSensor

    environment = os.environ if environment is None else environment
    match wanted:
        case "termux":
            return TermuxSensor(environment)
        case "linux":
            return LinuxSensor(sys_root)
        case "auto":
            # asked by what there is: Termux says "android" or "linux" of its platform, depending on the Python
            if find(BATTERY, environment) is not None:
                return TermuxSensor(environment)
            if LinuxSensor(sys_root).present:
                return LinuxSensor(sys_root)
            return NoSensor()
        case _:
            return NoSensor('power.sensor is "none"')
