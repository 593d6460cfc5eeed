"""One peer's view of a task's walks: holding, handing over, copies that die out, revival, merging, leaving."""

from collections.abc import Container
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from protocol import reports
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import Lineage, PeerId, TaskId
from protocol.base.settings import LAN
from protocol.effects import Effect, Report, SaveCheckpoint, Send, Work
from protocol.identity.descriptor import Descriptor
from protocol.training import state
from protocol.training.state import Model
from protocol.training.update import Merge, Published, Sidestep
from protocol.training.walks import LONGEST_PAUSE_S, SLOW_STEP, Held, Walks
from protocol.wire.messages import Checkpoint, Head, Walk, WalkAck
from protocol.work import WalkWork
from tests.protocol.aggregation.bench import Member, make_network
from tests.protocol.world import make_task

NOW = 1_800_000_000.0
TASK = make_task(steps=20, walks=2)
MEMBERS: list[Member] = make_network("walks", 6)[1]
OTHERS = [m.descriptor for m in MEMBERS[1:]]
A, B = Lineage(b"a" * 8), Lineage(b"b" * 8)


def others(besides: Container[PeerId] = ()) -> list[Descriptor]:
    return [d for d in OTHERS if d.peer not in besides]


def nobody(peer: Descriptor) -> bool:
    """Whether it has failed."""
    return False


def model(age: int, walk: int = 0, lineage: Lineage = A, value: float = 0.0) -> Model:
    checkpoint = Checkpoint(TASK.id, age, state.initial_state(TASK, np.full(3, value, np.float32)))
    return Model(checkpoint, state.digest(checkpoint), walk, lineage)


def walks(seed: int = 0, **held: Any) -> Walks:
    return Walks(TASK, SeededEntropy(f"walks {seed}"), LAN, NOW)


def said(effects: list[Effect]) -> list[Any]:
    return [e.message for e in effects if isinstance(e, Send)]


def arrive(w: Walks, model: Model, now: float = NOW, retry: bool = False, nonce: int = 1) -> list[Effect]:
    """A walk arrives and is identified, merged where that is due; returns every effect but work."""
    message = Walk(nonce, model.walk, model.lineage, retry, model.checkpoint)
    effects = w.on_walk(OTHERS[0], message, now)
    assert said(effects) == [WalkAck(nonce, True)]
    out, queue = [], list(effects)
    while queue:
        effect = queue.pop(0)
        if not isinstance(effect, Work):
            out.append(effect)
            continue
        assert isinstance(effect.purpose, WalkWork)
        assert effect.purpose.task == TASK.id
        if effect.purpose.step == "received":
            queue += w.identified(effect.purpose, effect.job.run(), now)
        else:
            w.merged(effect.purpose, effect.job.run(), now)
    return out


def taken(w: Walks, now: float = NOW) -> Model | None:
    held = w.take_ready(now + LAN.retry_pause_s)
    return None if held is None else held.model


# --- models -------------------------------------------------------------------------------------------------------


def test_only_a_newer_model_is_held() -> None:
    w = walks()
    first, newer = model(3), model(4, value=1.0)
    assert w.offer_model(first, NOW) == [
        SaveCheckpoint(first.checkpoint),
        Report(reports.ModelAdvanced(TASK.id, 3)),
    ]
    assert w.offer_model(model(3, value=9.0), NOW) == []
    assert w.offer_model(model(2), NOW) == []
    w.offer_model(newer, NOW)
    assert w.newest is newer
    assert w.previous is first


def test_a_newer_head_is_asked_for_once_at_a_time() -> None:
    w = walks()
    head = Head(TASK.id, 5, model(5).digest, 0, A, 0.0)
    one, two = (d.peer for d in OTHERS[:2])
    assert w.wants(head, one, NOW, 3.0)
    assert not w.wants(head, two, NOW + 2.9, 3.0)
    assert w.wants(head, two, NOW + 3.0, 3.0)
    w.offer_model(model(5), NOW)
    assert not w.wants(head, one, NOW + 100, 3.0)


