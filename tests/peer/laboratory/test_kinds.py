"""What all kinds have in common: they are listed, and one seed gives one table in every process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peer.laboratory.kinds import KINDS
from peer.laboratory.study import evaluation

ROOT = Path(__file__).parents[3]
_WORLD: dict[str, Any] = {"peers": 14, "seconds": 10, "warm_up_s": 10, "network": "wan", "settings": "lan"}
_FAILING = {"kind": "failures", "per_hour": 60, "down_s": 5.0}
_LEARNING: dict[str, Any] = {"dataset": "digits", "steps": 3, "scenario": _WORLD | {"seconds": 100}}
SAMPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("network", {**_WORLD, "churn": _FAILING}),
    ("network", {**_WORLD, "churn": _FAILING, "series": "rounds"}),
    ("overhead", {**_WORLD, "churn": _FAILING}),
    ("exposure", {"corrupt": [0.3], "lost": 0.1, "trees": 500, "rounds": 3}),
    ("convergence", {**_LEARNING, "algorithm": "churn", "churn": _FAILING, "partition": "dirichlet:0.5"}),
    ("convergence", {**_LEARNING, "algorithm": "one-record", "one_record": {"peers": 40, "cohort": 8}}),
    ("convergence", {**_LEARNING, "algorithm": "centralised"}),
    ("convergence", {**_LEARNING, "algorithm": "gossip"}),
)
_PRINT = "import json; from tests.peer.laboratory.test_kinds import tables; print(json.dumps(tables()))"


def tables() -> list[Any]:
    """The rows of every sample."""
    return [KINDS[name].run(parameters, 3) for name, parameters in SAMPLES]


def test_one_seed_gives_one_table_in_every_process() -> None:
    told = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        process = subprocess.run(
            [sys.executable, "-c", _PRINT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        told.append(process.stdout)
    assert told[0] == told[1]
    assert json.loads(told[0]) == json.loads(json.dumps(tables()))


@pytest.mark.parametrize("scale", ["small", "full"])
def test_the_evaluation_has_every_part_at_every_scale(scale: str) -> None:
    found = {experiment.name: experiment for experiment in evaluation(scale)}
    assert {"exposure", "failures", "smartphones", "smartphones_assumptions", "convergence", "overhead"} <= set(found)
    assert all(e.kind.name in KINDS and e.points and e.outline.plots and e.outline.paragraphs for e in found.values())
    sweep = found["exposure"].sweep
    assert (sweep["branching"], sweep["collusion_threshold"]) == ([2, 3, 4], [2, 3, 4, 5])


@pytest.mark.parametrize(("name", "parameters"), SAMPLES)
def test_samples_are_what_their_kinds_take(name: str, parameters: dict[str, Any]) -> None:
    assert KINDS[name].name == name
    assert KINDS[name].check(parameters, "f") == []
