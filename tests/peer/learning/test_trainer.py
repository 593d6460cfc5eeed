"""What a peer contributes: bounded, of fixed weight, from a fresh half of its training records, none held out."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.learning import models
from peer.learning.datasets import Schema, load_dataset
from peer.learning.models import Gradient, Model, model_for
from peer.learning.taskfile import task_for_dataset
from peer.learning.trainer import Learner, draw_sample, evaluate_records, generator, held_out_count, predict_records
from protocol.application import modulus_of, sections_of
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.masking.ring import Encoding
from protocol.training.state import initial_state, view
from protocol.training.task import LEAST_FACTOR, RoundKind, Task
from protocol.training.update import Publish
from protocol.wire.messages import Checkpoint

DIGITS = load_dataset("digits")
TASK = task_for_dataset("digits")
NOTHING = np.zeros(1, np.float32)
"""Parameters where nobody looks at them."""


class Spy(Model):
    """Remembers the rows it is shown: feature 0 carries the record's number."""

    def __init__(self, features, classes, hyper) -> None:
        super().__init__(features, classes, hyper)
        self.seen: list[list[int]] = []
        self.vector = np.zeros(1, dtype=np.float32)

    @property
    def dimension(self) -> int:
        return 1

    def initial(self, seed):
        return np.zeros(1, dtype=np.float32)

    def gradient(self, params, X, y):
        self.seen.append(numbers(X))
        assert np.array_equal(numbers(X), y)  # targets stay with their records
        return Gradient(self.vector.copy(), np.full(len(y), 99.0), 5)

    def predict(self, params, X):
        return np.zeros(len(X), dtype=np.int64)


def numbers(X) -> list[int]:
    return np.rint((np.asarray(X)[:, 0] + 1) * 500).astype(int).tolist()


def spied(records: int, batch: int = 8, seed: int = 0) -> tuple[Learner, Spy]:
    described = Schema("s", ("number",), "t", tuple(str(i) for i in range(1000)), ((0.0, 1000.0),))
    task = task_for_dataset(described, batch_per_peer=batch, model="softmax", statistics_rounds=0)
    task = replace(task, dimension=1, clip=0.5, loss_bound=3.0)
    spy = Spy(1, 1000, {})
    rows = np.arange(records)
    return Learner(task, spy, rows[:, None].astype(float), rows, entropy=SeededEntropy(seed)), spy


