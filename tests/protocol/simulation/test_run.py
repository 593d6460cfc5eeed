"""Whole runs: repeatable to the byte, the same whether work is done or only charged, and what faults do to them."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from protocol.base.settings import LAN
from protocol.membership import reach
from protocol.simulation import network_model
from protocol.simulation.faults import parse as parse_faults
from protocol.simulation.measures import Summary
from protocol.simulation.run import finish, prepare, simulate
from protocol.simulation.scenario import Scenario, parse, plain_task
from protocol.simulation.trace import Comparison, Diverged, StopHere, Tracer


def scenario(**changes: Any) -> Scenario:
    """Twelve peers on a wide area network for half a minute."""
    plain: dict[str, Any] = {
        "peers": 12,
        "seconds": 20,
        "warm_up_s": 8,
        "settings": "lan",
        "network": {"preset": "wan", "loss": 0.01},
        "churn": {"kind": "sessions", "on_s": 20.0, "off_s": 4.0},
        "task": {"cohort": 8, "dimension": 40, "walks": 2},
    }
    return parse(plain | changes, "scenario", seed=1)


def lines_of(scenario: Scenario, seed: int) -> tuple[list[str], Summary]:
    run, lines = prepare(scenario, seed), list[str]()
    run.world.tracer = Tracer(lines.append)
    return lines, finish(run)


def test_one_seed_gives_one_trace_and_another_seed_another() -> None:
    first, second, other = lines_of(scenario(), 7), lines_of(scenario(), 7), lines_of(scenario(), 8)
    assert first == second
    assert first[0] != other[0]
    assert len(first[0]) > 2000
    assert first[1].flat()["rounds_published"]


@pytest.mark.parametrize("seed", range(4))
def test_exact_and_modelled_work_give_the_same_rounds(seed: int) -> None:
    """Every step and every figure: what is charged is the same, and nothing depends on what vectors hold."""
    exact, modelled = lines_of(scenario(cost="exact"), seed), lines_of(scenario(cost="modelled"), seed)
    assert exact == modelled
    assert exact[1].rounds == modelled[1].rounds
    assert sum(bool(line["published"]) for line in exact[1].rounds) >= 5


def test_a_large_model_takes_time() -> None:
    """Four megabytes through a household's uplink."""
    quick = simulate(scenario(churn="always", cost="modelled"), 1).flat()
    large = simulate(scenario(churn="always", cost="modelled", seconds=120, task={"cohort": 8, "dimension": 10**6}), 1)
    slow = large.flat()
    assert slow["rounds_published"]
    assert float(slow["seconds_per_round_mean"] or 0) > 5 * float(quick["seconds_per_round_mean"] or 0)
    assert float(slow["bytes_per_contribution"] or 0) > 4e6


def test_asking_first_whom_it_has_heard_from_lately_saves_phones_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of those who are held for alive have gone, and an offer to one of them costs a round 15 s."""
    plain = {"warm_up_s": 300, "network": "smartphones", "churn": "smartphones", "task": {"cohort": 31}}
    phones = scenario(peers=200, seconds=900, settings="phones", **plain)
    asked = simulate(phones, 1).flat()
    monkeypatch.setattr(reach, "FICKLE_SHARE", 1.0)
    without = simulate(phones, 1).flat()
    assert asked["seconds_per_round_mean"] < 0.5 * without["seconds_per_round_mean"]
    assert asked["planned_share"] > 0.95 > without["planned_share"]
    assert asked["rounds_published"] > 2 * without["rounds_published"]


SCRIPT = """
import hashlib
from tests.protocol.simulation.test_run import lines_of, scenario
lines, summary = lines_of(scenario(faults=[{"kind": "restart", "random": 2, "per_hour": 600, "disk": False}]), 5)
print(hashlib.sha256("\\n".join([*lines, repr(summary)]).encode()).hexdigest())
"""


def test_hash_seeds_change_nothing() -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 64


def test_a_trace_is_replayed_up_to_a_step_and_a_difference_is_found() -> None:
    lines, _ = lines_of(scenario(), 7)
    run = prepare(scenario(), 7)
    same = Comparison(iter(lines))
    run.world.tracer = Tracer(same, until=500)
    with pytest.raises(StopHere):
        finish(run)
    assert run.world.steps == 500
    assert same.last == lines[499]
    changed = [*lines[:300], lines[300].replace("p", "q", 1), *lines[301:]]
    run = prepare(scenario(), 7)
    run.world.tracer = Tracer(Comparison(iter(changed)))
    with pytest.raises(Diverged) as caught:
        finish(run)
    assert caught.value.expected == changed[300]
    assert run.world.steps == 301


def test_a_trace_tells_no_seed_and_no_key() -> None:
    run, lines = prepare(scenario(cost="exact"), 7), list[str]()
    run.world.tracer = Tracer(lines.append)
    finish(run)
    joined = "\n".join(lines)
    for peer in run.world.peers:
        assert peer.surroundings.keyring.signing.seed.hex()[:16] not in joined
    assert all(len(line) < 2000 for line in lines)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "crash", "random": 3, "at": 10},
        {"kind": "restart", "random": 4, "at": 10, "down_s": 3, "disk": True},
        {"kind": "restart", "random": 4, "at": 10, "down_s": 3, "disk": False},
        {"kind": "slow", "random": 3, "from": 5, "factor": 50},
        {"kind": "skew", "random": 3, "offset_s": 40, "from": 9},
        {"kind": "cut", "random": 3, "from": 9, "to": 15},
        {"kind": "partition", "share": 0.25, "from": 9, "to": 15},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_faults_happen_and_training_goes_on(fault: dict[str, Any]) -> None:
    plain = Scenario(12, 30.0, plain_task(cohort=8), 8.0, LAN, network_model.PRESETS["lan"])
    without = lines_of(plain, 2)
    with_fault = lines_of(replace(plain, faults=parse_faults([fault], "faults", 12)), 2)
    assert with_fault[0] != without[0]
    assert int(with_fault[1].flat()["rounds_published"] or 0) > 10
    ages = with_fault[1].progress
    assert ages[-1][0] > 20  # a round was published after the fault


def test_who_crashed_stays_away_and_who_lost_its_disk_is_somebody_else() -> None:
    faults = parse_faults(
        [{"kind": "crash", "peer": 5, "at": 10}, {"kind": "restart", "peer": 6, "at": 10, "disk": False}], "faults", 12
    )
    run = prepare(replace(Scenario(12, 30.0, plain_task(cohort=8), 8.0, LAN), faults=faults), 2)
    before = run.world.peers[6].id
    finish(run)
    assert run.world.peers[5].node is None
    assert run.world.peers[6].node is not None
    assert run.world.peers[6].id != before
