"""From a record's own units to what a model sees, using only public ranges and privately summed moments.

Two steps: ``scale`` clips every feature to its public range and maps it to [-1, 1] (that is also what a statistics
round sums, so one record weighs little), ``standardise`` takes off the mean and divides by the deviation that the
statistics rounds estimated.
Neighbours: ``trainer`` and ``centralised`` call it; ``protocol.training.state`` carries the moments.
Invariants: no step looks at more than one record; results are float32; arguments are not changed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Statistics = tuple[NDArray[np.floating], NDArray[np.floating]]
"""(mean, variance) of every scaled feature, each of shape (f,)."""

VARIANCE_FLOOR = 1e-6
"""In units of the scaled features (range 2): below it float32 sums of squares near 1 hold no variance."""
STANDARD_CLIP = 10.0
"""A standardised feature is cut to plus or minus this many deviations, so that an outlier cannot take the gradient."""

_CHUNK = 8192


def scale(X: NDArray[np.floating], ranges: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    """``X`` (n, f), each feature clipped to its (low, high) and mapped linearly to [-1, 1]: float32 (n, f)."""
    low = np.array([r[0] for r in ranges], dtype=np.float64)
    high = np.array([r[1] for r in ranges], dtype=np.float64)
    out = np.empty(X.shape, dtype=np.float32)
    for start in range(0, len(X), _CHUNK):
        part = np.clip(X[start : start + _CHUNK], low, high)
        part -= low
        part *= 2.0 / (high - low)
        part -= 1.0
        out[start : start + _CHUNK] = part
    return out


def scale_target(y: NDArray[np.floating], target_range: tuple[float, float]) -> NDArray[np.float32]:
    """Regression targets (n,), clipped to their public range and mapped to [-1, 1]: float32."""
    return scale(np.asarray(y, dtype=np.float64)[:, None], (target_range,))[:, 0]


def unscale_target(values: NDArray[np.floating], target_range: tuple[float, float]) -> NDArray[np.float64]:
    """The inverse of ``scale_target``: predictions (n,) in the target's own unit."""
    low, high = target_range
    return low + (np.asarray(values, dtype=np.float64) + 1.0) * (high - low) / 2.0


def standardise(z: NDArray[np.float32], statistics: Statistics | None) -> NDArray[np.float32]:
    """Scaled features ``z`` (n, f) with the mean taken off and the deviation divided out, cut to +-``STANDARD_CLIP``.

    ``statistics`` None: ``z`` itself.  A variance below ``VARIANCE_FLOOR`` counts as the floor, so a constant feature
    gives 0.
    """
    if statistics is None:
        return z
    mean, variance = statistics
    deviation = np.sqrt(np.maximum(np.asarray(variance, dtype=np.float64), VARIANCE_FLOOR)).astype(np.float32)
    out: NDArray[np.float32] = np.subtract(z, np.asarray(mean, dtype=np.float32), dtype=np.float32)
    out /= deviation
    return np.clip(out, -STANDARD_CLIP, STANDARD_CLIP, out=out)
