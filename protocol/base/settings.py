"""Timing and size knobs of a peer: each with its unit in its name, and its formula beside it.

Neighbours: ``peer.config`` chooses a preset and overrides fields; every machine reads its own.
Invariants: frozen; no value is negative; these are a peer's own choices, never taken from a stranger.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Settings:
    """A peer's knobs.  Presets below: ``LOCAL`` (one machine), ``LAN``, ``WAN``, ``PHONES`` (behind NAT: a connection
    takes 7 s to set up in the median, 14 s in nine cases of ten, and every second pair never gets one)."""

    gossip_period_s: float = 1.0
    """One push-pull exchange per period; doubles as the failure detector's probe."""
    probe_timeout_s: float = 0.5
    """Silence after which indirect probes start: a few round trips."""
    indirect_probes: int = 3
    suspicion_periods: int = 4
    """Suspect becomes dead after ``suspicion_periods * gossip_period_s`` without refutation."""
    view_capacity: int = 256
    """Descriptors held; a network below this holds everybody."""
    gossip_descriptors: int = 8
    """Descriptors per exchange, each way: about 3 kB with X25519 keys."""
    descriptor_lifetime_s: float = 1800.0
    """A descriptor is re-signed at half of this."""
    answer_timeout_s: float = 1.0
    """An offer without an answer for this long counts as declined: two hops and a signature or two."""
    hop_allowance_s: float = 1.0
    """How much earlier than its own deadline a parent wants its child's partial (latency and combining)."""
    round_budget_s: float = 8.0
    """Root's deadline, beyond ``hop_allowance_s`` per level and transfer times."""
    link_bytes_per_s: float = 20e6
    """Assumed speed of an unmeasured link; a vector's transfer both ways is added to budgets."""
    offer_attempts: int = 4
    """Candidates tried for one child's place."""
    walk_ack_timeout_s: float = 1.0
    revive_timeout_s: float = 4.0
    """A walk not heard of for this long (or ``revive_intervals`` of its usual steps, if longer) is taken as lost."""
    revive_intervals: float = 8.0
    root_pause_s: float = 0.0
    """Wait between receiving a walk and starting its round."""
    retry_pause_s: float = 0.25
    """Wait before a walk whose round failed is tried again."""


LAN = Settings()
LOCAL = replace(
    LAN,
    probe_timeout_s=1.0,
    answer_timeout_s=1.0,
    hop_allowance_s=0.4,
    round_budget_s=4.0,
    link_bytes_per_s=100e6,
    walk_ack_timeout_s=2.0,
    revive_timeout_s=2.0,
)
WAN = replace(
    LAN,
    gossip_period_s=5.0,
    probe_timeout_s=3.0,
    suspicion_periods=6,
    answer_timeout_s=5.0,
    hop_allowance_s=4.0,
    round_budget_s=40.0,
    link_bytes_per_s=1e6,
    walk_ack_timeout_s=10.0,
    revive_timeout_s=60.0,
    retry_pause_s=2.0,
)
PHONES = replace(
    WAN,
    gossip_period_s=10.0,
    probe_timeout_s=15.0,
    suspicion_periods=4,
    answer_timeout_s=15.0,
    hop_allowance_s=3.0,
    round_budget_s=90.0,
    walk_ack_timeout_s=20.0,
    revive_timeout_s=120.0,
)
PRESETS = {"local": LOCAL, "lan": LAN, "wan": WAN, "phones": PHONES}
