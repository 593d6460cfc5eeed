"""The watch: when it looks, what it asks, whom it tells."""

import asyncio
from dataclasses import dataclass, field

import pytest

from peer.config import Power
from peer.power import watch as watch_module
from peer.power.gate import NOT_YET
from peer.power.sensors import Reading
from peer.power.watch import PowerWatch

ON, OFF = Reading(charging=True), Reading(charging=False)


@dataclass
class Scripted:
    """Gives one reading after the other, the last one for ever."""

    readings: list[Reading | BaseException | None]
    name: str = "scripted"
    asked: list[tuple[bool, bool]] = field(default_factory=list)

    async def read(self, *, power: bool, network: bool) -> Reading:
        self.asked.append((power, network))
        found = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Reading)
        return found


def watching(power: Power, sensor: Scripted, minute: int = 0) -> tuple[PowerWatch, list[str | None]]:
    told: list[str | None] = []
    watch = PowerWatch(power, sensor, lambda: told.append(watch.closed), lambda: minute)
    return watch, told


async def test_with_nothing_asked_for_it_is_open_and_never_looks() -> None:
    sensor = Scripted([OFF])
    watch, told = watching(Power(), sensor)
    assert watch.closed is None
    assert watch.looked.is_set()
    await watch.run()
    assert (sensor.asked, told) == ([], [])


async def test_it_is_closed_until_it_has_looked() -> None:
    watch, told = watching(Power(charging=True), Scripted([ON]))
    assert watch.closed == NOT_YET
    await watch.look()
    assert (watch.closed, told) == (None, [None])


async def test_every_change_is_told_once() -> None:
    watch, told = watching(Power(charging=True), Scripted([ON, ON, OFF, OFF, ON, ON, ON]))
    for _ in range(7):
        await watch.look()
    assert told == [None, "not charging", None]


@pytest.mark.parametrize(
    ("power", "asked"),
    [
        (Power(charging=True), (True, False)),
        (Power(battery_above=10), (True, False)),
        (Power(temperature_below=40), (True, False)),
        (Power(unmetered=True), (False, True)),
        (Power(charging=True, unmetered=True), (True, True)),
    ],
)
async def test_only_what_matters_is_asked(power: Power, asked: tuple[bool, bool]) -> None:
    sensor = Scripted([ON])
    await watching(power, sensor)[0].look()
    assert sensor.asked == [asked]


async def test_outside_the_hours_no_sensor_is_asked() -> None:
    sensor = Scripted([ON])
    watch, _ = watching(Power(charging=True, hours="22-06"), sensor, minute=12 * 60)
    await watch.look()
    assert watch.closed == "outside the hours 22-06 (it is 12:00)"
    assert sensor.asked == []


async def test_a_sensor_that_raises_or_never_returns_closes_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LOOK_S", 0.05)
    watch, told = watching(Power(charging=True), Scripted([ON, RuntimeError("broken"), ON, ON, None]))
    for _ in range(5):
        await watch.look()
    assert told == [
        None,
        "cannot tell whether it is charging (the scripted sensor failed: broken)",
        None,
        "cannot tell whether it is charging (the scripted sensor did not answer within 0.05 s)",
    ]


async def test_an_opening_gate_is_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(watch_module.asyncio, "sleep", sleep)
    watch, _ = watching(Power(charging=True, poll_s=60), Scripted([OFF, ON, ON, ON]))
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    assert slept == [60, watch_module.CONFIRM_S, 60, 60]
    assert watch.closed is None
