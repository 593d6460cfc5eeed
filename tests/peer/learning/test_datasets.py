"""The packaged data sets are what they say they are: counts, checksums, ranges and licence."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from peer.learning import datasets
from peer.learning.datasets import DATASETS, Dataset, dataset_from_file, facts, load_dataset, schema
from peer.learning.taskfile import load_task, task_for_dataset
from peer.learning.tasktoml import task_to_toml
from protocol.base.errors import ConfigurationError

# As published by the repository, not as our files say it.
PUBLISHED = {
    "digits": (64, [554, 571, 557, 572, 568, 558, 558, 566, 554, 562]),
    "pendigits": (16, [1143, 1143, 1144, 1055, 1144, 1055, 1056, 1142, 1055, 1055]),
    "spambase": (57, [2788, 1813]),
}


@pytest.mark.parametrize("name", DATASETS)
def test_counts_are_the_published_ones(name: str) -> None:
    data = load_dataset(name)
    width, per_class = PUBLISHED[name]
    assert data.X.shape == (sum(per_class), width)
    assert data.X.dtype == np.float64
    assert data.y.dtype == np.int64
    assert np.bincount(data.y).tolist() == per_class == facts(name)["records_per_class"]
    assert facts(name)["records"] == len(data.y)
    assert len(data.features) == len(set(data.features)) == width
    assert len(data.classes) == len(per_class)


@pytest.mark.parametrize("name", DATASETS)
def test_checksum_and_provenance(name: str) -> None:
    known = facts(name)
    content = files("peer.learning.datasets").joinpath(known["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == known["sha256"]
    assert len(content) < 300_000
    assert "CC BY 4.0" in known["licence"]
    assert known["doi"].startswith("10.24432/")
    assert known["authors"]
    assert "SHA-256" in known["derivation"]


@pytest.mark.parametrize("name", DATASETS)
def test_every_value_is_inside_its_public_range(name: str) -> None:
    data = load_dataset(name)
    low, high = np.array(data.ranges).T
    assert (low <= data.X).all()
    assert (high >= data.X).all()
    assert schema(name).ranges == data.ranges


def test_spambase_values_are_the_published_decimals() -> None:
    data = load_dataset("spambase")
    # first and last record as published
    assert data.X[0, [1, 2, 4, 54, 55, 56]].tolist() == [0.64, 0.64, 0.32, 3.756, 61.0, 278.0]
    assert data.X[-1, [2, 12, 18, 51, 54, 55, 56]].tolist() == [0.65, 0.65, 4.6, 0.125, 1.25, 5.0, 40.0]
    assert data.X[:, 54:].max(axis=0).tolist() == [1102.5, 9989.0, 15841.0]
    assert all(float(f"{value:.3f}") == value for value in data.X.ravel()[:20_000])


def test_integers_only_in_the_digit_sets() -> None:
    for name, most in (("digits", 16), ("pendigits", 100)):
        x = load_dataset(name).X
        assert (x == np.rint(x)).all()
        assert (x.min(), x.max()) == (0, most)


def test_damaged_file_and_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {**facts("digits"), "sha256": "0" * 64}
    monkeypatch.setattr(datasets, "facts", lambda name: changed)
    with pytest.raises(ConfigurationError, match=r"digits\.npz: the packaged data set is damaged"):
        load_dataset("digits")
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="no data set called 'iris'"):
        load_dataset("iris")


def test_dataset_from_file(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("a,b,kind\n1,7,x\n2,7,y\n4,7,x\n")
    data = dataset_from_file(path)
    assert (data.name, data.target, data.features, data.classes) == ("mine", "kind", ("a", "b"), ("x", "y"))
    assert data.ranges == ((1.0, 4.0), (6.5, 7.5))
    assert data.y.tolist() == [0, 1, 0]

    path.write_text("target,a\n1.5,1\n2.5,2\n")
    data = dataset_from_file(path)
    assert (data.target, data.classes, data.target_range) == ("target", (), (1.5, 2.5))
    assert data.y.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("file", "name"),
    [("digits.csv", "own-digits"), ("my data é.csv", "my-data-"), ("_.csv", "data"), ("x" * 200 + ".csv", "x" * 90)],
)
def test_a_file_gives_a_name_that_a_task_can_have(tmp_path, file: str, name: str) -> None:
    (tmp_path / file).write_text("a,target\n1,x\n2,y\n")
    assert dataset_from_file(tmp_path / file).name == name
    assert load_task_text(tmp_path, dataset_from_file(tmp_path / file)) == name


def load_task_text(tmp_path, data: Dataset) -> str:
    (tmp_path / "task.toml").write_text(task_to_toml(task_for_dataset(data)))
    return load_task(tmp_path / "task.toml").schema


def test_a_target_that_is_always_the_same(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a,target\n1,no\n2,no\n")
    with pytest.raises(ConfigurationError, match="x.csv: column 'target': every record says 'no'"):
        dataset_from_file(tmp_path / "x.csv")


@pytest.mark.parametrize("name", ["x.npz", "x.SVM"])
def test_a_demonstration_reads_csv_alone(tmp_path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name}: is not a CSV file, and a demonstration reads no others"):
        dataset_from_file(tmp_path / name)
