"""What must hold of every world, whatever happened in it; each failure names the world.

Neighbours: ``world`` collects records, messages and reports; tests call ``check_all`` at the end of each world.
Invariants: what holds is said in ``protocol.simulation.invariants``, once for these worlds and for the laboratory's;
only the coalitions are looked at a second way here, as ``peer.audit`` does.
"""

from peer.audit.coalitions import check_coalitions
from protocol import reports
from protocol.aggregation.shape import height
from protocol.application import Freshness
from protocol.base.settings import Settings
from protocol.simulation import invariants
from protocol.simulation.invariants import Evidence, Rounds
from protocol.training.task import Task
from tests.protocol.world import Peer, World

EXHAUSTIVE = 7
"""In rounds of up to so many nodes every coalition below S is tried; in larger ones a sample."""


def evidence(world: World, name: str) -> Evidence:
    """What the world collected, as the invariants want it."""
    single = {peer.id for peer in world.peers if peer.application.fresh is Freshness.DETERMINISTIC}
    return Evidence(
        name,
        sent=world.sent,
        items=world.reports,
        records=world.records,
        single={peer for peer, owner in world.by_id.items() if owner.id in single},
        hasty=world.hasty,
    )


def nothing(violations: list[str]) -> None:
    assert not violations, violations[0]


def newest_age(peer: Peer, task: Task) -> int:
    """Age of the newest model that a peer holds; -1: none, or it is dead."""
    entry = peer.node.tasks.get(task.id) if peer.node is not None else None
    newest = entry.walks.newest if entry is not None else None
    return -1 if newest is None else newest.checkpoint.age


def ended(world: World) -> list[reports.RoundEnded]:
    return [r for _, _, r in world.reports if isinstance(r, reports.RoundEnded)]


def published(world: World) -> list[reports.RoundEnded]:
    return [r for r in ended(world) if r.published]


def check_exact(world: World, name: str) -> int:
    """Every published total is the sum of the values of whom it counts; returns how many there are."""
    nothing(invariants.exactness(evidence(world, name)))
    return sum(record.published for record in world.records)


def check_rule(world: World, name: str) -> None:
    """Every contributor has S mask neighbours."""
    nothing(invariants.rule(evidence(world, name)))


def check_secrecy(world: World, name: str) -> None:
    """No coalition of fewer than S learns a value, be every vector that left in its sender's parent's hands."""
    rounds: Rounds = evidence(world, name).rounds()
    for round_id, records in rounds.items():
        most = 10**6 if len(records) <= EXHAUSTIVE else 60
        result = check_coalitions(round_id, records, max_coalitions=most, seed=1)
        assert not result.violations, f"{name}: {result.violations}"


def check_once(world: World, name: str) -> None:
    """One partial per round and peer, lives included; a mask seed serves once; the round is durable before that."""
    nothing(invariants.once(evidence(world, name)))


def check_single(world: World, name: str) -> None:
    """Who has one record never answers a model twice, nor two tasks of a schema, in this life or a later one."""
    nothing(invariants.single(evidence(world, name)))


def check_time(world: World, task: Task, name: str, settings: Settings) -> None:
    """Every round ends by its deadline, give or take its last jobs; no node asks for one moment again and again."""
    for end in ended(world):
        levels = height(0, end.planned, task.branching, task.collusion_threshold)
        most = settings.round_budget_s + levels * (settings.hop_allowance_s + 0.01) + 10 * world.work_delay + 0.1
        assert end.finished - end.started <= most, f"{name}: a round took {end.finished - end.started} s"
    for peer in world.peers:
        if peer.node is not None:
            now = world.now + peer.skew
            assert all(r.deadline > now - 1 for r in peer.node.rounds._rounds.values()), f"{name}: endless round"
    assert world.most_events_in_a_second() < invariants.SPINS, f"{name}: a node spins"


def check_all(world: World, task: Task, name: str) -> int:
    """Everything; returns how many rounds were published."""
    count = check_exact(world, name)
    check_rule(world, name)
    check_secrecy(world, name)
    check_once(world, name)
    check_single(world, name)
    check_time(world, task, name, world.settings)
    return count
