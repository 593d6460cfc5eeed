"""The yardstick reaches what plain SGD reaches, and peers that average their contributions reach the same."""

import numpy as np
import pytest

from peer.learning.centralised import train_centralised, train_test_split
from peer.learning.datasets import load_dataset
from peer.learning.models import model_for
from peer.learning.partition import partition
from peer.learning.taskfile import task_for_dataset
from peer.learning.trainer import Learner, evaluate_records
from protocol.base.entropy import SeededEntropy
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.training.update import apply_gradient, apply_statistics
from protocol.wire.messages import Checkpoint


def accuracy(task: Task, checkpoint: Checkpoint, x, y) -> float:
    return evaluate_records(task, state.parameters(task, checkpoint), state.statistics(task, checkpoint), x, y)[1]


def test_split_uses_every_record_once() -> None:
    train, test = train_test_split(101, np.random.default_rng(0))
    assert len(test) == 20
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(101))


@pytest.mark.parametrize(
    ("name", "peers", "least"), [("digits", 12, 0.94), ("spambase", 12, 0.91), ("pendigits", 20, 0.95)]
)
def test_accuracy_of_150_steps(name: str, peers: int, least: float) -> None:
    data = load_dataset(name)
    task = task_for_dataset(name, steps=150)
    train, test = train_test_split(len(data.X), np.random.default_rng(1))
    done = train_centralised(task, data.X[train], data.y[train], steps=150, peers=peers, seed=1)
    assert done.age == task.last_age
    assert accuracy(task, done, data.X[test], data.y[test]) > least


def test_one_seed_one_model_and_pooled_statistics() -> None:
    data = load_dataset("spambase")
    task = task_for_dataset("spambase")
    x, y = data.X[::10], data.y[::10]
    one, two, other = (train_centralised(task, x, y, steps=3, peers=2, seed=seed) for seed in (1, 1, 2))
    assert one.state == two.state
    assert one.state != other.state
    mean, variance = state.statistics(task, one)
    low, high = np.array(task.ranges).T
    z = 2 * (x - low) / (high - low) - 1
    assert mean == pytest.approx(z.mean(axis=0), abs=1e-6)
    assert variance == pytest.approx(z.var(axis=0), abs=1e-6)


def test_steps_are_clipped() -> None:
    data = load_dataset("digits")
    task = task_for_dataset("digits", clip=1e-3)
    done = train_centralised(task, data.X[:500], data.y[:500], steps=4, peers=2, seed=0)
    moved = float(np.linalg.norm(state.parameters(task, done)))
    assert 0 < moved <= 4 * 1e-3 * task.learning_rate * (1 + 1e-5)


@pytest.mark.parametrize(
    ("name", "peers", "spec"), [("digits", 12, "iid"), ("spambase", 12, "iid"), ("pendigits", 20, "dirichlet:0.3")]
)
def test_averaged_contributions_come_close(name: str, peers: int, spec: str) -> None:
    """The demo's arithmetic without its network: one cohort of everybody at each step."""
    data = load_dataset(name)
    task = task_for_dataset(name, steps=150)
    model = model_for(task)
    rng = np.random.default_rng(1)
    train, test = train_test_split(len(data.X), rng)
    x, y = data.X[train], data.y[train]
    learners = [
        Learner(task, model, x[rows], y[rows], entropy=SeededEntropy(i))
        for i, rows in enumerate(partition(y, peers, spec, rng))
    ]
    sources = [SeededEntropy(f"peer {i}") for i in range(peers)]
    now = Checkpoint(task.id, 0, state.initial_state(task, model.initial(task.initial_seed)))
    while now.age < task.last_age:
        kind = task.kind_at(now.age)
        params, statistics = state.parameters(task, now), state.statistics(task, now)
        sums = [
            one.contribute(kind, params, statistics, source).values
            for one, source in zip(learners, sources, strict=True)
        ]
        means = [np.mean([values[k] for values in sums], axis=0) for k in range(3)]
        if kind is RoundKind.GRADIENT:
            now = apply_gradient(task, now, means[0])
        else:
            now = apply_statistics(task, now, means[0] / means[2], means[1] / means[2])
    central = train_centralised(task, x, y, steps=150, peers=peers, seed=1)
    reached, yardstick = (accuracy(task, one, data.X[test], data.y[test]) for one in (now, central))
    assert reached > yardstick - 0.02