def learner(task: Task = TASK, rows=slice(0, 300), seed: int = 1) -> Learner:
    return Learner(task, model_for(task), DIGITS.X[rows], DIGITS.y[rows], entropy=SeededEntropy(seed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(records=st.integers(1, 200), batch=st.integers(1, 100), seed=st.integers(0, 2**32))
def test_samples_are_of_fixed_size_from_at_most_half(records: int, batch: int, seed: int) -> None:
    rows = draw_sample(records, batch, np.random.default_rng(seed))
    assert len(rows) == batch
    assert rows.min() >= 0
    assert rows.max() < records
    distinct = len(set(rows.tolist()))
    permitted = max(1, records // 2)
    assert distinct == min(batch, permitted)  # no replacement before the permitted half is used up


def test_every_record_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(0)
    for records, batch in ((10, 3), (10, 8), (3, 4)):
        counts = np.bincount(np.concatenate([draw_sample(records, batch, rng) for _ in range(6000)]), minlength=records)
        assert counts == pytest.approx(np.full(records, 6000 * batch / records), rel=0.1)


def test_samples_are_fresh_and_held_out_records_stay_out() -> None:
    subject, spy = spied(100)
    entropy = SeededEntropy("rounds")
    for _ in range(200):
        subject.contribute(RoundKind.GRADIENT, np.zeros(1, np.float32), None, entropy)
    assert len({tuple(sorted(rows)) for rows in spy.seen}) == 200
    trained = {row for rows in spy.seen for row in rows}
    assert len(trained) == subject.training_records == 80
    spy.seen.clear()
    subject.evaluate(np.zeros(1, np.float32), None)
    tested = {row for rows in spy.seen for row in rows}
    assert len(tested) == subject.held_out_records == 20
    assert not trained & tested


def test_split_follows_the_entropy() -> None:
    def tested(seed: int) -> list[int]:
        subject, spy = spied(50, seed=seed)
        subject.evaluate(np.zeros(1, np.float32), None)
        return spy.seen[0]

    assert tested(1) == tested(1)
    assert tested(1) != tested(2)


@pytest.mark.parametrize(("records", "held"), [(1, 0), (4, 0), (5, 1), (8, 1), (9, 1), (10, 2), (100, 20)])
def test_how_many_are_held_out(records: int, held: int) -> None:
    assert held_out_count(records) == held
    subject, _ = spied(records)
    assert (subject.held_out_records, subject.training_records) == (held, records - held)


def test_only_a_single_distinct_record_is_deterministic() -> None:
    for records, expected in ((1, True), (2, False), (5, False)):
        subject, spy = spied(records)
        subject.contribute(RoundKind.GRADIENT, np.zeros(1, np.float32), None, SeededEntropy(3))
        assert subject.deterministic is expected
        assert len(spy.seen[0]) == 8
    assert all(np.isnan(v) for v in spied(1)[0].evaluate(np.zeros(1, np.float32), None))


def test_equal_records_are_one() -> None:
    described = Schema("s", ("a",), "t", ("0", "1"), ((0.0, 1.0),), (0.0, 0.0))
    task = task_for_dataset(described, model="logistic")
    model = model_for(task)
    for column, labels, expected in (
        ([0.5] * 4, [1] * 4, True),
        ([0.5] * 4, [1, 1, 0, 1], False),
        ([0.5, 0.5, 0.25, 0.5], [1] * 4, False),
        ([1.0, 2.0, 3.0, 4.0], [1] * 4, True),  # equal once they are scaled: the range ends at 1
    ):
        X, y = np.array(column)[:, None], np.array(labels)
        subject = Learner(task, model, X, y, entropy=SeededEntropy(1))
        assert subject.deterministic is expected
        params = np.ones(2, np.float32)
        answers = {
            subject.contribute(RoundKind.GRADIENT, params, None, SeededEntropy(i)).values[0].tobytes()
            for i in range(20)
        }
        assert (len(answers) == 1) is expected


@pytest.mark.parametrize("kind", RoundKind)
def test_contributions_fit_the_sections_of_the_round(kind: RoundKind) -> None:
    subject = learner()
    params = model_for(TASK).initial(0)
    entropy = SeededEntropy(9)
    for _ in range(20):
        values = subject.contribute(kind, params, None, entropy).values
        sections = sections_of(TASK, kind)
        assert [len(v) for v in values] == [s.length for s in sections]
        assert all(np.abs(v).max() <= s.bound for v, s in zip(values, sections, strict=True))
        weight = values[3] if kind is RoundKind.STATISTICS else values[1]
        assert weight.tolist() == [TASK.batch_per_peer]
        if kind is RoundKind.GRADIENT:
            assert values[0].dtype == np.float32
            assert np.linalg.norm(values[0].astype(np.float64)) <= TASK.clip
            assert values[3][0] == int(values[3][0])


def test_gradient_is_clipped_loss_is_cut_and_hits_are_counted() -> None:
    subject, spy = spied(40)
    for given_norm, sent in ((0.25, 0.25), (7.0, 0.5)):
        spy.vector = np.array([given_norm], dtype=np.float32)
        vector, weight, loss, hits = subject.contribute(
            RoundKind.GRADIENT, np.zeros(1, np.float32), None, SeededEntropy(0)
        ).values
        assert vector[0] == pytest.approx(sent, rel=1e-4)
        assert (weight[0], loss[0], hits[0]) == (8, 8 * 3.0, 5)


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    "what", ["not finite", "losses not finite", "of a wrong shape", "too few losses", "none at all"]
)
def test_whatever_a_model_makes_of_the_records_there_is_a_contribution(
    what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters are another's choice: who contributes to some and not to others has told of his records."""
    subject, spy = spied(40)
    match what:
        case "not finite":
            spy.vector = np.array([np.nan], dtype=np.float32)
        case "of a wrong shape":
            spy.vector = np.zeros(2, dtype=np.float32)
        case _:
            losses = {"losses not finite": np.full(8, np.inf), "too few losses": np.zeros(7)}.get(what)

            def gradient(params: Any, X: Any, y: Any) -> Gradient:
                if losses is None:
                    raise Broken("0.1234 of a record")
                return Gradient(np.ones(1, np.float32), losses, 5)

            monkeypatch.setattr(spy, "gradient", gradient)
    for _ in range(2):
        made = subject.contribute(RoundKind.GRADIENT, np.zeros(1, np.float32), None, SeededEntropy(0)).values
        assert [section.tolist() for section in made] == [[0.0], [8.0], [8 * 3.0], [0.0]]
    (told,) = caplog.records
    assert told.levelname == "ERROR"
    assert ("Broken" if what == "none at all" else "ValueError") in told.getMessage()
    assert "0.1234" not in told.getMessage()


def test_memory_that_is_lacking_is_no_matter_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient(params: Any, X: Any, y: Any) -> Gradient:
        raise MemoryError

    subject, spy = spied(40)
    monkeypatch.setattr(spy, "gradient", gradient)
    with pytest.raises(MemoryError):
        subject.contribute(RoundKind.GRADIENT, np.zeros(1, np.float32), None, SeededEntropy(0))


@pytest.mark.parametrize("model", ["linear", "logistic", "softmax", "svm", "mlp"])
def test_parameters_at_the_end_of_their_range_ask_nothing(model: str) -> None:
    """A score overflows where a feature is above a threshold of the asker's choice, and nowhere else."""
    regression, classes = model == "linear", ("0", "1", "2") if model in ("softmax", "mlp") else ("0", "1")
    described = Schema(
        "s", ("a",), "t", () if regression else classes, ((-1.0, 1.0),), (0.0, 1.0) if regression else (0.0, 0.0)
    )
    task = task_for_dataset(described, model=model, statistics_rounds=0)
    largest, neutral = float(np.finfo(np.float32).max), []
    params = np.full(task.dimension, 0.5 * largest, dtype=np.float32)
    params[: task.dimension // 2] = largest
    for feature in (0.9, -0.9):
        X, y = np.full((20, 1), feature), np.ones(20) if regression else np.ones(20, int)
        subject = Learner(task, model_for(task), X, y, entropy=SeededEntropy("split"))
        made = subject.contribute(RoundKind.GRADIENT, params, None, SeededEntropy(0)).values
        assert all(np.isfinite(section).all() for section in made)
        neutral.append(not made[0].any())
    assert True in neutral  # here it would have said something


# --- large samples ------------------------------------------------------------------------------------------------


def test_a_usual_sample_is_shown_to_the_model_all_at_once() -> None:
    subject, params = learner(replace(TASK, clip=1000.0)), model_for(TASK).initial(0)
    values = subject.contribute(RoundKind.GRADIENT, params, None, SeededEntropy(2)).values
    rows = draw_sample(subject.training_records, TASK.batch_per_peer, generator(SeededEntropy(2)))
    expected = subject.model.gradient(params, subject._train_x[rows], subject._train_y[rows])
    assert np.array_equal(values[0], expected.vector)
    assert (values[2][0], values[3][0]) == (np.clip(expected.losses, 0, TASK.loss_bound).sum(), expected.hits)


@pytest.mark.parametrize("kind", RoundKind)
@pytest.mark.parametrize("model", ["softmax", "mlp"])
def test_a_sample_in_chunks_is_worth_the_same(kind: RoundKind, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_for_dataset("digits", model=model, batch_per_peer=333, statistics_rounds=0)
    subject = learner(task)
    params = np.random.default_rng(0).standard_normal(task.dimension).astype(np.float32)
    whole = subject.contribute(kind, params, None, SeededEntropy(2)).values
    figures = subject.evaluate(params, None)
    monkeypatch.setattr(models, "_CHUNK_BYTES", 10 * subject.model.record_bytes)
    parts = subject.contribute(kind, params, None, SeededEntropy(2)).values
    for one, other in zip(whole, parts, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    assert subject.evaluate(params, None) == pytest.approx(figures)


def peak_mb(work: Callable[[], Any]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


@pytest.mark.parametrize(
    ("features", "hidden", "batch"), [(64, 2000, 10_000), (1, 200_000, 100), (2000, 1, 10_000), (1, 1, 1_000_000)]
)
def test_a_strangers_task_takes_bounded_memory(features: int, hidden: int, batch: int) -> None:
    """Beside the parameters, of which gradient, sum and update come to a few times as much."""
    names = tuple(f"f{i}" for i in range(features))
    described = Schema("s", names, "y", ("0", "1"), ((0.0, 1.0),) * features)
    hyper = (("hidden", hidden),)
    task = task_for_dataset(described, model="mlp", hyper=hyper, batch_per_peer=batch, statistics_rounds=0)
    y = np.arange(500) % 2
    subject = Learner(
        task, model_for(task), np.random.default_rng(0).random((500, features)), y, entropy=SeededEntropy(0)
    )
    params = subject.model.initial(0)
    allowed = 40.0 + 3 * params.nbytes / 1e6
    for kind in RoundKind:
        assert peak_mb(lambda kind=kind: subject.contribute(kind, params, None, SeededEntropy(1))) < allowed
    assert peak_mb(lambda: subject.evaluate(params, None)) < allowed


# --- statistics and figures ---------------------------------------------------------------------------------------


def test_statistics_are_unbiased_moments_of_the_training_records() -> None:
    """Of the few peers of a cohort, which differ, taken together as the root does: ratios of sums."""
    subjects = [learner(rows=slice(i * 50, i * 50 + 50)) for i in range(4)]
    entropy = SeededEntropy(4)
    rounds = np.array([
        np.sum([one.contribute(RoundKind.STATISTICS, NOTHING, None, entropy).values[:3] for one in subjects], axis=0)
        for _ in range(2000)
    ])  # fmt: skip
    z = np.concatenate([one._train_x for one in subjects]).astype(np.float64)
    for k, truth in ((0, z.mean(axis=0)), (1, np.square(z).mean(axis=0))):
        ratios = rounds[:, k] / rounds[:, 2]
        error = np.maximum(ratios.std(axis=0) / np.sqrt(len(rounds)), 1e-9)
        assert np.abs((ratios.mean(axis=0) - truth) / error).max() < 4.0  # 64 columns, of which many are constant
        assert error.max() < 5e-3


def test_factors_are_drawn_anew_for_each_column_and_contribution() -> None:
    entropy = SeededEntropy(5)
    subject = learner()
    factors = np.array([subject.contribute(RoundKind.STATISTICS, NOTHING, None, entropy).values[2] for _ in range(500)])
    assert np.unique(factors).size == factors.size
    assert (factors.min(), factors.max()) == pytest.approx((LEAST_FACTOR, 1.0), abs=1e-3)
    spread = (1.0 - LEAST_FACTOR) / 12**0.5
    assert factors.std(axis=0) == pytest.approx(np.full(64, spread), rel=0.15)
    assert factors.std(axis=1) == pytest.approx(np.full(500, spread), rel=0.4)


@pytest.mark.parametrize("batch", [1, 32])
def test_two_published_sums_do_not_tell_the_constant_of_the_peer_by_which_they_differ(batch: int) -> None:
    """Six persons of whom one has a birth year in every record; the second sum is without the last of them."""
    described = Schema("health", ("pulse", "born"), "ill", ("0", "1"), ((30.0, 200.0), (1900.0, 2030.0)), (0.0, 0.0))
    task = task_for_dataset(described, model="logistic", batch_per_peer=batch)
    rng, subjects = np.random.default_rng(1), []
    for year in (1987, 1954, 2001, 1979, 1990, 1966):
        X = np.column_stack([rng.normal(70, 10, 200), np.full(200, year)])
        subjects.append(Learner(task, model_for(task), X, rng.integers(0, 2, 200), entropy=SeededEntropy(year)))
    encoding = Encoding(modulus_of(task, RoundKind.STATISTICS), 6, sections_of(task, RoundKind.STATISTICS))
    entropy = SeededEntropy("rounds")
    start = Checkpoint(task.id, 0, initial_state(task, np.zeros(task.dimension, np.float32)))

    def published(cohort: list[Learner]) -> float:
        total = encoding.zeros()
        for one in cohort:
            values = one.contribute(RoundKind.STATISTICS, NOTHING, None, entropy).values
            encoding.add_encoded(values, total, entropy.token(32))
        done = Publish(task, RoundKind.STATISTICS, start, encoding, total, len(cohort)).run()
        assert done is not None
        scaled = float(view(task, done.checkpoint)[-3])
        return 1900 + (scaled + 1) * 65

    guesses = np.array([6 * published(subjects) - 5 * published(subjects[:5]) for _ in range(100)])
    assert np.abs(guesses - 1966).min() > 0.01
    assert guesses.std() > 20
    assert published(subjects) == pytest.approx(1980, abs=15)


def test_statistics_change_what_the_model_sees() -> None:
    subject = learner()
    params = np.random.default_rng(0).standard_normal(650).astype(np.float32)
    moments = (np.full(64, -0.5), np.full(64, 0.25))
    plain = subject.contribute(RoundKind.GRADIENT, params, None, SeededEntropy(1)).values[2]
    standard = subject.contribute(RoundKind.GRADIENT, params, moments, SeededEntropy(1)).values[2]
    assert plain[0] != standard[0]
    assert subject.evaluate(params, None) != subject.evaluate(params, moments)


def test_regression_has_no_hits_and_scales_its_target() -> None:
    described = Schema("r", ("a",), "t", (), ((0.0, 10.0),), (0.0, 100.0))
    task = task_for_dataset(described, statistics_rounds=0)
    x = np.linspace(0, 10, 50)[:, None]
    y = 10 * x[:, 0]
    subject = Learner(task, model_for(task), x, y, entropy=SeededEntropy(0))
    exact = np.array([1.0, 0.0], dtype=np.float32)
    _, _, loss, hits = subject.contribute(RoundKind.GRADIENT, exact, None, SeededEntropy(1)).values
    assert loss[0] == pytest.approx(0, abs=1e-9)
    assert hits[0] == 0
    assert subject.evaluate(exact, None) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert predict_records(task, exact, None, np.array([[2.5], [10.0]])) == pytest.approx([25.0, 100.0])


def test_predictions_are_labels() -> None:
    rng = np.random.default_rng(1)
    params = rng.standard_normal(650).astype(np.float32)
    labels = predict_records(TASK, params, None, DIGITS.X[:50])
    assert set(labels) <= set(DIGITS.classes)
    right = np.mean([label == str(k) for label, k in zip(labels, DIGITS.y[:50], strict=True)])
    assert evaluate_records(TASK, params, None, DIGITS.X[:50], DIGITS.y[:50])[1] == pytest.approx(right)


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (np.zeros((0, 64)), np.zeros(0), "there are no records"),
        (np.zeros((3, 63)), np.zeros(3), "have 63 features, task 'digits' has 64"),
        (np.zeros((3, 64)), np.zeros(2), "3 records but 2 targets"),
        (np.full((3, 64), np.nan), np.zeros(3), "not finite"),
        (np.zeros((3, 64)), np.array([0, 1, 10]), "class numbers must be 0 to 9"),
        (np.zeros((3, 64)), np.array([0, 1, -1]), "class numbers must be 0 to 9"),
    ],
)
def test_records_that_do_not_fit(x, y, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Learner(TASK, model_for(TASK), x, y, entropy=SeededEntropy(0))
    with pytest.raises(ConfigurationError):
        predict_records(TASK, np.zeros(650, np.float32), None, np.zeros((2, 63)))
