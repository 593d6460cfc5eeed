"""The kind ``overhead``: the same messages for all systems, and in them what each needs."""

from typing import Any

import pytest

from peer.laboratory import paillier
from peer.laboratory.kinds import Row
from peer.laboratory.overhead import Overhead

KIND = Overhead()
SMALL: dict[str, Any] = {"peers": 24, "seconds": 20, "warm_up_s": 20, "network": "wan", "settings": "lan"}


def run(dimension: int, threshold: int) -> dict[str, Row]:
    task = {"dimension": dimension, "collusion_threshold": threshold, "cohort": 15}
    given = {**SMALL, "task": task}
    assert KIND.check(given, "f") == []
    return {str(row["system"]): row for row in KIND.run(given, 4)}


def figure(row: Row, column: str) -> float:
    value = row[column]
    assert isinstance(value, int | float)
    return float(value)


@pytest.fixture(scope="module")
def three() -> dict[str, Row]:
    return run(2000, 3)


def test_all_send_the_same_messages(three: dict[str, Row]) -> None:
    assert list(three) == ["susurrus", "plain tree", "homomorphic", "homomorphic, packed"]
    assert len({(row["messages"], row["cohort"], row["gossip_bytes"]) for row in three.values()}) == 1
    # An offer, an answer and a partial for everybody but the root; a walk and its answer for each round.
    assert 2.8 < figure(three["susurrus"], "messages") < 4.5


def test_a_plain_sum_is_its_vector_and_an_envelope(three: dict[str, Row]) -> None:
    """One partial for each contribution but the root's."""
    cohort = figure(three["plain tree"], "cohort")
    each = figure(three["plain tree"], "partial_bytes") * cohort / (cohort - 1)
    assert 4 * 2000 < each < 4 * 2000 + 600


def test_masks_cost_a_few_seeds(three: dict[str, Row]) -> None:
    assert 80 < _added(three, "susurrus") < 600
    assert 1.0 < figure(three["susurrus"], "cpu_s") / figure(three["plain tree"], "cpu_s") < 2.0


def test_ciphertexts_cost_their_bytes_and_operations(three: dict[str, Row]) -> None:
    row, primitive = three["homomorphic"], paillier.MEASURED
    cohort = figure(row, "cohort")
    most = 3 * 2000 * primitive.ciphertext_bytes
    assert 0.7 * most < figure(row, "partial_bytes") < most + 600
    encryptions = 3 * 2000 * primitive.encrypt_s
    assert 0.6 * encryptions < figure(row, "cpu_s") < 1.3 * encryptions + 2000 * primitive.decrypt_s
    packed = three["homomorphic, packed"]
    share = figure(packed, "cpu_s") / figure(row, "cpu_s")
    assert share == pytest.approx(1 / paillier.slots(32), rel=0.1)
    assert cohort > 10


def test_what_a_threshold_adds(three: dict[str, Row]) -> None:
    two, four, wide = run(2000, 2), run(2000, 4), run(20_000, 3)
    assert _added(two, "susurrus") < _added(three, "susurrus") < _added(four, "susurrus")
    assert _added(two, "homomorphic") < _added(three, "homomorphic") < _added(four, "homomorphic")
    # Seeds do not depend on the dimension, ciphertexts do.
    assert _added(wide, "susurrus") == pytest.approx(_added(three, "susurrus"), rel=0.2)
    assert _added(wide, "homomorphic") == pytest.approx(10 * _added(three, "homomorphic"), rel=0.2)


def _added(rows: dict[str, Row], system: str) -> float:
    """Bytes up the tree beyond those of a plain sum."""
    return figure(rows[system], "partial_bytes") - figure(rows["plain tree"], "partial_bytes")


def test_all_mistakes_at_once() -> None:
    problems = KIND.check({"seconds": 0, "task": {"dimension": -5}, "masks": True}, "f: parameters")
    told = "\n".join(problems)
    for part in ("needs peers", "seconds must be", "dimension", "no key 'masks'"):
        assert part in told, told


def test_one_seed_gives_one_table(three: dict[str, Row]) -> None:
    assert run(2000, 3) == three


def test_slots_hold_a_share_and_room_to_add() -> None:
    assert paillier.slots(32) == 31
    assert paillier.slots(64) == 21
    assert paillier.vector_bytes(100, 3) == 3 * 100 * 512
    assert paillier.vector_bytes(100, 3, packed=31) == 3 * 4 * 512


def test_measuring_needs_phe(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(paillier, "import_module", missing)
    with pytest.raises(ImportError, match="pip install"):
        paillier.measure(1)
