"""A model's state: where parameters, velocity and statistics lie, and what its digest binds."""

from dataclasses import replace

import numpy as np
import pytest

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import TaskId
from protocol.training import state
from protocol.wire.messages import Checkpoint
from tests.protocol.world import make_task


@pytest.mark.parametrize(("momentum", "rounds", "length"), [(0.0, 0, 3), (0.5, 0, 6), (0.0, 2, 7), (0.5, 2, 10)])
def test_layout(momentum: float, rounds: int, length: int) -> None:
    task = make_task(momentum=momentum, statistics_rounds=rounds)
    assert state.state_length(task) == length
    assert state.state_bytes(task) == 4 * length
    first = state.initial_state(task, np.array([1, 2, 3], np.float32))
    checkpoint = Checkpoint(task.id, 0, first)
    np.testing.assert_array_equal(state.view(task, checkpoint), [1, 2, 3] + [0] * (length - 3))
    np.testing.assert_array_equal(state.parameters(task, checkpoint), [1, 2, 3])


def test_a_view_copies_nothing_and_cannot_be_written() -> None:
    task = make_task()
    whole = state.view(task, Checkpoint(task.id, 0, np.arange(3, dtype="<f4").tobytes()))
    assert not whole.flags.owndata
    assert not whole.flags.writeable


@pytest.mark.parametrize("size", [0, 8, 11, 13, 16])
def test_a_state_of_another_length(size: int) -> None:
    task = make_task()
    with pytest.raises(Refused) as refused:
        state.view(task, Checkpoint(task.id, 0, bytes(size)))
    assert refused.value.reason is Refusal.WRONG_LENGTH


def test_statistics_only_when_there_are_any() -> None:
    values = np.array([0, 0, 0, 0.5, -0.5, 1.25, 0.125], np.float32).tobytes()
    task = make_task(statistics_rounds=2)
    assert state.statistics(task, Checkpoint(task.id, 1, values)) is None
    assert state.statistics(make_task(), Checkpoint(make_task().id, 5, values[:12])) is None
    found = state.statistics(task, Checkpoint(task.id, 2, values))
    assert found is not None
    np.testing.assert_array_equal(found[0], np.array([0.5, -0.5], np.float32))
    # a second moment below the squared mean is rounding: no variance is negative
    np.testing.assert_array_equal(found[1], np.array([1.0, 0.0], np.float32))


def test_the_digest_binds_task_age_and_state() -> None:
    base = Checkpoint(TaskId(b"t" * 16), 3, bytes(12))
    seen = {
        state.digest(base),
        state.digest(replace(base, task=TaskId(b"u" * 16))),
        state.digest(replace(base, age=4)),
        state.digest(replace(base, state=bytes(8) + b"\x01\0\0\0")),
        state.digest(replace(base, state=bytes(16))),
    }
    assert len(seen) == 5
    assert all(len(d) == 32 for d in seen)
    assert state.digest(replace(base, state=memoryview(bytearray(12)))) == state.digest(base)
