"""The jobs of a round as a driver sees them: whatever it logs of them tells no value and no seed."""

from typing import Any

import numpy as np

from protocol.application import Contribution
from protocol.base.ids import RoundId
from protocol.effects import Work
from protocol.events import WorkDone
from protocol.reports import Recorded
from protocol.work import RoundWork
from tests.protocol.aggregation.bench import make_bench
from tests.protocol.world import START, World, make_task

SECRET = 0.123456789


def test_no_repr_of_a_contribution_shows_its_values() -> None:
    values = (np.full(3, SECRET), np.full(1, 8.0), np.full(1, SECRET), np.full(1, SECRET))
    assert "0.1234" not in repr(WorkDone(RoundWork(RoundId(bytes(16)), "contribute"), Contribution(values)))
    bench = make_bench()
    bench.finish(bench.take(bench.offer(1, 2, cap=2)))
    (state,) = bench.machine._rounds.values()
    (work,) = bench.machine.on_work_done(RoundWork(state.id, "contribute"), Contribution(values), START)
    assert isinstance(work, Work)
    assert "0.1234" not in repr(work)


def test_no_repr_of_a_job_result_or_report_shows_a_seed() -> None:
    """Everything that passes through a driver in whole rounds, against every seed and value recorded there."""
    world, seen = World(6, "reprs"), list[Any]()
    world.on_effect = lambda _, effect: seen.append(effect)
    world.start_all()
    world.introduce(world.peers[0], make_task(steps=2))
    world.run(5.0)
    jobs = [e for e in seen if isinstance(e, Work)]
    text = "\n".join(map(repr, seen))
    secrets = [bytes(s) for r in world.records for s in (*r.masks.values(), *r.opened.values())]
    secrets += [bytes(r.value) for r in world.records if r.value is not None]
    assert {work.purpose.step for work in jobs} >= {"own", "absorb", "seal", "publish"}
    assert any(isinstance(getattr(e, "item", None), Recorded) for e in seen)
    assert len(secrets) > 10
    for secret in secrets:
        assert repr(secret)[2:-1] not in text
