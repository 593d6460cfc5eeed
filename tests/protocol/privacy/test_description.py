"""From records to a description: nothing that a peer ever received is left out, whoever left no record."""

from dataclasses import replace

import pytest

from protocol.base.ids import PeerId, RoundId
from protocol.privacy.description import describe
from protocol.privacy.leakage import Leakage
from protocol.privacy.record import RoundRecord

ROUND = RoundId(b"r" * 16)


def peer(i: int) -> PeerId:
    return PeerId(bytes([i]) * 16)


def path(length: int, s: int, *, late: int | None = None) -> list[RoundRecord]:
    """The records of a path of contributors, peer 0 the root; the partial of ``late`` came too late."""
    return [
        RoundRecord(
            round=ROUND,
            peer=peer(v),
            parent=peer(v - 1) if v else None,
            ancestors=tuple(peer(a) for a in range(v - 1, max(-1, v - 1 - s), -1)),
            collusion_threshold=s,
            modulus_bits=32,
            contributed=True,
            sent=v > 0,
            children=(peer(v + 1),) if v + 1 < length and v + 1 != late else (),
            value=b"",
            masks={peer(a): b"" for a in range(v - 2, max(-1, v - 1 - s), -1)},
            opened={},
            received={peer(v + 1): b""} if v + 1 < length and v + 1 != late else {},
            sent_vector=b"" if v else None,
            cohort=length - v,
            total=None if v else b"",
            published=v == 0,
        )
        for v in range(length)
    ]


def received(records: list[RoundRecord], by: int) -> tuple[bytes, ...]:
    return next(n.received for n in describe(records).nodes if n.peer == peer(by))


def test_a_whole_round() -> None:
    described = describe(reversed(path(5, 3)))
    assert described.follows_protocol
    assert [n.peer for n in described.nodes] == [peer(v) for v in range(5)]
    assert described.nodes[4].ancestors == (peer(3), peer(2), peer(1))
    assert described.nodes[4].trustees == (peer(1), peer(2))
    engine = Leakage(described)
    assert engine.published == engine.arrived == tuple(peer(v) for v in range(5))


def test_a_late_partial_is_in_its_parents_view() -> None:
    """The parent's record was closed before it came, and does not name it."""
    records = path(5, 2, late=3)
    assert received(records, 2) == (peer(3),)
    engine = Leakage(describe(records))
    assert engine.published == tuple(peer(v) for v in range(3))
    assert engine.arrived == tuple(peer(v) for v in range(5))
    # 3's mask for 1 and 4's value are all that hides it in what 2 holds
    assert peer(3) in engine.by_algebra([peer(1), peer(2), peer(4)]).values


def test_a_peer_without_a_record_holds_what_it_was_sent() -> None:
    records = path(5, 2)
    assert received([*records[:2], *records[3:]], 2) == (peer(3),)


@pytest.mark.parametrize("combined", [True, False])
def test_a_vector_from_a_peer_without_a_record_is_received(combined: bool) -> None:
    """Combined or refused: it is in the view, and what is inside is unknown, so nothing follows from it."""
    records = path(4, 2)[:3]
    if not combined:
        records[2] = replace(records[2], children=())
    described = describe(records)
    assert received(records, 2) == (peer(3),)
    assert described.nodes[3].ancestors == (peer(2), peer(1))
    assert described.nodes[3].combined == ()
    assert not described.follows_protocol
    assert peer(3) not in Leakage(described).by_algebra([peer(1), peer(2)]).values


@pytest.mark.parametrize(
    "records",
    [
        [],
        [path(3, 2)[0], path(3, 3)[1]],
        [path(3, 2)[0], replace(path(3, 2)[1], round=RoundId(b"o" * 16))],
        [path(3, 2)[0], replace(path(3, 2)[1], peer=peer(0))],
    ],
    ids=["none", "two thresholds", "two rounds", "one peer twice"],
)
def test_records_that_do_not_belong_together(records: list[RoundRecord]) -> None:
    with pytest.raises(ValueError, match=r"record"):
        describe(records)
