"""The last model of a task is in no offer: gossip brings it to everybody at once, and nobody revives the walk."""

import pytest

from protocol import reports
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.base.ids import Digest, Lineage, PeerId
from protocol.base.settings import LAN
from protocol.training.walks import Walks
from protocol.wire.messages import Head
from tests.protocol.world import Peer, World, make_task


def ages(world: World, task_id: bytes) -> list[int]:
    def age(peer: Peer) -> int:
        entry = peer.node.tasks.get(task_id) if peer.node is not None else None  # type: ignore[arg-type]
        newest = entry.walks.newest if entry is not None else None
        return -1 if newest is None else newest.checkpoint.age

    return [age(peer) for peer in world.peers]


def seconds_to_spread(size: int, seed: int) -> float:
    world, task = World(size, f"last {size} {seed}"), make_task(steps=5)
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(30.0, lambda: max(ages(world, task.id)) == 5)
    begun = world.now
    assert world.run(30.0, lambda: min(ages(world, task.id)) == 5)
    world.run(20.0)
    assert not any(r.revived for _, _, r in world.reports if isinstance(r, reports.WalkStarted))
    return world.now - 20.0 - begun


@pytest.mark.parametrize("size", [4, 12, 30])
def test_everybody_has_it_within_a_fraction_of_a_period(size: int) -> None:
    """Whoever gets it greets four others at once.  Of 30 peers all are greeted in two worlds of three, since
    30 (1 - 4/29)^29 = 0.4 are left out on average; who is hears of it at the next exchange."""
    times = sorted(seconds_to_spread(size, seed) for seed in range(9))
    assert times[2] < 0.2 * LAN.gossip_period_s, times
    assert times[-1] < 1.3 * LAN.gossip_period_s, times


def test_one_question_at_a_time_until_it_is_answered() -> None:
    walks = Walks(make_task(), SeededEntropy("walks"), LAN, now=0.0)
    head = Head(walks.task.id, 3, Digest(bytes(32)), 0, Lineage(bytes(8)), 0.0)
    one, two = PeerId(b"1" * 16), PeerId(b"2" * 16)
    assert walks.wants(head, one, 1.0, 3.0)
    assert not walks.wants(head, two, 2.0, 3.0)
    walks.answered()
    assert walks.wants(head, one, 2.0, 3.0)
    assert not walks.wants(head, one, 5.5, 3.0)
    assert walks.wants(head, two, 5.5, 3.0)  # nobody has answered: somebody else is asked
    walks.answered()
    assert not walks.wants(head, one, 35.4, 3.0)
    assert walks.wants(head, one, 35.5, 3.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": 10_000_000, "momentum": 0.9},
        {"dimension": 10_000_000, "modulus_bits": 64},
        {"branching": 64, "collusion_threshold": 4, "minimum_cohort": 5, "cohort": 100_000},
    ],
)
def test_a_task_that_no_message_can_carry_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="must fit|would meet"):
        make_task(**changes)


def test_a_chain_is_no_longer_than_an_offer_can_say() -> None:
    world, task = World(80, "chain"), make_task(branching=1, steps=1)
    world.start_all()
    world.introduce(world.peers[0], task)
    assert world.run(120.0, lambda: max(ages(world, task.id)) == 1)
    assert all(r.planned <= 65 for _, _, r in world.reports if isinstance(r, reports.RoundEnded))
