"""The clock of a world: what is due happens in order, however far ahead it was asked for."""

import random

import pytest

from protocol.simulation.network import Network
from protocol.simulation.network_model import NetworkModel
from protocol.simulation.world import World


def empty(seed: int) -> World:
    return World(0, seed, Network(NetworkModel(), seed))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_due_happens_in_order_near_and_far(seed: int) -> None:
    """Asked for before and on the way, of equal times in the order of asking, and never before its time."""
    world, draw = empty(seed), random.Random(seed)
    start, asked, done = world.now, list[tuple[float, int]](), list[tuple[float, int]]()

    def ask() -> None:
        when = world.now + draw.choice([0.0, 0.5, 64.0, 100.0, draw.uniform(0, 3), draw.uniform(0, 5000)])
        asked.append((when, len(asked)))
        world.at(when, happen, asked[-1])

    def happen(this: tuple[float, int]) -> None:
        assert world.now == this[0]
        done.append(this)
        if len(asked) < 2000:
            ask()

    for _ in range(200):
        ask()
    world.at(float("inf"), happen, (float("inf"), -1))
    while world.now < start + 4000:
        world.run(draw.choice([0.0, 1.0, 64.0, 300.0]))
        assert done == sorted(pair for pair in asked if pair[0] <= world.now)
    assert len(done) > 500


def test_a_run_ends_as_soon_as_it_may_and_goes_on_from_there() -> None:
    world = empty(1)
    start, seen = world.now, list[int]()
    for second in (1, 2, 200):
        world.at(start + second, seen.append, second)
    assert world.run(1000.0, until=lambda: len(seen) == 2)
    assert (world.now, seen) == (start + 2, [1, 2])
    assert not world.run(100.0, until=lambda: len(seen) == 3)
    assert world.now == start + 102
    assert world.run(1000.0, until=lambda: len(seen) == 3)
    assert world.now == start + 200
