"""One machine, message by message: what it answers, believes, refuses to believe, and asks for."""

from dataclasses import replace

import pytest

from protocol.base.ids import PeerId
from protocol.base.limits import CLOCK_TOLERANCE_S, MAX_GOSSIP_DESCRIPTORS, MAX_INCARNATION_LEAD
from protocol.base.settings import LAN
from protocol.effects import Dial, Effect, Send
from protocol.identity.descriptor import Descriptor
from protocol.membership import Liveness, Membership
from protocol.membership.machine import LATELY_PERIODS, MAX_URGENT
from protocol.wire.messages import Gossip, GossipReply, Leave, Ping, Pong, ProbeRequest, Rumour
from tests.protocol.membership.world import START, Peer, World

NOW = START
LONG_AGO = NOW - LAN.suspicion_periods * LAN.gossip_period_s
"""Whoever was heard then is believed gone at others' word."""


class Bench:
    """One machine under test (``me``) that knows the others, and the others' descriptors."""

    def __init__(self, others: int = 6, capacity: int = LAN.view_capacity) -> None:
        self.world = World("bench")
        me, *self.others = self.world.add(others + 1)
        for peer in (me, *self.others):
            peer.sign()
        self.me = me
        self.machine = Membership(me.own, replace(LAN, view_capacity=capacity), me.entropy, self.world.verifier, NOW)
        for peer in self.others:
            self.machine.heard(peer.own, LONG_AGO)

    def gossip(self, *rumours: Rumour, raw: tuple[bytes, ...] = (), by: int = 0, now: float = NOW) -> GossipReply:
        self.machine.heard(self.others[by].own, now)
        (effect,) = self.machine.on_gossip(self.others[by].own, Gossip(1, raw, rumours, (), ()), now, (), ())
        assert isinstance(effect, Send)
        assert isinstance(effect.message, GossipReply)
        assert effect.to == self.others[by].own
        return effect.message

    def reborn(self, peer: Peer, incarnation: int, now: float = NOW) -> Descriptor:
        peer.incarnation, self.world.now = incarnation, now
        return peer.sign()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def sent(effects: list[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


# --- exchanges ------------------------------------------------------------------------------------------------


def test_gossip_is_answered_with_the_same_nonce_and_the_own_descriptor(bench: Bench) -> None:
    reply = bench.gossip()
    assert reply.nonce == 1
    assert reply.descriptors[0] == bench.me.own.raw
    assert bench.others[0].own.raw not in reply.descriptors


def test_each_period_brings_one_exchange_with_another_partner(bench: Bench) -> None:
    partners = []
    for _ in bench.others:
        now = bench.machine.next_deadline()[0]
        (send,) = sent(bench.machine.tick(max(now, NOW), (), ()))
        assert isinstance(send.message, Gossip)
        assert send.message.descriptors[0] == bench.me.own.raw
        bench.machine.on_gossip_reply(send.to, GossipReply(send.message.nonce, (), (), (), ()), max(now, NOW))
        partners.append(send.to.peer)
        assert 0.75 <= bench.machine.next_deadline()[0] - max(now, NOW) <= 1.25
    assert sorted(partners) == sorted(peer.id for peer in bench.others)


def test_heads_and_tasks_travel_as_given(bench: Bench) -> None:
    tasks = (b"t" * 16,)
    (effect,) = bench.machine.on_gossip(bench.others[0].own, Gossip(1, (), (), (), ()), NOW, (), tasks)  # type: ignore[arg-type]
    assert isinstance(effect, Send)
    assert effect.message.tasks == tasks  # type: ignore[union-attr]


def test_bad_descriptors_in_gossip_are_counted_and_the_good_ones_taken(bench: Bench) -> None:
    stranger = World("another network").add(1)[0].sign()
    newcomer = bench.world.add(1)[0].sign()
    forged = bytearray(newcomer.raw)
    forged[-1] ^= 1
    bench.gossip(raw=(b"nonsense", stranger.raw, bytes(forged), newcomer.raw))
    assert bench.machine.refused_descriptors == 3
    assert bench.machine.lookup(stranger.peer) is None
    assert bench.machine.lookup(newcomer.peer) == newcomer


def test_more_descriptors_than_allowed_are_not_looked_at(bench: Bench) -> None:
    newcomer = bench.world.add(1)[0].sign()
    bench.gossip(raw=(b"x",) * MAX_GOSSIP_DESCRIPTORS + (newcomer.raw,))
    assert bench.machine.lookup(newcomer.peer) is None


def test_news_of_a_newcomer_is_passed_on(bench: Bench) -> None:
    newcomer = bench.world.add(1)[0].sign()
    bench.machine.heard(newcomer, NOW)
    assert newcomer.raw in bench.gossip().descriptors


@pytest.mark.parametrize("capacity", [20, LAN.view_capacity])
def test_a_partial_view_swaps_newcomers_in_and_makes_no_fuss(capacity: int) -> None:
    bench = Bench(others=20, capacity=capacity)
    newcomers = [peer.sign() for peer in bench.world.add(3)]
    full = tuple(peer.own.raw for peer in bench.others[:5]) + tuple(descriptor.raw for descriptor in newcomers)
    for _ in range(40):
        bench.gossip()  # until the first news is told
    bench.gossip(raw=full)
    assert all(bench.machine.state_of(newcomer.peer) is Liveness.ALIVE for newcomer in newcomers)
    assert len(bench.machine.alive()) == min(capacity, 23)
    known = tuple(descriptor.raw for descriptor in bench.machine.alive()[:8])  # nothing to swap any more
    answers = [set(bench.gossip(raw=known).descriptors) for _ in range(10)]
    always = [newcomer for newcomer in newcomers if all(newcomer.raw in answer for answer in answers)]
    assert always == (newcomers if capacity > 20 else [])


def test_who_is_found_is_greeted_at_once_but_not_a_whole_crowd(bench: Bench) -> None:
    found = [peer.sign() for peer in bench.world.add(MAX_URGENT + 2)]
    bench.machine.tick(NOW, (), ())
    for descriptor in found:
        bench.machine.found(descriptor, NOW + 0.1)
    assert bench.machine.next_deadline() == (NOW + 0.1, "gossip")
    greeted = [send.to for send in sent(bench.machine.tick(NOW + 0.1, (), ()))]
    assert greeted == found[:MAX_URGENT]


def test_who_is_found_again_is_greeted_unless_they_talk(bench: Bench) -> None:
    talking, known = bench.others[2].own, bench.world.add(1)[0].sign()
    bench.gossip(raw=(known.raw,))
    bench.machine.tick(NOW, (), ())
    for descriptor in (known, talking):
        bench.machine.found(descriptor, NOW + 0.1)
    assert [send.to for send in sent(bench.machine.tick(NOW + 0.1, (), ()))] == [known]


def fickle_bench() -> Bench:
    """One whose machine has just met silence, of a stranger."""
    bench = Bench()
    bench.machine._reach.exchanged(answered=False)
    return bench


def test_preferred_is_who_was_heard_from_lately_while_others_are_silent() -> None:
    bench = fickle_bench()
    talking, lost, stranger = bench.others[0], bench.others[1], bench.world.add(1)[0].sign()
    bench.gossip(raw=(stranger.raw,), now=NOW + 5)
    bench.machine.heard(lost.own, NOW + 5)
    assert {talking.own, lost.own} <= set(bench.machine.preferred())
    assert stranger not in bench.machine.preferred()
    bench.machine._reach.missed(lost.id, NOW + 6)
    assert lost.own not in bench.machine.preferred()
    later = NOW + 5 + LATELY_PERIODS * LAN.gossip_period_s
    bench.machine.heard(bench.others[2].own, later - 0.1)
    assert talking.own in bench.machine.preferred()
    bench.machine.heard(bench.others[2].own, later)
    assert bench.machine.talked_with(talking.id)
    assert talking.own not in bench.machine.preferred()


def test_nobody_is_preferred_where_everybody_answers(bench: Bench) -> None:
    assert bench.machine.talked_with(bench.others[0].id)
    assert bench.machine.preferred() == []


def test_silence_makes_a_network_fickle_once_for_each_exchange_and_answers_make_it_steady_again(bench: Bench) -> None:
    target = begin_probe(bench).to.peer
    assert not bench.machine._reach.fickle
    bench.machine.send_failed(target, NOW + 0.1)
    once = bench.machine._reach._unanswered
    assert bench.machine._reach.fickle
    tick_until(bench.machine, NOW + 0.1 + 2 * LAN.probe_timeout_s)  # nor do the helpers reach it: known already
    assert bench.machine._reach._unanswered == once
    now = NOW + 2
    while bench.machine._reach.fickle:
        now = max(now, bench.machine.next_deadline()[0])
        for send in sent(bench.machine.tick(now, (), ())):
            if isinstance(send.message, Gossip):
                bench.machine.heard(send.to, now)
                bench.machine.on_gossip_reply(send.to, GossipReply(send.message.nonce, (), (), (), ()), now)
        assert now < NOW + 60


def test_exchanges_out_of_turn_say_nothing_of_the_network(bench: Bench) -> None:
    """Others choose whom this peer greets: a helper's word on the way, say, can be had for the asking."""
    bench.machine.tick(NOW, (), ())
    stranger = bench.world.add(1)[0].sign()
    bench.machine.found(stranger, NOW + 0.1)
    (greeting,) = sent(bench.machine.tick(NOW + 0.1, (), ()))
    assert (greeting.to, type(greeting.message)) == (stranger, Gossip)
    bench.machine.send_failed(stranger.peer, NOW + 0.2)
    assert bench.machine._reach._unanswered == 0.0
    bench.machine.found(stranger, NOW + 0.3)
    bench.machine._reach._unanswered = share = 0.5
    tick_until(bench.machine, NOW + 0.3)
    for send in (greeting, *sent(bench.machine.tick(NOW + 0.3, (), ()))):
        if isinstance(send.message, Gossip):
            bench.machine.on_gossip_reply(send.to, GossipReply(send.message.nonce, (), (), (), ()), NOW + 0.4)
    assert bench.machine._reach._unanswered == share


def test_companions_are_the_preferred_else_who_talks_with_this_peer_else_who_is_within_reach() -> None:
    bench = fickle_bench()
    silent, lost, talking = (bench.others[i].own for i in (0, 1, 2))
    stranger = bench.world.add(1)[0].sign()
    bench.gossip(raw=(stranger.raw,), by=2, now=NOW + 40)
    for peer in bench.others:
        if peer.own not in (silent, talking):
            bench.machine._reach.missed(peer.id, NOW + 40)
    assert bench.machine.companions() == [talking]
    assert bench.machine.companions([talking.peer]) == [silent]
    assert bench.machine.companions([talking.peer, silent.peer]) == [stranger]
    assert bench.machine.companions([talking.peer, silent.peer, stranger.peer]) == []
    bench.machine._reach.missed(talking.peer, NOW + 41)
    assert bench.machine.companions() == [silent]
    bench.machine._reach.missed(silent.peer, NOW + 42)
    assert bench.machine.companions() == [stranger]
    bench.machine._reach.missed(stranger.peer, NOW + 43)
    assert bench.machine.companions() == []
    assert lost in bench.machine.alive()


# --- rumours --------------------------------------------------------------------------------------------------


def test_rumours_about_strangers_are_not_stored(bench: Bench) -> None:
    nobody = PeerId(b"?" * 16)
    bench.gossip(Rumour(nobody, 1, Liveness.DEAD))
    assert bench.machine.state_of(nobody) is None
    assert bench.gossip(by=1).rumours == ()


def test_a_suspect_is_not_sampled_and_the_rumour_is_passed_on(bench: Bench) -> None:
    suspect = bench.others[3]
    rumour = Rumour(suspect.id, 1, Liveness.SUSPECT)
    bench.gossip(rumour)
    assert bench.machine.state_of(suspect.id) is Liveness.SUSPECT
    assert suspect.own not in bench.machine.alive()
    assert suspect.own not in bench.machine.sample(99)
    assert bench.machine.lookup(suspect.id) == suspect.own
    assert bench.gossip(by=1).rumours == (rumour,)


def test_a_suspect_that_does_not_refute_dies_and_one_that_is_heard_lives(bench: Bench) -> None:
    silent, loud = bench.others[3], bench.others[4]
    bench.gossip(Rumour(silent.id, 1, Liveness.SUSPECT), Rumour(loud.id, 1, Liveness.SUSPECT))
    tick_until(bench.machine, NOW + 1)
    bench.machine.heard(loud.own, NOW + 1)
    assert bench.machine.state_of(loud.id) is Liveness.SUSPECT  # until the term is over: others still suspect it
    end = NOW + LAN.suspicion_periods * LAN.gossip_period_s
    tick_until(bench.machine, end - 0.01)
    assert bench.machine.state_of(silent.id) is Liveness.SUSPECT
    tick_until(bench.machine, end)
    assert bench.machine.state_of(silent.id) is Liveness.DEAD
    assert bench.machine.state_of(loud.id) is Liveness.ALIVE


def test_words_of_an_earlier_incarnation_or_a_weaker_state_change_nothing(bench: Bench) -> None:
    peer = bench.others[3]
    bench.machine.heard(bench.reborn(peer, 5), LONG_AGO)
    for state in (Liveness.SUSPECT, Liveness.DEAD, Liveness.LEFT):
        bench.gossip(Rumour(peer.id, 4, state))
        assert bench.machine.state_of(peer.id) is Liveness.ALIVE
    assert peer.own.raw in bench.gossip(by=1).descriptors  # whoever said so is put right
    bench.gossip(Rumour(peer.id, 5, Liveness.LEFT))
    bench.gossip(Rumour(peer.id, 5, Liveness.DEAD), Rumour(peer.id, 6, Liveness.SUSPECT))
    assert bench.machine.state_of(peer.id) is Liveness.LEFT


@pytest.mark.parametrize(
    ("incarnation", "state"),
    [(1, 4), (1, -1), (1, 0), (2**62, Liveness.SUSPECT), (2**62, Liveness.DEAD), (2**62, Liveness.LEFT)],
)
def test_nonsense_is_ignored(bench: Bench, incarnation: int, state: int) -> None:
    bench.gossip(Rumour(bench.others[3].id, incarnation, state), Rumour(bench.me.id, incarnation, state))
    assert bench.machine.state_of(bench.others[3].id) is Liveness.ALIVE
    assert bench.machine.incarnation == 1


@pytest.mark.parametrize("base", [1, int(NOW) + 10**9])
def test_no_rumour_is_taken_that_is_further_ahead_than_its_peer_can_be(bench: Bench, base: int) -> None:
    """Ahead of the clock's seconds, from which peers start, or of where the peer is already (a clock was set back)."""
    peer, most = bench.others[3], max(base, int(NOW)) + MAX_INCARNATION_LEAD
    bench.machine.heard(bench.reborn(peer, base), LONG_AGO)
    bench.gossip(Rumour(peer.id, most + 1, Liveness.LEFT))
    assert bench.machine.state_of(peer.id) is Liveness.ALIVE
    bench.gossip(Rumour(peer.id, most, Liveness.LEFT))
    assert bench.machine.state_of(peer.id) is Liveness.LEFT
    bench.machine.heard(bench.reborn(peer, most + 1), NOW)
    assert bench.machine.state_of(peer.id) is Liveness.ALIVE


def doubted(bench: Bench, state: Liveness) -> tuple[Peer, Send]:
    """A peer heard just now of which others say this, and what is sent besides the reply."""
    peer = bench.others[3]
    bench.machine.heard(peer.own, NOW)
    said = Gossip(1, (), (Rumour(peer.id, 1, state),), (), ())
    _, question = sent(bench.machine.on_gossip(bench.others[0].own, said, NOW, (), ()))
    assert question.to == peer.own
    assert isinstance(question.message, Ping)
    return peer, question


@pytest.mark.parametrize("state", [Liveness.SUSPECT, Liveness.DEAD, Liveness.LEFT])
@pytest.mark.parametrize("how", ["silent", "undeliverable"])
def test_who_was_heard_just_now_is_asked_itself_before_others_are_believed(
    bench: Bench, state: Liveness, how: str
) -> None:
    peer, _ = doubted(bench, state)
    assert bench.machine.state_of(peer.id) is Liveness.ALIVE
    assert bench.gossip(by=1).rumours == ()
    if how == "undeliverable":
        bench.machine.send_failed(peer.id, NOW)
    else:
        tick_until(bench.machine, NOW + LAN.probe_timeout_s)
    believed = Liveness.SUSPECT if state is Liveness.DEAD else state
    assert bench.machine.state_of(peer.id) is believed
    assert bench.gossip(by=1).rumours == (Rumour(peer.id, 1, believed),)


@pytest.mark.parametrize("state", [Liveness.SUSPECT, Liveness.DEAD, Liveness.LEFT])
@pytest.mark.parametrize("answer", ["pong", "anything"])
def test_any_word_of_who_was_heard_just_now_refutes_what_others_say(bench: Bench, state: Liveness, answer: str) -> None:
    peer, question = doubted(bench, state)
    bench.machine.heard(peer.own, NOW + 0.1)
    if answer == "pong":
        bench.machine.on_pong(peer.own, Pong(question.message.nonce, peer.id), NOW + 0.1)  # type: ignore[union-attr]
        bench.machine.greet_soon(peer.id)  # and nothing stands in the way of the next exchange
        assert peer.own in [send.to for send in sent(bench.machine.tick(NOW + 0.1, (), ()))]
        bench.machine.heard(peer.own, NOW + 0.2)
    tick_until(bench.machine, NOW + LAN.probe_timeout_s)
    assert bench.machine.state_of(peer.id) is Liveness.ALIVE
    assert bench.gossip(by=1).rumours == ()


def test_what_is_said_during_an_exchange_is_believed_if_that_is_not_answered(bench: Bench) -> None:
    target = begin_probe(bench).to
    bench.machine.heard(target, NOW)
    bench.machine._detector._probes[target.peer].heard = False
    by = bench_index(bench, target.peer)
    bench.gossip(Rumour(target.peer, 1, Liveness.LEFT), by=by)
    assert bench.machine.state_of(target.peer) is Liveness.ALIVE
    tick_until(bench.machine, NOW + LAN.probe_timeout_s)
    assert bench.machine.state_of(target.peer) is Liveness.LEFT


def test_a_higher_incarnation_overrides_everything_and_an_old_descriptor_nothing(bench: Bench) -> None:
    peer = bench.others[3]
    old = peer.own
    bench.gossip(Rumour(peer.id, 1, Liveness.LEFT))
    bench.gossip(raw=(old.raw,), by=1)
    bench.machine.heard(old, NOW)
    assert bench.machine.state_of(peer.id) is Liveness.LEFT
    bench.gossip(raw=(bench.reborn(peer, 2).raw,), by=1)
    assert bench.machine.state_of(peer.id) is Liveness.ALIVE
    assert bench.gossip(by=2).rumours == ()


def test_who_passes_the_dead_on_is_told(bench: Bench) -> None:
    peer = bench.others[3]
    bench.gossip(Rumour(peer.id, 1, Liveness.LEFT))
    while bench.gossip(by=2).rumours:
        pass
    bench.gossip(raw=(peer.own.raw,), by=1)
    assert bench.gossip(by=1).rumours == (Rumour(peer.id, 1, Liveness.LEFT),)


# --- about this peer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [Liveness.SUSPECT, Liveness.DEAD, Liveness.LEFT])
def test_an_accused_peer_rises_above_the_rumour(bench: Bench, state: Liveness) -> None:
    bench.gossip(Rumour(bench.me.id, 7, state))
    assert bench.machine.incarnation == 8
    bench.gossip(Rumour(bench.me.id, 7, state))
    assert bench.machine.incarnation == 8


@pytest.mark.parametrize("base", [1, int(NOW) + 10**9])
def test_lies_lift_a_peer_by_no_more_than_twice_the_lead_in_one_message(bench: Bench, base: int) -> None:
    bench.machine.set_own(bench.reborn(bench.me, base))
    most = max(base, int(NOW)) + 2 * MAX_INCARNATION_LEAD
    bench.gossip(Rumour(bench.me.id, most + 1, Liveness.DEAD))
    assert bench.machine.incarnation == base
    bench.gossip(*[Rumour(bench.me.id, most + i, Liveness.DEAD) for i in range(5)])
    assert bench.machine.incarnation == most + 1
    bench.machine.set_own(bench.reborn(bench.me, most + 1))
    bench.gossip(Rumour(bench.me.id, most + 1, Liveness.DEAD))
    assert bench.machine.incarnation == most + 2


@pytest.mark.parametrize("base", [1, int(NOW) + 10**9])
def test_whatever_others_believe_of_a_peer_it_refutes_in_spite_of_clocks(bench: Bench, base: int) -> None:
    bench.machine.set_own(bench.reborn(bench.me, base))
    theirs = NOW + 2 * CLOCK_TOLERANCE_S
    other, liar = bench.others[:2]
    believer = Membership(other.own, LAN, other.entropy, bench.world.verifier, theirs)
    believer.heard(bench.me.own, theirs - (NOW - LONG_AGO))
    rumour = Rumour(bench.me.id, int(max(base, theirs)) + MAX_INCARNATION_LEAD, Liveness.LEFT)
    believer.on_gossip(liar.own, Gossip(1, (), (rumour,), (), ()), theirs, (), ())
    assert believer.state_of(bench.me.id) is Liveness.LEFT
    bench.gossip(rumour)
    believer.heard(bench.reborn(bench.me, bench.machine.incarnation), theirs)
    assert believer.state_of(bench.me.id) is Liveness.ALIVE


def test_a_refutation_is_passed_on_without_waiting(bench: Bench) -> None:
    bench.machine.tick(NOW, (), ())
    bench.gossip(Rumour(bench.me.id, 1, Liveness.SUSPECT), now=NOW + 0.1)
    assert bench.machine.next_deadline()[0] > NOW + 0.1
    bench.machine.set_own(bench.reborn(bench.me, 2, NOW + 0.1))
    assert bench.machine.next_deadline() == (NOW + 0.1, "gossip")
    (send,) = sent(bench.machine.tick(NOW + 0.1, (), ()))
    assert isinstance(send.message, Gossip)
    assert send.message.descriptors[0] == bench.me.own.raw


def test_whoever_has_a_newer_descriptor_of_this_peer_is_overtaken(bench: Bench) -> None:
    bench.gossip(raw=(bench.reborn(bench.me, 9).raw,))
    assert bench.machine.incarnation == 10


def test_set_own_takes_no_other_peer(bench: Bench) -> None:
    with pytest.raises(ValueError, match="own descriptor"):
        bench.machine.set_own(bench.others[0].own)


# --- probes ---------------------------------------------------------------------------------------------------


def begin_probe(bench: Bench) -> Send:
    (send,) = sent(bench.machine.tick(NOW, (), ()))
    return send


def tick_until(machine: Membership, end: float) -> list[Effect]:
    effects: list[Effect] = []
    while machine.next_deadline()[0] <= end:
        effects += machine.tick(max(NOW, machine.next_deadline()[0]), (), ())
    return effects


@pytest.mark.parametrize("failed", [False, True])
def test_silence_or_failure_makes_it_ask_others(bench: Bench, failed: bool) -> None:
    probe = begin_probe(bench)
    if failed:
        effects = bench.machine.send_failed(probe.to.peer, NOW + 0.1)
    else:
        assert bench.machine.next_deadline() == (NOW + LAN.probe_timeout_s, "probe")
        effects = bench.machine.tick(NOW + LAN.probe_timeout_s, (), ())
    requests = sent(effects)
    assert len({send.to.peer for send in requests}) == LAN.indirect_probes
    for send in requests:
        assert isinstance(send.message, ProbeRequest)
        assert send.message.target == probe.to.peer != send.to.peer
        assert send.message.descriptor == probe.to.raw
    assert bench.machine.send_failed(probe.to.peer, NOW + 0.5) == []  # once is enough


def test_no_word_from_the_others_either_makes_a_suspect(bench: Bench) -> None:
    target = begin_probe(bench).to.peer
    bench.machine.send_failed(target, NOW + 0.1)
    tick_until(bench.machine, NOW + 0.1 + 2 * LAN.probe_timeout_s)
    assert bench.machine.state_of(target) is Liveness.SUSPECT


def test_a_relayed_pong_clears_and_a_forged_one_does_not(bench: Bench) -> None:
    for honest in (True, False):
        bench = Bench()
        target = begin_probe(bench).to.peer
        requests = sent(bench.machine.send_failed(target, NOW + 0.1))
        request = requests[0].message
        assert isinstance(request, ProbeRequest)
        asked = [send.to.peer for send in requests]
        outsider = next(p.own for p in bench.others if p.id not in (*asked, target))
        bench.machine.on_pong(requests[0].to, Pong(request.nonce ^ 1, target), NOW + 0.2)
        bench.machine.on_pong(requests[0].to if honest else outsider, Pong(request.nonce, target), NOW + 0.2)
        tick_until(bench.machine, NOW + 0.1 + 2 * LAN.probe_timeout_s)
        assert bench.machine.state_of(target) is (Liveness.ALIVE if honest else Liveness.SUSPECT)


def test_with_nobody_to_ask_a_failure_is_enough() -> None:
    bench = Bench(others=1)
    target = begin_probe(bench).to.peer
    assert bench.machine.send_failed(target, NOW + 0.1) == []
    assert bench.machine.state_of(target) is Liveness.SUSPECT
    (last,) = sent(bench.machine.tick(NOW + 0.1, (), ()))  # one more try, which says so
    assert isinstance(last.message, Gossip)
    assert last.message.rumours == (Rumour(target, 1, Liveness.SUSPECT),)


def test_a_failure_outside_a_probe_starts_one(bench: Bench) -> None:
    first = begin_probe(bench).to
    other = next(p for p in bench.others if p.id != first.peer)
    assert bench.machine.send_failed(other.id, NOW + 0.1) == []
    (send,) = sent(bench.machine.tick(NOW + 0.1, (), ()))
    assert send.to == other.own
    assert isinstance(send.message, Gossip)


def test_a_probe_for_another_peer_is_relayed_both_ways(bench: Bench) -> None:
    asker, target = bench.others[0].own, bench.others[1].own
    (ping,) = sent(bench.machine.on_probe_request(asker, ProbeRequest(7, target.peer, target.raw), NOW))
    assert isinstance(ping.message, Ping)
    assert ping.to == target
    assert bench.machine.on_pong(asker, Pong(ping.message.nonce, target.peer), NOW) == []  # not the target's word
    (pong,) = sent(bench.machine.on_pong(target, Pong(ping.message.nonce, target.peer), NOW + 0.1))
    assert pong == Send(asker, Pong(7, target.peer))
    assert bench.machine.on_pong(target, Pong(ping.message.nonce, target.peer), NOW + 0.1) == []


def test_a_relay_uses_the_fresher_descriptor_and_reports_no_failure_of_its_own(bench: Bench) -> None:
    asker, target = bench.others[0].own, bench.others[1]
    old = target.own
    bench.machine.heard(bench.reborn(target, 2), NOW)
    (ping,) = sent(bench.machine.on_probe_request(asker, ProbeRequest(7, target.id, old.raw), NOW))
    assert ping.to == target.own
    bench.machine.send_failed(target.id, NOW + 0.1)
    assert bench.machine.state_of(target.id) is Liveness.ALIVE
    assert bench.machine.next_deadline() == (NOW, "gossip")  # nothing urgent beside the first period


def test_a_probe_request_must_carry_the_targets_valid_descriptor(bench: Bench) -> None:
    asker, target, other = (peer.own for peer in bench.others[:3])
    assert bench.machine.on_probe_request(asker, ProbeRequest(7, target.peer, other.raw), NOW) == []
    assert bench.machine.on_probe_request(asker, ProbeRequest(7, target.peer, b"nonsense"), NOW) == []
    assert bench.machine.on_probe_request(asker, ProbeRequest(7, bench.me.id, b""), NOW) == [
        Send(asker, Pong(7, bench.me.id))
    ]


def test_ping_is_answered(bench: Bench) -> None:
    asker = bench.others[0].own
    assert bench.machine.on_ping(asker, Ping(9), NOW) == [Send(asker, Pong(9, bench.me.id))]


def test_own_sleep_is_not_held_against_others(bench: Bench) -> None:
    target = begin_probe(bench).to.peer
    suspect = next(p.id for p in bench.others if p.id != target)
    bench.gossip(Rumour(suspect, 1, Liveness.SUSPECT), by=bench_index(bench, suspect, target))
    later = NOW + 600.0
    assert not any(isinstance(send.message, ProbeRequest) for send in sent(bench.machine.tick(later, (), ())))
    assert bench.machine.state_of(target) is Liveness.ALIVE
    assert bench.machine.state_of(suspect) is Liveness.SUSPECT


def bench_index(bench: Bench, *without: PeerId) -> int:
    return next(i for i, peer in enumerate(bench.others) if peer.id not in without)


# --- coming and going -----------------------------------------------------------------------------------------


def test_a_goodbye_is_believed_of_its_sender(bench: Bench) -> None:
    leaver = bench.others[2]
    bench.machine.heard(leaver.own, NOW)
    assert bench.machine.on_leave(leaver.own, Leave(1), NOW) == []
    assert bench.machine.state_of(leaver.id) is Liveness.LEFT
    assert bench.gossip().rumours == (Rumour(leaver.id, 1, Liveness.LEFT),)


def test_after_its_own_goodbye_it_is_silent(bench: Bench) -> None:
    effects = sent(bench.machine.leave(NOW))
    assert sorted(send.to.peer for send in effects) == sorted(peer.id for peer in bench.others)
    assert {send.message for send in effects} == {Leave(1)}
    other = bench.others[0].own
    assert bench.machine.next_deadline() == (float("inf"), "left")
    assert bench.machine.tick(NOW + 9, (), ()) == []
    assert bench.machine.on_gossip(other, Gossip(1, (), (), (), ()), NOW, (), ()) == []
    assert bench.machine.on_ping(other, Ping(1), NOW) == []
    assert bench.machine.on_probe_request(other, ProbeRequest(1, bench.me.id, b""), NOW) == []
    assert bench.machine.leave(NOW) == []


def test_alone_it_dials_at_once(bench: Bench) -> None:
    alone = Membership(bench.me.own, LAN, bench.me.entropy, bench.world.verifier, NOW)
    assert alone.next_deadline()[0] == NOW
    assert alone.tick(NOW, (), ()) == [Dial()]
    assert alone.size_estimate() == 1
    assert alone.alive() == alone.sample(3) == []


def test_what_is_saved_finds_the_network_again(bench: Bench) -> None:
    again = Membership(bench.me.own, LAN, bench.me.entropy, bench.world.verifier, NOW)
    for descriptor in bench.machine.descriptors_to_save():
        again.found(descriptor, NOW)
    assert again.alive() == bench.machine.alive()
    assert len(again.peers()) == len(bench.others)
