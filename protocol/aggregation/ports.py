"""What the round machine needs of its surroundings.

Neighbours: ``node`` fills it in; ``machine``, ``inviting`` and ``combining`` read it.
Invariants: every callable is a plain read without side effect, and none of them asks the network.
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.application import Application
from protocol.base.entropy import Entropy
from protocol.base.ids import NetworkId, PeerId
from protocol.base.settings import Settings
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import Keyring


@dataclass(frozen=True, slots=True)
class Ports:
    """The surroundings of one node's rounds."""

    own: Callable[[], Descriptor]
    """This peer's current descriptor."""
    members: Callable[[], list[Descriptor]]
    """Peers believed alive and within reach, without this one, in a fixed order."""
    talked_with: Callable[[PeerId], bool]
    """Whether this peer has been heard from, and nothing to it was lost since."""
    preferred: Callable[[], list[Descriptor]]
    """Those of ``members`` with whom this peer talks that are to be asked before all others, wherever they stand: many
    others would not answer."""
    lost: Callable[[Descriptor], bool]
    """Whether the peer that had this descriptor is no longer held for alive, or has restarted since: nothing more of a
    round is to be expected of it."""
    keyring: Keyring
    network: NetworkId
    verifier: DescriptorVerifier
    settings: Settings
    entropy: Entropy
    application: Application
    link_speed: Callable[[PeerId], float | None]
    """Measured bytes per second of the link to a peer; None if unmeasured."""
    recording: bool
    """Keep what an audit needs: only ever for public data."""

    @property
    def peer(self) -> PeerId:
        """This peer's id."""
        return self.keyring.signing.peer_id

    def transfer_s(self, peer: PeerId, size: int) -> float:
        """Seconds that ``size`` bytes take to or from ``peer``, as measured or assumed."""
        speed = self.link_speed(peer) or self.settings.link_bytes_per_s
        return size / speed
