"""Members of one network at a bench: descriptors, offers signed hop by hop, and one round machine under test."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from protocol.aggregation.lineage import sign_hop
from protocol.aggregation.machine import RoundMachine
from protocol.aggregation.ports import Ports
from protocol.aggregation.shape import RING
from protocol.application import Freshness
from protocol.base.entropy import SeededEntropy
from protocol.base.ids import Lineage, NetworkId, RoundId
from protocol.base.settings import LAN
from protocol.effects import Effect, Report, Send, Work
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, DescriptorVerifier, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey
from protocol.training.state import Model, digest, initial_state
from protocol.training.task import Task
from protocol.wire.messages import Ancestor, Checkpoint, Offer
from protocol.work import RoundWork
from tests.protocol.world import ToyApplication, make_task

NOW = 1_800_000_000.0


@dataclass
class Member:
    """A peer as others know it, with its keys."""

    keyring: Keyring
    descriptor: Descriptor


@dataclass
class Bench:
    """One machine (that of ``members[0]``), everybody else by hand."""

    members: list[Member]
    network: NetworkId
    verifier: DescriptorVerifier
    task: Task
    application: ToyApplication
    machine: RoundMachine
    lost: set[bytes] = field(default_factory=set)

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.task.id, 0, initial_state(self.task, np.zeros(self.task.dimension, np.float32)))

    @property
    def model(self) -> Model:
        return Model(self.checkpoint, digest(self.checkpoint), 0, Lineage(bytes(8)))

    def lineage(self, *above: int, lower: int = 0, round_id: bytes = b"r" * 16) -> tuple[Ancestor, ...]:
        """Signed hops from the members ``above`` (nearest first, the last one the root) down to ``lower``."""
        hops, depth = [], len(above)
        for upper in above:
            signature = sign_hop(
                self.members[upper].keyring.signing, self.network, round_id, self.task.id,
                self.task.collusion_threshold, depth, self.members[lower].descriptor.peer,
            )  # fmt: skip
            hops.append(Ancestor(self.members[upper].descriptor.raw, signature))
            lower, depth = upper, depth - 1
        return tuple(hops[: self.task.collusion_threshold])

    def offer(self, *above: int, round_id: bytes = b"r" * 16, **changes: Any) -> Offer:
        """An offer to the machine's peer whose ancestors are the members ``above``, nearest first up to the root."""
        task = self.task
        offer = Offer(
            round=RoundId(round_id), task=task.id, kind=1, age=0, digest=self.model.digest,
            collusion_threshold=task.collusion_threshold, minimum_cohort=task.minimum_cohort, branching=task.branching,
            depth=len(above), cap=1, cohort_cap=8, budget_s=8.0, slice_low=0, slice_high=RING, walk=0,
            lineage=Lineage(bytes(8)), ancestors=self.lineage(*above, round_id=round_id), state=self.checkpoint.state,
        )  # fmt: skip
        return replace(offer, **changes)

    def take(self, offer: Offer, now: float = NOW, **how: Any) -> list[Effect]:
        """The machine is offered a place by its parent."""
        by_peer = {m.descriptor.raw: m.descriptor for m in self.members}
        sender = how.pop("sender", None) or by_peer[offer.ancestors[0].descriptor]
        how = {"task": self.task, "held": None, "agreed": True} | how
        return self.machine.on_offer(sender, offer, how["task"], how["held"], how["agreed"], now)

    def finish(self, effects: list[Effect], now: float = NOW) -> list[Effect]:
        """Carry out all work, and the work that follows from it; returns everything else in order."""
        done: list[Effect] = []
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            if not isinstance(effect, Work):
                done.append(effect)
                continue
            assert isinstance(effect.purpose, RoundWork)
            try:
                result = effect.job.run()
            except Exception as error:  # the driver does the same
                queue += self.machine.on_work_failed(effect.purpose, error, now)
            else:
                queue += self.machine.on_work_done(effect.purpose, result, now)
        return done


def said(effects: list[Effect]) -> list[Any]:
    """The messages sent."""
    return [effect.message for effect in effects if isinstance(effect, Send)]


def told(effects: list[Effect]) -> list[Any]:
    """The reports made."""
    return [effect.item for effect in effects if isinstance(effect, Report)]


def make_network(name: str, size: int) -> tuple[Authority, list[Member]]:
    """A network of its own."""
    entropy = SeededEntropy(name)
    authority = Authority(SigningKey(entropy.token(32)))
    token = issue_token(authority, NOW, 1e6, (), entropy, name)
    members = []
    for _ in range(size):
        keyring = Keyring(SigningKey(entropy.token(32)), KemSuite.X25519, entropy)
        keyring.rotate(NOW)
        chain = admit(token, keyring.signing.public_bytes, NOW)
        descriptor = make_descriptor(keyring, chain, addresses=["10.0.0.1:1"], incarnation=1, now=NOW, lifetime_s=1800)
        members.append(Member(keyring, descriptor))
    return authority, members


def make_bench(size: int = 8, fresh: Freshness = Freshness.FRESH, **task: Any) -> Bench:
    """``size`` members; their task is ``make_task(**task)``."""
    entropy = SeededEntropy("bench")
    authority, members = make_network("bench network", size)
    network = members[0].descriptor.chain.network
    verifier = DescriptorVerifier(authority.key.public_bytes)
    application = ToyApplication(entropy.fork("application"), fresh)
    lost: set[bytes] = set()
    ports = Ports(
        own=lambda: members[0].descriptor,
        members=lambda: [m.descriptor for m in members[1:]],
        talked_with=lambda peer: True,
        preferred=list,
        lost=lambda descriptor: descriptor.peer in lost,
        keyring=members[0].keyring,
        network=network,
        verifier=verifier,
        settings=LAN,
        entropy=entropy.fork("rounds"),
        application=application,
        link_speed=lambda _: None,
        recording=True,
    )
    machine = RoundMachine(ports, {}, set())
    return Bench(members, network, verifier, make_task(**task), application, machine, lost)
