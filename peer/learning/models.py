"""What can be trained: the ``Model`` interface, the linear family, and the registry that finds a task's model.

To bring your own model, subclass ``Model`` (four things to write: ``dimension``, ``initial``, ``gradient``,
``predict``), name it in your own configuration (``[models] mine = "package.module:Class"``) and use that name in a
task.
Neighbours: ``mlp`` holds the network with a hidden layer; ``trainer`` calls models in threads; ``protocol`` sees only
the flat parameter vector.
Invariants: a model has no state of its own besides its shape, so one instance serves several threads; parameters are
one flat vector; regularisation is the update's business, not the model's; code is imported only from a peer's own
configuration.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_COORDINATES
from protocol.training.task import Scalar, Task

Floats = NDArray[np.floating]
Params = NDArray[Any]
"""The flat parameters: float32 of shape (dimension,).  float64 is also taken, then everything is computed in
float64.
"""

_CHUNK = 4096
_CHUNK_BYTES = 16 * 2**20
"""What a model may take for the records that it is shown at once: a task is a stranger's, and so is its width."""


class Gradient(NamedTuple):
    """What a model makes of a batch of n records."""

    vector: Params
    """Mean gradient of the loss over the batch, of the parameters' dtype and shape; the caller may change it."""
    losses: NDArray[np.float64]
    """Loss of every record, shape (n,)."""
    hits: int
    """Records whose label is predicted rightly; 0 for regression."""


