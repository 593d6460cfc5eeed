"""The tasks a peer holds: whether its user agrees to each, its walks, and which questions about them are open.

Neighbours: ``node`` routes gossip heads, task and model messages here; ``walks`` holds what is known of one task.
Invariants: a task enters only with its submitter's valid signature, and only up to ``MAX_TASKS``, of which neither one
submitter, nor all others than this peer, nor those that its user does not agree to take more than their share; a task
goes for another only when nothing more is to come of it; models are kept only of tasks that the user agrees to, and
those of other peers' tasks never come to more than ``MAX_MODELS``; a model is asked for from one peer at a time, and
nothing is taken that was not asked for; what is sent for the asking is bounded, however often it is asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from protocol import reports
from protocol.application import Application, Freshness
from protocol.base.entropy import Entropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import NO_LINEAGE, Digest, PeerId, TaskId
from protocol.base.limits import MAX_ANSWERS, MAX_ANSWERS_TO_ONE, MAX_HEADS, MAX_INLINE_STATE, MAX_MODELS, MAX_TASKS
from protocol.base.settings import Settings
from protocol.effects import DropTask, Effect, Report, SaveTask, Send, Work
from protocol.identity.descriptor import Descriptor
from protocol.identity.keys import verify
from protocol.training import task as tasks
from protocol.training.state import Model, state_bytes
from protocol.training.task import SignedTask, Task
from protocol.training.update import Identify
from protocol.training.walks import Walks
from protocol.wire.messages import Checkpoint, Head, ModelReply, ModelRequest, TaskReply, TaskRequest
from protocol.work import ModelStep, ModelWork

MAX_FOREIGN_TASKS = MAX_TASKS // 2
"""Tasks that this peer's user does not agree to, held for others: a flood of them leaves room for the others."""
MAX_OTHERS_TASKS = MAX_TASKS - MAX_TASKS // 4
"""Tasks that others submitted: there is always room for some of this peer's own."""
MAX_TASKS_OF_ONE = MAX_TASKS // 4
"""Of them of one submitter: a flood of them leaves room for those of others."""
MAX_MODELS_OF_ONE = MAX_MODELS // 4
"""Bytes of models of one submitter's tasks, likewise."""
MAX_ASKED_OF_ONE = MAX_TASKS // 4
"""Open questions to one peer: ids that nobody can answer for leave room for questions to others."""
MAX_PASSED_OVER = 1024
"""Ids of tasks remembered as read and not held, so that they are not asked for at every exchange."""
SETTLED_S = 600.0
"""A task stays for so long at least, and one for which there was no room is not asked for again for so long: whoever
submits one after another costs this peer that much and no more."""
ASK_AGAIN_S = 3.0
"""An unanswered question for a task or a model is put again after this long (plus the model's transfer time)."""


@dataclass(slots=True)
class Entry:
    """One task held."""

    signed: SignedTask
    refused: str | None
    """Why this peer's user does not take part, or None."""
    walks: Walks
    since: float
    """When it came; of before this peer was started: long ago."""
    asked: tuple[PeerId, ModelWork] | None = None
    """Whom this peer has asked for a newer model, and what is to be done with the answer."""
    restoring: int | None = None
    """The age of the model of before a restart, which is yet to be checked and hashed."""
    introduced: Checkpoint | None = None
    """A first model that waits for that one: it is needed only if that one is none."""

    @property
    def task(self) -> Task:
        """The task itself."""
        return self.signed.task

    @property
    def done(self) -> bool:
        """Nothing more is to come of it here: the last model is held, or the user refuses it."""
        newest = self.walks.newest
        age = newest.checkpoint.age if newest is not None else self.restoring
        return self.refused is not None or age == self.task.last_age


class _Answers:
    """What was sent for the asking lately: since at most ``ASK_AGAIN_S``, so that an honest question counts once."""

    def __init__(self) -> None:
        self._until = 0.0
        self._given: set[tuple[PeerId, TaskId, int]] = set()
        self._bytes: Counter[PeerId] = Counter()
        self._bytes_in_all = 0

    def allow(self, to: PeerId, task: TaskId, age: int, size: int, now: float) -> bool:
        """Whether ``to`` may be sent a model of this age (a task: -1) and ``size`` bytes; if so it counts as sent."""
        if now >= self._until:
            self._until = now + ASK_AGAIN_S
            self._given.clear()
            self._bytes.clear()
            self._bytes_in_all = 0
        size = max(size, MAX_INLINE_STATE)  # bounds their number too
        if (
            (to, task, age) in self._given
            or self._bytes[to] + size > MAX_ANSWERS_TO_ONE
            or self._bytes_in_all + size > MAX_ANSWERS
        ):
            return False
        self._given.add((to, task, age))
        self._bytes[to] += size
        self._bytes_in_all += size
        return True