def test_the_own_head_tells_how_long_the_walk_has_been_silent() -> None:
    w = walks()
    assert w.head(NOW) is None
    w.offer_model(model(5), NOW)
    w.heard(0, A, 5, NOW + 1)
    head = w.head(NOW + 4)
    assert head == Head(TASK.id, 5, model(5).digest, 0, A, 3.0)
    w.rumoured(0, A, 5, NOW + 2)
    rumoured = w.head(NOW + 4)
    assert rumoured is not None
    assert rumoured.heard_ago_s == 2.0
    ahead = w.head(NOW - 4)
    assert ahead is not None
    assert ahead.heard_ago_s == 0.0


# --- a walk that stands here ----------------------------------------------------------------------------------------


def test_a_walk_arrives_waits_and_starts() -> None:
    w = walks()
    arrive(w, model(3))
    assert w.busy
    assert w.next_deadline(True) == (NOW + LAN.root_pause_s, "round to start")
    ready = w.take_ready(NOW)
    assert ready is not None
    assert (ready.model.checkpoint.age, ready.model.walk, ready.model.lineage) == (3, 0, A)
    assert not ready.retry
    assert w.take_ready(NOW) is None
    assert not w.busy


def test_a_retry_waits_a_little() -> None:
    w = walks()
    arrive(w, model(3), retry=True)
    assert w.take_ready(NOW + LAN.retry_pause_s - 0.01) is None
    ready = w.take_ready(NOW + LAN.retry_pause_s)
    assert ready is not None
    assert ready.retry


@pytest.mark.parametrize("retry", [False, True])
def test_what_is_put_back_starts_later_and_is_no_more_of_a_retry_than_before(retry: bool) -> None:
    w = walks()
    arrive(w, model(3), retry=retry)
    ready = w.take_ready(NOW + LAN.retry_pause_s)
    assert ready is not None
    w.put_back(ready, NOW + 1)
    assert w.take_ready(NOW + 0.9) is None
    again = w.take_ready(NOW + 1)
    assert again is not None
    assert (again.model, again.retry) == (ready.model, retry)


def test_walks_that_are_postponed_start_later_and_none_is_passed_over() -> None:
    task = make_task(walks=3)
    w = Walks(task, SeededEntropy("postponed"), LAN, NOW)
    for walk in range(3):
        merged = WalkWork(TASK.id, "merged", walk, Lineage(bytes([walk]) * 8), False)
        w.merged(merged, (model(1).checkpoint, model(1).digest), NOW)
    w.postpone(NOW + 1.0)
    assert w.take_ready(NOW + 0.9) is None
    assert w.next_deadline(True)[0] == NOW + 1.0
    w.heard(0, Lineage(b"x" * 8), 5, NOW + 1.0)  # the first one's other copy is ahead: it dies out
    starting = w.take_ready(NOW + 1.0)
    assert starting is not None
    assert starting.model.walk == 1


def test_a_walk_at_its_last_age_stands_nowhere() -> None:
    w = walks()
    arrive(w, model(TASK.last_age))
    assert not w.busy
    assert w.newest is not None
    assert w.newest.checkpoint.age == TASK.last_age
    assert w.ended(model(TASK.last_age - 1), published(TASK.last_age), others, NOW) == []


def published(age: int, value: float = 2.0) -> Published:
    m = model(age, value=value)
    return Published(m.checkpoint, m.digest, 0.5, 0.5)


# --- copies -------------------------------------------------------------------------------------------------------


def test_a_copy_that_is_behind_dies_out_on_arrival_and_before_its_round() -> None:
    w = walks()
    w.heard(0, A, 7, NOW)
    arrive(w, model(6))
    assert not w.busy
    arrive(w, model(7))
    w.heard(0, A, 8, NOW)
    assert taken(w) is None
    assert not w.busy


