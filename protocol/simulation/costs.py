"""What work costs in virtual time, and the work itself: really done, or only counted.

Neighbours: ``world`` charges ``Costs`` to a peer's CPU and runs jobs through an ``Execution``; the jobs are those of
``aggregation.jobs``, ``training.update`` and the application.
Invariants: what is charged depends on sizes alone, so it is the same in both executions; a modelled job has the same
kind of result as the real one, of the same size: rounds, cohorts and models' ages come out the same.  Modelled sums
hold no numbers, so nothing can be learned from them, and nobody may conclude from them that a sum is exact.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from protocol.aggregation import jobs
from protocol.application import Contribution
from protocol.base.ids import Digest
from protocol.training import state
from protocol.training.update import Identify, Merge, Publish, Published, Sidestep
from protocol.wire.messages import Checkpoint
from protocol.work import Job


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of one peer's work.  Defaults: one core of a small server, as ``susurrus bench`` measures them."""

    message_s: float = 0.00025
    """One envelope at one end: KEM, signature, codec, HTTP."""
    message_bytes_per_s: float = 1.0e9
    """Sealing, opening and copying of bodies."""
    seed_s: float = 0.0001
    """Sealing or opening one mask seed."""
    vector_bytes_per_s: float = 2.0e9
    """Encoding, masking and adding: bytes touched."""
    contribution_s: float = 0.002
    """A local gradient, whatever its length; what follows from the length is charged as vector bytes."""

    def message(self, nbytes: int) -> float:
        """Of sending or of receiving one message."""
        return self.message_s + nbytes / self.message_bytes_per_s

    def job(self, job: Job) -> float:
        """Of one job."""
        seconds = job.cost_bytes / self.vector_bytes_per_s
        match job:
            case jobs.Absorb():
                return seconds + self.seed_s * len(job.partial.seeds[0])
            case jobs.SealSeeds():
                return seconds + self.seed_s * len(job.trustees)
            case jobs.AddOwn() | Publish() | Identify() | Merge() | Sidestep():
                return seconds
            case _:
                return seconds + self.contribution_s


class Execution(Protocol):
    """Who does a job."""

    def run(self, job: Job) -> Any:
        """The job's result; what it raises is raised."""
        ...


class Exact:
    """Does every job."""

    def run(self, job: Job) -> Any:
        """As a driver does."""
        return job.run()


class Modelled:
    """Seals and opens seeds, and does nothing that costs O(d): no gradient, no mask, no sum.  One for each world."""

    def __init__(self) -> None:
        self._published = 0
        """Sums, no two of which are the same."""

    def run(self, job: Job) -> Any:
        """A result of the real one's kind and size."""
        match job:
            case jobs.Absorb():
                job.accumulator.empty = False
                return job.open()
            case jobs.AddOwn():
                job.accumulator.empty = False
                return None
            case jobs.SealSeeds():
                return job.run()
            case Publish():
                self._published += 1
                checkpoint = _successor(job.checkpoint, 1, self._published.to_bytes(8, "little"))
                return Published(checkpoint, _digest(checkpoint), None, None)
            case Identify():
                state.view(job.task, job.checkpoint)
                return job.checkpoint, _digest(job.checkpoint)
            case Merge():
                checkpoint = _merged(job.first, job.second)
                return checkpoint, _digest(checkpoint)
            case Sidestep():
                checkpoint = _successor(job.checkpoint, 0, job.seed)
                return checkpoint, _digest(checkpoint)
            case _:
                return Contribution(())


_MARK = 32
"""Bytes by which modelled states differ; the rest is zero."""


def _successor(checkpoint: Checkpoint, steps: int, why: bytes) -> Checkpoint:
    """Another state of the same size."""
    mark = hashlib.blake2b(bytes(checkpoint.state[:_MARK]) + why, digest_size=_MARK).digest()
    size = len(checkpoint.state)
    return Checkpoint(checkpoint.task, checkpoint.age + steps, mark[:size].ljust(size, b"\0"))


def _merged(first: Checkpoint, second: Checkpoint) -> Checkpoint:
    """A model of age 0 weighs nothing beside an older one (and is all zero where worlds begin)."""
    if (first.age == 0) != (second.age == 0):
        return max(first, second, key=lambda checkpoint: checkpoint.age)
    return _successor(first, max(0, second.age - first.age), bytes(second.state[:_MARK]))


def _digest(checkpoint: Checkpoint) -> Digest:
    """As good as the real one, since modelled states differ in their marks."""
    return state.digest(Checkpoint(checkpoint.task, checkpoint.age, checkpoint.state[:_MARK]))
