"""Rounds of real nodes under faults: what is worked out of their records is what coalitions of any size learn."""

from collections import Counter
from itertools import combinations

import pytest

from protocol.privacy.description import describe
from protocol.privacy.exposure import round_exposure
from protocol.privacy.leakage import Leakage
from protocol.wire import messages as m
from tests.protocol.checks import evidence
from tests.protocol.test_rounds import faulty_world, train
from tests.protocol.world import World

SMALL = 7
"""Rounds of up to so many peers are tried with every coalition."""


@pytest.fixture(scope="module")
def worlds() -> list[tuple[str, World]]:
    found = []
    for seed in range(24):
        world, task = faulty_world(seed)
        train(world, task, 20.0)
        found.append((f"world {seed}", world))
    return found


def test_every_partial_that_left_is_in_the_view_of_who_it_was_sent_to(worlds: list[tuple[str, World]]) -> None:
    """Lost, late, doubled or refused, and whether its receiver died: no view lacks anything."""
    partials = uncombined = 0
    for name, world in worlds:
        described = {r: describe(records.values()) for r, records in evidence(world, name).rounds().items()}
        views = {r: {node.peer: node for node in d.nodes} for r, d in described.items()}
        for _, sender, to, message in world.sent:
            if isinstance(message, m.Partial):
                partials += 1
                assert sender in views[message.round][to].received, f"{name}: {sender.hex()}"
                uncombined += sender not in views[message.round][to].combined
    assert partials > 500
    assert uncombined > 10


def test_formulas_hold_in_rounds_of_real_nodes(worlds: list[tuple[str, World]]) -> None:
    seen: Counter[str] = Counter()
    for name, world in worlds:
        for records in evidence(world, name).rounds().values():
            described = describe(records.values())
            engine = Leakage(described)
            arrived, peers, s = engine.arrived, engine.peers, described.collusion_threshold
            if not described.follows_protocol or not arrived or len(peers) > SMALL:
                continue
            found = round_exposure(described, sizes=(s - 1, s, s + 1), samples=0)
            if found.peers > len(peers):
                continue  # an ancestor that nothing else is known of
            for size, exposure in found.by_size:
                exposed = honest = 0
                for coalition in combinations(peers, size):
                    exposed += len(engine.by_algebra(coalition).values)
                    honest += len(set(arrived) - set(coalition))
                assert exposure.arrived is not None
                assert exposure.arrived.share == pytest.approx(exposed / honest if honest else 0.0), name
                assert size >= s or not exposed, name
                seen["exposed"] += exposed > 0
            seen["rounds"] += 1
            seen["unpublished"] += len(engine.published) < len(arrived)
    assert seen["rounds"] > 100
    assert min(seen["exposed"], seen["unpublished"]) > 10, seen