def test_of_two_lineages_of_one_age_the_larger_goes_on() -> None:
    w = walks()
    w.heard(0, B, 7, NOW)
    arrive(w, model(7, lineage=A))
    assert not w.busy
    w = walks()
    w.heard(0, A, 7, NOW)
    arrive(w, model(7, lineage=B))
    assert w.busy


def test_a_copy_whose_round_has_begun_elsewhere_dies_out() -> None:
    """A walk that is no retry has never had a round at this age: the round heard of is that of its copy."""
    w = walks()
    w.round_begun(0, A, 7, None, NOW)
    arrive(w, model(7))
    assert not w.busy
    arrive(w, model(7), retry=True)
    assert taken(w) is not None
    w = walks()
    arrive(w, model(7))
    w.round_begun(0, A, 7, None, NOW)
    assert taken(w) is None
    w = walks()
    w.round_begun(0, A, 7, None, NOW)
    arrive(w, model(8))
    assert taken(w) is not None


def test_a_copy_ahead_that_has_fallen_silent_does_not_count() -> None:
    w = walks()
    w.heard(0, A, 9, NOW - LAN.revive_timeout_s - 1)
    arrive(w, model(6))
    assert taken(w) is not None


def test_no_copy_dies_out_for_one_whose_model_was_not_seen() -> None:
    w = walks()
    w.rumoured(0, B, 19, NOW)
    arrive(w, model(6))
    assert w.busy
    w.rumoured(0, B, 19, NOW)
    assert taken(w) is not None
    said(w.on_walk(OTHERS[0], Walk(1, 0, B, False, model(19).checkpoint), NOW))  # it turns out to be no model
    arrive(w, model(6))
    assert taken(w) is not None


def test_two_copies_that_meet_are_one() -> None:
    w = walks()
    arrive(w, model(6, value=1.0))
    arrive(w, model(6, value=2.0))
    first = taken(w)
    assert first is not None
    assert taken(w) is None
    w = walks()
    arrive(w, model(6))
    arrive(w, model(8))
    first = taken(w)
    assert first is not None
    assert first.checkpoint.age == 8
    assert not w.busy


# --- merging ------------------------------------------------------------------------------------------------------


def test_walks_of_two_indices_merge_where_they_meet() -> None:
    w = walks()
    w.offer_model(model(6, walk=1, lineage=B, value=3.0), NOW)
    arrive(w, model(3, walk=0, value=0.0))
    merged = taken(w)
    assert merged is not None
    assert (merged.checkpoint.age, merged.walk, merged.lineage) == (6, 0, A)
    np.testing.assert_allclose(state.parameters(TASK, merged.checkpoint), 3.0 * 6 / 9)


def test_a_walk_that_meets_its_own_model_goes_on_as_it_is() -> None:
    w = walks()
    w.offer_model(model(3), NOW)
    arrive(w, model(4, value=1.0))
    ready = taken(w)
    assert ready is not None
    assert ready.digest == model(4, value=1.0).digest


def test_a_retry_looks_for_another_model() -> None:
    w = walks()
    w.offer_model(model(3, value=3.0), NOW)
    w.offer_model(model(4, value=4.0), NOW)
    arrive(w, model(4, value=4.0), retry=True)  # the newest is what died: the one before will do
    ready = taken(w)
    assert ready is not None
    assert ready.digest not in (model(4, value=4.0).digest, model(3, value=3.0).digest)
    w = walks()
    arrive(w, model(4, value=4.0), retry=True)  # there is no other
    ready = taken(w)
    assert ready is not None
    assert ready.digest == model(4, value=4.0).digest


def test_a_sidestep_leads_to_another_model_of_the_same_age() -> None:
    w = walks()
    (work,) = w.sidestep(model(0))
    assert isinstance(work, Work)
    assert isinstance(work.job, Sidestep)
    assert isinstance(work.purpose, WalkWork)
    w.merged(work.purpose, work.job.run(), NOW)
    ready = taken(w)
    assert ready is not None
    assert ready.checkpoint.age == 0
    assert ready.digest != model(0).digest


