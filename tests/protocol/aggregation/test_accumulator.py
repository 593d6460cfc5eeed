"""The round's jobs on one accumulator: exact in any order, and a job that raises leaves it as it was."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.aggregation.jobs import Absorb, Accumulator, AddOwn, SealSeeds
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NetworkId, PeerId, RoundId
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.identity.sealing import open_seed, seal_seed
from protocol.masking import masks, prg
from protocol.masking.ring import Encoding, Section
from protocol.wire.messages import Partial, SealedSeed

NOW = 1_700_000_000.0
ENTROPY = SeededEntropy("jobs")
AUTHORITY = Authority(SigningKey(ENTROPY.token(32)))
NETWORK: NetworkId = AUTHORITY.network
ROUND = RoundId(bytes(16))
ENCODING = Encoding(32, 8, (Section(300, 1.0), Section(2, 5.0)))
VALUES = (np.linspace(-1, 1, 300, dtype=np.float32), np.array([4.0, -5.0]))
ROUNDING = ENTROPY.token(32)
TRUSTEES = 2


def peer() -> tuple[Keyring, Descriptor]:
    ring = Keyring(SigningKey(ENTROPY.token(32)), KemSuite.X25519, ENTROPY)
    ring.rotate(NOW)
    token = issue_token(AUTHORITY, NOW, 1e6, (), ENTROPY, "jobs")
    chain = admit(token, ring.signing.public_bytes, NOW)
    return ring, make_descriptor(ring, chain, addresses=[], incarnation=1, now=NOW, lifetime_s=1e4)


OWN, DESCRIPTOR = peer()


def noise(label: str) -> NDArray[Any]:
    return prg.expand(SeededEntropy(label).token(32), ENCODING.dimension, 32)


def partial(vector: NDArray[Any], seeds: dict[PeerId, bytes]) -> Partial:
    """A child's partial with these seeds, sealed to this node."""
    ids: dict[str, Any] = {"network": NETWORK, "round": ROUND, "trustee": OWN.peer_id}
    group = tuple(SealedSeed(c, seal_seed(OWN, DESCRIPTOR, seed, contributor=c, **ids)) for c, seed in seeds.items())
    return Partial(ROUND, len(seeds) + 1, 3, (group,), vector.tobytes())


def absorb(total: Accumulator, vector: NDArray[Any], seeds: dict[PeerId, bytes]) -> Absorb:
    return Absorb(total, partial(vector, seeds), ENCODING, OWN, NETWORK)


def add_own(total: Accumulator, record: bool = False, seeds: tuple[bytes, ...] = ()) -> AddOwn:
    return AddOwn(total, VALUES, ENCODING, ROUNDING, seeds, record)


def own_words() -> NDArray[Any]:
    words = ENCODING.zeros()
    ENCODING.add_encoded(VALUES, words, ROUNDING)
    return words


def dirty() -> Accumulator:
    """An accumulator whose memory holds what memory may hold."""
    total = Accumulator(ENCODING)
    total.vector[:] = noise("leftovers")
    return total


SEEDS = {PeerId(bytes([i]) * 16): SeededEntropy(i).token(masks.SEED_BYTES) for i in (1, 2)}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_sum_is_exact_whichever_comes_first(order: tuple[int, ...]) -> None:
    total = dirty()
    jobs: list[Callable[[], object]] = [
        add_own(total).run,
        absorb(total, noise("first child"), SEEDS).run,
        absorb(total, noise("second child"), {}).run,
    ]
    assert total.empty
    for index in order:
        jobs[index]()
        assert not total.empty
    expected = own_words() + noise("first child") + noise("second child")
    for seed in SEEDS.values():
        expected -= prg.expand(seed, ENCODING.dimension, 32)
    assert np.array_equal(total.vector, expected)


def test_absorbing_tells_the_seeds_in_the_order_of_the_partial() -> None:
    assert absorb(dirty(), noise("child"), SEEDS).run().seeds == tuple(SEEDS.items())


