"""Scenarios out of plain data: defaults, and every mistake at once with its place."""

from typing import Any

import pytest

from protocol.base.errors import ConfigurationError
from protocol.base.settings import PHONES, WAN
from protocol.simulation.scenario import Scenario, parse


def problems(data: Any, texts: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "scenario", 1, texts)
    return caught.value.problems


def test_what_is_left_out_has_its_default() -> None:
    found = parse({"peers": 20, "seconds": 60}, "scenario", 1)
    assert isinstance(found, Scenario)
    assert (found.settings, found.exact, found.faults, found.seeds) == (WAN, False, (), 3)
    assert found.task.collusion_threshold == 3


def test_parts_are_read() -> None:
    found = parse(
        {
            "peers": 20, "seconds": 60, "cost": "exact", "slowness": {"kind": "uniform", "low": 1, "high": 4},
            "settings": {"preset": "phones", "round_budget_s": 90, "offer_attempts": 6}, "costs": {"seed_s": 0.001},
            "task": {"collusion_threshold": 4, "cohort": 12}, "network": "smartphones", "churn": "smartphones",
            "faults": [{"kind": "crash", "peer": 3, "at": 5}],
        },
        "scenario", 1,
    )  # fmt: skip
    assert found.exact
    assert (found.settings.round_budget_s, found.settings.offer_attempts) == (90.0, 6)
    assert found.settings.gossip_period_s == PHONES.gossip_period_s
    assert (found.task.collusion_threshold, found.task.minimum_cohort) == (4, 5)
    assert found.costs.seed_s == 0.001
    assert len(found.faults) == 1


def test_all_mistakes_at_once() -> None:
    found = problems(
        {
            "peers": 0, "seconds": -1, "nonsense": 1, "cost": "cheap", "goodbye": 2, "settings": {"preset": "moon"},
            "task": {"branching": 0, "cohort": 2, "colour": 3}, "network": {"loss": 2}, "churn": {"kind": "ghosts"},
            "faults": [{"kind": "crash", "peer": 99}], "slowness": {"kind": "normal"}, "costs": {"seed_s": "much"},
        }
    )  # fmt: skip
    text = "\n".join(found)
    for place in (
        "scenario.peers", "scenario.seconds", "scenario.nonsense", "scenario.cost", "scenario.goodbye",
        "scenario.settings", "scenario.task", "scenario.network.loss", "scenario.churn", "scenario.faults[1]",
        "scenario.slowness", "scenario.costs.seed_s", "colour",
    ):  # fmt: skip
        assert place in text or place.split(".")[-1] in text, place
    assert len(found) >= 12


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"peers": 3, "seconds": 9}, "no cohort could be published"),
        ({"peers": 10, "seconds": 9, "task": {"cohort": 3}}, "aggregation.cohort must be at least minimum_cohort"),
        ({"peers": 10, "seconds": 9, "task": {"branching": 0}}, "aggregation.branching must be 1 to"),
        ({"peers": 10**6, "seconds": 9, "cost": "exact"}, 'use "modelled"'),
        ([], "must be a table"),
    ],
)
def test_impossible_scenarios(data: Any, said: str) -> None:
    assert any(said in problem for problem in problems(data)), problems(data)


def test_a_trace_with_too_few_peers() -> None:
    texts = {"days.csv": "peer,online_from,online_to\na,0,10\nb,5,20\n"}
    plain = {"peers": 8, "seconds": 9, "churn": {"kind": "trace", "files": ["days.csv"]}}
    assert problems(plain, texts) == ["scenario.peers is 8, but the trace of scenario.churn has 2"]
