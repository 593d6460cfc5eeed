"""What ``susurrus demo`` was asked to do, as plain values.

Neighbours: ``commands.measure`` fills it from flags, ``demo`` reads it.  Invariants: frozen; flags were checked, each
and together; what only the data can tell (are there records enough for so many peers?) is the demo's to check.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Flags of ``susurrus demo``."""

    peers: int = 12
    dataset: str = "digits"
    """A packaged data set's name, or a CSV file."""
    partition: str = "iid"
    """``iid`` or ``dirichlet:ALPHA``."""
    steps: int | None = 150
    """Exactly one of ``steps``, ``target_accuracy`` and ``seconds`` is set."""
    target_accuracy: float | None = None
    seconds: float | None = None
    collusion_threshold: int = 3
    branching: int = 2
    cohort: int | None = None
    """``None``: all peers."""
    walks: int = 1
    modulus_bits: int = 32
    kill: float = 0.0
    """Peers killed and restarted per minute."""
    seed: int | None = None
    audit: Path | None = None
    keep: bool = False
    json: bool = False
