"""Every model's gradient is the derivative of its loss; the registry finds models and refuses the rest."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from peer.learning.models import Gradient, Linear, Model, make_model, model_for
from peer.learning.taskfile import task_for_dataset
from protocol.base.errors import ConfigurationError

CASES = [
    ("linear", 0, {}),
    ("logistic", 2, {}),
    ("softmax", 2, {}),
    ("softmax", 4, {}),
    ("svm", 2, {}),
    ("svm", 4, {}),
    ("mlp", 0, {"hidden": 5}),
    ("mlp", 2, {"hidden": 5, "activation": "relu"}),
    ("mlp", 4, {"hidden": 5, "activation": "tanh"}),
    ("mlp", 0, {"hidden": 5, "activation": "relu"}),
]


def batch(classes: int, rng: np.random.Generator, n: int = 7, f: int = 6):
    x = rng.standard_normal((n, f))
    y = rng.integers(0, classes, n) if classes else rng.uniform(-1, 1, n)
    return x, y


@pytest.mark.parametrize(("name", "classes", "hyper"), CASES)
def test_gradient_is_the_derivative_of_the_mean_loss(name, classes, hyper) -> None:
    rng = np.random.default_rng(4)
    model = make_model(name, 6, classes, hyper)
    x, y = batch(classes, rng)
    params = rng.standard_normal(model.dimension) * 0.5  # float64, so that differences are sharp
    found = model.gradient(params, x, y)
    step = 1e-6
    for i in range(model.dimension):
        up, down = params.copy(), params.copy()
        up[i] += step
        down[i] -= step
        slope = (model.gradient(up, x, y).losses.mean() - model.gradient(down, x, y).losses.mean()) / (2 * step)
        assert found.vector[i] == pytest.approx(slope, abs=1e-7, rel=1e-6)


@pytest.mark.parametrize(("name", "classes", "hyper"), CASES)
def test_types_shapes_and_agreement_of_the_methods(name, classes, hyper) -> None:
    rng = np.random.default_rng(5)
    model = make_model(name, 6, classes, hyper)
    x, y = batch(classes, rng, n=50)
    x = x.astype(np.float32)
    params = model.initial(3) + np.float32(0.1) * rng.standard_normal(model.dimension, dtype=np.float32)
    before = params.copy(), x.copy(), y.copy()
    vector, losses, hits = model.gradient(params, x, y)
    assert (vector.dtype, vector.shape) == (np.float32, (model.dimension,))
    assert (losses.dtype, losses.shape) == (np.float64, (50,))
    assert (losses >= 0).all()
    again, right = model.losses(params, x, y)
    assert again == pytest.approx(losses)
    guess = model.predict(params, x)
    loss, accuracy = model.evaluate(params, x, y)
    assert loss == pytest.approx(losses.mean())
    if classes:
        assert hits == right == int((guess == y).sum())
        assert guess.dtype == np.int64
        assert accuracy == hits / 50
    else:
        assert hits == right == 0
        assert accuracy == pytest.approx(1 - ((guess - y) ** 2).sum() / ((y - y.mean()) ** 2).sum(), rel=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, (params, x, y), strict=True))


@pytest.mark.parametrize(("name", "classes", "hyper"), CASES)
def test_steps_against_the_gradient_lower_the_loss(name, classes, hyper) -> None:
    rng = np.random.default_rng(6)
    model = make_model(name, 6, classes, hyper)
    x, y = batch(classes, rng, n=60)
    y = (x[:, :classes].argmax(axis=1) if classes else np.tanh(x[:, 0])).astype(y.dtype)
    params = model.initial(0).astype(np.float64)
    start = model.gradient(params, x, y).losses.mean()
    for _ in range(200):
        params -= 0.2 * model.gradient(params, x, y).vector
    assert model.gradient(params, x, y).losses.mean() < 0.5 * start


def test_dimensions() -> None:
    assert make_model("softmax", 64, 10, {}).dimension == 650
    assert make_model("logistic", 57, 2, {}).dimension == 58
    assert make_model("svm", 57, 2, {}).dimension == 58
    assert make_model("svm", 16, 10, {}).dimension == 170
    assert make_model("linear", 3, 0, {}).dimension == 4
    assert make_model("mlp", 16, 10, {"hidden": 48}).dimension == 16 * 48 + 48 + 480 + 10


def test_losses_that_are_known() -> None:
    zeros = np.zeros((4, 3), dtype=np.float32)
    y = np.array([0, 1, 1, 0])
    for name, loss in (("logistic", np.log(2)), ("softmax", np.log(2)), ("svm", 1.0)):
        model = make_model(name, 3, 2, {})
        assert model.losses(model.initial(0), zeros, y)[0] == pytest.approx(np.full(4, loss))
    four = make_model("svm", 3, 4, {})
    assert four.losses(four.initial(0), zeros, y)[0] == pytest.approx(np.full(4, 4.0))


def test_enormous_scores_neither_overflow_nor_warn() -> None:
    for name, classes in (("logistic", 2), ("softmax", 3), ("svm", 3), ("mlp", 3)):
        model = make_model(name, 2, classes, {})
        params = np.full(model.dimension, 1e4, dtype=np.float32) * np.where(np.arange(model.dimension) % 2, 1, -1)
        vector, losses, _ = model.gradient(
            params.astype(np.float32), np.full((3, 2), 10, np.float32), np.array([0, 1, 0])
        )
        assert np.isfinite(vector).all()
        assert np.isfinite(losses).all()


def test_mlp_starts_from_its_seed() -> None:
    model = make_model("mlp", 8, 3, {"hidden": 16})
    assert np.array_equal(model.initial(1), model.initial(1))
    assert not np.array_equal(model.initial(1), model.initial(2))
    large = make_model("mlp", 400, 3, {"hidden": 100})
    assert large.initial(0)[: 400 * 100].std() == pytest.approx(1 / 20, rel=0.02)
    assert (large.initial(0)[400 * 100 : 400 * 100 + 100] == 0).all()


def test_evaluate_without_records_and_without_spread() -> None:
    model = make_model("linear", 2, 0, {})
    none = model.evaluate(model.initial(0), np.zeros((0, 2), np.float32), np.zeros(0))
    assert all(np.isnan(v) for v in none)
    assert model.evaluate(model.initial(0), np.ones((3, 2), np.float32), np.full(3, 0.5))[1] == 0.0


@pytest.mark.parametrize(
    ("name", "classes", "hyper", "sentence"),
    [
        ("linear", 3, {}, "linear is for regression"),
        ("logistic", 3, {}, "needs two classes, not 3"),
        ("logistic", 0, {}, "needs two classes, not 0"),
        ("softmax", 0, {}, "softmax needs classes"),
        ("svm", 0, {}, "svm needs classes"),
        ("softmax", 3, {"hidden": 3}, "no parameters of its own, remove hidden"),
        ("mlp", 3, {"hidden": 0}, r"task\.hyper\.hidden: 0 must be"),
        ("mlp", 3, {"hidden": 10**9}, r"task\.hyper\.hidden: 1000000000 must be .* from 1 to 10000000"),
        ("mlp", 3, {"hidden": True}, r"task\.hyper\.hidden: True must be"),
        ("mlp", 3, {"hidden": 2.5}, r"task\.hyper\.hidden: 2\.5 must be"),
        ("mlp", 3, {"hidden": 9_999_999}, "parameters, 1 to 10000000 will do"),
        ("mlp", 3, {"activation": "sign"}, "must be 'tanh' or 'relu'"),
        ("mlp", 3, {"layers": 2}, r"task\.hyper\.layers: mlp has no such parameter"),
        ("forest", 3, {}, "'forest' is not known here"),
    ],
)
def test_impossible_models_are_refused(name, classes, hyper, sentence) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        make_model(name, 10, classes, hyper)


class Constant(Model):
    """A user's own model: one parameter, squared error, nothing overridden that need not be."""

    @property
    def dimension(self) -> int:
        return 1

    def initial(self, seed):
        return np.zeros(1, dtype=np.float32)

    def gradient(self, params, X, y):
        error = params[0] - np.asarray(y, dtype=np.float64)
        return Gradient(np.array([error.mean()], dtype=np.float32), error**2 / 2, 0)

    def predict(self, params, X):
        return np.full(len(X), params[0])


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("a_users_module")
    module.Constant, module.number = Constant, 3
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    return "a_users_module:Constant"