@pytest.mark.parametrize("empty", [True, False])
def test_a_seed_that_does_not_open_changes_nothing(empty: bool) -> None:
    total = dirty()
    if not empty:
        add_own(total).run()
    before = total.vector.copy()
    good, bad = list(SEEDS)
    sent = partial(noise("child"), SEEDS)
    swapped = (sent.seeds[0][0], SealedSeed(good, sent.seeds[0][1].sealed))
    broken = Partial(ROUND, 3, 3, (swapped,), sent.vector)
    with pytest.raises(Refused) as refused:
        Absorb(total, broken, ENCODING, OWN, NETWORK).run()
    assert refused.value.reason is Refusal.BAD_SEEDS
    assert total.empty is empty
    assert np.array_equal(total.vector, before)
    absorb(total, noise("child"), {bad: SEEDS[bad]}).run()  # the next one starts from the same place
    expected = noise("child") - prg.expand(SEEDS[bad], ENCODING.dimension, 32)
    assert np.array_equal(total.vector, expected if empty else expected + before)


@pytest.mark.parametrize("empty", [True, False])
def test_a_contribution_that_is_no_number_changes_nothing(empty: bool) -> None:
    total = dirty()
    if not empty:
        absorb(total, noise("child"), {}).run()
    before = total.vector.copy()
    values = (VALUES[0], np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="finite"):
        AddOwn(total, values, ENCODING, ROUNDING, (bytes(32),), False).run()
    assert total.empty is empty
    assert np.array_equal(total.vector, before)


@pytest.mark.parametrize("empty", [True, False])
def test_what_is_recorded_is_the_value_alone(empty: bool) -> None:
    total = dirty()
    if not empty:
        absorb(total, noise("child"), {}).run()
    assert add_own(total, record=True).run() == own_words().tobytes()
    assert np.array_equal(total.vector, own_words() if empty else own_words() + noise("child"))
    assert add_own(total).run() is None


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("empty", [True, False])
def test_the_own_value_is_added_under_its_masks(empty: bool, record: bool) -> None:
    total = dirty()
    if not empty:
        absorb(total, noise("child"), {}).run()
    drawn = tuple(masks.draw(ENTROPY, TRUSTEES))
    found = add_own(total, record, drawn).run()
    expected = own_words() if empty else own_words() + noise("child")
    for seed in drawn:
        expected += prg.expand(seed, ENCODING.dimension, 32)
    assert np.array_equal(total.vector, expected)
    assert found == (own_words().tobytes() if record else None)


def test_seeds_open_for_the_trustees_alone() -> None:
    trustees = [peer() for _ in range(TRUSTEES)]
    drawn = tuple(masks.draw(ENTROPY, TRUSTEES))
    sealed = SealSeeds(OWN, NETWORK, ROUND, OWN.peer_id, tuple(d for _, d in trustees), drawn).run()
    ids: dict[str, Any] = {"network": NETWORK, "round": ROUND, "contributor": OWN.peer_id}
    for (ring, descriptor), seed, box in zip(trustees, drawn, sealed, strict=True):
        assert box.contributor == OWN.peer_id
        assert open_seed(ring, box.sealed, trustee=descriptor.peer, **ids) == seed
    with pytest.raises(Refused):
        open_seed(trustees[0][0], sealed[1].sealed, trustee=trustees[0][1].peer, **ids)


def test_costs_follow_the_vector() -> None:
    total = dirty()
    assert absorb(total, noise("child"), SEEDS).cost_bytes == 3 * ENCODING.nbytes
    assert add_own(total).cost_bytes == 6 * ENCODING.nbytes
    assert add_own(total, seeds=(bytes(32),) * 2).cost_bytes == 8 * ENCODING.nbytes
    assert SealSeeds(OWN, NETWORK, ROUND, OWN.peer_id, (), ()).cost_bytes == 0
