"""Every record goes to exactly one peer, nobody gets too few, and the spread is what was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.learning.partition import parse_spec, partition
from protocol.base.errors import ConfigurationError


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    records=st.integers(1, 300),
    peers=st.integers(1, 20),
    minimum=st.integers(0, 12),
    spec=st.sampled_from(["iid", "dirichlet:0.05", "dirichlet:0.3", "dirichlet:100"]),
    classes=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_every_record_once_and_at_least_the_minimum(records, peers, minimum, spec, classes, seed) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, records) if classes else rng.standard_normal(records)
    if records < peers * minimum:
        remedy = f"use at most {records // minimum} peers" if records >= minimum else "more are needed"
        with pytest.raises(ConfigurationError, match=remedy):
            partition(y, peers, spec, rng, minimum)
        return
    shards = partition(y, peers, spec, rng, minimum)
    assert len(shards) == peers
    assert sorted(np.concatenate(shards).tolist()) == list(range(records))
    assert min(map(len, shards)) >= minimum
    assert all(shard.dtype == np.int64 and (np.diff(shard) > 0).all() for shard in shards)


def test_iid_is_even_and_repeatable() -> None:
    y = np.arange(100) % 10
    one = partition(y, 7, "iid", np.random.default_rng(1))
    two = partition(y, 7, "iid", np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert {len(shard) for shard in one} == {14, 15}


def test_small_alpha_is_one_sided_and_large_alpha_is_not() -> None:
    y = np.arange(4000) % 10

    def purity(spec: str) -> float:
        shards = partition(y, 10, spec, np.random.default_rng(2))
        return float(np.mean([np.bincount(y[shard]).max() / len(shard) for shard in shards]))

    assert purity("dirichlet:0.05") > 0.5
    assert purity("dirichlet:1000") < 0.15


BAD_SPECS = ("", "random", "iid:3", *(f"dirichlet{rest}" for rest in ("", ":", ":x", ":0", ":-1", ":nan", ":inf")))


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_bad_specs(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="must be iid, or dirichlet:ALPHA"):
        parse_spec(spec)


def test_no_peers() -> None:
    with pytest.raises(ConfigurationError, match="must be at least 1"):
        partition(np.zeros(10, dtype=int), 0, "iid", np.random.default_rng(0))