# --- handing over -------------------------------------------------------------------------------------------------


def hand(w: Walks, companions: Any = others, ok: bool = True) -> Send:
    effects = w.ended(model(3), published(4) if ok else None, companions, NOW)
    (send,) = [e for e in effects if isinstance(e, Send)]
    return send


def test_after_its_round_a_walk_goes_to_a_random_live_peer() -> None:
    chosen = set()
    for seed in range(40):
        w = walks(seed)
        send = hand(w)
        assert isinstance(send.message, Walk)
        assert (send.message.checkpoint.age, send.message.retry) == (4, False)
        assert w.newest is not None
        assert w.newest.checkpoint.age == 4
        chosen.add(send.to.peer)
        assert w.on_ack(send.to, WalkAck(send.message.nonce, True), others, NOW) == []
        assert not w.busy
    assert chosen == {d.peer for d in OTHERS}


def test_after_a_failed_round_the_same_model_goes_on_as_a_retry() -> None:
    w = walks()
    send = hand(w, ok=False)
    assert isinstance(send.message, Walk)
    assert (send.message.checkpoint.age, send.message.retry) == (3, True)
    assert w.newest is None


@pytest.mark.parametrize("how", ["refused", "undeliverable", "silent"])
def test_another_is_tried_until_nobody_is_left(how: str) -> None:
    w = walks()
    send, tried, now = hand(w), [], NOW
    for _ in OTHERS:
        assert isinstance(send.message, Walk)
        tried.append(send.to.peer)
        match how:
            case "refused":
                effects = w.on_ack(send.to, WalkAck(send.message.nonce, False), others, now)
            case "undeliverable":
                effects = w.on_send_failed(send.message, others, now)
            case _:
                now, why = w.next_deadline(False)
                assert why == "answer of the next root"
                assert w.tick(others, 6, nobody, False, now - 0.01) == []
                effects = w.tick(others, 6, nobody, False, now)
        sends = [e for e in effects if isinstance(e, Send)]
        if sends:
            (send,) = sends
    assert len(set(tried)) == len(OTHERS)
    assert w.take_ready(now) is None
    ready = w.take_ready(now + LAN.retry_pause_s)  # the walk goes on here
    assert ready is not None
    assert ready.model.checkpoint.age == 4


def test_a_walk_that_nobody_takes_is_offered_to_everybody_less_and_less_often() -> None:
    w = walks()
    arrive(w, model(3))
    now, pauses = NOW, []
    for _ in range(15):
        ready = w.take_ready(now)
        assert ready is not None
        effects, begun = w.pass_on(ready, others, now), now
        for _ in OTHERS:
            (send,) = [e for e in effects if isinstance(e, Send)]
            assert isinstance(send.message, Walk)
            effects = w.on_ack(send.to, WalkAck(send.message.nonce, False), others, now)
        assert effects == []
        now = w.next_deadline(False)[0]
        pauses.append(now - begun)
    expected = [min(LAN.retry_pause_s * 2**n, LONGEST_PAUSE_S) for n in range(15)]
    assert pauses == pytest.approx(expected)
    assert pauses[-1] == LONGEST_PAUSE_S
    ready = w.take_ready(now)
    assert ready is not None
    (send,) = w.pass_on(ready, others, now)
    assert isinstance(send, Send)
    w.on_ack(send.to, WalkAck(send.message.nonce, True), others, now)  # type: ignore[union-attr]
    arrive(w, model(4), now)
    ready = w.take_ready(now)
    assert ready is not None
    assert ready.paused == 0.0


