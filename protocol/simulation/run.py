"""One run: a world made of a scenario and a seed, its peers' sessions, its faults, its task, and the figures.

Neighbours: ``scenario`` says what, ``world`` does it, ``measures`` counts; ``peer.laboratory`` calls ``simulate``.
Invariants: the same scenario and seed give the same run; what is attached to look on (a tracer, a progress) changes
nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from protocol.application import Application
from protocol.base.entropy import SeededEntropy
from protocol.simulation.costs import Exact, Execution, Modelled
from protocol.simulation.faults import Crash, Cut, Fault, Partition, Restart, Skew, Slow, Target
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.measures import Measures, Summary, summarise
from protocol.simulation.network import Network
from protocol.simulation.scenario import Scenario
from protocol.simulation.sessions import Session
from protocol.simulation.streams import number, share
from protocol.simulation.world import Making, World, newest_ages

PROGRESS_STEPS = 100
"""Times that a progress is told of."""

MakeApplication = Callable[[int, SeededEntropy], Application]


@dataclass(frozen=True, slots=True)
class Run:
    """A world ready to run, and who counts in it."""

    scenario: Scenario
    world: World
    measures: Measures


def prepare(
    scenario: Scenario,
    seed: int,
    application: MakeApplication | None = None,
    *,
    execution: Execution | None = None,
    parameters: NDArray[np.float32] | None = None,
) -> Run:
    """The world at time 0: nobody has started yet, everything is on its heap.

    ``execution``: who does the jobs, if not who ``scenario.exact`` says; cryptography is not concerned.
    ``parameters`` ``[d]``: where the model begins (zero).
    """
    making = Making(
        settings=scenario.settings,
        costs=scenario.costs,
        execution=execution or (Exact() if scenario.exact else Modelled()),
        exact_cryptography=scenario.exact,
        seeds=scenario.seeds,
    )
    network = Network(scenario.network, number(seed, "network"), public=scenario.seeds)
    world = World(scenario.peers, seed, network, making, *([] if application is None else [application]))
    measures = Measures(world.now + scenario.warm_up_s)
    world.observers.append(measures)
    for peer in world.peers:
        if scenario.slowness is not None:
            peer.slow = scenario.slowness.quantile(share(seed, "slowness", peer.index))
        _follow(world, peer, scenario, seed, _sessions(scenario, peer))
    _Faults(world, SeededEntropy(f"faults {seed}")).schedule(scenario.faults)
    world.at(measures.begin, lambda: world.introduce(world.peers[0], scenario.task, parameters))
    return Run(scenario, world, measures)


def simulate(
    scenario: Scenario,
    seed: int,
    progress: Callable[[float], None] | None = None,
    application: MakeApplication | None = None,
) -> Summary:
    """Run a scenario to its end.  ``progress`` is told the share done, about ``PROGRESS_STEPS`` times."""
    return finish(prepare(scenario, seed, application), progress)


def finish(run: Run, progress: Callable[[float], None] | None = None) -> Summary:
    """Let a prepared world run its time, and sum up."""
    world, scenario = run.world, run.scenario
    world.run(scenario.warm_up_s)
    before = _online_s(world)
    for step in range(PROGRESS_STEPS):
        world.run(scenario.seconds / PROGRESS_STEPS)
        if progress is not None:
            progress((step + 1) / PROGRESS_STEPS)
    ages = list(newest_ages(world, scenario.task))
    return summarise(world, run.measures, scenario.seconds, _online_s(world) - before, ages)


def _online_s(world: World) -> float:
    return sum(p.online_s + (world.now - p.online_since if p.node is not None else 0.0) for p in world.peers)


def _sessions(scenario: Scenario, peer: SimulatedPeer) -> Iterator[Session]:
    return iter([(0.0, float("inf"))]) if peer.index < scenario.seeds else scenario.churn.sessions(peer.index)


def _follow(world: World, peer: SimulatedPeer, scenario: Scenario, seed: int, sessions: Iterator[Session]) -> None:
    """Put the next session of a peer on the heap; when it is over, the one after."""
    session = next(sessions, None)
    if session is None:
        return
    begin, end = session
    start = world.making.start
    if begin == 0.0 and peer.life == 0:
        begin = share(seed, "join", peer.index) * scenario.join_s if peer.index else 0.0
    world.at(max(start + begin, world.now), world.start, peer)

    def over() -> None:
        world.stop(peer, cleanly=share(seed, "goodbye", peer.index, peer.life) < scenario.goodbye)
        _follow(world, peer, scenario, seed, sessions)

    if end < float("inf"):
        world.at(max(start + end, start + begin, world.now), over)


class _Faults:
    """Puts faults on a world's heap."""

    def __init__(self, world: World, entropy: SeededEntropy) -> None:
        self._world = world
        self._entropy = entropy

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """All of them; each draws from its own stream."""
        for place, fault in enumerate(faults):
            entropy = self._entropy.fork(place)
            match fault:
                case Crash(when, target) | Restart(when, target):
                    self._next(fault, target, when.times(entropy), entropy)
                case Slow(begin, end, target, factor):
                    self._span(begin, end, target, entropy, partial(_scale, factor), partial(_scale, 1 / factor))
                case Skew(begin, end, target, offset):
                    self._span(begin, end, target, entropy, partial(_shift, offset), partial(_shift, -offset))
                case Cut(begin, end, target):
                    self._span(begin, end, target, entropy, self._cut, self._mend)
                case Partition():
                    self._partition(fault, entropy)

    def _next(self, fault: Crash | Restart, target: Target, times: Iterator[float], entropy: SeededEntropy) -> None:
        when = next(times, None)
        if when is None:
            return

        def happen() -> None:
            for index in target.pick(len(self._world.peers), entropy):
                peer = self._world.peers[index]
                if peer.node is None:
                    continue
                self._world.stop(peer)
                if isinstance(fault, Restart):
                    back = partial(self._world.start, peer, keep_disk=fault.disk)
                    self._world.at(self._world.now + fault.down_s, back)
                else:
                    peer.gone = True
            self._next(fault, target, times, entropy)

        self._world.at(self._world.making.start + when, happen)

    def _span(
        self,
        begin: float,
        end: float,
        target: Target,
        entropy: SeededEntropy,
        do: Callable[[SimulatedPeer], None],
        undo: Callable[[SimulatedPeer], None],
    ) -> None:
        chosen = [self._world.peers[i] for i in target.pick(len(self._world.peers), entropy)]
        start = self._world.making.start
        for peer in chosen:
            self._world.at(start + begin, do, peer)
            if end < float("inf"):
                self._world.at(start + end, undo, peer)

    def _cut(self, peer: SimulatedPeer) -> None:
        self._world.network.cut(peer.index)

    def _mend(self, peer: SimulatedPeer) -> None:
        self._world.network.mend(peer.index)

    def _partition(self, fault: Partition, entropy: SeededEntropy) -> None:
        start, network = self._world.making.start, self._world.network
        groups = fault.split(len(self._world.peers), entropy)
        self._world.at(start + fault.begin, network.partition, groups)
        if fault.end < float("inf"):
            self._world.at(start + fault.end, network.heal)


def _scale(factor: float, peer: SimulatedPeer) -> None:
    peer.slow *= factor


def _shift(offset: float, peer: SimulatedPeer) -> None:
    peer.skew += offset