def signed_bytes(encoding: bytes) -> bytes:
    """What the submitter of a task signs."""
    return b"susurrus task submission v1\0" + encoding


class Catalogue:
    """All tasks of one peer."""

    def __init__(
        self,
        application: Application,
        entropy: Entropy,
        settings: Settings,
        own_key: bytes,
        engaged: Callable[[TaskId], bool],
        check_signature: Callable[[bytes, bytes, bytes], None] = verify,
    ) -> None:
        """``own_key``: the public key with which this peer submits; ``engaged``: whether it is in a round of a task;
        ``check_signature(public_key, signature, data)`` raises ``Refused(BAD_SIGNATURE)``."""
        self._application = application
        self._check_signature = check_signature
        self._entropy = entropy
        self._settings = settings
        self._own_key = own_key
        self._engaged = engaged
        self._entries: dict[TaskId, Entry] = {}
        self._in_order: list[Entry] = []
        self._asked_tasks: dict[TaskId, tuple[PeerId, float, int]] = {}
        self._passed_over: dict[TaskId, tuple[float, bool]] = {}
        """Until when a task is not asked for, and whether that holds although a model of it is announced."""
        self._answers = _Answers()

    def get(self, task: TaskId) -> Entry | None:
        """The entry of a task, if it is held."""
        return self._entries.get(task)

    def entries(self) -> list[Entry]:
        """All tasks held, in the order in which they came.  Not to be changed by the caller."""
        return self._in_order

    def ids(self) -> list[TaskId]:
        """Ids of all tasks held."""
        return list(self._entries)

    def heads(self, now: float) -> list[Head]:
        """The newest models held, for gossip."""
        heads = [entry.walks.head(now) for entry in self._entries.values()]
        return [head for head in heads if head is not None][:MAX_HEADS]

    def able(self, entry: Entry) -> bool:
        """Whether this peer's user, power and records allow it to contribute to a task at the moment."""
        if entry.refused is not None or self._application.gate() is not None:
            return False
        return self._application.freshness(entry.task) is not Freshness.NONE

    # --- tasks ------------------------------------------------------------------------------------------------

    def check_room(self, task: TaskId) -> None:
        """``Refused(BUSY)`` if a task is not held, and cannot be although it is this peer's own."""
        if task not in self._entries and len(self._entries) >= MAX_TASKS and not any(map(self._over, self._in_order)):
            raise Refused(Refusal.BUSY, f"{MAX_TASKS} tasks are held, and no peer holds more")

    def adopt(
        self, signed: SignedTask, now: float, *, save: bool = True, displaces: bool = False
    ) -> tuple[Entry, list[Effect]]:
        """Hold a task.  ``displaces``: tasks that are over may have to go for it.  Raises ``Refused`` for a bad
        signature or when too many are held."""
        task = signed.task
        known = self._entries.get(task.id)
        if known is not None:
            return known, []
        encoding = task.encode()
        self._check_signature(signed.submitter_key, signed.signature, signed_bytes(encoding))
        refused = self._application.accepts(task, signed.submitter_key)
        effects: list[Effect] = []
        for entry in self._in_the_way(signed, refused is not None, displaces and refused is None, now):
            effects += self._drop(entry)
        if refused is None:
            self._application.adopted(task)
        walks = Walks(task, self._entropy, self._settings, now, keeps=refused is None)
        entry = Entry(signed, refused, walks, now if save else float("-inf"))
        self._entries[task.id] = entry
        self._in_order.append(entry)
        if save:
            effects.append(SaveTask(encoding, signed.submitter_key, signed.signature))
        return entry, [*effects, Report(reports.TaskAdopted(task, refused))]

    def _in_the_way(self, signed: SignedTask, refused: bool, displaces: bool, now: float) -> list[Entry]:
        """The tasks that have to go for another: refused ones first, its own last, and of these the oldest.  Raises
        ``Refused(BUSY)``."""
        own = signed.submitter_key == self._own_key
        held, gone = list(self._in_order), []
        while (lacking := self._lacking(signed, refused, held)) is not None:
            sentence, rivals = lacking
            may_go = [e for e in rivals if displaces and self._over(e) and (own or now - e.since >= SETTLED_S)]
            if not may_go:
                # whose teller has no model of it yet may take a place once another has
                self._pass_over(signed.task.id, now + SETTLED_S, anyway=displaces or refused)
                raise Refused(Refusal.BUSY, sentence)
            gone.append(min(may_go, key=lambda e: (e.refused is None, e.signed.submitter_key == self._own_key)))
            held = [entry for entry in held if entry is not gone[-1]]
        return gone

    def _lacking(self, signed: SignedTask, refused: bool, held: list[Entry]) -> tuple[str, list[Entry]] | None:
        """What a task does not find beside those ``held``, and those of which one would have to go; None: nothing."""
        if refused and sum(entry.refused is not None for entry in held) >= MAX_FOREIGN_TASKS:
            return "too many tasks that this peer does not take part in", []
        rivals = held
        if signed.submitter_key != self._own_key:
            others = [entry for entry in held if entry.signed.submitter_key != self._own_key]
            of_one = [entry for entry in others if entry.signed.submitter_key == signed.submitter_key]
            for whose, share, most, most_bytes in (
                ("its submitter's", of_one, MAX_TASKS_OF_ONE, MAX_MODELS_OF_ONE),
                ("others'", others, MAX_OTHERS_TASKS, MAX_MODELS),
            ):
                if len(share) >= most:
                    return f"{most} of {whose} tasks are held", share
                kept = [entry for entry in share if entry.refused is None]
                size = _models_bytes(signed.task) + sum(_models_bytes(entry.task) for entry in kept)
                if not refused and size > most_bytes:
                    return f"the models of {whose} tasks would take more than {most_bytes} bytes", kept
            rivals = others
        return (f"{MAX_TASKS} tasks are held, and no peer holds more", rivals) if len(held) >= MAX_TASKS else None

    def _over(self, entry: Entry) -> bool:
        """Whether a task may go."""
        return entry.done and not entry.walks.busy and not self._engaged(entry.task.id)

    def _drop(self, entry: Entry) -> list[Effect]:
        task = entry.task
        del self._entries[task.id]
        self._in_order = [other for other in self._in_order if other is not entry]
        self._pass_over(task.id, float("inf"), anyway=True)  # others still hold it, and it is over
        return [DropTask(task.id, task.encode()), Report(reports.TaskDropped(task))]

    def _pass_over(self, task: TaskId, until: float, *, anyway: bool) -> None:
        self._passed_over.pop(task, None)
        while len(self._passed_over) >= MAX_PASSED_OVER:
            del self._passed_over[next(iter(self._passed_over))]
        self._passed_over[task] = until, anyway

    def _is_passed_over(self, task: TaskId, age: int, now: float) -> bool:
        until, anyway = self._passed_over.get(task, (now, False))
        return now < until and (anyway or age < 0)

    def hear_of(
        self, sender: Descriptor, known: tuple[TaskId, ...], now: float, ages: Mapping[TaskId, int]
    ) -> list[Effect]:
        """A peer holds these tasks: ask for those that this peer does not hold.  ``ages``: of its models of them."""
        if all(task in self._entries for task in known):
            return []
        self._asked_tasks = {t: asked for t, asked in self._asked_tasks.items() if asked[1] > now}
        of_this_one = sum(peer == sender.peer for peer, *_ in self._asked_tasks.values())
        going_on = sum(not self._over(entry) for entry in self._in_order)
        room = min(MAX_TASKS - going_on - len(self._asked_tasks), MAX_ASKED_OF_ONE - of_this_one)
        told = (self._entries, self._asked_tasks)
        unknown = [t for t in known if not any(t in ids for ids in told)]
        unknown = [t for t in unknown if not self._is_passed_over(t, ages.get(t, -1), now)]
        wanted = unknown[: max(0, room)]
        for task in wanted:
            self._asked_tasks[task] = (sender.peer, now + ASK_AGAIN_S, ages.get(task, -1))
        return [Send(sender, TaskRequest(tuple(wanted)))] if wanted else []

    def on_task_request(self, sender: Descriptor, message: TaskRequest, now: float) -> list[Effect]:
        """Send the tasks asked for, as far as they are held and the limits on answers allow."""
        found = [self._entries[t].signed for t in message.tasks if t in self._entries]
        allowed = [s for s in found if self._answers.allow(sender.peer, s.task.id, -1, len(s.task.encode()), now)]
        return [Send(sender, TaskReply(s.task.encode(), s.submitter_key, s.signature)) for s in allowed]

    def on_task_reply(self, sender: Descriptor, message: TaskReply, now: float) -> list[Effect]:
        """A task that this peer asked for."""
        task = tasks.decode(message.encoding)
        asked = self._asked_tasks.get(task.id)
        if asked is None or asked[0] != sender.peer:
            raise Refused(Refusal.NOT_EXPECTED, "task")
        del self._asked_tasks[task.id]
        signed = SignedTask(task, message.submitter_key, message.signature)
        # only for a training that is known to go on: else peers would tell each other in turn of what they dropped
        return self.adopt(signed, now, displaces=0 <= asked[2] < task.last_age)[1]

    # --- models -----------------------------------------------------------------------------------------------

    def check_heads(self, heads: Iterable[Head]) -> None:
        """Raise ``Refused(MALFORMED)`` for a head that no model of its task can have, before anything is believed."""
        for head in heads:
            entry = self._entries.get(head.task)
            if entry is not None and (head.age > entry.task.last_age or head.walk >= entry.task.walks):
                raise Refused(Refusal.MALFORMED, "head outside its task")

    def hear_head(self, sender: Descriptor, head: Head, now: float) -> list[Effect]:
        """A peer announces its newest model: a rumour, until that model is here; ask for it if it is newer."""
        entry = self._entries.get(head.task)
        if entry is None:
            return []
        task = entry.task
        seen = now - head.heard_ago_s
        entry.walks.rumoured(head.walk, head.lineage, head.age, seen)
        patience = ASK_AGAIN_S + 2 * state_bytes(task) / self._settings.link_bytes_per_s
        if not entry.walks.wants(head, sender.peer, now, patience):
            return []
        entry.asked = (sender.peer, ModelWork(task.id, "pulled", head.walk, head.lineage, head.digest, seen))
        newest = entry.walks.newest
        age = 0 if newest is None else newest.checkpoint.age + 1
        return [Send(sender, ModelRequest(task.id, age))]

    def on_model_request(self, sender: Descriptor, message: ModelRequest, now: float) -> list[Effect]:
        """Send the newest model, if it is at least of the age asked for and the limits on answers allow it."""
        entry = self._entries.get(message.task)
        newest = None if entry is None else entry.walks.newest
        if newest is None or newest.checkpoint.age < message.at_least:
            return []
        checkpoint = newest.checkpoint
        if not self._answers.allow(sender.peer, message.task, checkpoint.age, len(checkpoint.state), now):
            return []
        return [Send(sender, ModelReply(checkpoint))]

    def on_model_reply(self, sender: Descriptor, message: ModelReply) -> list[Effect]:
        """A model that this peer asked for."""
        checkpoint = message.checkpoint
        entry = self._entries.get(checkpoint.task)
        if entry is None or entry.asked is None or entry.asked[0] != sender.peer:
            raise Refused(Refusal.NOT_EXPECTED, "model")
        if checkpoint.age > entry.task.last_age:
            raise Refused(Refusal.MALFORMED, "model older than its task allows")
        _, purpose = entry.asked
        entry.asked = None
        entry.walks.answered()
        return [Work(purpose, Identify(entry.task, checkpoint))]

    def identified(self, done: ModelWork, result: tuple[Checkpoint, Digest], now: float) -> list[Effect]:
        """A model from outside has been checked and hashed."""
        entry = self._entries.get(done.task)
        if entry is None:
            return []
        checkpoint, digest = result
        model = Model(checkpoint, digest, done.walk, done.lineage)
        match done.step:
            case "introduced":
                # a newer one may have come meanwhile: its walks are not started twice
                return entry.walks.introduce(model, now) if entry.walks.newest is None else []
            case "restored":
                entry.restoring, entry.introduced = None, None
                entry.walks.restore(model)
                return []
            case "pulled":
                if digest != done.announced and entry.task.walks > 1:  # a later one, maybe of another walk
                    model = replace(model, lineage=NO_LINEAGE)
                entry.walks.heard(model.walk, model.lineage, checkpoint.age, done.seen)
                return entry.walks.offer_model(model, now)

    def not_restored(self, task: TaskId) -> list[Effect]:
        """The model of before a restart was none: one that was introduced meanwhile is needed after all."""
        entry = self._entries.get(task)
        if entry is None:
            return []
        first, entry.restoring, entry.introduced = entry.introduced, None, None
        return [] if first is None else [identify(entry.task, "introduced", first)]


def _models_bytes(task: Task) -> int:
    """What ``Walks`` keeps of a task at most."""
    return 2 * state_bytes(task)


def identify(task: Task, step: ModelStep, checkpoint: Checkpoint) -> Effect:
    """Work that checks and hashes a model of no known walk; its result goes to ``Catalogue.identified``."""
    return Work(ModelWork(task.id, step), Identify(task, checkpoint))
