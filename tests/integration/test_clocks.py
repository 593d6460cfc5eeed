"""A peer process whose clock is hours off: one sentence says so, nothing is lost, and with the right clock it joins."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.homes import Homes, susurrus, task_file, until

HOUR = 3600.0
STEPS = 8
OTHER_CLOCK = """
import sys, time
ahead, right = float(sys.argv.pop(1)), time.time
time.time = lambda: right() + ahead
from peer.cli import main
main()
"""


def with_clock(ahead_s: float) -> list[str]:
    """How to call ``susurrus`` on a machine whose clock is ahead by so much."""
    return [sys.executable, "-P", "-c", OTHER_CLOCK, str(ahead_s)]


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path, with_clock(-10 * HOUR))  # members for ten hours: a clock may be behind and they still are
    yield made
    made.close()


def kept(homes: Homes) -> dict[str, Any]:
    status = homes.ask(2)
    return {key: status[key] for key in ("peer", "task_id", "age", "contributions", "rounds_published")}


def complaints(homes: Homes, since: int = 0) -> list[str]:
    return [line for line in homes.log(2)[since:].splitlines() if "clock is" in line and "set it" in line]


def everybody_is_there(homes: Homes) -> None:
    for i in range(3):
        until(lambda i=i: homes.ask(i)["members_alive"] == 3, f"peer {i} sees three members")


def test_a_wrong_clock_is_told_in_one_sentence_and_costs_nothing(homes: Homes, tmp_path: Path) -> None:
    homes.start(0, "--task", task_file(tmp_path, STEPS))
    homes.start(1)

    homes.start(2, command=with_clock(3 * HOUR))
    until(lambda: complaints(homes), "a newcomer with a wrong clock is told")
    (line,) = complaints(homes)
    assert "WARNING" in line
    assert "this machine's clock is 3.0 hours ahead of the other's: set it" in line
    assert homes.ask(2)["members_alive"] == 1
    assert {homes.ask(i)["members_alive"] for i in (0, 1)} == {2}
    for i in (0, 1):
        assert homes.log(i).count("one of the two clocks is wrong") <= 1
    assert homes.stop(2) == 0

    homes.start(2)
    everybody_is_there(homes)
    for i in range(3):
        until(lambda i=i: homes.ask(i)["age"] == STEPS, f"peer {i} has the last model: {homes.log(i)}")
    before = kept(homes)
    assert before["contributions"] > 0
    assert homes.stop(2) == 0

    for hours, side, seeded in ((-3, "behind", True), (30, "ahead of", False)):
        since = len(homes.log(2))
        homes.start(2, command=with_clock(hours * HOUR), seeded=seeded)
        until(lambda since=since: complaints(homes, since), f"told again: {homes.log(2)}")
        (line,) = complaints(homes, since)
        assert f"this machine's clock is {abs(hours)}.0 hours {side} the other's: set it" in line
        assert homes.ask(2)["members_alive"] == 1
        until(lambda: homes.ask(2)["age"] == STEPS, "it has its model")
        assert kept(homes) == before
        assert homes.stop(2) == 0

    homes.start(2)
    everybody_is_there(homes)
    until(lambda: homes.ask(2)["age"] == STEPS, "it has its model")
    assert kept(homes) == before
    for i in range(3):
        assert homes.stop(i) == 0
        assert "Traceback" not in homes.log(i)
        assert " ERROR " not in homes.log(i)


def test_a_clock_from_before_the_membership_does_not_start(homes: Homes) -> None:
    early = susurrus("run", "--home", str(homes.home(0)), code=2, command=with_clock(-20 * HOUR))
    assert len(early.stderr.strip().splitlines()) == 1
    assert "this machine's clock says" in early.stderr
    assert "before its membership began" in early.stderr
