"""The tasks of one peer: how they come in, what is asked for, and what nobody asked for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NO_LINEAGE, Lineage, PeerId, TaskId
from protocol.base.limits import (
    MAX_ANSWERS,
    MAX_ANSWERS_TO_ONE,
    MAX_BULK,
    MAX_INLINE_STATE,
    MAX_TASK,
    MAX_TASKS,
)
from protocol.base.settings import LAN
from protocol.effects import Effect, Report, SaveTask, Send, Work
from protocol.training import state
from protocol.training.catalogue import (
    ASK_AGAIN_S,
    MAX_ASKED_OF_ONE,
    MAX_FOREIGN_TASKS,
    MAX_TASKS_OF_ONE,
    Catalogue,
    _Answers,
    signed_bytes,
)
from protocol.training.state import digest
from protocol.training.task import SignedTask, Task
from protocol.wire.messages import Checkpoint, Head, ModelReply, ModelRequest, TaskReply, TaskRequest
from tests.protocol.aggregation.bench import make_network
from tests.protocol.world import ToyApplication, make_task

NOW = 1_800_000_000.0
MEMBERS = make_network("catalogue", 6)[1]
ONE, TWO = (m.descriptor for m in MEMBERS[:2])
LATE = MEMBERS[4].descriptor
TASK = make_task()
OWN = 0


def signed(task: Task, by: int = 3) -> SignedTask:
    key = MEMBERS[by].keyring.signing
    return SignedTask(task, key.public_bytes, key.sign(signed_bytes(task.encode())))


def catalogue(application: ToyApplication | None = None) -> Catalogue:
    entropy = SeededEntropy("catalogue")
    return Catalogue(
        application or ToyApplication(entropy), entropy, LAN, MEMBERS[OWN].keyring.signing.public_bytes, lambda _: False
    )


def said(effects: list[Effect]) -> list[Any]:
    return [e.message for e in effects if isinstance(e, Send)]


def reply(task: Task, **changes: Any) -> TaskReply:
    s = signed(task)
    return replace(TaskReply(task.encode(), s.submitter_key, s.signature), **changes)


def checkpoint(age: int, value: float = 0.0) -> Checkpoint:
    return Checkpoint(TASK.id, age, state.initial_state(TASK, np.full(3, value, np.float32)))


# --- tasks --------------------------------------------------------------------------------------------------------


def test_a_task_is_saved_and_told_of_once() -> None:
    c = catalogue()
    entry, effects = c.adopt(signed(TASK), NOW)
    assert isinstance(effects[0], SaveTask)
    assert effects[1] == Report(reports.TaskAdopted(TASK, None))
    assert c.adopt(signed(TASK), NOW) == (entry, [])
    assert c.ids() == [TASK.id]
    fresh = catalogue()
    assert not any(isinstance(e, SaveTask) for e in fresh.adopt(signed(TASK), NOW, save=False)[1])


def test_a_task_heard_of_is_asked_for_from_one_peer_at_a_time() -> None:
    c = catalogue()
    assert said(c.hear_of(ONE, (TASK.id,), NOW, {})) == [TaskRequest((TASK.id,))]
    assert c.hear_of(TWO, (TASK.id,), NOW + ASK_AGAIN_S - 0.1, {}) == []
    assert said(c.hear_of(TWO, (TASK.id,), NOW + ASK_AGAIN_S, {})) == [TaskRequest((TASK.id,))]
    with pytest.raises(Refused) as late:  # the first one's answer comes too late
        c.on_task_reply(ONE, reply(TASK), NOW + ASK_AGAIN_S)
    assert late.value.reason is Refusal.NOT_EXPECTED
    c.on_task_reply(TWO, reply(TASK), NOW + ASK_AGAIN_S)
    assert c.hear_of(ONE, (TASK.id,), NOW + 100, {}) == []


def test_what_was_not_asked_for_is_not_taken() -> None:
    c = catalogue()
    with pytest.raises(Refused) as unasked:
        c.on_task_reply(ONE, reply(TASK), NOW)
    assert unasked.value.reason is Refusal.NOT_EXPECTED
    c.hear_of(ONE, (TASK.id,), NOW, {})
    with pytest.raises(Refused) as another:
        c.on_task_reply(ONE, reply(make_task(steps=3)), NOW)
    assert another.value.reason is Refusal.NOT_EXPECTED
    assert c.ids() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signature": bytes(64)}, Refusal.BAD_SIGNATURE),
        ({"submitter_key": MEMBERS[2].keyring.signing.public_bytes}, Refusal.BAD_SIGNATURE),
        ({"encoding": b"\x90"}, Refusal.MALFORMED),
    ],
)
def test_a_task_that_nobody_signed(changes: dict[str, Any], reason: Refusal) -> None:
    c = catalogue()
    c.hear_of(ONE, (TASK.id,), NOW, {})
    with pytest.raises(Refused) as refused:
        c.on_task_reply(ONE, reply(TASK, **changes), NOW)
    assert refused.value.reason is reason
    assert c.ids() == []


def test_a_task_signed_for_something_else() -> None:
    key = MEMBERS[3].keyring.signing
    c = catalogue()
    with pytest.raises(Refused):
        c.adopt(SignedTask(TASK, key.public_bytes, key.sign(TASK.encode())), NOW)


def test_tasks_are_bounded() -> None:
    c = catalogue()
    for i in range(MAX_TASKS):
        c.adopt(signed(make_task(initial_seed=i + 1), OWN), NOW)
    with pytest.raises(Refused) as full:
        c.adopt(signed(TASK, OWN), NOW)
    assert full.value.reason is Refusal.BUSY
    assert c.hear_of(ONE, (TASK.id,), NOW, {}) == []
    # questions under way count, so that a flood of ids is not remembered either; one peer's leaves room for others'
    c = catalogue()
    flood = tuple(TaskId(i.to_bytes(16, "big")) for i in range(1000))
    for member in MEMBERS[: MAX_TASKS // MAX_ASKED_OF_ONE]:
        (request,) = said(c.hear_of(member.descriptor, flood, NOW, {}))
        assert len(request.tasks) == MAX_ASKED_OF_ONE
        assert c.hear_of(member.descriptor, flood, NOW, {}) == []
    assert c.hear_of(LATE, flood, NOW, {}) == []


def test_tasks_that_the_user_refuses_do_not_keep_out_those_he_agrees_to() -> None:
    application = ToyApplication(SeededEntropy("choosy"))
    application.refusal = "no"
    c = catalogue(application)
    for i in range(MAX_FOREIGN_TASKS):
        c.adopt(signed(make_task(initial_seed=i + 1), 1 + i // MAX_TASKS_OF_ONE), NOW)
    more = make_task(initial_seed=1000)
    assert said(c.hear_of(ONE, (more.id,), NOW, {})) == [TaskRequest((more.id,))]
    with pytest.raises(Refused) as full:
        c.on_task_reply(ONE, reply(more), NOW)
    assert full.value.reason is Refusal.BUSY
    assert c.hear_of(TWO, (more.id,), NOW + 100, {}) == []  # read once, and not again and again
    application.refusal = None
    c.adopt(signed(TASK), NOW)
    assert TASK.id in c.ids()


def test_a_request_is_answered_with_what_is_held() -> None:
    c = catalogue()
    c.adopt(signed(TASK), NOW)
    asked = TaskRequest((TaskId(bytes(16)), TASK.id, TASK.id))
    assert said(c.on_task_request(ONE, asked, NOW)) == [reply(TASK)]


def test_who_may_be_a_root() -> None:
    application = ToyApplication(SeededEntropy("able"))
    c = catalogue(application)
    entry, _ = c.adopt(signed(TASK), NOW)
    assert c.able(entry)
    application.closed = "on battery"
    assert not c.able(entry)
    application.closed = None
    application.fresh = Freshness.NONE
    assert not c.able(entry)
    application.fresh = Freshness.DETERMINISTIC
    assert c.able(entry)
    application.refusal = "no"
    refused, effects = c.adopt(signed(make_task(steps=3)), NOW)
    assert refused.refused == "no"
    assert not c.able(refused)
    assert isinstance(effects[1], Report)
    assert effects[1].item.refused == "no"


# --- models -------------------------------------------------------------------------------------------------------


def head(age: int, **changes: Any) -> Head:
    return replace(Head(TASK.id, age, bytes(32), 0, Lineage(b"a" * 8), 0.0), **changes)  # type: ignore[arg-type]


def held(age: int = 3) -> Catalogue:
    c = catalogue()
    c.adopt(signed(TASK), NOW)
    (work,) = [pull(c, age)]
    c.identified(work.purpose, work.job.run(), NOW)
    return c


def pull(c: Catalogue, age: int, now: float = NOW) -> Work:
    (request,) = said(c.hear_head(ONE, head(age), now))
    assert isinstance(request, ModelRequest)
    (work,) = c.on_model_reply(ONE, ModelReply(checkpoint(age)))
    assert isinstance(work, Work)
    return work


def test_a_newer_model_is_pulled() -> None:
    c = held(3)
    entry = c.get(TASK.id)
    assert entry is not None
    assert entry.walks.newest is not None
    assert entry.walks.newest.checkpoint.age == 3
    assert [h.age for h in c.heads(NOW)] == [3]
    assert said(c.hear_head(ONE, head(3), NOW + 10)) == []
    assert said(c.hear_head(ONE, head(5), NOW + 10)) == [ModelRequest(TASK.id, 4)]
    assert said(c.hear_head(TWO, head(6), NOW + 10)) == [], "one question at a time"


def test_no_model_is_asked_for_of_a_task_that_the_user_refuses() -> None:
    application = ToyApplication(SeededEntropy("choosy"))
    application.refusal = "no"
    c = catalogue(application)
    entry, _ = c.adopt(signed(TASK), NOW)
    assert c.hear_head(ONE, head(3), NOW) == []
    with pytest.raises(Refused) as unasked:
        c.on_model_reply(ONE, ModelReply(checkpoint(3)))
    assert unasked.value.reason is Refusal.NOT_EXPECTED
    assert entry.walks.newest is None


def test_what_a_head_says_of_a_walk_is_known_once_its_very_model_is_here() -> None:
    """Of several walks any may have left a newer one where the head came from."""
    task = make_task(steps=20, walks=2)
    c = catalogue()
    c.adopt(signed(task), NOW)

    def checkpoint(age: int) -> Checkpoint:
        return Checkpoint(task.id, age, state.initial_state(task, np.zeros(3, np.float32)))

    entry = c.get(task.id)
    assert entry is not None
    trace = entry.walks._trace(0)
    announced = head(5, task=task.id, digest=digest(checkpoint(5)), heard_ago_s=2.0)
    for promised, sent, age in ((announced, 6, -1), (replace(announced, age=7), 7, -1)):
        c.hear_head(ONE, promised, NOW + 10)
        (work,) = c.on_model_reply(ONE, ModelReply(checkpoint(sent)))
        assert isinstance(work, Work)
        c.identified(work.purpose, work.job.run(), NOW + 10)
        assert trace.age == age
        assert [h.lineage for h in c.heads(NOW + 10)] == [NO_LINEAGE]
    announced = head(8, task=task.id, digest=digest(checkpoint(8)), heard_ago_s=2.0)
    c.hear_head(ONE, announced, NOW + 10)
    (work,) = c.on_model_reply(ONE, ModelReply(checkpoint(8)))
    assert isinstance(work, Work)
    assert trace.age == -1
    c.identified(work.purpose, work.job.run(), NOW + 11)
    assert (trace.age, trace.lineage, trace.heard) == (8, announced.lineage, NOW + 8)
    assert [h.lineage for h in c.heads(NOW + 11)] == [announced.lineage]
    c.hear_head(ONE, head(9, task=task.id, lineage=NO_LINEAGE), NOW + 12)
    assert trace.rumoured == NOW + 8


def test_a_later_model_than_was_announced_is_of_the_only_walk() -> None:
    c = held(3)
    entry = c.get(TASK.id)
    assert entry is not None
    work = pull(c, 5)
    c.identified(work.purpose, (checkpoint(6), digest(checkpoint(6))), NOW)  # type: ignore[arg-type]
    assert (entry.walks._trace(0).age, entry.walks._trace(0).lineage) == (6, head(5).lineage)


def test_heads_of_tasks_unknown_or_outside_their_task() -> None:
    c = held(3)
    c.check_heads([head(20), head(99, task=TaskId(bytes(16)))])
    assert c.hear_head(ONE, head(9, task=TaskId(bytes(16))), NOW) == []
    for wrong in (head(21), head(4, walk=1)):
        with pytest.raises(Refused) as refused:
            c.check_heads([head(4), wrong])
        assert refused.value.reason is Refusal.MALFORMED


def test_models_that_nobody_asked_for() -> None:
    c = held(3)
    for sender, model in ((ONE, checkpoint(9)), (ONE, replace(checkpoint(9), task=TaskId(bytes(16))))):
        with pytest.raises(Refused) as refused:
            c.on_model_reply(sender, ModelReply(model))
        assert refused.value.reason is Refusal.NOT_EXPECTED
    c.hear_head(ONE, head(9), NOW + 10)
    with pytest.raises(Refused):
        c.on_model_reply(TWO, ModelReply(checkpoint(9)))
    with pytest.raises(Refused) as beyond:
        c.on_model_reply(ONE, ModelReply(checkpoint(21)))
    assert beyond.value.reason is Refusal.MALFORMED
    assert len(c.on_model_reply(ONE, ModelReply(checkpoint(9)))) == 1
    with pytest.raises(Refused):
        c.on_model_reply(ONE, ModelReply(checkpoint(9)))


def test_a_pulled_model_that_is_old_news_changes_nothing() -> None:
    c = held(3)
    c.hear_head(ONE, head(9), NOW + 10)
    (work,) = c.on_model_reply(ONE, ModelReply(checkpoint(2, 5.0)))
    assert isinstance(work, Work)
    assert c.identified(work.purpose, work.job.run(), NOW) == []
    assert [h.age for h in c.heads(NOW)] == [3]


def test_a_model_request_is_answered_if_there_is_something_new() -> None:
    c = held(3)
    assert said(c.on_model_request(ONE, ModelRequest(TASK.id, 3), NOW)) == [ModelReply(checkpoint(3))]
    assert c.on_model_request(ONE, ModelRequest(TASK.id, 4), NOW) == []
    assert c.on_model_request(ONE, ModelRequest(TaskId(bytes(16)), 0), NOW) == []
    empty = catalogue()
    empty.adopt(signed(TASK), NOW)
    assert empty.on_model_request(ONE, ModelRequest(TASK.id, 0), NOW) == []


def test_a_model_is_sent_once_until_an_honest_peer_would_ask_again() -> None:
    c = held(3)
    assert said(c.on_model_request(ONE, ModelRequest(TASK.id, 0), NOW)) == [ModelReply(checkpoint(3))]
    assert c.on_model_request(ONE, ModelRequest(TASK.id, 1), NOW + ASK_AGAIN_S - 0.1) == []
    assert len(c.on_model_request(TWO, ModelRequest(TASK.id, 0), NOW + ASK_AGAIN_S - 0.1)) == 1
    work = pull(c, 4, NOW + 0.1)
    c.identified(work.purpose, work.job.run(), NOW + 0.1)
    assert len(c.on_model_request(ONE, ModelRequest(TASK.id, 4), NOW + 0.2)) == 1, "a newer one"
    assert len(c.on_model_request(ONE, ModelRequest(TASK.id, 4), NOW + ASK_AGAIN_S)) == 1


def test_a_task_is_sent_once_until_an_honest_peer_would_ask_again() -> None:
    c = held(3)
    asked = TaskRequest((TASK.id,))
    assert len(c.on_task_request(ONE, asked, NOW)) == 1
    assert c.on_task_request(ONE, asked, NOW + ASK_AGAIN_S - 0.1) == []
    assert len(c.on_model_request(ONE, ModelRequest(TASK.id, 0), NOW)) == 1, "the task's model is something else"
    assert len(c.on_task_request(ONE, asked, NOW + ASK_AGAIN_S)) == 1


def test_answers_are_bounded_to_one_peer_and_in_all() -> None:
    answers, size = _Answers(), MAX_ANSWERS_TO_ONE // 3
    several = [TaskId(bytes([i] * 16)) for i in range(4)]
    assert [answers.allow(ONE.peer, task, 0, size, NOW) for task in several] == [True, True, True, False]
    assert not answers.allow(ONE.peer, several[3], 0, 1, NOW + 1)
    strangers = [PeerId(i.to_bytes(32, "big")) for i in range(MAX_ANSWERS // MAX_INLINE_STATE + 10)]
    in_all = sum(answers.allow(peer, TASK.id, 0, 1, NOW + 1) for peer in strangers)
    assert in_all == (MAX_ANSWERS - 3 * size) // MAX_INLINE_STATE, "small ones count, too, and are remembered"
    assert not answers.allow(TWO.peer, TASK.id, 0, 1, NOW + ASK_AGAIN_S - 0.1)
    assert answers.allow(TWO.peer, TASK.id, 0, MAX_BULK, NOW + ASK_AGAIN_S)


def test_one_peer_may_have_the_largest_model_and_every_task() -> None:
    assert MAX_ANSWERS_TO_ONE == MAX_BULK + MAX_TASKS * MAX_TASK
