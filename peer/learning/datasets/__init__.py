"""Public data sets carried by the package: ``digits``, ``spambase`` and ``pendigits`` (UCI, CC BY 4.0; see README.md
here).

Neighbours: ``taskfile`` fills a task's schema from ``schema``; the demo shards what ``load_dataset`` returns.
Invariants: a file is read only if its SHA-256 is the one in its TOML file; no pickle; records are in a fixed order.
"""

import hashlib
import io
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer.learning.readers import FORMATS, infer_classes, quoted, read_header, read_table
from protocol.base.errors import ConfigurationError

DATASETS = ("digits", "pendigits", "spambase")
"""The names that ``load_dataset`` and ``schema`` know."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a task must say about its data: names, labels and public ranges, but no record."""

    name: str
    features: tuple[str, ...]
    target: str
    classes: tuple[str, ...]
    """Labels as text, in order of class number; empty for regression."""
    ranges: tuple[tuple[float, float], ...]
    """Public (low, high) of every feature, in the feature's own unit."""
    target_range: tuple[float, float] = (0.0, 0.0)
    """Public (low, high) of a regression target; (0, 0) for classification."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records with their schema.  ``X``: float64 (n, f); ``y``: int64 class numbers (n,), float64 for regression."""

    name: str
    X: NDArray[np.float64] = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    features: tuple[str, ...]
    classes: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...]
    target: str
    target_range: tuple[float, float] = (0.0, 0.0)


@cache
def facts(name: str) -> dict[str, Any]:
    """The contents of ``NAME.toml``: provenance, licence, counts, checksum, schema.

    Raises ``ConfigurationError`` for a name that is not in ``DATASETS``.
    """
    if name not in DATASETS:
        raise ConfigurationError([f"there is no data set called '{name}', the package carries {', '.join(DATASETS)}"])
    return tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


@cache
def schema(name: str) -> Schema:
    """The schema of a packaged data set; reads no record.  Raises ``ConfigurationError`` for an unknown name."""
    known = facts(name)

    def span(feature: str) -> tuple[float, float]:
        low, high = next(bounds for prefix, bounds in known["ranges"].items() if feature.startswith(prefix))
        return float(low), float(high)

    return Schema(
        name=name,
        features=tuple(known["features"]),
        target=known["target"],
        classes=tuple(known["classes"]),
        ranges=tuple(span(feature) for feature in known["features"]),
    )


def load_dataset(name: str) -> Dataset:
    """All records of a packaged data set, in the packaged order.

    Raises ``ConfigurationError`` for an unknown name, and for a file that was changed since it was packaged.
    """
    known, described = facts(name), schema(name)
    content = files(__name__).joinpath(known["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != known["sha256"]:
        raise ConfigurationError([f"{known['file']}: the packaged data set is damaged, install susurrus again"])
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        x = arrays["X"] / np.float64(known["divisor"])
        y = arrays["y"].astype(np.int64)
    return Dataset(name, x, y, described.features, described.classes, described.ranges, described.target)


def dataset_from_file(path: str | Path, *, target: str | None = None) -> Dataset:
    """All records of a user's CSV file, for a demonstration: schema and ranges are read off the records themselves.

    ``target``: the column to predict; None: ``target`` if there is such a column, else the last.  Text, or at most 100
    different numbers, are classes; else it is regression.  Ranges that are read off records tell the extremes: in real
    training they must be public knowledge instead.  Raises ``ConfigurationError``.
    """
    if FORMATS.get(Path(path).suffix.lower(), "csv") != "csv":
        raise ConfigurationError([f"{path}: is not a CSV file, and a demonstration reads no others"])
    target = target or _guess_target(path)
    classes = infer_classes(path, target)
    if len(classes) == 1:
        sentence = f"column '{target}': every record says {quoted(classes[0])}, there is nothing to predict"
        raise ConfigurationError([f"{path}: {sentence}"])
    table = read_table(path, target=target, classes=classes, format="csv")
    return Dataset(
        name=_name_of(path),
        X=table.X,
        y=table.y,
        features=table.features,
        classes=classes,
        ranges=tuple(_span(column) for column in table.X.T),
        target=target,
        target_range=(0.0, 0.0) if classes else _span(table.y),
    )


def _name_of(path: str | Path) -> str:
    """A schema's name made of a file's: without what such names cannot have, and none that is taken."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(path).stem).lstrip("-_.")[:90] or "data"
    return f"own-{name}" if name in DATASETS else name


def _guess_target(path: str | Path) -> str:
    names = read_header(path)
    return "target" if "target" in names else names[-1]


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)
