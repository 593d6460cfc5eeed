"""The watch: looks at the machine again and again, and tells when the gate closes or opens.

Neighbours: ``gate`` decides, ``sensors`` look, ``peer.daemon`` acts.
Invariants: with nothing asked for it never looks and the gate is open; outside the hours no sensor is asked; between
two looks it costs nothing; a sensor that does not come back counts as not known.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from peer.config import Power
from peer.power.command import REAP_S, STRAGGLER_S, TIMEOUT_S
from peer.power.gate import NOT_YET, Gate, open_at
from peer.power.sensors import Reading, Sensor

log = logging.getLogger("susurrus.power")

CONFIRM_S = 2.0
"""A look that would open the gate is followed so soon by the one that does."""
LOOK_S = TIMEOUT_S + STRAGGLER_S + 2 * REAP_S
"""No look takes longer: commands have time-outs of their own, below this."""


def local_minute() -> int:
    """The minute of the day by the clock on the wall."""
    now = time.localtime()
    return 60 * now.tm_hour + now.tm_min


class PowerWatch:
    """``run`` it in a task; ``closed`` tells at any time; ``changed`` is called whenever the gate closes or opens."""

    def __init__(
        self,
        power: Power,
        sensor: Sensor,
        changed: Callable[[], None],
        minute: Callable[[], int] = local_minute,
    ) -> None:
        self._power = power
        self._sensor = sensor
        self._changed = changed
        self._minute = minute
        self._gate = Gate(power, NOT_YET if power.restricted else None)
        self.looked = asyncio.Event()
        """It has been decided at least once."""
        if not power.restricted:
            self.looked.set()

    @property
    def closed(self) -> str | None:
        """Why the gate is closed, or None."""
        return self._gate.closed

    async def run(self) -> None:
        """Look until cancelled; returns at once if there is nothing to look for."""
        while self._power.restricted:
            await self.look()
            await asyncio.sleep(min(CONFIRM_S, self._power.poll_s) if self._gate.settling else self._power.poll_s)

    async def look(self) -> None:
        """Look once and decide."""
        before = self._gate.closed
        reading = await self._read() if open_at(self._power.window, self._minute()) else Reading()
        self._gate.judge(reading, self._minute())
        self.looked.set()
        if self._gate.closed != before:
            self._changed()

    async def _read(self) -> Reading:
        power = self._power
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._sensor.read(power=power.asks_power, network=power.unmetered)
        except TimeoutError:
            problem = f"the {self._sensor.name} sensor did not answer within {LOOK_S:g} s"
        except Exception as error:  # closed is the safe side, and a sensor is no reason to end
            log.exception("the %s sensor failed", self._sensor.name)
            problem = f"the {self._sensor.name} sensor failed: {error}"
        return Reading(power_problem=problem, network_problem=problem)
