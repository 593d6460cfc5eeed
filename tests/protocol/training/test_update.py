"""What a sum does to a model: the step by the formula, the merge by ages, and the sums that cannot be one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.application import modulus_of, sections_of
from protocol.base.errors import Refused
from protocol.masking.ring import Encoding
from protocol.training import state
from protocol.training.task import LEAST_FACTOR, RoundKind, Task
from protocol.training.update import (
    Identify,
    Merge,
    Publish,
    Published,
    Sidestep,
    apply_gradient,
    apply_statistics,
    learning_rate,
    merge,
)
from protocol.wire.messages import Checkpoint
from tests.protocol.world import make_task

W0 = np.array([1.0, -2.0, 0.5], np.float32)


def checkpoint(task: Task, age: int = 0, values: np.ndarray = W0) -> Checkpoint:
    return Checkpoint(task.id, age, state.initial_state(task, values))


def test_a_plain_step() -> None:
    task = make_task(learning_rate=0.5, learning_rate_decay=1.0)
    after = apply_gradient(task, checkpoint(task, 3), np.array([1.0, 0.0, -1.0]))
    assert after.age == 4
    np.testing.assert_allclose(state.parameters(task, after), W0 - 0.125 * np.array([1, 0, -1]), rtol=1e-6)


def test_momentum_and_weight_decay() -> None:
    task = make_task(learning_rate=0.1, momentum=0.5, weight_decay=0.01)
    first = apply_gradient(task, checkpoint(task), np.array([1.0, 1.0, 1.0]))
    second = apply_gradient(task, first, np.array([0.0, 0.0, 0.0]))
    v1 = 1.0 + 0.01 * W0
    w1 = W0 - 0.1 * v1
    v2 = 0.5 * v1 + 0.01 * w1
    np.testing.assert_allclose(state.view(task, first), [*w1, *v1], rtol=1e-6)
    np.testing.assert_allclose(state.view(task, second), [*(w1 - 0.1 * v2), *v2], rtol=1e-6)


def test_the_learning_rate_counts_training_steps_alone() -> None:
    task = make_task(learning_rate=0.5, learning_rate_decay=0.25, statistics_rounds=2)
    assert [learning_rate(task, age) for age in (0, 1, 2, 6)] == [0.5, 0.5, 0.5, 0.25]


def test_statistics_are_running_means() -> None:
    task = make_task(statistics_rounds=3)
    now = checkpoint(task)
    draws = np.random.default_rng(1).uniform(-1, 1, (3, 2, 2))
    for first, second in draws:
        now = apply_statistics(task, now, first, second)
    assert now.age == 3
    np.testing.assert_allclose(state.view(task, now)[-4:].reshape(2, 2), draws.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(state.parameters(task, now), W0)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_merge_weighs_by_age(a: int, b: int) -> None:
    task = make_task()
    one, two = checkpoint(task, a), checkpoint(task, b, W0 + 1)
    mixed = merge(task, one, two)
    share = 0.5 if a + b == 0 else b / (a + b)
    assert mixed.age == max(a, b)
    np.testing.assert_allclose(state.parameters(task, mixed), W0 + share, rtol=1e-5, atol=1e-5)
    swapped = merge(task, two, one)
    np.testing.assert_allclose(state.parameters(task, swapped), state.parameters(task, mixed), rtol=1e-5, atol=1e-5)
    assert Merge(task, one, two).run() == (mixed, state.digest(mixed))


# --- publishing -----------------------------------------------------------------------------------------------------


def total(task: Task, kind: RoundKind, parts: list[list[np.ndarray]]) -> tuple[Encoding, np.ndarray]:
    encoding = Encoding(modulus_of(task, kind), max(4, len(parts)), sections_of(task, kind))
    out = encoding.zeros()
    for i, values in enumerate(parts):
        encoding.add_encoded(values, out, i.to_bytes(32, "little"))
    return encoding, out


def gradient_parts(task: Task, gradient: np.ndarray, loss: float = 4.0, hits: float = 6.0) -> list[np.ndarray]:
    return [gradient, np.array([float(task.batch_per_peer)]), np.array([loss]), np.array([hits])]


def statistics_parts(factors: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    return [factors * first, factors * second, factors, np.array([8.0])]


def publish(task: Task, parts: list[list[np.ndarray]], cohort: int | None = None, age: int = 0) -> Published | None:
    kind = task.kind_at(age)
    encoding, out = total(task, kind, parts)
    before = out.copy()
    result = Publish(task, kind, checkpoint(task, age), encoding, out, cohort or len(parts)).run()
    np.testing.assert_array_equal(out, before)
    return result


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_a_gradient_round(bits: int) -> None:
    task = make_task(modulus_bits=bits)
    gradients = [np.array([0.5, 0.0, -0.5]), np.array([0.1, 0.2, 0.3]), np.zeros(3), np.array([0, -1.0, 0])]
    result = publish(task, [gradient_parts(task, g) for g in gradients])
    assert result is not None
    expected = apply_gradient(task, checkpoint(task), np.mean(gradients, axis=0))
    unit = max(2.0 / (2 ** (bits - 1) / 4), 2.0**-40)
    np.testing.assert_allclose(
        state.parameters(task, result.checkpoint), state.parameters(task, expected), atol=unit + 1e-6
    )
    assert result.digest == state.digest(result.checkpoint)
    assert result.loss == pytest.approx(4.0 / 8, abs=100 * unit)
    assert result.accuracy == pytest.approx(6.0 / 8, abs=100 * unit)


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("batch", [1, 3, 7, 8, 1000])
def test_an_honest_cohort_at_full_norm_is_never_rejected(bits: int, batch: int) -> None:
    """Weights must be exact and norms within bounds whatever the rounding does."""
    task = make_task(modulus_bits=bits, batch_per_peer=batch, clip=0.3)
    draw = np.random.default_rng(bits + batch)
    for _ in range(20):
        parts = []
        direction = draw.normal(size=3)
        for _ in range(4):
            gradient = direction * 0.3 / np.linalg.norm(direction)
            parts.append(gradient_parts(task, gradient, 0.0, 0.0))
        assert publish(task, parts) is not None


def test_a_statistics_round() -> None:
    task = make_task(statistics_rounds=2, modulus_bits=16)
    half, full = np.array([0.5, 0.25]), np.ones(2)
    parts = [
        statistics_parts(half, np.array([0.5, -0.6]), np.array([0.25, 1.0])),
        statistics_parts(full, np.array([0.2, 0.4]), np.array([0.1, 0.5])),
    ] * 2
    result = publish(task, parts)
    assert result is not None
    assert (result.loss, result.accuracy, result.checkpoint.age) == (None, None, 1)
    np.testing.assert_allclose(state.view(task, result.checkpoint)[-4:], [0.3, 0.2, 0.15, 0.6], atol=1e-6)


def test_sums_that_cannot_be_the_cohorts() -> None:
    task = make_task()
    honest = gradient_parts(task, np.array([0.5, 0.0, -0.5]))
    assert publish(task, [honest] * 4) is not None
    assert publish(task, [honest] * 4, cohort=5) is None, "a weight is missing"
    assert publish(task, [honest] * 4, cohort=3) is None, "a weight too many"
    light = [honest[0], np.array([7.0]), honest[2], honest[3]]
    assert publish(task, [honest, honest, honest, light]) is None, "a weight of its own choice"
    # each coordinate within the clip, the norm far outside it
    long = gradient_parts(task, np.array([1.0, 1.0, 1.0]))
    assert publish(task, [long] * 4) is None


def test_statistics_that_cannot_be_the_cohorts() -> None:
    task = make_task(statistics_rounds=1)
    one, least, little = np.ones(2), np.full(2, LEAST_FACTOR), np.array([1.0, LEAST_FACTOR / 2])
    for first in (one, -one):
        for factor in (one, least, np.array([1.0, 0.3])):
            assert publish(task, [statistics_parts(factor, first, one)] * 4) is not None, "each at its limit"
    assert publish(task, [statistics_parts(one, one, one)] * 4, cohort=5) is None, "a weight is missing"
    assert publish(task, [statistics_parts(little, one, one)] * 4) is None, "too small a factor"
    for first, second in ((1.01, 1.0), (-1.01, 1.0), (0.0, 1.01), (0.0, -0.01)):
        moments = np.array([0.0, first]), np.array([0.0, second])
        assert publish(task, [statistics_parts(0.5 * one, *moments)] * 4) is None, "moments that no records have"
    encoding, out = total(task, RoundKind.STATISTICS, [statistics_parts(one, one, one)] * 4)
    out[4] += encoding.levels  # a factor above 1, which no encoding writes
    assert Publish(task, RoundKind.STATISTICS, checkpoint(task), encoding, out, 4).run() is None


@pytest.mark.parametrize("cohort", [4, 1000])
def test_honest_statistics_at_their_limits_are_never_rejected(cohort: int) -> None:
    """Moments and factors are rounded apart."""
    task = make_task(statistics_rounds=1, features=tuple(f"f{i}" for i in range(200)), ranges=((-1.0, 1.0),) * 200)
    draw = np.random.default_rng(cohort)
    for low in (LEAST_FACTOR, 1.0 - 1e-9):
        parts = [
            statistics_parts(draw.uniform(low, low + 1e-9, 200), np.sign(draw.normal(size=200)), np.ones(200))
            for _ in range(cohort)
        ]
        assert publish(task, parts) is not None


@given(st.binary(min_size=24, max_size=24))
def test_noise_is_no_sum(noise: bytes) -> None:
    task = make_task()
    encoding = Encoding(32, 4, sections_of(task, RoundKind.GRADIENT))
    out = np.frombuffer(noise, encoding.dtype)
    if abs(float(encoding.decode(out)[1][0]) - 32) < 1e-3:
        return  # one in 2^40
    assert Publish(task, RoundKind.GRADIENT, checkpoint(task), encoding, out, 4).run() is None


def test_a_model_that_would_overflow_stays_as_it_was() -> None:
    task = make_task(learning_rate=3e38, clip=1.0)
    parts = [gradient_parts(task, np.array([0.9, 0.0, 0.0]))] * 4
    encoding, out = total(task, RoundKind.GRADIENT, parts)
    far = checkpoint(task, 0, np.array([-3e38, 0, 0], np.float32))
    with np.errstate(over="ignore"):
        assert Publish(task, RoundKind.GRADIENT, far, encoding, out, 4).run() is None


# --- received models ------------------------------------------------------------------------------------------------


def test_a_received_model_is_checked_and_hashed() -> None:
    task = make_task()
    good = checkpoint(task)
    assert Identify(task, good).run() == (good, state.digest(good))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            Identify(task, checkpoint(task, 0, np.array([0, bad, 0], np.float32))).run()
    with pytest.raises(Refused):
        Identify(task, Checkpoint(task.id, 0, bytes(8))).run()


# --- another model of the same age --------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_sidestep_is_one_step_of_usual_length(momentum: float) -> None:
    task = make_task(learning_rate=0.5, learning_rate_decay=1.0, clip=2.0, momentum=momentum, statistics_rounds=1)
    before = checkpoint(task, 2)
    after, digest = Sidestep(task, before, b"s" * 32).run()
    assert after.age == before.age
    assert digest == state.digest(after) != state.digest(before)
    step = state.view(task, after) - state.view(task, before)
    assert np.linalg.norm(step[:3]) == pytest.approx(learning_rate(task, 2) * 2.0, rel=1e-5)
    np.testing.assert_array_equal(step[3:], 0)
    assert Sidestep(task, before, b"s" * 32).run()[1] == digest
    assert Sidestep(task, before, b"t" * 32).run()[1] != digest


def test_sidesteps_go_in_every_direction() -> None:
    task = make_task(dimension=2)
    zero = Checkpoint(task.id, 0, bytes(8))
    steps = np.array([state.view(task, Sidestep(task, zero, bytes([i]) * 32).run()[0]) for i in range(200)])
    assert np.abs(steps.mean(axis=0)).max() < 0.1
