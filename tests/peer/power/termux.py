"""A Termux-like prefix whose commands are stubs: they print what real ones print, hang, fail or babble."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATTERY_JSON: dict[str, Any] = {
    "present": True,
    "technology": "Li-ion",
    "health": "GOOD",
    "plugged": "UNPLUGGED",
    "status": "DISCHARGING",
    "temperature": 29.1,
    "voltage": 4012,
    "current": -296000,
    "percentage": 43,
    "level": 43,
    "scale": 100,
    "charge_counter": 1720000,
    "energy": None,
}
"""What Termux:API prints on a phone without a charger."""
WIFI_JSON: dict[str, Any] = {
    "ip": "192.168.1.23",
    "bssid": "02:00:00:00:00:00",
    "frequency_mhz": 5180,
    "link_speed_mbps": 433,
    "mac_address": "02:00:00:00:00:00",
    "network_id": -1,
    "rssi": -55,
    "ssid": "<unknown ssid>",
    "ssid_hidden": True,
    "supplicant_state": "COMPLETED",
}
CHARGING = {"plugged": "PLUGGED_AC", "status": "CHARGING"}
BATTERY, WIFI = "termux-battery-status", "termux-wifi-connectioninfo"
LOCK, UNLOCK = "termux-wake-lock", "termux-wake-unlock"


@dataclass(frozen=True)
class Prefix:
    """``$PREFIX`` of a Termux: ``bin`` with stubs, each of which notes its calls."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PREFIX": str(self.root), "PATH": os.environ["PATH"]}

    def script(self, name: str, text: str) -> None:
        """Put a shell script there, whole at any moment: peers may be calling the one of before."""
        (self.root / "bin").mkdir(parents=True, exist_ok=True)
        new = self.root / f"{name}.new"
        new.write_text(f'#!/bin/sh\necho "$$ {name}" >> {self.root}/calls\n{text}\n')
        new.chmod(0o755)
        new.replace(self.root / "bin" / name)

    def says(self, name: str, answer: object) -> None:
        """Let a command print ``answer`` as JSON, or as it is if it is a text."""
        text = answer if isinstance(answer, str) else json.dumps(answer, indent=2)
        self.script(name, f"cat <<'END'\n{text}\nEND")

    def battery(self, **changes: Any) -> None:
        self.says(BATTERY, BATTERY_JSON | changes)

    def wifi(self, **changes: Any) -> None:
        self.says(WIFI, WIFI_JSON | changes)

    def calls(self, name: str = "") -> list[str]:
        """Names of the commands called so far, in order."""
        file = self.root / "calls"
        names = [line.split()[1] for line in file.read_text().splitlines()] if file.exists() else []
        return [each for each in names if each.startswith(name)]

    def pids(self) -> list[int]:
        file = self.root / "calls"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def gone(pid: int) -> bool:
    """Whether no such process is left, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()