class Model(ABC):
    """A model whose parameters are one flat vector.

    ``X`` is always float32 of shape (n, features), already scaled (and standardised, if the task says so).  ``y`` is
    int64 of shape (n,) with class numbers in [0, classes), or for regression (``classes`` 0) float32 in [-1, 1].
    """

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        """``hyper``: the task's own parameters for this model.  Raise ``ConfigurationError`` for what is impossible."""
        self.features = features
        self.classes = classes
        self.hyper = dict(hyper)

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of parameters; must follow from the constructor's arguments alone, and cost nothing to ask."""

    @property
    def record_bytes(self) -> int:
        """About how many bytes ``gradient`` needs for each record.  Worth overriding where there are hidden units."""
        return 12 * self.features + 64 * max(1, self.classes)

    @property
    def chunk(self) -> int:
        """How many records it may be shown at once."""
        return max(1, _CHUNK_BYTES // self.record_bytes)

    @abstractmethod
    def initial(self, seed: int) -> NDArray[np.float32]:
        """First parameters, float32 of shape (dimension,); the same for the same seed."""

    @abstractmethod
    def gradient(self, params: Params, X: Floats, y: NDArray[Any]) -> Gradient:
        """Mean gradient, losses and hits of a batch.  Must not change its arguments."""

    @abstractmethod
    def predict(self, params: Params, X: Floats) -> NDArray[Any]:
        """Class numbers (int64) or, for regression, values (float) in about [-1, 1]; shape (n,)."""

    def losses(self, params: Params, X: Floats, y: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
        """Losses and hits without a gradient.  Worth overriding where that is cheaper."""
        _, losses, hits = self.gradient(params, X, y)
        return losses, hits

    def evaluate(self, params: Params, X: Floats, y: NDArray[Any]) -> tuple[float, float]:
        """(mean loss, accuracy) over the records, in chunks; for regression the second is R squared.

        Without records both are NaN.  R squared is 0 where the targets do not vary.
        """
        if len(X) == 0:
            return float("nan"), float("nan")
        loss, hits, residual = 0.0, 0, 0.0
        step = min(_CHUNK, self.chunk)
        for start in range(0, len(X), step):
            x_part, y_part = X[start : start + step], y[start : start + step]
            losses, right = self.losses(params, x_part, y_part)
            loss += float(losses.sum())
            hits += right
            if not self.classes:
                residual += float(np.square(self.predict(params, x_part).astype(np.float64) - y_part).sum())
        if self.classes:
            return loss / len(X), hits / len(X)
        spread = float(np.square(y - np.mean(y, dtype=np.float64)).sum())
        return loss / len(X), 1.0 - residual / spread if spread > 0 else 0.0


class _Affine(Model):
    """Scores ``X W^T + b``: parameters are W (outputs, features) by rows, then b (outputs,).

    A subclass gives, for the scores (n, outputs), the losses and the derivative of each record's loss by its scores.
    """

    name = "?"

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        if hyper:
            names = ", ".join(hyper)
            raise ConfigurationError([f"task.hyper: {self.name} has no parameters of its own, remove {names}"])
        self.outputs = 1 if classes <= 2 else classes

    @property
    def dimension(self) -> int:
        return self.outputs * (self.features + 1)

    def initial(self, seed: int) -> NDArray[np.float32]:
        """Zeros: the losses are convex, so any start will do and none favours a class."""
        return np.zeros(self.dimension, dtype=np.float32)

    def scores(self, params: Params, X: Floats) -> Params:
        """(n, outputs)."""
        split = self.outputs * self.features
        weights = params[:split].reshape(self.outputs, self.features)
        out: Params = X.astype(params.dtype, copy=False) @ weights.T
        out += params[split:]
        return out

    @abstractmethod
    def slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        """Losses (n,), and the derivative of each by its scores (n, outputs)."""

    def decide(self, scores: Params) -> NDArray[Any]:
        """Class numbers from scores."""
        return decide(scores)

    def gradient(self, params: Params, X: Floats, y: NDArray[Any]) -> Gradient:
        scores = self.scores(params, X)
        losses, slopes = self.slopes(scores, y)
        slopes = (slopes / len(X)).astype(params.dtype, copy=False)
        vector = np.empty_like(params)
        split = self.outputs * self.features
        np.matmul(slopes.T, X.astype(params.dtype, copy=False), out=vector[:split].reshape(self.outputs, self.features))
        vector[split:] = slopes.sum(axis=0)
        return Gradient(vector, losses, self._hits(scores, y))

    def losses(self, params: Params, X: Floats, y: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
        scores = self.scores(params, X)
        return self.slopes(scores, y)[0], self._hits(scores, y)

    def predict(self, params: Params, X: Floats) -> NDArray[Any]:
        return self.decide(self.scores(params, X))

    def _hits(self, scores: Params, y: NDArray[Any]) -> int:
        return int(np.count_nonzero(self.decide(scores) == y)) if self.classes else 0


class Linear(_Affine):
    """Least squares for regression: loss (prediction - target)^2 / 2, both on the scale of [-1, 1]."""

    name = "linear"

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        if classes:
            raise ConfigurationError(
                ["task.model: linear is for regression; for classes use softmax, logistic, svm, mlp"]
            )

    def slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        return squared_error(scores, y)

    def decide(self, scores: Params) -> NDArray[Any]:
        return np.asarray(scores[:, 0])


class Logistic(_Affine):
    """Logistic regression for two classes: loss log(1 + exp(-s)) with s the score, signed by the class."""

    name = "logistic"

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        if classes != 2:
            raise ConfigurationError([f"task.model: logistic needs two classes, not {classes}; for more use softmax"])

    def slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        sign = (2.0 * y - 1.0)[:, None]
        margins = scores.astype(np.float64) * sign
        # log(1 + exp(-m)) and 1 / (1 + exp(m)) = (1 - tanh(m / 2)) / 2, neither of which overflows
        return np.logaddexp(0.0, -margins)[:, 0], -0.5 * sign * (1.0 - np.tanh(margins / 2.0))


class Softmax(_Affine):
    """Multinomial logistic regression: cross-entropy loss, one row of weights and one bias per class."""

    name = "softmax"

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        if classes < 2:
            raise ConfigurationError(["task.model: softmax needs classes; for regression use linear or mlp"])
        self.outputs = classes

    def slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        return cross_entropy(scores, y)


class Svm(_Affine):
    """Linear support vector machine: hinge loss max(0, 1 - s); above two classes one against the rest, losses added."""

    name = "svm"

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, hyper)
        if classes < 2:
            raise ConfigurationError(["task.model: svm needs classes; for regression use linear or mlp"])

    def slopes(self, scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
        sign = np.full(scores.shape, -1.0)
        if self.outputs == 1:
            sign[:, 0] = 2.0 * y - 1.0
        else:
            sign[np.arange(len(y)), y] = 1.0
        slack = np.maximum(0.0, 1.0 - sign * scores)
        return slack.sum(axis=1), np.where(slack > 0, -sign, 0.0)


def decide(scores: Params) -> NDArray[np.int64]:
    """Class numbers of scores (n, outputs): the largest, or for a single output its sign."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.int64)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def cross_entropy(scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
    """Cross-entropy losses (n,) of scores (n, classes), and their derivative by the scores, in float64."""
    rows = np.arange(len(y))
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chosen = shifted[rows, y]
    np.exp(shifted, out=shifted)
    total = shifted.sum(axis=1)
    shifted /= total[:, None]
    shifted[rows, y] -= 1.0
    return np.log(total) - chosen, shifted


def squared_error(scores: Params, y: NDArray[Any]) -> tuple[NDArray[np.float64], Params]:
    """Losses (prediction - target)^2 / 2, shape (n,), of scores (n, 1), and their derivative by the scores, in
    float64.
    """
    error = scores[:, 0].astype(np.float64) - y
    return 0.5 * np.square(error), error[:, None]


def built_in() -> dict[str, type[Model]]:
    """The models that every peer knows, by name."""
    from peer.learning.mlp import Mlp  # here, since mlp builds on this module

    return {"linear": Linear, "logistic": Logistic, "softmax": Softmax, "svm": Svm, "mlp": Mlp}


def make_model(
    name: str, features: int, classes: int, hyper: Mapping[str, Scalar], own: Mapping[str, str] | None = None
) -> Model:
    """The model called ``name`` for so many features and classes (0: regression).

    ``own``: this peer's configuration, name -> "module:Class".  Raises ``ConfigurationError`` for an unknown name, a
    class that cannot be had, impossible hyper-parameters, or more parameters than ``MAX_COORDINATES``.
    """
    own = own or {}
    known = built_in()
    if name in known and name in own:
        raise ConfigurationError([f"models.{name}: is a built-in model's name, call your own class something else"])
    if name in known:
        kind = known[name]
    elif name in own:
        kind = _import(name, own[name])
    else:
        yours = "".join(f", {other}" for other in sorted(own))
        raise ConfigurationError([f"task.model: '{name}' is not known here, known are {', '.join(known)}{yours}"])
    model = kind(features, classes, hyper)
    if not 1 <= model.dimension <= MAX_COORDINATES:
        raise ConfigurationError([f"task.model: has {model.dimension} parameters, 1 to {MAX_COORDINATES} will do"])
    return model


def model_for(task: Task, own: Mapping[str, str] | None = None) -> Model:
    """The model of a task; also checks that the task says its dimension.  Raises ``ConfigurationError``."""
    model = make_model(task.model, len(task.features), len(task.classes), dict(task.hyper), own)
    if model.dimension != task.dimension:
        raise ConfigurationError(
            [
                f"task '{task.name}': its model '{task.model}' has {model.dimension} parameters here, "
                f"the task says {task.dimension}"
            ]
        )
    return model


def _import(name: str, where: str) -> type[Model]:
    module, colon, attribute = where.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError([f"models.{name}: '{where}' must have the form 'package.module:Class'"])
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the user's code: whatever it raises, the sentence is about the name
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError([f"models.{name}: '{where}' cannot be imported ({reason})"]) from error
    if not (isinstance(kind, type) and issubclass(kind, Model)):
        raise ConfigurationError([f"models.{name}: '{where}' must be a subclass of peer.learning.models.Model"])
    return kind
