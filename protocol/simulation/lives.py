"""A simulated peer: what it is, what its disk holds, and its node while it runs.

Neighbours: ``world`` starts, stops and drives them.
Invariants: what a disk holds is what effects persisted, in their order: a death in between loses the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.application import Application
from protocol.base.ids import PeerId, RoundId, TaskId
from protocol.identity.descriptor import Descriptor
from protocol.node import Node
from protocol.surroundings import Restored, Surroundings
from protocol.training.task import SignedTask
from protocol.wire.messages import Checkpoint


@dataclass(slots=True)
class Disk:
    """What one peer has made durable."""

    incarnation: int = 0
    kem_epoch: int = 0
    tasks: list[SignedTask] = field(default_factory=list)
    checkpoints: dict[TaskId, Checkpoint] = field(default_factory=dict)
    rounds: dict[RoundId, float] = field(default_factory=dict)
    uses: set[bytes] = field(default_factory=set)
    descriptors: Sequence[Descriptor] = ()
    """Peers known at the last stop."""

    def restored(self, now: float) -> Restored:
        """What a node that starts now gets of it; forgets rounds that need not be remembered any more."""
        self.rounds = {round_id: expires for round_id, expires in self.rounds.items() if expires > now}
        return Restored(
            incarnation=self.incarnation,
            tasks=tuple(self.tasks),
            checkpoints=tuple(self.checkpoints.values()),
            rounds=dict(self.rounds),
            uses=frozenset(self.uses),
            descriptors=tuple(self.descriptors),
        )


@dataclass(slots=True, eq=False)
class SimulatedPeer:
    """One peer of a world.  Times are those of the world's clock."""

    index: int
    surroundings: Surroundings
    application: Application
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    life: int = 0
    """Counts starts and stops: what was under way in an earlier life is dropped."""
    deadline: float = float("inf")
    """What the node asked for after its latest event, by its own clock."""
    wakes: float = float("inf")
    """When the node's next deadline is on the world's heap."""
    busy_until: float = 0.0
    """Its CPU is taken by jobs until then."""
    slow: float = 1.0
    """Work takes this many times as long as ``Costs`` say."""
    skew: float = 0.0
    """Seconds by which its clock is ahead of the world's."""
    gone: bool = False
    """It never starts again."""
    online_since: float = 0.0
    online_s: float = 0.0
    """In earlier lives."""

    @property
    def id(self) -> PeerId:
        """The id of its present keys."""
        return self.surroundings.keyring.peer_id
