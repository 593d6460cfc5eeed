"""The kind ``overhead``: what one contribution costs: in this protocol, in a plain tree sum, and in the paper's scheme.

Neighbours: ``kinds`` lists it; ``protocol.simulation`` runs the network whose messages and jobs are counted,
``paillier`` has the cost of homomorphic ciphertexts.
Invariants: those of a kind.  All systems are counted in one and the same run, message by message and job by job, so
that they differ in nothing but what they put into messages and compute:

- ``susurrus``: messages as they are; CPU as ``protocol.simulation.costs`` models it.
- ``plain tree``: the same messages, with a float32 vector in a partial and no seeds, and in an offer no ancestor but
  the sender; jobs add float32 vectors, and draw, expand and seal nothing.  Envelopes are sealed and signed as ever.
- ``homomorphic``: the plain tree's messages, but with S ciphertexts per coordinate in a partial (near the root one for
  each ancestor there is), and the paper's operations (see ``paillier``).  Nothing is packed.
- ``homomorphic, packed``: the same with as many coordinates to a ciphertext as fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from peer.laboratory import paillier
from peer.laboratory.network import scenario_problems
from protocol import reports
from protocol.aggregation import jobs
from protocol.base.ids import PeerId
from protocol.simulation import churn, scenario
from protocol.simulation.costs import Costs, Modelled
from protocol.simulation.lives import SimulatedPeer
from protocol.simulation.run import prepare
from protocol.simulation.sizes import envelope_bytes
from protocol.simulation.world import World
from protocol.training.task import Task
from protocol.wire.messages import (
    Abstain,
    Accept,
    Decline,
    Message,
    Offer,
    Parameters,
    Partial,
    Walk,
    WalkAck,
)
from protocol.work import Job

if TYPE_CHECKING:
    from peer.laboratory.kinds import Row

ROUND = (Offer, Accept, Decline, Parameters, Partial, Abstain, Walk, WalkAck)
"""Kinds of message that a round and the walk to the next root are made of."""
SYSTEMS = ("susurrus", "plain tree", "homomorphic", "homomorphic, packed")


class Overhead:
    """Parameters: those of a scenario (see ``scenario.parse``).

    Rows, one for each ``system``; all figures are per contribution in a published sum: ``messages`` and ``bytes`` of
    rounds, ``partial_bytes`` (those of them that go up the tree), ``cpu_s``, and, the same for all, ``gossip_bytes``
    (of membership in that time, and of new models' spreading) and ``cohort`` (mean).
    """

    name = "overhead"
    axes: tuple[str, ...] = ()

    def files(self, parameters: Mapping[str, Any]) -> list[str]:
        """The trace's."""
        return churn.files(parameters.get("churn"))

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes."""
        return scenario_problems(parameters, place, own=("texts",))

    def run(self, parameters: Mapping[str, Any], seed: int) -> "list[Row]":
        """One network."""
        plain = {key: value for key, value in parameters.items() if key != "texts"}
        read = scenario.parse(plain, "parameters", seed, parameters.get("texts"))
        count = Count(read.task, read.costs, {system: Tally() for system in SYSTEMS})
        run = prepare(read, seed, execution=count)
        count.begin = run.measures.begin
        run.world.observers.append(count)
        run.world.run(read.warm_up_s)
        count.counting = True
        run.world.run(read.seconds)
        return [count.row(system) for system in SYSTEMS]


@dataclass(slots=True)
class Tally:
    """What one system has cost so far."""

    bytes: int = 0
    partial_bytes: int = 0
    cpu_s: float = 0.0


@dataclass(slots=True)
class Count:
    """Observes a world, and does its jobs, modelled.  ``counting``: since the task was introduced."""

    task: Task
    costs: Costs
    systems: dict[str, Tally]
    begin: float = 0.0
    counting: bool = False
    messages: int = 0
    other_bytes: int = 0
    contributions: int = 0
    published: int = 0
    _does: Modelled = field(default_factory=Modelled)

    def run(self, job: Job) -> Any:
        """The job's modelled result."""
        if self.counting:
            for system, tally in self.systems.items():
                tally.cpu_s += self._job_s(job, system)
        return self._does.run(job)

    def sent(self, world: World, sender: SimulatedPeer, to: PeerId, message: Message, nbytes: int) -> None:
        """Count a message for every system."""
        if world.now < self.begin:
            return
        if not isinstance(message, ROUND):
            self.other_bytes += nbytes
            return
        self.messages += 1
        for system, tally in self.systems.items():
            size = nbytes if system == "susurrus" else self._bytes(message, nbytes, system)
            tally.bytes += size
            if isinstance(message, Partial):
                tally.partial_bytes += size
            tally.cpu_s += 2 * self.costs.message(size)  # at both ends

    def reported(self, world: World, peer: SimulatedPeer, item: reports.Item) -> None:
        """Count what was published."""
        if isinstance(item, reports.RoundEnded) and item.published and world.now >= self.begin:
            self.published += 1
            self.contributions += item.cohort

    def row(self, system: str) -> "Row":
        """The figures of one system, per contribution; None where nothing was published."""
        tally, n = self.systems[system], self.contributions

        def each(value: float) -> float | None:
            return value / n if n else None

        return {
            "system": system,
            "cohort": n / self.published if self.published else None,
            "messages": each(self.messages),
            "bytes": each(tally.bytes),
            "partial_bytes": each(tally.partial_bytes),
            "cpu_s": each(tally.cpu_s),
            "gossip_bytes": each(self.other_bytes),
        }

    def _bytes(self, message: Message, nbytes: int, system: str) -> int:
        """Of the counterpart of a message in a system without masks."""
        match message:
            case Offer():
                return envelope_bytes(replace(message, ancestors=message.ancestors[:1]))
            case Partial():
                bare = envelope_bytes(replace(message, seeds=tuple(() for _ in message.seeds)))
                return bare - len(message.vector) + self._vector_bytes(len(message.seeds), system)
            case _:
                return nbytes

    def _vector_bytes(self, ancestors: int, system: str) -> int:
        if system == "plain tree":
            return 4 * self.task.dimension
        return paillier.vector_bytes(self.task.dimension, ancestors, self._packed(system))

    def _job_s(self, job: Job, system: str) -> float:
        vector_s = 4 * self.task.dimension / self.costs.vector_bytes_per_s
        if system == "susurrus" or not isinstance(job, jobs.Absorb | jobs.AddOwn | jobs.SealSeeds):
            return self.costs.job(job)
        if system == "plain tree":
            return 0.0 if isinstance(job, jobs.SealSeeds) else vector_s
        primitive, each = paillier.MEASURED, -(-self.task.dimension // self._packed(system))
        match job:
            case jobs.Absorb():  # each child's ciphertexts are added to what is there
                return each * len(job.partial.seeds) * primitive.add_s
            case jobs.AddOwn():  # a share for each ancestor is encrypted for it
                return vector_s
            case _:  # and what is addressed to this node is decrypted: once, whatever it has combined
                return each * (len(job.trustees) + 1) * primitive.encrypt_s + each * primitive.decrypt_s

    def _packed(self, system: str) -> int:
        return paillier.slots(self.task.modulus_bits) if system.endswith("packed") else 1