def test_answers_that_nobody_waits_for() -> None:
    w = walks()
    send = hand(w)
    assert isinstance(send.message, Walk)
    stranger = next(d for d in OTHERS if d.peer != send.to.peer)
    assert w.on_ack(stranger, WalkAck(send.message.nonce, True), others, NOW) == []
    assert w.on_ack(send.to, WalkAck(send.message.nonce + 1, True), others, NOW) == []
    assert w.busy
    assert w.on_send_failed(Walk(9, 0, A, False, model(3).checkpoint), others, NOW) == []


# --- revival ------------------------------------------------------------------------------------------------------


def revival(w: Walks, size: int, start: float) -> float:
    """When the walk 0 is revived, by following the deadlines; the other index is kept alive."""
    now = start
    while True:
        w.heard(1, B, 30, now)
        when, _ = w.next_deadline(True)
        now = max(now, when) if when != float("inf") else now + 1.0
        effects = w.tick(others, size, nobody, True, now)
        started = [e.item for e in effects if isinstance(e, Report) and isinstance(e.item, reports.WalkStarted)]
        if [s for s in started if s.walk == 0]:
            assert started[0].revived
            return now - start


def test_a_missed_walk_is_revived_at_a_rate_that_makes_one_per_timeout_over_the_network() -> None:
    waits = []
    for seed in range(300):
        w = walks(seed)
        w.offer_model(model(5), NOW)
        w.heard(0, A, 5, NOW)
        waits.append(revival(w, 10, NOW))
    timeout = LAN.revive_timeout_s
    assert min(waits) >= timeout
    # the mean of 300 exponential times of mean 10 time-outs, within four standard errors
    assert np.mean(waits) - timeout == pytest.approx(10 * timeout, rel=4 / np.sqrt(300))


def test_news_of_the_walk_calls_the_revival_off() -> None:
    w = walks()
    w.offer_model(model(5), NOW)
    for walk in (0, 1):
        w.heard(walk, A, 5, NOW)
    now = NOW + LAN.revive_timeout_s
    w.tick(others, 1, nobody, True, now)
    planned = w.next_deadline(True)
    assert planned[1] == "lost walk"
    for walk in (0, 1):
        w.heard(walk, A, 6, now)
    assert w.next_deadline(True)[0] >= now + LAN.revive_timeout_s
    assert w.tick(others, 1, nobody, True, planned[0]) == [] or planned[0] >= now + LAN.revive_timeout_s


@pytest.mark.parametrize(("lineage", "age"), [(A, 5), (B, 19)])
def test_rumours_put_a_revival_off_by_one_timeout_at_most(lineage: Lineage, age: int) -> None:
    w = walks()
    w.offer_model(model(5), NOW)
    w.heard(0, A, 5, NOW)
    missed, now = None, NOW
    while missed is None and now < NOW + 10 * LAN.revive_timeout_s:
        w.heard(1, B, 19, now)
        w.rumoured(0, lineage, age, now)
        w.tick(others, 1000, nobody, True, now)
        missed = now if w._traces[0].revive_at is not None else None
        now += 0.5
    assert missed == NOW + 2 * LAN.revive_timeout_s
    planned = w._traces[0].revive_at
    w.rumoured(0, lineage, age, now)
    assert w._traces[0].revive_at == planned
    w.heard(0, A, 6, now)  # and what was seen calls it off
    assert w._traces[0].revive_at is None


def test_a_rumour_calls_a_revival_off_while_it_counts() -> None:
    w = walks()
    w.offer_model(model(5), NOW)
    w.heard(0, A, 5, NOW)
    w.tick(others, 1000, nobody, True, NOW + LAN.revive_timeout_s)
    assert w._traces[0].revive_at is not None
    w.rumoured(0, A, 4, NOW + 3)  # what is known to be past is no news
    assert w._traces[0].revive_at is not None
    w.rumoured(0, A, 5, NOW + 3)
    assert w._traces[0].revive_at is None
    w.heard(1, B, 19, NOW + 3)
    assert w.next_deadline(True) == (NOW + 3 + LAN.revive_timeout_s, "lost walk")


