"""From gathered partials to one partial sent, or a total published: the order of a round's work.

Neighbours: ``machine`` calls it whenever something has changed; ``jobs`` and ``training.update`` do the arithmetic.
Invariants: one job per round at a time, so the accumulator has one writer; the guard is asked on the frozen set, right
before combining; what a contribution uses up is persisted before the send.
"""

from protocol import reports
from protocol.aggregation import jobs, seeds
from protocol.aggregation.phases import AbstainReason, Phase, Place, advance
from protocol.aggregation.ports import Ports
from protocol.aggregation.round import Round
from protocol.application import Contribution
from protocol.effects import Effect, PersistUse, Report, Send, Work
from protocol.masking import masks
from protocol.privacy.guard import may_publish
from protocol.training.update import Publish, Published
from protocol.wire.messages import Abstain, Partial, SealedSeed
from protocol.work import Job, RoundStep, RoundWork


def work(state: Round, step: RoundStep, job: Job, place: int = -1) -> Work:
    """A job of this round; ``place`` is the index of the child it is about."""
    purpose = RoundWork(state.id, step, place)
    state.outstanding.add(purpose)
    return Work(purpose, job)


def enqueue(state: Round, step: RoundStep, job: Job, place: int = -1) -> list[Effect]:
    """Put a job that touches the accumulator in line."""
    state.jobs.append((step, place, job))
    return pump(state)


def pump(state: Round) -> list[Effect]:
    """Start the next job in line, if none is under way."""
    if state.busy or not state.jobs:
        return []
    step, place, job = state.jobs.popleft()
    state.busy = True
    return [work(state, step, job, place)]


def absorb(ports: Ports, state: Round, place: int, partial: Partial) -> list[Effect]:
    """A child's partial has arrived and fits: open its seeds and add it."""
    child = state.children[place]
    child.place = advance(child.place, Place.ABSORBING)
    child.cohort, child.min_neighbours, child.seeds = partial.cohort, partial.min_neighbours, partial.seeds
    if state.recording is not None and child.peer is not None:
        state.recording.received[child.peer.peer] = partial.vector
    job = jobs.Absorb(state.sum(), partial, state.encoding, ports.keyring, ports.network)
    return enqueue(state, "absorb", job, place)


def absorbed(state: Round, place: int, opened: jobs.Opened | None) -> None:
    """Absorbing has ended; None: a seed did not open and nothing was added."""
    child = state.children[place]
    state.busy = False
    if opened is None:
        child.place, child.cohort = advance(child.place, Place.GONE), 0
        return
    child.place, child.opened = advance(child.place, Place.DELIVERED), len(opened.seeds)
    if state.recording is not None:
        state.recording.opened.update(opened.seeds)


def contributed(ports: Ports, state: Round, contribution: Contribution) -> list[Effect]:
    """The own contribution is computed: add it, at once under its masks, so that nothing waits for them later."""
    state.masks = tuple(masks.draw(ports.entropy, len(state.trustees)))
    job = jobs.AddOwn(
        state.sum(),
        contribution.values,
        state.encoding,
        ports.entropy.token(masks.SEED_BYTES),
        state.masks,
        state.recording is not None,
    )
    return enqueue(state, "own", job)


def settle(ports: Ports, state: Round, now: float) -> tuple[list[Effect], AbstainReason | None]:
    """Combine if everything is here (or the deadline has passed); or say why this node must abstain."""
    if state.phase is not Phase.GATHERING:
        return [], None
    if state.closing:
        for child in state.children:
            if child.place in (Place.EMPTY, Place.CALLING, Place.JOINED):
                child.place = advance(child.place, Place.GONE)
    if state.busy or state.jobs or not all(child.settled for child in state.children):
        return [], None
    # the set is complete whatever the own contribution does: whoever waits for this node hears at once
    if not state.allowed:
        return [], AbstainReason.TOO_FEW_NEIGHBOURS
    if state.parent is None and not may_publish(True, state.cohort, state.task.minimum_cohort):
        return [], AbstainReason.COHORT_TOO_SMALL
    if not state.own_added:
        if not state.closing:
            return [], None
        return [], AbstainReason.NO_PARAMETERS if state.checkpoint is None else AbstainReason.NO_CONTRIBUTION
    state.phase = advance(state.phase, Phase.COMBINING)
    if state.parent is None:
        return _publish(state), None
    if state.recording is not None:
        state.recording.masks.update({t.peer: seed for t, seed in zip(state.trustees, state.masks, strict=True)})
    job = jobs.SealSeeds(ports.keyring, ports.network, state.id, ports.peer, state.trustees, state.masks)
    return [work(state, "seal", job)], None


