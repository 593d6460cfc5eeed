"""Plain gossip SGD, for comparison: one model walks from peer to peer, and each takes one step on its own record.

As in gossip learning (Ormandi, Hegedus, Jelasity, "Gossip learning with linear models on fully distributed data",
Concurrency and Computation 25(4), 2013), with a single walk and no merging: no tree, no batch, no privacy: every peer
sees the model before and after its neighbour's record.

Neighbours: ``convergence`` sets its curve beside the others; latencies and costs are those of ``protocol.simulation``.
Invariants: one seed gives one walk.  It is favoured where it matters little: everybody is online and known to
everybody, and features are standardised with the pooled statistics, which no sum had to find.
"""

from collections.abc import Callable

import numpy as np

from peer.laboratory.learning import Judge, Point, Records
from peer.learning.centralised import train_centralised
from peer.learning.preprocess import standardise
from peer.learning.trainer import prepare
from protocol.masking.ring import clip_l2
from protocol.simulation.costs import Costs
from protocol.simulation.network import Network
from protocol.simulation.sizes import ENVELOPE_BYTES
from protocol.simulation.streams import generator
from protocol.training import state
from protocol.training.task import Task
from protocol.training.update import apply_gradient
from protocol.wire.messages import Checkpoint


def step_s(task: Task, records: int, costs: Costs) -> float:
    """Modelled seconds of one gradient step over so many records, as a contribution's job is charged."""
    touched = 8 * (task.dimension + records * len(task.features))
    return costs.contribution_s + touched / costs.vector_bytes_per_s


def start_of(task: Task, records: Records, seed: int) -> Checkpoint:
    """The model before the first step, with the statistics of the pooled records where the task standardises."""
    seen: list[Checkpoint] = []
    train_centralised(task, records.X, records.y, steps=0, peers=1, seed=seed, watch=seen.append)
    return seen[0]


def walk(
    task: Task,
    records: Records,
    judge: Judge,
    *,
    steps: int,
    every: Callable[[int], bool],
    network: Network,
    costs: Costs,
    retry_s: float,
    seed: int,
) -> list[Point]:
    """The curve of one walk over as many peers as there are records, one record each.

    ``every`` says at which steps the model is judged.  ``retry_s``: after so long the sender of a model that was lost
    sends it to somebody else.
    """
    rng = generator(seed, "gossip walk")
    z, targets = prepare(task, records.X, records.y)
    checkpoint = start_of(task, records, seed)
    z = standardise(z, state.statistics(task, checkpoint))
    nbytes = ENVELOPE_BYTES + len(checkpoint.state)
    points = [judge.point(checkpoint, 0.0)]
    now, at = 0.0, int(rng.integers(len(z)))
    for step in range(1, steps + 1):
        now += step_s(task, 1, costs)
        vector, _, _ = judge.model.gradient(state.parameters(task, checkpoint), z[at : at + 1], targets[at : at + 1])
        vector = np.ascontiguousarray(vector, dtype=np.float32)
        clip_l2(vector, task.clip)
        checkpoint = apply_gradient(task, checkpoint, vector)
        if every(step) or step == steps:
            points.append(judge.point(checkpoint, now))
        while True:  # until somebody has it
            to = (at + 1 + int(rng.integers(len(z) - 1))) % len(z)
            delivery = network.send(now + costs.message(nbytes), at, to, nbytes)
            if delivery.arrivals:
                break
            now = max(now + retry_s, delivery.failed_at or 0.0)
        now, at = delivery.arrivals[0] + costs.message(nbytes), to
    return points