def test_a_slow_walk_is_given_time() -> None:
    """Eight of its usual steps, where that is longer than the time-out."""
    w = walks()
    w.offer_model(model(5), NOW)
    for step in range(6):
        for walk in (0, 1):
            w.heard(walk, A, 5 + step, NOW + 10.0 * step)
    assert w.next_deadline(True)[0] == pytest.approx(NOW + 50 + LAN.revive_intervals * 10.0)


def test_a_long_silence_is_no_usual_step() -> None:
    w = walks()
    w.offer_model(model(5), NOW)
    for step in range(6):
        w.heard(0, A, step, NOW + step)
    w.heard(0, A, 6, NOW + 1000)
    assert w._timeout(w._traces[0]) < LAN.revive_intervals * 2.0


def test_a_long_silence_is_no_first_step_either() -> None:
    """A walk that was lost a day ago is heard of, and then of its first step after it was revived."""
    w = walks()
    w.heard(0, A, 5, NOW - 86_400)
    w.heard(0, A, 6, NOW)
    assert w._timeout(w._traces[0]) == LAN.revive_intervals * SLOW_STEP * LAN.revive_timeout_s


def test_a_revived_lineage_is_above_the_lost_one() -> None:
    """So that nobody who has not noticed yet takes the new one for a stale copy."""
    for lost, above in ((A, True), (Lineage(b"\xff" * 8), False)):
        w = walks()
        w.offer_model(model(5), NOW)
        w.heard(0, lost, 5, NOW)
        revival(w, 1, NOW)
        assert (w._held[0].model.lineage > lost) is above
        assert w._held[0].model.lineage != lost


# --- the walks of peers that fail -----------------------------------------------------------------------------------


def failure_after(w: Walks, root: Descriptor, size: int = 1000) -> tuple[float, list[Lineage]]:
    """Seconds from ``NOW`` until the walk 0 of a failed root is revived, and its lineage."""
    now = NOW
    while now < NOW + 1e6:
        w.heard(1, B, 30, now)
        w.overdue(True, now)
        effects = w.tick(others, size, lambda peer: peer is root, True, now)
        started = [e.item for e in effects if isinstance(e, Report) and isinstance(e.item, reports.WalkStarted)]
        if started:
            assert started[0].revived
            return now - NOW, [s.lineage for s in started]
        now = max(now, w.next_deadline(True)[0])
    return now - NOW, []


def handed(w: Walks, age: int = 5) -> Descriptor:
    """Whom this peer has handed walk 0 to, from a round that has published."""
    effects = w.ended(model(age - 1), published(age), others, NOW)
    (send,) = [e for e in effects if isinstance(e, Send)]
    assert isinstance(send.message, Walk)
    assert w.on_ack(send.to, WalkAck(send.message.nonce, True), others, NOW) == []
    return send.to


def invited(w: Walks, age: int = 5) -> Descriptor:
    """By whom this peer was invited as a child of the root."""
    w.offer_model(model(age), NOW)
    w.round_begun(0, A, age, OTHERS[2], NOW)
    return OTHERS[2]


@pytest.mark.parametrize("known", [handed, invited])
def test_those_who_know_of_a_failed_root_revive_its_walk_early(known: Any) -> None:
    waits = []
    for seed in range(300):
        w = walks(seed)
        wait, lineages = failure_after(w, known(w))
        assert lineages[0] > A
        waits.append(wait)
    mean = (1 + TASK.branching) * LAN.answer_timeout_s
    assert np.mean(waits) == pytest.approx(mean, rel=4 / np.sqrt(300))  # four standard errors


def test_an_answer_that_comes_when_the_walk_is_further_on_names_no_root_of_it() -> None:
    w = walks()
    send = hand(w)
    assert isinstance(send.message, Walk)
    w.heard(0, A, 5, NOW)
    w.on_ack(send.to, WalkAck(send.message.nonce, True), others, NOW)
    assert w._traces[0].root is None


