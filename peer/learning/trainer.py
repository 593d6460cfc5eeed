"""One peer's part in training: its records, the numbers it contributes to a round, and how good a model is here.

Neighbours: the driver runs ``contribute`` in a thread, the session ``evaluate``; ``protocol.masking.ring`` encodes the
sections of a contribution; ``preprocess`` and ``models`` do the arithmetic.
Invariants: held-out records never enter a contribution; every contribution comes from a sample drawn afresh, of at most
half of the training records where there are two or more, and always of weight ``batch_per_peer``; there is one
whatever the model makes of the records; no moment of a column leaves without a random factor of its own; it takes some
tens of MB beside records and model at most, whatever the task says; a ``Learner`` does not change after it is made, so
its methods may run in several threads at once.
"""

import logging
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from peer.learning.models import Model, model_for
from peer.learning.preprocess import Statistics, scale, scale_target, standardise, unscale_target
from peer.observe.logs import where
from protocol.application import Contribution
from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError
from protocol.masking.ring import clip_l2
from protocol.training.task import LEAST_FACTOR, RoundKind, Task

log = logging.getLogger("susurrus.learning")

HELD_OUT_SHARE = 0.2
HELD_OUT_FROM = 5
"""Records from which on at least one is held out."""

_CHUNK = 4096


class Learner:
    """A peer's own records bound to one task."""

    def __init__(self, task: Task, model: Model, X: NDArray[np.floating], y: NDArray[Any], *, entropy: Entropy) -> None:
        """``X``: (n, f) in the features' own units; ``y``: (n,) class numbers, or values for regression.

        ``entropy`` decides which fifth of the records is held out: pass a seeded one to have the same split after a
        restart.  Raises ``ConfigurationError`` if the records do not fit the task.
        """
        _check(task, X, y)
        self.task = task
        self.model = model
        order = generator(entropy).permutation(len(X))
        held = held_out_count(len(X))
        features, targets = prepare(task, X, y)
        self._test_x, self._test_y = features[order[:held]], targets[order[:held]]
        self._train_x, self._train_y = features[order[held:]], targets[order[held:]]
        self._told: set[str] = set()
        """Kinds of errors of the model that are in the log."""
        self._deterministic = _all_equal(self._train_x) and _all_equal(self._train_y)

    def also(self, task: Task, model: Model) -> "Learner":
        """The same records in memory, split alike, bound to another task that has the same ``taken``."""
        other = copy(self)
        other.task, other.model, other._told = task, model, set()
        return other

    @property
    def training_records(self) -> int:
        """Records that contributions are drawn from."""
        return len(self._train_x)

    @property
    def held_out_records(self) -> int:
        """Records that only ``evaluate`` sees."""
        return len(self._test_x)

    @property
    def deterministic(self) -> bool:
        """The training records are all equal, or there is one, so every gradient at one model is the same."""
        return self._deterministic

    def contribute(
        self, kind: RoundKind, params: NDArray[np.float32], statistics: Statistics | None, entropy: Entropy
    ) -> Contribution:
        """A contribution from a fresh sample.  O(batch x dimension); thread-safe if ``entropy`` is the caller's own.

        Sections as ``protocol.application.sections_of``: GRADIENT: clipped mean gradient (d, float32), weight (1,), sum
        of the losses cut at ``task.loss_bound`` (1,), hits (1,).  STATISTICS: ``weighted`` (f,) each, weight (1,).
        """
        batch = self.task.batch_per_peer
        rng = generator(entropy)
        rows = draw_sample(len(self._train_x), batch, rng)
        weight = np.array([batch], dtype=np.float64)
        match kind:
            case RoundKind.STATISTICS:
                mean, square = _mean(self._moments, rows, self.model.chunk)
                return Contribution((*weighted(mean, square, rng), weight))
            case RoundKind.GRADIENT:
                vector, loss, hits = self._gradient(params, statistics, rows)
                return Contribution((vector, weight, np.array([loss]), np.array([hits], dtype=np.float64)))
            case _:
                assert_never(kind)

    def _moments(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        wide = self._train_x[rows].astype(np.float64)
        return np.stack([wide.mean(axis=0), np.square(wide).mean(axis=0)])

    def _gradient(
        self, params: NDArray[np.float32], statistics: Statistics | None, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], float, int]:
        """Clipped mean gradient, sum of the cut losses, hits.

        Neutral ones where the model has none that are finite: parameters are another's choice, and whether a peer
        contributes to them must not depend on its records, or it answers a question about them each time.
        """
        task = self.task
        loss, hits = 0.0, 0

        def mean_gradient(part: NDArray[np.int64]) -> NDArray[np.float32]:
            nonlocal loss, hits
            z = standardise(self._train_x[part], statistics)
            found = self.model.gradient(params, z, self._train_y[part])
            vector = np.ascontiguousarray(found.vector, dtype=np.float32)
            if vector.shape != (task.dimension,) or found.losses.shape != part.shape:
                raise ValueError("a gradient or losses of a wrong shape")
            if not np.isfinite(found.losses).all():
                raise ValueError("a loss that is not finite")
            loss += float(np.clip(found.losses, 0.0, task.loss_bound).sum())
            hits += min(max(int(found.hits), 0), len(part)) if task.classes else 0
            return vector

        try:
            vector = _mean(mean_gradient, rows, self.model.chunk)
            clip_l2(vector, task.clip)
            return vector, loss, hits
        except MemoryError:  # a matter of sizes
            raise
        except Exception as error:  # its text may quote a record
            if type(error).__name__ not in self._told:
                self._told.add(type(error).__name__)
                log.error(
                    "task '%s': its model has no finite gradient here (%s); nothing is added to its sums",
                    task.name,
                    where(error),
                )
            return np.zeros(task.dimension, np.float32), task.loss_bound * len(rows), 0

    def evaluate(self, params: NDArray[np.float32], statistics: Statistics | None) -> tuple[float, float]:
        """(mean loss, accuracy; R squared for regression) on the held-out records; NaN twice where there are none."""
        return _evaluate(self.model, params, statistics, self._test_x, self._test_y)


