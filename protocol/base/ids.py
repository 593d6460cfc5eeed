"""Identifiers: what a peer, a network, a round, a task and a message are called.

Neighbours: used everywhere.  Invariants: all are plain ``bytes`` of a fixed length, so they travel, compare and
hash as they are; the distinct types exist for the type checker alone.
"""

from typing import Final, NewType

PeerId = NewType("PeerId", bytes)
"""16 bytes: truncated SHA-256 of the peer's Ed25519 public key (see ``identity.keys``)."""

NetworkId = NewType("NetworkId", bytes)
"""16 bytes: truncated SHA-256 of the authority's Ed25519 public key."""

RoundId = NewType("RoundId", bytes)
"""16 random bytes drawn by the root of the round."""

TaskId = NewType("TaskId", bytes)
"""16 bytes: truncated SHA-256 of the task's canonical encoding."""

MessageId = NewType("MessageId", bytes)
"""16 random bytes, unique per envelope."""

Digest = NewType("Digest", bytes)
"""32 bytes: SHA-256 of a checkpoint (task, age, state)."""

Lineage = NewType("Lineage", bytes)
"""8 random bytes drawn when a walk is started or revived."""

ID_BYTES = 16
DIGEST_BYTES = 32
LINEAGE_BYTES = 8

NO_LINEAGE: Final = Lineage(bytes(LINEAGE_BYTES))
"""Of what has come without a walk."""


def text(identifier: bytes) -> str:
    """The identifier as people read and type it: lower-case hexadecimal, whole."""
    return identifier.hex()


def short(identifier: bytes) -> str:
    """The first eight hexadecimal digits: for logs and tables only, never for comparison."""
    return identifier.hex()[:8]
