"""Seeds drawn afresh, and a whole tree's masks coming off on the way up."""

import numpy as np
import pytest

from protocol.base.entropy import SeededEntropy
from protocol.masking import masks, prg
from protocol.masking.ring import Encoding, Section


def test_draw() -> None:
    seeds = masks.draw(SeededEntropy(1), 200)
    assert [len(seed) for seed in seeds] == [masks.SEED_BYTES] * 200
    assert len(set(seeds)) == 200
    assert seeds == masks.draw(SeededEntropy(1), 200)
    assert not set(seeds) & set(masks.draw(SeededEntropy(2), 200))
    assert masks.draw(SeededEntropy(1), 0) == []


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("threshold", [2, 3, 4])
def test_every_mask_is_off_at_the_root(bits: int, threshold: int) -> None:
    """A tree of 13 nodes, each contribution masked for its ancestors 2..S: the root holds the exact sum."""
    entropy = SeededEntropy(bits * 10 + threshold)
    parents = [None, 0, 0, 1, 1, 2, 3, 3, 6, 6, 8, 8, 10]
    encoding = Encoding(bits, len(parents), (Section(40, 1.0), Section(1, 32.0)))
    rng = np.random.default_rng(5)
    plain = encoding.zeros()
    vectors = []
    addressed: list[list[bytes]] = [[] for _ in parents]
    for parent in parents:
        own = encoding.zeros()
        encoding.add_encoded([rng.normal(size=40), np.array([32.0])], own, entropy.token(32))
        plain += own
        line = []
        while parent is not None:
            line.append(parent)
            parent = parents[parent]
        trustees = line[1:threshold]
        seeds = masks.draw(entropy, len(trustees))
        prg.add_masks(own, seeds)
        if trustees:
            bare = own.copy()
            prg.add_masks(bare, [], seeds)
            assert not np.array_equal(bare, own)
        for trustee, seed in zip(trustees, seeds, strict=True):
            addressed[trustee].append(seed)
        vectors.append(own)
    for node in reversed(range(len(parents))):
        prg.add_masks(vectors[node], [], addressed[node])
        parent = parents[node]
        if parent is not None:
            vectors[parent] += vectors[node]
    assert np.array_equal(vectors[0], plain)
    weight = encoding.decode(vectors[0])[1][0]
    assert abs(weight - 32.0 * len(parents)) <= len(parents) * 32.0 / encoding.levels
