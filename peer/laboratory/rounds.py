"""Whole rounds of real nodes in full trees, with partials lost at random, and what everybody saw of them.

Neighbours: ``exposure`` asks what coalitions learn; ``protocol.simulation`` has the world, ``protocol.privacy`` the
records, their description and the engine.
Invariants: nodes, masks and sums are real, at three coordinates; signatures and sealing are stand-ins; one seed gives
one list of rounds.
"""

from dataclasses import dataclass, replace

from protocol import reports
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import PeerId, RoundId
from protocol.base.settings import LAN
from protocol.privacy.description import describe
from protocol.privacy.exposure import Shape
from protocol.privacy.leakage import DescribedRound, Leakage
from protocol.privacy.record import RoundRecord
from protocol.simulation.costs import Exact
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.network import LOST, Delivery, Network
from protocol.simulation.network_model import PRESETS
from protocol.simulation.scenario import plain_task
from protocol.simulation.streams import number
from protocol.simulation.world import Making, World
from protocol.wire.messages import Message, Partial

SPARE = 1.5
"""Peers for each place in the tree, so that every place finds somebody."""
_QUIET_S = 1e6
"""Between two exchanges of gossip: everybody knows everybody from the start."""
_DIMENSION = 3
_PATIENCE_S = 1000.0
"""Virtual seconds that a round may take."""


@dataclass(frozen=True, slots=True)
class PlayedRound:
    """A round that is over."""

    leakage: Leakage
    published: bool


def play(shape: Shape, lost: float, rounds: int, seed: int) -> list[PlayedRound]:
    """``rounds`` rounds of trees of this shape; a partial is lost with probability ``lost``, its sender not knowing.

    Raises ``RuntimeError`` if a tree came out in another shape: theory would not be about it.
    """
    nodes = shape.nodes
    size = int(nodes * SPARE) + 2
    task = plain_task(
        dimension=_DIMENSION,
        collusion_threshold=shape.collusion_threshold,
        branching=shape.branching,
        cohort=nodes,
        batch_per_peer=1,
    )
    settings = replace(LAN, gossip_period_s=_QUIET_S, view_capacity=2 * size, descriptor_lifetime_s=_QUIET_S)
    making = Making(settings=settings, execution=Exact(), exact_cryptography=False, recording=True)
    world = World(size, seed, Network(PRESETS["ideal"], number(seed, "network")), making)
    losses = _Losses(lost, SeededEntropy(f"lost partials {seed}"))
    seen = _Seen(nodes)
    world.fate, world.observers = losses, [seen]
    for peer in world.peers:
        world.start(peer)
    world.acquaint()
    world.introduce(world.peers[0], task)
    if not world.run(rounds * _PATIENCE_S, until=lambda: len(seen.ended) >= rounds):
        raise RuntimeError(f"{len(seen.ended)} of {rounds} rounds came about")
    # Whoever still waits for a lost partial is done before the root is: only messages under way are left.
    return [
        PlayedRound(Leakage(_truth(seen.records[round_id], losses, shape)), published)
        for round_id, published in list(seen.ended.items())[:rounds]
    ]


class _Seen:
    """Observes: the records of every round planned for ``nodes``, and how it ended.

    What is tried again after a round that published nothing is planned for fewer, and is another tree.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self.records: dict[RoundId, list[RoundRecord]] = {}
        self.ended: dict[RoundId, bool] = {}

    def sent(self, world: World, sender: SimulatedPeer, to: PeerId, message: Message, nbytes: int) -> None:
        """Not looked at."""

    def reported(self, world: World, peer: SimulatedPeer, item: reports.Item) -> None:
        """Keep it."""
        match item:
            case reports.Recorded(record):
                self.records.setdefault(record.round, []).append(record)
            case reports.RoundEnded() if item.planned == self._nodes:
                self.ended[item.round] = item.published
            case _:
                pass


class _Losses:
    """Decides over partials; everything else is the network's business."""

    def __init__(self, share: float, entropy: SeededEntropy) -> None:
        self.senders: set[tuple[RoundId, bytes]] = set()
        """Whose partial of which round was lost."""
        self._share, self._entropy = share, entropy

    def __call__(self, sender: SimulatedPeer, recipient: SimulatedPeer, message: Message) -> Delivery | None:
        if not isinstance(message, Partial) or self._entropy.uniform() >= self._share:
            return None
        self.senders.add((message.round, bytes(sender.id)))
        return LOST


def _truth(records: list[RoundRecord], losses: _Losses, shape: Shape) -> DescribedRound:
    """The round as it was: ``describe`` must assume that what was sent arrived, here it is known what did not."""
    round_id = records[0].round
    described = describe(records)
    depths = [0] * (shape.depth + 1)
    for record in records:
        depths[_depth(record, {r.peer: r for r in records})] += 1
    if tuple(depths) != shape.widths:
        raise RuntimeError(f"the tree has {depths} nodes by depth instead of {list(shape.widths)}")
    nodes = [
        replace(node, received=tuple(c for c in node.received if (round_id, c) not in losses.senders))
        for node in described.nodes
    ]
    return DescribedRound(described.collusion_threshold, tuple(nodes))


def _depth(record: RoundRecord, by_peer: dict[PeerId, RoundRecord]) -> int:
    depth = 0
    while record.parent is not None:
        record, depth = by_peer[record.parent], depth + 1
    return depth