def test_own_models_come_from_the_own_configuration_only(own: str) -> None:
    model = make_model("mine", 4, 0, {}, {"mine": own})
    assert type(model).__name__ == "Constant"
    assert model.evaluate(model.initial(0), np.zeros((2, 4), np.float32), np.array([1.0, -1.0])) == (0.5, 0.0)
    with pytest.raises(ConfigurationError, match="'a_users_module:Constant' is not known here"):
        make_model(own, 4, 0, {})  # what a task names is never imported


@pytest.mark.parametrize(
    ("name", "where", "sentence"),
    [
        ("mine", "nowhere", "must have the form"),
        ("mine", "no.such.module:X", "cannot be imported"),
        ("mine", "a_users_module:Missing", "cannot be imported"),
        ("mine", "a_users_module:number", "must be a subclass"),
        ("softmax", "a_users_module:Constant", "built-in model's name"),
    ],
)
def test_bad_own_models(own: str, name: str, where: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        make_model(name, 4, 0, {}, {name: where})


def test_model_for_checks_the_dimension() -> None:
    task = task_for_dataset("digits")
    assert model_for(task).dimension == 650
    with pytest.raises(ConfigurationError, match="has 650 parameters here, the task says 651"):
        model_for(replace(task, dimension=651))


def test_linear_predicts_what_it_was_built_from() -> None:
    model = Linear(2, 0, {})
    params = np.array([2.0, -1.0, 0.5], dtype=np.float32)
    assert model.predict(params, np.array([[1, 1], [0, 2]], dtype=np.float32)).tolist() == [1.5, -1.5]