def held_out_count(records: int) -> int:
    """How many of so many records are held out: a fifth, none below ``HELD_OUT_FROM``."""
    return max(1, int(records * HELD_OUT_SHARE)) if records >= HELD_OUT_FROM else 0


def draw_sample(records: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``batch`` positions in [0, records), of at most half of them (if two or more), in no meaningful order.

    Without replacement if the permitted half holds a whole batch; else all of a fresh random half, filled up by drawing
    from that half with replacement.
    """
    permitted = max(1, records // 2)
    chosen = rng.choice(records, size=min(batch, permitted), replace=False, shuffle=False)
    if permitted < batch:
        chosen = np.concatenate([chosen, rng.choice(chosen, size=batch - permitted)])
    return chosen.astype(np.int64, copy=False)


def weighted(
    mean: NDArray[np.float64], square: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A sample's mean and mean square of every column (f,), times a random factor for each column; and the factors.

    A column that is the same in all of a peer's records has the same moments in every sample: without the factors, two
    sums that differ by one peer would give it away.  They are real numbers, since few whole ones (numbers of records,
    say) can be told from their sums.
    """
    factors = rng.uniform(LEAST_FACTOR, 1.0, mean.shape)
    return factors * mean, factors * square, factors


def _mean(of: Callable[[NDArray[np.int64]], NDArray[Any]], rows: NDArray[np.int64], chunk: int) -> NDArray[Any]:
    """The mean over ``rows``, of which ``of`` is shown at most ``chunk`` at once: those of a usual sample all together,
    so that it does not matter to it.  The caller may change the result.
    """
    if len(rows) <= chunk:
        return of(rows)
    total: Any = 0.0
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        share = of(part)
        share *= len(part) / len(rows)
        total += share
    return np.asarray(total)


def generator(entropy: Entropy) -> np.random.Generator:
    """A numpy generator with 256 bits of seed from the entropy port."""
    return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(entropy.token(32), "little")))


def taken(task: Task) -> tuple[Any, ...]:
    """All that decides what becomes of a peer's records: tasks with the same may share them."""
    return task.schema, task.features, task.ranges, task.target, task.classes, task.target_range


def prepare(task: Task, X: NDArray[np.floating], y: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Scaled features and targets as models take them (before standardisation)."""
    targets = np.asarray(y, dtype=np.int64) if task.classes else scale_target(y, task.target_range)
    return scale(X, task.ranges), targets


def evaluate_records(
    task: Task,
    params: NDArray[np.float32],
    statistics: Statistics | None,
    X: NDArray[np.floating],
    y: NDArray[Any],
    *,
    own_models: Mapping[str, str] | None = None,
) -> tuple[float, float]:
    """(mean loss, accuracy; R squared for regression) of a model on any records, given in their own units."""
    _check(task, X, y)
    return _evaluate(model_for(task, own_models), params, statistics, *prepare(task, X, y))


def predict_records(
    task: Task,
    params: NDArray[np.float32],
    statistics: Statistics | None,
    X: NDArray[np.floating],
    *,
    own_models: Mapping[str, str] | None = None,
) -> list[str] | list[float]:
    """What the model says of records (n, f) in their own units: class labels, or values in the target's unit."""
    if X.ndim != 2 or X.shape[1] != len(task.features):
        found, needed = X.shape[-1], len(task.features)
        raise ConfigurationError([f"the records have {found} features, task '{task.name}' has {needed}"])
    model = model_for(task, own_models)
    z = scale(X, task.ranges)
    step = min(_CHUNK, model.chunk)
    parts = [model.predict(params, standardise(z[i : i + step], statistics)) for i in range(0, len(z), step)]
    if task.classes:
        return [task.classes[int(k)] for part in parts for k in part]
    return [float(v) for part in parts for v in unscale_target(part, task.target_range)]


def _evaluate(
    model: Model, params: NDArray[np.float32], statistics: Statistics | None, z: NDArray[np.float32], y: NDArray[Any]
) -> tuple[float, float]:
    return model.evaluate(params, standardise(z, statistics), y)


def _all_equal(rows: NDArray[Any]) -> bool:
    return bool((rows == rows[0]).all())


def _check(task: Task, X: NDArray[np.floating], y: NDArray[Any]) -> None:
    problems: list[str] = []
    if X.ndim != 2 or len(X) == 0:
        problems.append(f"there are no records for task '{task.name}'")
    elif X.shape[1] != len(task.features):
        problems.append(f"the records have {X.shape[1]} features, task '{task.name}' has {len(task.features)}")
    elif y.shape != (len(X),):
        problems.append(f"there are {len(X)} records but {y.size} targets")
    elif not np.isfinite(X).all() or not np.isfinite(np.asarray(y, dtype=np.float64)).all():
        problems.append("the records hold values that are not finite")
    elif task.classes and not ((y >= 0) & (y < len(task.classes))).all():
        problems.append(f"class numbers must be 0 to {len(task.classes) - 1} for task '{task.name}'")
    if problems:
        raise ConfigurationError(problems)
