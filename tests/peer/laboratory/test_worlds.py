"""Random worlds on one process and on several: the same report, and bad numbers named all at once."""

import gc
from dataclasses import replace

import pytest

from peer.laboratory import worlds
from peer.laboratory.worlds import CHUNK, run_worlds
from protocol.base.errors import ConfigurationError
from protocol.simulation import randomworlds
from protocol.simulation.mishaps import KINDS

Patch = pytest.MonkeyPatch


def test_two_processes_find_what_one_finds() -> None:
    told: list[tuple[int, int]] = []
    count = 2 * CHUNK + 10
    one = run_worlds(count, 1, processes=1)
    two = run_worlds(count, 1, processes=2, progress=lambda done, of: told.append((done, of)))
    assert replace(two, seconds=0.0, processes=1) == replace(one, seconds=0.0)
    assert one.worlds == count
    assert not one.violations
    assert one.published >= count
    assert [kind for kind, _ in one.coverage] == list(KINDS)
    assert sorted(done for done, _ in told)[-1] == count
    assert {of for _, of in told} == {count}


def test_what_is_violated_is_said_with_its_seed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        randomworlds.invariants, "rule", lambda seen: [f"{seen.name}: broken"] * (seen.name == "world 4")
    )
    report = run_worlds(3, 3, processes=1)
    assert report.failed_seeds == (4,)
    assert report.violations == ("world 4: broken",)
    assert "1 worlds violated an invariant: seeds 4" in report.lines()


def test_the_search_for_garbage_rests_while_worlds_run_and_goes_on_afterwards(monkeypatch: Patch) -> None:
    searching: list[bool] = []

    def broken(seed: int) -> None:
        searching.append(gc.isenabled())
        raise RuntimeError("broken")

    monkeypatch.setattr(worlds, "check_world", broken)
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        try:
            with pytest.raises(RuntimeError):
                worlds.check_worlds(1, 2)
            assert gc.isenabled() is before
        finally:
            gc.enable()
    assert searching == [False, False]


def test_all_impossible_numbers_are_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        run_worlds(0, -1, processes=0)
    assert len(caught.value.problems) == 3
