"""Scaling by public ranges and standardising by given moments."""

import numpy as np
import pytest

from peer.learning.preprocess import (
    STANDARD_CLIP,
    VARIANCE_FLOOR,
    scale,
    scale_target,
    standardise,
    unscale_target,
)


def test_scale_maps_ranges_to_minus_one_and_one_and_clips() -> None:
    x = np.array([[0.0, 10.0], [8.0, 15.0], [16.0, 20.0], [-5.0, 99.0]])
    z = scale(x, [(0, 16), (10, 20)])
    assert z.dtype == np.float32
    assert z.tolist() == [[-1, -1], [0, 0], [1, 1], [-1, 1]]
    assert x[3].tolist() == [-5.0, 99.0]
    assert scale(np.array([[1e308], [-1e308]]), [(0, 1e-3)]).tolist() == [[1], [-1]]


def test_scale_works_by_chunks_and_stays_within_bounds() -> None:
    x = np.random.default_rng(0).uniform(-3, 7, (20_000, 3))
    ranges = [(-3, 7), (0.1, 0.3), (1.0, 1102.5)]
    z = scale(x, ranges)
    assert np.abs(z).max() <= 1
    low, high = np.array(ranges).T
    assert z == pytest.approx(2 * (np.clip(x, low, high) - low) / (high - low) - 1, abs=1e-6)


def test_standardise_takes_off_mean_and_deviation() -> None:
    z = np.array([[0.5, 0.2], [-0.5, 0.2]], dtype=np.float32)
    out = standardise(z, (np.array([0.0, 0.2]), np.array([0.25, 0.0])))
    assert out.dtype == np.float32
    assert out == pytest.approx(np.array([[1, 0], [-1, 0]]), abs=1e-4)
    assert standardise(z, None) is z


def test_variance_floor_and_clip() -> None:
    z = np.array([[1.0], [1e-3]], dtype=np.float32)
    out = standardise(z, (np.zeros(1), np.array([0.0])))
    assert out[0, 0] == STANDARD_CLIP
    assert out[1, 0] == pytest.approx(1e-3 / np.sqrt(VARIANCE_FLOOR), rel=1e-5)
    assert standardise(z, (np.zeros(1), np.array([-1.0])))[1, 0] == pytest.approx(1.0, rel=1e-5)


def test_targets_go_there_and_back() -> None:
    y = np.array([10.0, 20.0, 30.0, 99.0])
    scaled = scale_target(y, (10.0, 30.0))
    assert scaled.tolist() == [-1, 0, 1, 1]
    assert unscale_target(scaled, (10.0, 30.0)).tolist() == [10, 20, 30, 30]
