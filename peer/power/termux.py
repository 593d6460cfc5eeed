"""A phone's sensors, asked through Termux:API's commands.

Neighbours: ``command`` runs them, ``sensors`` says what a reading is.
Invariants: the commands' JSON is a stranger's: any key may be missing, of a wrong type or out of range, and is then not
known; at most one process of each command.

What they say (Termux:API 0.53): ``termux-battery-status`` has ``plugged`` (UNPLUGGED, or PLUGGED_ and AC, USB,
WIRELESS, DOCK or a number), ``status`` (CHARGING, DISCHARGING, FULL, NOT_CHARGING, UNKNOWN), ``percentage``, ``level``
of ``scale``, ``temperature``; ``termux-wifi-connectioninfo`` has ``supplicant_state`` (COMPLETED while connected) and
``ip``, or ``API_ERROR``.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from peer.power.command import TIMEOUT_S, Command, CommandFailed, find
from peer.power.sensors import Reading

BATTERY, WIFI = "termux-battery-status", "termux-wifi-connectioninfo"
MISSING = "is not installed (pkg install termux-api, and the Termux:API app beside Termux)"


class TermuxSensor:
    """The two commands of one Termux prefix."""

    name = "termux"

    def __init__(self, environment: Mapping[str, str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._commands: dict[str, Command | None] = {}
        for name in (BATTERY, WIFI):
            path = find(name, environment)
            self._commands[name] = None if path is None else Command(path, timeout_s=timeout_s)

    async def read(self, *, power: bool, network: bool) -> Reading:
        """Ask one command or both, side by side."""
        battery, wifi = await asyncio.gather(self._ask(BATTERY, power), self._ask(WIFI, network))
        charging, percent, degrees, power_problem = battery_status(battery)
        unmetered, network_problem = wifi_status(wifi)
        return Reading(charging, percent, degrees, unmetered, power_problem, network_problem)

    async def _ask(self, name: str, wanted: bool) -> bytes | str:
        """What the command writes, or why it is not known."""
        if not wanted:
            return "nobody asked"
        command = self._commands[name]
        if command is None:
            return f"{name} {MISSING}"
        try:
            return await command.run()
        except CommandFailed as failed:
            return f"{name} {failed}"


def battery_status(answer: bytes | str) -> tuple[bool | None, float | None, float | None, str]:
    """(charging, percent, degrees, why one of them is not known) of ``termux-battery-status``'s answer."""
    said, problem = _object(BATTERY, answer)
    if problem:
        return None, None, None, problem
    plugged, status = said.get("plugged"), said.get("status")
    charging: bool | None = None
    if plugged == "UNPLUGGED":
        charging = False
    elif isinstance(plugged, str) and plugged.startswith("PLUGGED_") and plugged != "PLUGGED_-1":
        charging = status != "DISCHARGING"  # a charger too weak for what the phone does is none
    elif plugged is None and status in ("CHARGING", "FULL", "DISCHARGING"):
        charging = status != "DISCHARGING"
    percent = _number(said.get("percentage"), 0, 100)
    level, scale = _number(said.get("level"), 0, 1e9), _number(said.get("scale"), 1, 1e9)
    if percent is None and level is not None and scale is not None and level <= scale:
        percent = 100 * level / scale
    degrees = _number(said.get("temperature"), -60, 150)
    return charging, percent, degrees, f"{BATTERY} does not say" if None in (charging, percent, degrees) else ""


def wifi_status(answer: bytes | str) -> tuple[bool | None, str]:
    """(on Wi-Fi, why not known) of ``termux-wifi-connectioninfo``'s answer."""
    said, problem = _object(WIFI, answer)
    if problem:
        return None, problem
    state, ip = said.get("supplicant_state"), said.get("ip")
    if not isinstance(state, str):
        return None, f"{WIFI} does not say"
    if state != "COMPLETED" or ip in ("0.0.0.0", "::"):  # noqa: S104  (compared with, never bound to)
        return False, ""
    return (True, "") if isinstance(ip, str) and ip else (None, f"{WIFI} names no address")


def _object(name: str, answer: bytes | str) -> tuple[dict[str, Any], str]:
    if isinstance(answer, str):
        return {}, answer
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        return {}, f"{name} answers with something that is not JSON"
    if not isinstance(said, dict):
        return {}, f"{name} answers with something else than an object"
    if isinstance(error := said.get("API_ERROR"), str):
        return {}, f"{name} says: {' '.join(error.split())[:100]}"
    return said, ""


def _number(value: Any, low: float, high: float) -> float | None:
    good = type(value) in (int, float) and math.isfinite(value) and low <= value <= high
    return float(value) if good else None
