"""What one peer did, held and saw in one round: the line that an audit reads.

Neighbours: the round machine fills one when the task's data is public and recording is asked for; ``peer.audit``
writes it as one JSON line and checks it.
Invariants: frozen; it holds values and seeds in the clear, so it exists for public data only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.base.ids import PeerId, RoundId
from protocol.wire.messages import Buffer


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One peer's part in one round.  Vectors are little-endian ring words of ``modulus_bits``; seeds are 32 bytes."""

    round: RoundId
    peer: PeerId
    parent: PeerId | None
    """``None`` at the root."""
    ancestors: tuple[PeerId, ...]
    """Nearest first, up to S; empty at the root."""
    collusion_threshold: int
    modulus_bits: int
    contributed: bool
    """The peer's value and masks are in ``sent_vector`` (at the root: in ``total``)."""
    sent: bool
    """A partial left for the parent (or is about to); always false at the root."""
    children: tuple[PeerId, ...]
    """Whose partials were combined: the frozen set."""
    value: Buffer | None = field(repr=False)
    """Its own encoded contribution, before masks."""
    masks: Mapping[PeerId, Buffer] = field(repr=False)
    """Trustee -> seed: the seeds it drew, one for each ancestor from the second to the S-th."""
    opened: Mapping[PeerId, Buffer] = field(repr=False)
    """Contributor -> seed: the seeds addressed to it that it opened and took off."""
    received: Mapping[PeerId, Buffer] = field(repr=False)
    """Child -> masked vector as it arrived, combined or not (late ones too, where the peer still saw them)."""
    sent_vector: Buffer | None = field(repr=False)
    """Masked vector as it left."""
    cohort: int
    """Contributions inside ``sent_vector`` or ``total``; 0 where nothing was combined."""
    total: Buffer | None = field(repr=False)
    """Root only: the sum with every mask off."""
    published: bool
    """Root only: the total was published."""
