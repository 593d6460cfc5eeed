"""What must hold of every world, whatever happened in it; each failure names the world.

Neighbours: ``world`` collects records, messages and reports; tests call ``check_all`` at the end of each world.
Invariants: nothing here shares code with the round machine: sums, depths and neighbours are worked out from the
records alone, what coalitions learn by the exact engine.
"""

from collections import Counter

import numpy as np

from peer.audit.coalitions import check_coalitions
from protocol import reports
from protocol.aggregation.shape import height
from protocol.application import Freshness
from protocol.base.settings import Settings
from protocol.privacy.record import RoundRecord
from protocol.training.task import Task
from protocol.wire import messages as m
from tests.protocol.world import Peer, World

EXHAUSTIVE = 7
"""In rounds of up to so many nodes every coalition below S is tried; in larger ones a sample."""

Rounds = dict[bytes, dict[bytes, RoundRecord]]


def newest_age(peer: Peer, task: Task) -> int:
    """Age of the newest model that a peer holds; -1: none, or it is dead."""
    entry = peer.node.tasks.get(task.id) if peer.node is not None else None
    newest = entry.walks.newest if entry is not None else None
    return -1 if newest is None else newest.checkpoint.age


def ended(world: World) -> list[reports.RoundEnded]:
    return [r for _, _, r in world.reports if isinstance(r, reports.RoundEnded)]


def published(world: World) -> list[reports.RoundEnded]:
    return [r for r in ended(world) if r.published]


def by_round(world: World, name: str) -> Rounds:
    """The records by round and peer.  One that sent or published never took part in that round again."""
    rounds: Rounds = {}
    for record in world.records:
        records = rounds.setdefault(record.round, {})
        before = records.get(record.peer)
        assert before is None or not before.contributed, f"{name}: took part again after contributing"
        records[record.peer] = record
    return rounds


def inside(records: dict[bytes, RoundRecord], top: RoundRecord) -> list[RoundRecord]:
    """The contributions inside a vector, by walking down from its owner."""
    found, queue = [], [top]
    while queue:
        found.append(queue.pop())
        queue += [records[child] for child in found[-1].children]
    return found


def check_exact(world: World, name: str) -> int:
    """Every published total is the sum, in the ring, of the values of whom it counts; returns how many there are."""
    count, recorded = 0, set()
    for records in by_round(world, name).values():
        for root in [r for r in records.values() if r.published]:
            count += 1
            recorded.add(root.round)
            members = inside(records, root)
            assert all(r.contributed and r.value is not None for r in members), f"{name}: a relay inside a sum"
            assert len({r.peer for r in members}) == len(members), f"{name}: somebody counts twice"
            word = f"<u{root.modulus_bits // 8}"
            total = np.sum([np.frombuffer(r.value or b"", word) for r in members], axis=0, dtype=word)
            assert total.tobytes() == bytes(root.total or b""), f"{name}: the total is not the sum"
            assert len(members) == root.cohort > root.collusion_threshold, f"{name}: cohort"
    assert {r.round for r in published(world)} <= recorded, f"{name}: published without a record"
    return count


def check_rule(world: World, name: str) -> None:
    """Every contributor has S mask neighbours: ancestors within S, and contributors within S inside its vector."""
    depths = {(msg.round, sender, to): msg.depth for _, sender, to, msg in world.sent if isinstance(msg, m.Offer)}
    for round_id, records in by_round(world, name).items():
        for record in records.values():
            if not record.sent and not record.published:
                continue
            assert record.contributed, f"{name}: a relay"
            s = record.collusion_threshold
            depth = 0 if record.parent is None else depths[round_id, record.parent, record.peer]
            assert len(record.ancestors) == min(depth, s), f"{name}: ancestors"
            down, level = 0, [record]
            for _ in range(s):
                level = [records[child] for r in level for child in r.children]
                down += len(level)
            assert min(depth, s) + down >= s, f"{name}: the contribution rule is broken"


def check_secrecy(world: World, name: str) -> None:
    """No coalition of fewer than S learns a value, be every vector that left in its sender's parent's hands."""
    for round_id, records in by_round(world, name).items():
        most = 10**6 if len(records) <= EXHAUSTIVE else 60
        result = check_coalitions(round_id, records, max_coalitions=most, seed=1)
        assert not result.violations, f"{name}: {result.violations}"


def check_once(world: World, name: str) -> None:
    """One partial per round and peer, lives included; a mask seed serves once; the round is durable before that."""
    partials: dict[tuple[bytes, bytes], m.Partial] = {}
    for _, sender, _, message in world.sent:
        if isinstance(message, m.Partial):
            key = (sender, message.round)
            assert key not in partials, f"{name}: two partials of one peer in one round"
            partials[key] = message
            assert (sender, message.round) in world.ever_durable, f"{name}: visible before durable"
    seeds = Counter(bytes(seed) for record in world.records for seed in record.masks.values() if record.contributed)
    assert not seeds or max(seeds.values()) == 1, f"{name}: a mask seed was used twice"


def check_single(world: World, name: str) -> None:
    """Who has one record never answers a model twice, whatever became of the round, in this life or a later one."""
    digests = {msg.round: msg.digest for *_, msg in world.sent if isinstance(msg, m.Offer)}
    answered = Counter(
        (r.peer, digests[r.round])
        for r in world.records
        if r.contributed and r.round in digests and world.by_id[r.peer].application.fresh is Freshness.DETERMINISTIC
    )
    assert not answered or max(answered.values()) == 1, f"{name}: one record answered one model twice"


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
    assert world.most_events_in_a_second() < 2000, f"{name}: a node spins"


def check_all(world: World, task: Task, name: str) -> int:
    """Everything; returns how many rounds were published."""
    count = check_exact(world, name)
    check_rule(world, name)
    check_secrecy(world, name)
    check_once(world, name)
    check_single(world, name)
    check_time(world, task, name, world.settings)
    return count
