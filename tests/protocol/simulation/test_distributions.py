"""Distributions: draws have the mean and the quantiles that are said, are repeatable, and bad ones are told at once.

Statistical bounds are six standard errors of the drawn sample: with the fixed seeds they hold or they do not.
"""

import math

import numpy as np
import pytest

from protocol.base.errors import ConfigurationError
from protocol.simulation.distributions import (
    Constant,
    Distribution,
    Exponential,
    Histogram,
    Lognormal,
    Uniform,
    Weibull,
    parse,
)
from protocol.simulation.streams import generator, number, share

ALL = [
    Constant(3.0),
    Uniform(1.0, 4.0),
    Exponential(2.0),
    Lognormal(0.5, 0.8),
    Weibull(2.0, 0.7),
    Histogram((0.0, 1.0, 5.0, 6.0), (3.0, 0.0, 1.0, 4.0), width=1.0),
    Histogram((2.0, 7.0), (1.0, 3.0)),
]
SIZE = 200_000


def close(found: float, expected: float, sample: np.ndarray) -> bool:
    return abs(found - expected) <= 6 * float(sample.std()) / math.sqrt(len(sample)) + 1e-12


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_draws_have_the_mean_and_the_quantiles_that_are_said(distribution: Distribution) -> None:
    draws = distribution.draw(generator(1, "draws"), SIZE)
    assert draws.min() >= 0
    assert close(draws.mean(), distribution.mean, draws)
    for at in (0.1, 0.37, 0.5, 0.9, 0.99):
        edge = distribution.quantile(at)
        below, to = np.mean(draws < edge - 1e-9), np.mean(draws <= edge + 1e-9)
        slack = 6 * math.sqrt(at * (1 - at) / SIZE)
        assert below - slack <= at <= to + slack, (at, edge)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_a_random_instant_lies_in_a_length_biased_interval(distribution: Distribution) -> None:
    rng = generator(2, "biased")
    biased = np.array([distribution.length_biased(rng) for _ in range(20_000)])
    draws = distribution.draw(rng, SIZE)
    expected = float((draws**2).mean() / draws.mean())
    assert abs(biased.mean() - expected) < 0.05 * expected
    residual = np.array([distribution.residual(rng) for _ in range(20_000)])
    assert abs(residual.mean() - expected / 2) < 0.05 * expected


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_a_sampler_hands_out_the_stream_one_by_one(distribution: Distribution) -> None:
    sample = distribution.sampler(generator(3, "a"), block=7)
    rng = generator(3, "a")
    assert [sample() for _ in range(21)] == [x for _ in range(3) for x in distribution.draw(rng, 7).tolist()]


def test_streams_belong_to_their_labels() -> None:
    assert number(1, "a", 2) == number(1, "a", 2)
    names: list[tuple[int, str, int]] = [(1, "a", 2), (1, "a", 3), (1, "b", 2), (2, "a", 2)]
    assert len({number(*name) for name in names}) == 4
    assert number(1, "a", 12) != number(1, "a1", 2)
    assert generator(1, "x").random() == generator(1, "x").random()
    shares = [share(5, "s", i) for i in range(10_000)]
    assert 0 < min(shares) < 0.001
    assert 0.999 < max(shares) < 1
    assert abs(sum(shares) / 10_000 - 0.5) < 6 * math.sqrt(1 / 12 / 10_000)


def test_plain_data_names_every_kind() -> None:
    assert parse(2, "x") == Constant(2.0)
    assert parse({"kind": "constant", "value": 0.5}, "x") == Constant(0.5)
    assert parse({"kind": "uniform", "low": 1, "high": 2}, "x") == Uniform(1.0, 2.0)
    assert parse({"kind": "exponential", "mean": 3}, "x") == Exponential(3.0)
    assert parse({"kind": "lognormal", "median": 0.05, "sigma": 0.5}, "x") == Lognormal(0.05, 0.5)
    assert parse({"kind": "weibull", "scale": 1, "shape": 0.5}, "x") == Weibull(1.0, 0.5)
    tenths = {"kind": "histogram", "values": [0, 0.1, 0.2, 0.3], "weights": [1, 2, 3, 4], "width": 0.1}
    assert parse(tenths, "x") == Histogram((0.0, 0.1, 0.2, 0.3), (1.0, 2.0, 3.0, 4.0), 0.1)


@pytest.mark.parametrize(
    ("data", "sentences"),
    [
        ("fast", ["d must be a table of keys and values, not 'fast'"]),
        (True, ["d must be a table of keys and values, not True"]),
        (-1, ["d.value must be at least 0, not -1"]),
        (
            {"median": 1},
            ["d needs kind: one of constant, uniform, exponential, lognormal, weibull, histogram"],
        ),
        (
            {"kind": "normal"},
            ["d.kind is 'normal': one of constant, uniform, exponential, lognormal, weibull, histogram"],
        ),
        (
            {"kind": "lognormal", "medain": 1, "sigma": -1},
            [
                "d needs median",
                "d.sigma must be at least 0 and at most 10, not -1",
                "d has no key 'medain'; its keys: kind, median, sigma",
            ],
        ),
        ({"kind": "exponential", "mean": math.nan}, ["d.mean must be a number, not nan"]),
        ({"kind": "exponential", "mean": math.inf}, ["d.mean must be a number, not inf"]),
        ({"kind": "exponential", "mean": "3"}, ["d.mean must be a number, not '3'"]),
        ({"kind": "uniform", "low": 3, "high": 2}, ["d has low = 3 above high = 2"]),
        (
            {"kind": "histogram", "values": [1, 1], "weights": [0, 0, 0], "width": 2},
            ["d has 2 values and 3 weights", "d.values must grow, by at least width = 2 each"],
        ),
        ({"kind": "histogram", "values": [1], "weights": [0]}, ["d.weights are all 0"]),
        (
            {"kind": "histogram", "values": [], "weights": [1, -2]},
            [
                "d.values must be a list of 1 to 100000 numbers",
                "d.weights must hold numbers from 0 to 1e+15, not -2",
            ],
        ),
    ],
)
def test_all_mistakes_are_told(data: object, sentences: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "d")
    assert caught.value.problems == sentences