def test_whoever_takes_a_walk_over_is_known_as_it_was_then() -> None:
    """It may have restarted before: that is no sign that the walk is lost with it."""
    w = walks()
    send = hand(w)
    assert isinstance(send.message, Walk)
    restarted = replace(send.to, kem_epoch=send.to.kem_epoch + 1)
    w.on_ack(restarted, WalkAck(send.message.nonce, True), others, NOW)
    assert w._traces[0].root is restarted


def test_who_is_known_to_have_failed_is_not_looked_after() -> None:
    w = walks()
    root = invited(w)
    w.heard(1, B, 30, NOW)
    w.tick(others, 1000, lambda peer: peer is root, True, NOW)
    assert w.overdue(True, NOW + LAN.walk_ack_timeout_s) == []
    assert w.next_deadline(True)[1] == "lost walk"


def test_an_early_revival_is_called_off_when_the_root_is_alive_after_all() -> None:
    w = walks()
    root = handed(w)
    w.heard(1, B, 30, NOW)
    w.tick(others, 1000, lambda peer: peer is root, True, NOW)
    assert w.next_deadline(True)[0] < NOW + 1000
    assert w.tick(others, 1000, nobody, True, NOW) == []
    assert w.overdue(True, NOW) == []
    assert w._traces[0].revive_at is None
    assert w.next_deadline(True) == (NOW + LAN.walk_ack_timeout_s, "slow root")


def test_news_from_before_a_root_failed_does_not_call_its_revival_off() -> None:
    """Those further down its tree have heard of its round later."""
    w = walks()
    root = invited(w)
    w.tick(others, 1000, lambda peer: peer is root, True, NOW + 1)
    planned = w._traces[0].revive_at
    assert planned is not None
    w.heard(0, A, 5, NOW + 0.5)
    w.rumoured(0, B, 19, NOW + 1)
    assert w._traces[0].revive_at == planned
    w.heard(0, A, 6, NOW + 2)
    assert w._traces[0].revive_at is None


@pytest.mark.parametrize("news", ["older than its model", "a later step", "a copy of it", "it is here"])
def test_whoever_holds_another_model_of_the_walk_is_no_concern(news: str) -> None:
    w = walks()
    if news == "older than its model":
        w.heard(0, A, 6, NOW)
    root = invited(w)
    match news:
        case "a later step":
            w.heard(0, A, 6, NOW)
        case "a copy of it":
            w.heard(0, B, 5, NOW)
        case "it is here":
            arrive(w, model(5), retry=True)
            assert taken(w) is not None
        case _:
            pass
    w.heard(1, B, 30, NOW)
    w.tick(others, 1000, lambda peer: peer is root, True, NOW + 0.1)
    assert not w._traces[0].orphaned
    assert w.overdue(True, NOW + 100) == []


def test_a_slow_root_is_looked_after_less_and_less_often() -> None:
    w = walks()
    root = invited(w)
    looks = []
    for tenth in range(400):
        now = NOW + tenth / 10
        for peer in w.overdue(True, now):
            assert peer == root.peer
            looks.append(now - NOW)
    assert looks == pytest.approx([LAN.walk_ack_timeout_s * 2**n for n in range(len(looks))])
    assert len(looks) > 4
    w.heard(0, A, 5, NOW + 100.0)  # somebody has heard of it later: the silence begins there
    assert w.overdue(True, NOW + 100.5) == []
    assert w._traces[0].look_at == NOW + 100 + LAN.walk_ack_timeout_s
    w = walks()
    root = invited(w)
    for step in range(6):
        w.heard(0, A, 6 + step, NOW + 40 + 3.0 * step)
    w.round_begun(0, A, 11, root, NOW + 55)
    late = SLOW_STEP * w._traces[0].interval
    assert w._traces[0].look_at == NOW + 55 + late
    assert late > LAN.walk_ack_timeout_s


