"""A task written as a file is the same task when it is read."""

import tomllib
from pathlib import Path

import pytest

from peer.learning.datasets import load_dataset
from peer.learning.taskfile import load_task, task_for_dataset
from peer.learning.tasktoml import task_to_toml
from protocol.training.task import Task
from tests.protocol.world import make_task

TASKS: dict[str, Task] = {
    "of a packaged data set": task_for_dataset(
        load_dataset("digits"), collusion_threshold=2, branching=3, cohort=9, modulus_bits=16, steps=7, walks=2,
        public_data=True, initial_seed=5,
    ),
    "of data of one's own": make_task(
        model="softmax", dimension=6, hyper=(), target="a \"target\" with 'quotes'", features=("x\\y", "ü, [z]"),
        classes=("no", "yes = true"), statistics_rounds=1,
    ),
    "of a regression": make_task(
        model="linear", classes=(), target_range=(-2.5, 1e300), ranges=((-1.0, 1.0), (0.1, 1e-9 + 0.1)),
        weight_decay=1e-12, learning_rate=1 / 3,
    ),
    "with parameters of its model": make_task(
        model="mlp", hyper=(("activation", "relu"), ("hidden", 4)), dimension=22, public_data=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", TASKS)
def test_what_is_written_is_read_back_equal(tmp_path: Path, which: str) -> None:
    task = TASKS[which]
    file = tmp_path / "task.toml"
    file.write_text(task_to_toml(task))
    assert load_task(file) == task
    assert load_task(file).id == task.id


def test_a_packaged_data_set_is_named_and_not_spelled_out() -> None:
    assert tomllib.loads(task_to_toml(TASKS["of a packaged data set"]))["data"].keys() == {
        "schema",
        "statistics_rounds",
    }
