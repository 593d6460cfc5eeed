"""What a node is given once and for all: keys, membership, settings, its user's side; and what it remembers.

Neighbours: ``peer.daemon`` and simulators make both, ``node`` is made of them.
Invariants: frozen; what is remembered has been verified.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.application import Application
from protocol.base.entropy import Entropy
from protocol.base.ids import PeerId, RoundId
from protocol.base.settings import Settings
from protocol.identity.admission import Chain
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import Keyring
from protocol.training.task import SignedTask
from protocol.wire.messages import Checkpoint


@dataclass(frozen=True, slots=True)
class Restored:
    """What a peer remembers from before a restart.  ``incarnation`` is already the new, larger one."""

    incarnation: int = 1
    tasks: tuple[SignedTask, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    rounds: dict[RoundId, float] = field(default_factory=dict)
    """Rounds entered, with the time until which they must be remembered."""
    uses: frozenset[bytes] = frozenset()
    """Deterministic contributions made."""
    descriptors: tuple[Descriptor, ...] = ()
    """Peers known before; verified."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node is given once and for all."""

    keyring: Keyring
    chain: Chain
    verifier: DescriptorVerifier
    settings: Settings
    entropy: Entropy
    application: Application
    link_speed: Callable[[PeerId], float | None] = lambda _: None
    recording: bool = False
    capabilities: tuple[str, ...] = ()