@pytest.mark.parametrize("why", ["unable", "finished", "no model", "handing"])
def test_who_looks_after_nobody(why: str) -> None:
    w = walks()
    if why != "no model":
        w.offer_model(model(TASK.last_age if why == "finished" else 5), NOW)
    w.round_begun(0, A, 5, OTHERS[2], NOW)
    if why == "handing":
        w.ended(model(5), None, others, NOW)
    w.heard(1, B, 30, NOW + 1e6)
    assert w.overdue(why != "unable", NOW + 10) == []
    assert w.next_deadline(why != "unable")[1] != "slow root"


@pytest.mark.parametrize("why", ["unable", "finished", "no model", "standing", "handing"])
def test_who_does_not_revive(why: str) -> None:
    w = walks()
    if why != "no model":
        w.offer_model(model(TASK.last_age if why == "finished" else 5), NOW)
    w.heard(1, B, 30, NOW + 1e6)
    if why == "standing":
        w.put_back(Held(model(5), NOW), NOW + 2e6)
    if why == "handing":
        w.ended(model(5), None, others, NOW)
        for h in w._handing.values():
            h.ack_by = NOW + 2e6
    effects = []
    for at in range(0, 100_000, 500):
        effects += w.tick(others, 6, nobody, why != "unable", NOW + at)
    assert not [e for e in effects if isinstance(e, Report)], why


def test_every_walk_of_a_new_task_starts_where_it_is_introduced() -> None:
    w = walks()
    effects = w.introduce(model(0), NOW)
    started = [e.item for e in effects if isinstance(e, Report) and isinstance(e.item, reports.WalkStarted)]
    assert [s.walk for s in started] == [0, 1]
    assert not any(s.revived for s in started)
    assert len({s.lineage for s in started}) == 2
    assert {h.model.walk for h in (w.take_ready(NOW), w.take_ready(NOW)) if h} == {0, 1}


# --- leaving ------------------------------------------------------------------------------------------------------


def test_leaving_hands_over_what_stands_here_and_what_comes_to_stand_here() -> None:
    w = walks()
    arrive(w, model(3))
    (send,) = w.leave(others, NOW)
    assert isinstance(send, Send)
    assert isinstance(send.message, Walk)
    assert send.message.checkpoint.age == 3
    w.on_ack(send.to, WalkAck(send.message.nonce, True), others, NOW)
    assert not w.busy
    arrive(w, model(5, walk=1, lineage=B))  # it was on its way when this peer began to leave
    assert w.busy
    assert [type(message) for message in said(w.tick(others, 6, nobody, False, NOW))] == [Walk]


def test_leaving_with_nobody_to_hand_over_to_is_not_waited_for() -> None:
    w = walks()
    arrive(w, model(3))
    assert w.leave(lambda besides: [], NOW) == []
    assert not w.busy
    assert w.next_deadline(False)[0] == float("inf")
    w = walks()
    arrive(w, model(3))
    effects = w.leave(lambda besides: others(besides)[:1], NOW)
    assert w.on_send_failed(said(effects)[0], lambda besides: [], NOW) == []
    assert not w.busy


def test_the_merge_job_is_of_this_task() -> None:
    w = walks()
    w.offer_model(model(6, walk=1, lineage=B, value=3.0), NOW)
    message = Walk(1, 0, A, False, model(3).checkpoint)
    (_, identify) = w.on_walk(OTHERS[0], message, NOW)
    assert isinstance(identify, Work)
    assert isinstance(identify.purpose, WalkWork)
    effects = w.identified(identify.purpose, identify.job.run(), NOW)
    (merge,) = [e for e in effects if isinstance(e, Work)]
    assert isinstance(merge.job, Merge)
    assert merge.job.task.id == TaskId(TASK.id)
    assert merge.purpose == WalkWork(TASK.id, "merged", 0, A, False)
