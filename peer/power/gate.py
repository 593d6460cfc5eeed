"""The decision: may this peer take part now?  Pure: a reading, the minute of the local day and the configuration.

Neighbours: ``watch`` asks it after every look at the machine; ``peer.config.Power`` says what the user wants.
Invariants: whatever is asked for and not known closes the gate; closed at once, opened only after two looks in a row
that allow it (the first look of all decides alone); while closed, battery and temperature must beat their limits by a
margin, so that a gate at its limit does not flap.
"""

from dataclasses import dataclass

from peer.config import Power
from peer.power.sensors import Reading

LOOKS = 2
"""Looks in a row that must allow it before a closed gate opens."""
BATTERY_MARGIN, TEMPERATURE_MARGIN = 3.0, 2.0
"""Percent above and degrees below the limits, while closed.  Above 97 % the limit itself is the last percent."""
NOT_YET = "the sensors have not been read yet"


def open_at(window: tuple[int, int] | None, minute: int) -> bool:
    """Whether ``minute`` of the day lies in ``window``, first minute included, last one not; it may span midnight.

    Only the clock on the wall counts: in a night when clocks change, an hour comes twice or not at all, and the gate
    goes by what the clock says.
    """
    if window is None:
        return True
    start, end = window
    return start <= minute < end if start < end else minute >= start or minute < end


def objection(power: Power, reading: Reading, minute: int, *, margin: bool = False) -> str | None:
    """Why the gate is closed, in one sentence; None: it is open.  With ``margin`` the limits are stricter."""
    if not open_at(power.window, minute):
        return f"outside the hours {power.hours} (it is {minute // 60:02d}:{minute % 60:02d})"
    said = [_power(power, reading, margin), _temperature(power, reading, margin), _network(power, reading)]
    return "; ".join(sentence for sentence in said if sentence) or None


def _power(power: Power, reading: Reading, margin: bool) -> str | None:
    """The charger, or the charge, or either of them."""
    wanted = power.battery_above
    strict = min(wanted + BATTERY_MARGIN, max(wanted, 99.0)) if margin else wanted
    enough = reading.battery is not None and reading.battery > strict
    if (wanted and enough) or (power.charging and reading.charging):
        return None
    said = []
    if power.charging:
        unknown = f"cannot tell whether it is charging ({reading.power_problem})"
        said.append("not charging" if reading.charging is False else unknown)
    if wanted:
        problem = f" ({reading.power_problem})" if reading.charging is not None or not power.charging else ""
        known = None if reading.battery is None else f"battery {reading.battery:.0f} % is not above {wanted:g} %"
        if known is not None and reading.battery is not None and reading.battery > wanted:
            known += f" by {BATTERY_MARGIN:g}"
        said.append(known or f"cannot tell how full the battery is{problem}")
    return ", ".join(said) or None


def _temperature(power: Power, reading: Reading, margin: bool) -> str | None:
    limit = power.temperature_below
    if not limit:
        return None
    if reading.temperature is None:
        return f"cannot tell how warm the battery is ({reading.power_problem})"
    if reading.temperature < limit - (TEMPERATURE_MARGIN if margin else 0.0):
        return None
    by = f" by {TEMPERATURE_MARGIN:g}" if reading.temperature < limit else ""
    return f"battery at {reading.temperature:.1f} C is not below {limit:g} C{by}"


def _network(power: Power, reading: Reading) -> str | None:
    if not power.unmetered or reading.unmetered:
        return None
    if reading.unmetered is False:
        return "not on Wi-Fi"
    return f"cannot tell whether it is on unmetered Wi-Fi ({reading.network_problem})"


@dataclass(slots=True)
class Gate:
    """The gate over time: ``judge`` it after every look."""

    power: Power
    closed: str | None = NOT_YET
    """Why it is closed, or None."""
    _agreeing: int = 0
    _judged: bool = False

    @property
    def settling(self) -> bool:
        """One more look like the last one and it opens."""
        return self.closed is not None and self._agreeing > 0

    def judge(self, reading: Reading, minute: int) -> None:
        """Take in one look."""
        why = objection(self.power, reading, minute, margin=self._judged and self.closed is not None)
        first, self._judged = not self._judged, True
        if why is not None:
            self.closed, self._agreeing = why, 0
            return
        self._agreeing += 1
        if first or self._agreeing >= LOOKS:
            self.closed = None