def _publish(state: Round) -> list[Effect]:
    assert state.checkpoint is not None, "a root holds its model"
    total = state.vector()
    job = Publish(state.task, state.kind, state.checkpoint, state.encoding, total, state.cohort)
    return [work(state, "publish", job)]


def remember(state: Round) -> list[Effect]:
    """What must be durable before a contribution is seen outside; the round itself is since it was entered."""
    return [PersistUse(state.uses)] if state.uses else []


def sealed(ports: Ports, state: Round, own: tuple[SealedSeed, ...], now: float) -> list[Effect]:
    """Everything is in the vector, and the own seeds are sealed: persist, record, send the partial."""
    assert state.parent is not None, "a root has no one to send to"
    state.phase = advance(state.phase, Phase.SENT)
    vector = state.vector().data.cast("B")
    reach = min(state.depth, state.threshold)
    groups = seeds.forwarded([child.seeds for child in state.delivered], list(own), reach)
    partial = Partial(state.id, state.cohort, state.min_neighbours, groups, vector)
    effects = remember(state)
    if state.recording is not None:
        record = state.record(ports.peer, sent=bytes(vector), total=None, published=False)
        effects.append(Report(reports.Recorded(record)))
    effects.append(Send(state.parent, partial, ttl_s=max(1.0, state.deadline - now + ports.settings.hop_allowance_s)))
    effects.append(Report(reports.Contributed(state.id, state.task.id, state.cohort, state.neighbours)))
    return effects


def published(ports: Ports, state: Round, result: Published | None, now: float) -> list[Effect]:
    """The root's last job has ended; None: the sum cannot be right and the model stays as it was."""
    state.phase = advance(state.phase, Phase.ABSTAINED if result is None else Phase.PUBLISHED)
    effects = remember(state)
    if state.recording is not None:
        total = state.vector().tobytes()
        record = state.record(ports.peer, sent=None, total=total, published=result is not None)
        effects.append(Report(reports.Recorded(record)))
    reason = "" if result is not None else AbstainReason.SUM_REJECTED.sentence
    effects.append(Report(ended(state, result, reason, now)))
    return effects


def abstain(ports: Ports, state: Round, reason: AbstainReason, now: float) -> list[Effect]:
    """Send nothing of this round, and say so at once, so that nobody waits."""
    state.phase = advance(state.phase, Phase.ABSTAINED)
    effects: list[Effect] = []
    if state.recording is not None:
        record = state.record(ports.peer, sent=None, total=None, published=False)
        effects.append(Report(reports.Recorded(record)))
    if state.parent is None:
        effects.append(Report(ended(state, None, reason.sentence, now)))
        return effects
    effects.append(Report(reports.Abstained(state.id, state.task.id, reason.sentence)))
    if reason is not AbstainReason.PARENT_LOST:
        effects.append(Send(state.parent, Abstain(state.id, int(reason)), ttl_s=ports.settings.round_budget_s))
    return effects


def ended(state: Round, result: Published | None, reason: str, now: float) -> reports.RoundEnded:
    """The root's report."""
    return reports.RoundEnded(
        round=state.id,
        task=state.task.id,
        kind=state.kind,
        age=state.age,
        walk=state.walk,
        started=state.started,
        finished=now,
        planned=state.cohort_cap,
        cohort=state.cohort,
        published=result is not None,
        reason=reason,
        loss=None if result is None else result.loss,
        accuracy=None if result is None else result.accuracy,
        min_mask_neighbours=state.min_neighbours,
    )
