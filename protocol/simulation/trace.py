"""Traces: one readable line for every step of a world, and the comparison of a run with an earlier one's.

Neighbours: ``world`` calls a tracer after every event; ``peer.laboratory`` keeps the lines in a file.
Invariants: one seed gives one trace, byte for byte; no seed, key or value stands in a line.
"""

from collections.abc import Callable, Iterator
from itertools import groupby

from protocol import effects as e
from protocol import events as v
from protocol.base.ids import PeerId, short
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.world import World
from protocol.wire.codec import kind_name
from protocol.wire.messages import Message
from protocol.work import ModelWork, Purpose, RoundWork, WalkWork


class StopHere(Exception):
    """Raised out of ``World.run`` when the step that was asked for has been reached."""


class Diverged(Exception):
    """A replayed run did something else than its trace says: the line of the trace, and that of the run (None: it had
    ended).
    """

    def __init__(self, expected: str | None, found: str | None) -> None:
        says = "the trace ends here" if expected is None else f"the trace says {expected!r}"
        does = "this run ends here" if found is None else f"this run does {found!r}"
        super().__init__(f"{says}, {does}")
        self.expected = expected
        self.found = found


class Tracer:
    """Writes lines ``step  seconds  pN  event -> effects`` and stops after ``until`` steps, if that is given."""

    def __init__(self, write: Callable[[str], None], until: int | None = None) -> None:
        self._write = write
        self._until = until

    def __call__(self, world: World, peer: SimulatedPeer, event: v.Event, effects: list[e.Effect]) -> None:
        """One step."""
        seconds = world.now - world.making.start
        what = ", ".join(_effects(world, effects))
        self._write(
            f"{world.steps:8d} {seconds:14.6f} p{peer.index} {_event(world, event)}" + (f" -> {what}" if what else "")
        )
        if self._until is not None and world.steps >= self._until:
            raise StopHere


class Comparison:
    """A ``write`` for ``Tracer`` that holds a run against an earlier trace.  Raises ``Diverged`` where they differ.

    Whoever lets the run go to its end calls ``close``: a trace that goes on is a difference too.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.last = ""
        """The line of the last step that agreed."""

    def __call__(self, line: str) -> None:
        """One line of the run."""
        expected = next(self._lines, None)
        if expected != line:
            raise Diverged(expected, line)
        self.last = line

    def close(self) -> None:
        """The run has ended."""
        expected = next(self._lines, None)
        if expected is not None:
            raise Diverged(expected, None)


def _event(world: World, event: v.Event) -> str:
    match event:
        case v.MessageReceived(sender, message):
            return f"gets {_message(message)} from {_peer(world, sender.peer)}"
        case v.SendFailed(to, message):
            return f"could not send {_message(message)} to {_peer(world, to)}"
        case v.WorkDone(purpose, _):
            return f"has done {_work(purpose)}"
        case v.WorkFailed(purpose, error):
            return f"has failed to do {_work(purpose)}: {type(error).__name__}"
        case v.TimePassed():
            return "wakes"
        case v.PeerFound(descriptor):
            return f"finds {_peer(world, descriptor.peer)}"
        case v.TaskIntroduced(task, _):
            return f"introduces task {short(task.task.id)}"
        case v.AddressesChanged(_):
            return "has new addresses"
        case v.Stopping():
            return "stops"


def _effects(world: World, effects: list[e.Effect]) -> Iterator[str]:
    for text, same in groupby(_effect(world, effect) for effect in effects):
        count = sum(1 for _ in same)
        if text:
            yield text if count == 1 else f"{count} x {text}"


def _effect(world: World, effect: e.Effect) -> str:
    match effect:
        case e.Send(to, message):
            return f"sends {_message(message)} to {_peer(world, to.peer)}"
        case e.Work(purpose, _):
            return f"begins {_work(purpose)}"
        case e.PersistRound(round_id, _):
            return f"persists round {short(round_id)}"
        case e.PersistUse():
            return "persists a use"
        case e.PersistIdentity(incarnation, _):
            return f"persists incarnation {incarnation}"
        case e.SaveCheckpoint(checkpoint):
            return f"saves model {checkpoint.age}"
        case e.SaveTask():
            return "saves a task"
        case e.DropTask():
            return "drops a task"
        case e.Report(item):
            return f"reports {type(item).__name__}"
        case e.Dial():
            return "dials"


def _message(message: Message) -> str:
    round_id = getattr(message, "round", None)
    return kind_name(message) + (f" of round {short(round_id)}" if isinstance(round_id, bytes) else "")


def _work(purpose: Purpose) -> str:
    match purpose:
        case RoundWork(round_id, step, place):
            return f"round {short(round_id)} {step}" + (f" {place}" if place >= 0 else "")
        case WalkWork(task, step, walk, lineage, retry):
            return f"walk {short(task)} {step} {walk} {short(lineage)} {retry}"
        case ModelWork(task, step, walk, lineage):
            return f"model {step} {short(task)} {walk} {short(lineage)}"


def _peer(world: World, peer: PeerId) -> str:
    return f"p{world.index_of[peer]}"
