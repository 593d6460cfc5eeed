"""The observer: every report counted, logged once where it may come often, and kept where people ask for it later."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peer.observe import observer as observer_module
from peer.observe.observer import Observer
from peer.storage import Storage
from protocol import reports
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import PeerId, RoundId, TaskId, text
from protocol.privacy.record import RoundRecord
from protocol.training.task import RoundKind
from protocol.wire.messages import Leave, Partial
from tests.protocol.world import make_task

TASK, ROUND, PEER = make_task(), RoundId(b"r" * 16), PeerId(b"p" * 16)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    opened = await Storage.open(tmp_path / "state.db")
    yield opened
    await opened.close()


@pytest.fixture
def observer(storage: Storage, caplog: pytest.LogCaptureFixture) -> Observer:
    caplog.set_level(logging.INFO, "susurrus")
    return Observer(storage, None)


def ended(published: bool = True, **changes: Any) -> reports.RoundEnded:
    given: dict[str, Any] = {
        "round": ROUND, "task": TASK.id, "kind": RoundKind.GRADIENT, "age": 4, "walk": 0, "started": 1.0,
        "finished": 2.5, "planned": 8, "cohort": 7 if published else 2, "published": published,
        "reason": "" if published else "fewer contributions than the minimum cohort",
        "loss": 0.5 if published else None, "accuracy": 0.75 if published else None, "min_mask_neighbours": 3,
    }  # fmt: skip
    return reports.RoundEnded(**given | changes)


async def test_a_round_that_published_is_kept_counted_and_told(
    observer: Observer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    observer.report(ended())
    assert (observer.counts.rounds_published, observer.counts.rounds_failed) == (1, 0)
    (row,) = await storage.list_rounds()
    assert (row["round"], row["task"], row["kind"]) == (text(ROUND), text(TASK.id), "gradient")
    assert (row["published"], row["cohort"], row["min_mask_neighbours"]) == (True, 7, 3)
    assert caplog.messages == [
        f"round {text(ROUND)[:8]} published: age 5, 7 of 8 contributions, loss 0.5000, accuracy 0.7500"
    ]
    assert observer.last_round == ended()


async def test_published_rounds_are_told_as_a_person_can_follow(
    observer: Observer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for now in (100.0, 101.0, 104.9, 105.0, 106.0, 110.1):
        monkeypatch.setattr(observer_module.time, "monotonic", lambda now=now: now)
        observer.report(ended())
        told.append(len(caplog.messages))
    assert told == [1, 1, 1, 2, 2, 3]
    assert observer.counts.rounds_published == 6


async def test_a_round_that_published_nothing_says_why_and_claims_no_neighbours(
    observer: Observer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    observer.report(ended(published=False))
    assert (observer.counts.rounds_published, observer.counts.rounds_failed) == (0, 1)
    (row,) = await storage.list_rounds()
    assert (row["published"], row["reason"]) == (False, "fewer contributions than the minimum cohort")
    assert row["min_mask_neighbours"] is None
    assert caplog.messages[0].endswith("at age 4 published nothing: fewer contributions than the minimum cohort")
    assert (await storage.totals())["rounds_failed"] == 1


async def test_contributions_are_counted_over_all_lives(observer: Observer, storage: Storage) -> None:
    for _ in range(3):
        observer.report(reports.Contributed(ROUND, TASK.id, 2, 3))
    assert observer.counts.contributions == 3
    assert (await storage.totals())["contributions"] == 3
    assert Observer(storage, None).counts.contributions == 0


async def test_for_whom_a_task_waits_is_said_when_it_changes_and_forgotten_when_it_goes_on(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    for missing in (2, 2, 2, 1):
        observer.report(reports.Waiting(TASK.id, missing))
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "waiting for 2 more peers",
        "waiting for 1 more peers",
    ]
    assert observer.waiting == {TASK.id: 1}
    observer.report(reports.ModelAdvanced(TASK.id, 1))
    assert observer.waiting == {}
    observer.report(reports.Waiting(TASK.id, 1))
    observer.report(ended())
    assert observer.waiting == {}


async def test_what_a_member_does_wrong_is_counted_always_and_told_once(
    observer: Observer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        observer.report(reports.MessageRefused(PEER, "partial", Refusal.OVER_CAP, ""))
        observer.not_delivered(PEER, "gossip", "nobody listens there")
        observer.refused("10.0.0.1", Refused(Refusal.MALFORMED, "envelope"))
    assert observer.counts.refused == {"OVER_CAP": 1000, "MALFORMED": 1000}
    assert observer.counts.undelivered == {"gossip": 1000}
    assert len(caplog.messages) == 3


async def test_messages_are_counted_by_kind_and_the_bytes_of_partials_apart(observer: Observer) -> None:
    partial = Partial(ROUND, 1, 3, (), bytes(8))
    for message, size in ((Leave(1), 300), (partial, 5000), (partial, 7000)):
        observer.sent(message, size)
    observer.received(partial, 5000)
    assert observer.counts.sent == {"leave": 1, "partial": 2}
    assert observer.counts.partial_bytes == 12_000
    assert observer.counts.received == {"partial": 1}


async def test_whether_this_peer_takes_part_is_told(observer: Observer, caplog: pytest.LogCaptureFixture) -> None:
    observer.report(reports.TaskAdopted(TASK, None))
    observer.report(reports.TaskAdopted(TASK, "no data is bound to its schema"))
    observer.report(reports.TaskDropped(TASK))
    assert [line.partition("): ")[2] for line in caplog.messages] == [
        "takes part",
        "does not take part: no data is bound to its schema",
        "makes room for another task",
    ]


class Shelf:
    """In the place of the recorder."""

    def __init__(self) -> None:
        self.records: list[RoundRecord] = []

    def write(self, record: RoundRecord) -> None:
        self.records.append(record)


async def test_values_reach_the_recording_and_nothing_else(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "susurrus")
    record = RoundRecord(
        round=ROUND, peer=PEER, parent=None, ancestors=(), collusion_threshold=2, modulus_bits=32, contributed=False,
        sent=False, children=(), value=b"secret", masks={}, opened={}, received={}, sent_vector=None, cohort=0,
        total=None, published=False,
    )  # fmt: skip
    shelf = Shelf()
    Observer(storage, shelf).report(reports.Recorded(record))  # type: ignore[arg-type]
    assert shelf.records == [record]
    Observer(storage, None).report(reports.Recorded(record))  # nobody asked for a recording
    assert caplog.messages == []


async def test_the_hook_hears_every_report_after_it_was_counted(observer: Observer) -> None:
    heard: list[tuple[Any, int]] = []
    observer.hook = lambda item: heard.append((item, observer.counts.rounds_published))
    items: list[reports.Item] = [
        ended(),
        reports.Abstained(ROUND, TASK.id, "no"),
        reports.Declined(ROUND, PEER, "no"),
        reports.WalkStarted(TaskId(TASK.id), 0, b"w" * 8, False),  # type: ignore[arg-type]
    ]
    for item in items:
        observer.report(item)
    assert heard == [(item, 1) for item in items]
