"""A network with one hidden layer: softmax output for classes, one linear output for regression.

Neighbours: ``models`` has the interface, the losses and the registry.
Invariants: gradients are written straight into the flat vector, through views; no second copy of O(dimension) is made.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.learning.models import Floats, Gradient, Model, Params, cross_entropy, decide, squared_error
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_COORDINATES
from protocol.training.task import Scalar


class Mlp(Model):
    """``hyper``: ``hidden`` (units, 64) and ``activation`` ("tanh" or "relu", "tanh").

    Parameters in order: W1 (features, hidden), b1 (hidden,), W2 (hidden, outputs), b2 (outputs,), each by rows.
    """

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        problems = [
            f"task.hyper.{name}: mlp has no such parameter, it knows hidden and activation"
            for name in hyper
            if name not in ("hidden", "activation")
        ]
        hidden, activation = hyper.get("hidden", 64), hyper.get("activation", "tanh")
        if not isinstance(hidden, int) or isinstance(hidden, bool) or not 1 <= hidden <= MAX_COORDINATES:
            problems.append(f"task.hyper.hidden: {hidden!r} must be a whole number from 1 to {MAX_COORDINATES}")
        if activation not in ("tanh", "relu"):
            problems.append(f"task.hyper.activation: {activation!r} must be 'tanh' or 'relu'")
        if problems:
            raise ConfigurationError(problems)
        self.hidden = int(hidden)
        self.relu = activation == "relu"
        self.outputs = classes or 1

    @property
    def dimension(self) -> int:
        return self.features * self.hidden + self.hidden + self.hidden * self.outputs + self.outputs

    @property
    def record_bytes(self) -> int:
        return super().record_bytes + 16 * self.hidden

    def initial(self, seed: int) -> NDArray[np.float32]:
        """Weights normal with variance 1 / inputs (2 / inputs under relu), biases zero."""
        rng = np.random.Generator(np.random.PCG64(seed))
        params = np.zeros(self.dimension, dtype=np.float32)
        first, _, second, _ = self._parts(params)
        for weights, gain in ((first, 2.0 if self.relu else 1.0), (second, 1.0)):
            rng.standard_normal(out=weights, dtype=np.float32)
            weights *= np.float32(np.sqrt(gain / len(weights)))
        return params

    def gradient(self, params: Params, X: Floats, y: NDArray[Any]) -> Gradient:
        _, _, second, _ = self._parts(params)
        x = X.astype(params.dtype, copy=False)
        units, scores = self._forward(params, x)
        losses, slopes = self._slopes(scores, y)
        slopes = (slopes / len(x)).astype(params.dtype, copy=False)

        vector = np.empty_like(params)
        to_first, to_bias, to_second, to_output = self._parts(vector)
        np.matmul(units.T, slopes, out=to_second)
        to_output[:] = slopes.sum(axis=0)
        back: Params = slopes @ second.T
        back *= (units > 0) if self.relu else (1 - units * units)
        np.matmul(x.T, back, out=to_first)
        to_bias[:] = back.sum(axis=0)
        return Gradient(vector, losses, self._hits(scores, y))

    def losses(self, params: Params, X: Floats, y: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
        _, scores = self._forward(params, X.astype(params.dtype, copy=False))
        return self._slopes(scores, y)[0], self._hits(scores, y)

    def predict(self, params: Params, X: Floats) -> NDArray[Any]:
        _, scores = self._forward(params, X.astype(params.dtype, copy=False))
        return decide(scores) if self.classes else np.asarray(scores[:, 0])

    def _parts(self, flat: Params) -> tuple[Params, Params, Params, Params]:
        a = self.features * self.hidden
        b = a + self.hidden
        c = b + self.hidden * self.outputs
        return (
            flat[:a].reshape(self.features, self.hidden),
            flat[a:b],
            flat[b:c].reshape(self.hidden, self.outputs),
            flat[c:],
        )

    def _forward(self, params: Params, x: Params) -> tuple[Params, Params]:
        first, bias, second, output = self._parts(params)
        units: Params = x @ first
        units += bias
        if self.relu:
            np.maximum(units, 0, out=units)
        else:
            np.tanh(units, out=units)
        scores: Params = units @ second
        scores += output
        return units, scores

    def _slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        return cross_entropy(scores, y) if self.classes else squared_error(scores, y)

    def _hits(self, scores: Params, y: NDArray[Any]) -> int:
        return int(np.count_nonzero(decide(scores) == y)) if self.classes else 0
