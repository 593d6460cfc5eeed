"""Masks: drawing the seeds that hide a contribution.

Neighbours: ``prg`` expands a seed and adds it or takes it off; ``identity.sealing`` seals a seed to its trustee.
Invariants: every seed is drawn afresh from the entropy port and used for one contribution and one trustee, so no
keystream is ever used twice; a seed is never logged.
"""

from typing import Final

from protocol.base.entropy import Entropy
from protocol.masking import prg

SEED_BYTES: Final = prg.SEED_BYTES


def draw(entropy: Entropy, count: int) -> list[bytes]:
    """``count`` fresh seeds of ``SEED_BYTES`` bytes: one for each trustee, and one for the rounding if wanted."""
    return [entropy.token(SEED_BYTES) for _ in range(count)]
