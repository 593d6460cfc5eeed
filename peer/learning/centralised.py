"""The yardstick of the demo: the same model, clipping and number of steps on pooled data, by plain mini-batch SGD.

Neighbours: steps are ``protocol.training.update.apply_gradient``, the very arithmetic of a root; the demo compares.
Invariants: one seed gives one model (on one machine); nothing here is ever run on records of several real peers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.learning.models import model_for
from peer.learning.preprocess import standardise
from peer.learning.trainer import prepare
from protocol.masking.ring import clip_l2
from protocol.training import state
from protocol.training.task import Task
from protocol.training.update import apply_gradient
from protocol.wire.messages import Checkpoint


def train_test_split(
    records: int, rng: np.random.Generator, test_share: float = 0.2
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of (training, test) records: a random split of ``range(records)``, every one in exactly one part."""
    order = rng.permutation(records).astype(np.int64, copy=False)
    test = int(records * test_share)
    return order[test:], order[:test]


def train_centralised(
    task: Task,
    X: NDArray[np.floating],
    y: NDArray[Any],
    *,
    steps: int,
    peers: int,
    seed: int,
    own_models: Mapping[str, str] | None = None,
    watch: Callable[[Checkpoint], None] | None = None,
) -> Checkpoint:
    """A model trained on pooled records (own units) with batches of ``peers * batch_per_peer``, drawn afresh each step.

    The mean gradient of the batch is clipped to ``task.clip``.  If the task standardises, mean and variance are those
    of all records.  The result has the layout of any checkpoint: ``state.parameters`` and ``state.statistics`` read it.
    ``watch`` is shown the model before the first step and after every one.
    """
    model = model_for(task, own_models)
    z, targets = prepare(task, X, y)
    first = np.frombuffer(state.initial_state(task, model.initial(task.initial_seed)), dtype=state.F32).copy()
    if task.statistics_rounds:
        wide = z.astype(np.float64)
        first[-2 * z.shape[1] :] = np.concatenate([wide.mean(axis=0), np.square(wide).mean(axis=0)])
    checkpoint = Checkpoint(task.id, task.statistics_rounds, first.tobytes())
    statistics = state.statistics(task, checkpoint)
    rng = np.random.default_rng(seed)
    batch = min(len(z), peers * task.batch_per_peer)
    if watch is not None:
        watch(checkpoint)
    for _ in range(steps):
        rows = rng.choice(len(z), size=batch, replace=False, shuffle=False)
        params = state.parameters(task, checkpoint)
        vector, _, _ = model.gradient(params, standardise(z[rows], statistics), targets[rows])
        clip_l2(vector, task.clip)
        checkpoint = apply_gradient(task, checkpoint, vector)
        if watch is not None:
            watch(checkpoint)
    return checkpoint
