"""The failure detector's memory: probes under way, suspicions running out, pings made for others.

Neighbours: ``machine`` sends what this module remembers and draws the conclusions; ``view`` holds the verdicts.
Invariants: no more than one probe per target, ``MAX_PROBES`` probes, ``MAX_RELAYS`` pings for others (of them
``MAX_RELAYS_PER_ASKER`` for one asker): what exceeds a bound is not begun.  Time that this peer itself slept through
is never held against others (``postpone``).
"""

from dataclasses import dataclass

from protocol.base.entropy import Entropy
from protocol.base.ids import PeerId
from protocol.base.settings import Settings
from protocol.identity.descriptor import Descriptor
from protocol.wire.messages import Rumour

MAX_PROBES = 64
MAX_RELAYS = 256
MAX_RELAYS_PER_ASKER = 16
INDIRECT_FACTOR = 2
"""An indirect answer takes two round trips where a direct one takes one."""


@dataclass(slots=True)
class Probe:
    """One exchange whose answer proves that ``target`` is alive."""

    target: PeerId
    nonce: int
    deadline: float
    exchangeable: list[PeerId]
    """Members to be given up for those that come back."""
    in_turn: bool = False
    """It is a period's exchange: its target was chosen by nobody."""
    helpers: tuple[PeerId, ...] = ()
    """Who was asked to ping the target; empty while only the direct message is under way."""
    heard: bool = False
    """The target has sent something since, be it not the answer."""
    hearsay: Rumour | None = None
    """What others say of the target, to be believed if it is silent."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A ping on behalf of ``asker``."""

    asker: Descriptor
    asker_nonce: int
    target: PeerId
    deadline: float


def draw_nonce(entropy: Entropy) -> int:
    """63 unpredictable bits: whoever did not see the question cannot answer it."""
    return int.from_bytes(entropy.token(8), "little") >> 1


class Detector:
    """Timers by peer; see the module."""

    def __init__(self, settings: Settings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy
        self._probes: dict[PeerId, Probe] = {}
        self._suspicions: dict[PeerId, float] = {}
        self._relays: dict[int, Relay] = {}

    @property
    def suspicion_s(self) -> float:
        """How long a suspect has to refute."""
        return self._settings.suspicion_periods * self._settings.gossip_period_s

    # --- own probes ------------------------------------------------------------------------------------------

    def begin(self, target: PeerId, exchangeable: list[PeerId], now: float, *, in_turn: bool = False) -> int | None:
        """Start the direct probe; its nonce, or None if one is under way already or too many are."""
        if target in self._probes or len(self._probes) >= MAX_PROBES:
            return None
        nonce = draw_nonce(self._entropy)
        self._probes[target] = Probe(target, nonce, now + self._settings.probe_timeout_s, exchangeable, in_turn)
        return nonce

    def probe_of(self, target: PeerId) -> Probe | None:
        """The probe of ``target`` under way."""
        return self._probes.get(target)

    def ask(self, probe: Probe, helpers: tuple[PeerId, ...], now: float) -> None:
        """The direct message failed: wait for what the helpers say."""
        probe.helpers = helpers
        probe.deadline = now + INDIRECT_FACTOR * self._settings.probe_timeout_s
        self._probes[probe.target] = probe

    def answered(self, target: PeerId, nonce: int) -> Probe | None:
        """The probe that this nonce answers, which thereby ends."""
        probe = self._probes.get(target)
        if probe is None or probe.nonce != nonce:
            return None
        return self._probes.pop(target)

    def heard(self, peer: PeerId) -> None:
        """An authentic message of ``peer`` arrived: its probe cannot end in suspicion any more."""
        probe = self._probes.get(peer)
        if probe is not None:
            probe.heard = True

    def silent(self, now: float) -> list[Probe]:
        """The probes whose time is up, taken out."""
        due = [probe for probe in self._probes.values() if probe.deadline <= now]
        for probe in due:
            del self._probes[probe.target]
        return [probe for probe in due if not probe.heard]

    # --- suspicions ------------------------------------------------------------------------------------------

    def suspect(self, peer: PeerId, now: float) -> None:
        """From now the peer has ``suspicion_s`` to refute."""
        self._suspicions[peer] = now + self.suspicion_s

    def lapsed(self, now: float) -> list[PeerId]:
        """The suspects whose time is up, taken out."""
        due = [peer for peer, deadline in self._suspicions.items() if deadline <= now]
        for peer in due:
            del self._suspicions[peer]
        return due

    def forget(self, peer: PeerId) -> None:
        """No more questions about ``peer``: it is dead, gone or born again."""
        self._probes.pop(peer, None)
        self._suspicions.pop(peer, None)

    # --- pings for others ------------------------------------------------------------------------------------

    def relay(self, asker: Descriptor, asker_nonce: int, target: PeerId, now: float) -> int | None:
        """Remember to whom the target's answer goes; the nonce of the ping, or None if there is no room."""
        self._relays = {nonce: relay for nonce, relay in self._relays.items() if relay.deadline > now}
        for_asker = sum(relay.asker.peer == asker.peer for relay in self._relays.values())
        if len(self._relays) >= MAX_RELAYS or for_asker >= MAX_RELAYS_PER_ASKER:
            return None
        nonce = draw_nonce(self._entropy)
        deadline = now + INDIRECT_FACTOR * self._settings.probe_timeout_s
        self._relays[nonce] = Relay(asker, asker_nonce, target, deadline)
        return nonce

    def relayed(self, nonce: int, target: PeerId, now: float) -> Relay | None:
        """The ping that this answer of ``target`` belongs to, which thereby ends; None if it is late or unknown."""
        relay = self._relays.get(nonce)
        if relay is None or relay.target != target:
            return None
        del self._relays[nonce]
        return relay if relay.deadline > now else None

    def relaying(self, target: PeerId, now: float) -> bool:
        """Whether ``target`` is being pinged for others."""
        return any(relay.target == target and relay.deadline > now for relay in self._relays.values())

    # --- time ------------------------------------------------------------------------------------------------

    def postpone(self, by: float) -> None:
        """This peer slept for ``by`` seconds: answers may lie unread, and nobody could refute."""
        for probe in self._probes.values():
            probe.deadline += by
        self._suspicions = {peer: deadline + by for peer, deadline in self._suspicions.items()}

    def next_deadline(self) -> tuple[float, str]:
        """When to look again, and why."""
        best, why = float("inf"), "probe"
        for probe in self._probes.values():
            if probe.deadline < best:
                best = probe.deadline
        for deadline in self._suspicions.values():
            if deadline < best:
                best, why = deadline, "suspicion"
        return best, why
