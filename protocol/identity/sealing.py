"""The one sealing primitive (HPKE base mode), for envelopes and for mask seeds.

Neighbours: ``keys`` holds the key types and opens, ``wire.envelope`` seals bodies, ``aggregation`` seals seeds.
Invariants: the ``info`` of every sealed text starts with a domain tag and names all that the text is bound to; a
sealed text is ``enc || ciphertext || tag`` with ``enc`` and ``tag`` of fixed length; anonymous by itself (base
mode proves nothing about the sender: envelopes add a signature, seeds travel inside envelopes).
"""

from typing import TYPE_CHECKING

from protocol.base.errors import Refusal, Refused
from protocol.base.ids import ID_BYTES, NetworkId, PeerId, RoundId
from protocol.identity.keys import Keyring, seal

if TYPE_CHECKING:  # descriptor stands above this module; only its type is needed here
    from protocol.identity.descriptor import Descriptor

__all__ = ["SEED_BYTES", "open_seed", "seal", "seal_seed"]

SEED_BYTES = 32
_SEED_TAG = b"susurrus mask seed v1\0"


def _seed_info(network: bytes, round_id: bytes, contributor: bytes, trustee: bytes) -> bytes:
    parts = (network, round_id, contributor, trustee)
    if any(len(part) != ID_BYTES for part in parts):
        raise ValueError(f"ids have {ID_BYTES} bytes")  # fixed lengths make the concatenation unambiguous
    return _SEED_TAG + b"".join(parts)


def seal_seed(
    keyring: Keyring,
    descriptor: "Descriptor",
    seed: bytes,
    *,
    network: NetworkId,
    round: RoundId,
    contributor: PeerId,
    trustee: PeerId,
) -> bytes:
    """Seal a mask seed (32 bytes) to ``trustee``, whose descriptor this is: 80 bytes with X25519, 1,168 hybrid.

    ``keyring``: the sealing peer's own; nothing of it goes into the sealed text.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a mask seed has {SEED_BYTES} bytes")
    if descriptor.peer != trustee:
        raise ValueError("the descriptor is not the trustee's")
    info = _seed_info(network, round, contributor, trustee)
    return keyring.seal(descriptor.kem_key, descriptor.suite, seed, info)


def open_seed(
    keyring: Keyring, sealed: bytes, *, network: NetworkId, round: RoundId, contributor: PeerId, trustee: PeerId
) -> bytes:
    """The seed; ``Refused(BAD_SEAL)`` unless it was sealed to one of the ring's keys for exactly these four ids.

    The sealed text does not name its epoch, so the current key is tried first and then the kept ones.
    """
    info = _seed_info(network, round, contributor, trustee)
    for key in keyring.keys:
        if len(sealed) != SEED_BYTES + key.suite.overhead:
            continue
        try:
            return key.open(sealed, info)
        except Refused:
            continue
    raise Refused(Refusal.BAD_SEAL, "mask seed")
