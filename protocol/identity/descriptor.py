"""What a peer says of itself, signed: keys, addresses, capabilities, incarnation, and the chain that admits it.

Neighbours: ``membership`` gossips descriptors, ``wire.envelope`` finds keys in them, ``admission`` checks the chain.
Invariants: a descriptor travels and is kept as the exact bytes that its peer signed (``raw``), and two are equal when
those are; nothing in one is believed before ``DescriptorVerifier.verify``; ``peer`` always follows from
``signing_key``, so a descriptor cannot speak for another peer.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import NetworkId, PeerId
from protocol.base.limits import (
    CLOCK_TOLERANCE_S,
    MAX_ADDRESSES,
    MAX_CAPABILITIES,
    MAX_DESCRIPTOR,
)
from protocol.identity import fields as f
from protocol.identity.admission import ADDRESS, CHAIN, Chain, check_chain, check_chain_time
from protocol.identity.keys import KEY_BYTES, SIGNATURE_BYTES, KemSuite, Keyring, network_id, peer_id, verify
from protocol.identity.sealing import seal

MAX_CAPABILITY = 32
_VERSION = 1
_TAG = b"susurrus descriptor v1\0"
KEPT = 1024
"""Verified descriptors kept: a few times a full membership view, at most 4 MB."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A peer, as it describes itself.  Times are Unix seconds."""

    peer: PeerId = field(compare=False)
    signing_key: bytes = field(compare=False, repr=False)
    suite: KemSuite = field(compare=False)
    kem_key: bytes = field(compare=False, repr=False)
    kem_epoch: int = field(compare=False)
    kem_expires: float = field(compare=False)
    """When the peer means to have replaced its KEM key."""
    addresses: tuple[str, ...] = field(compare=False)
    """``host:port``, best first; empty when nobody can dial it."""
    capabilities: tuple[str, ...] = field(compare=False)
    incarnation: int = field(compare=False)
    issued: float = field(compare=False)
    expires: float = field(compare=False)
    chain: Chain = field(compare=False, repr=False)
    raw: bytes = field(repr=False)
    """The signed bytes, signature included; the only field that is compared and hashed."""

    @property
    def network(self) -> NetworkId:
        """The network that its chain speaks of."""
        return self.chain.network

    def supersedes(self, other: "Descriptor") -> bool:
        """Whether this is the newer word of the same peer."""
        return (self.incarnation, self.issued) > (other.incarnation, other.issued)


@dataclass(frozen=True, slots=True)
class _Body:
    """The signed part, field for field."""

    version: int
    signing_key: bytes
    suite: int
    kem_key: bytes
    kem_epoch: int
    kem_expires: float
    addresses: tuple[str, ...]
    capabilities: tuple[str, ...]
    incarnation: int
    issued: float
    expires: float
    chain: Chain


def _is_capability(text: str) -> bool:
    return all(c.isascii() and (c.isalnum() or c in "-._") for c in text)


_TIME = f.number(0.0, f.MAX_TIME)
_BODY = f.record(
    _Body,
    f.integer(0, f.U63),
    f.fixed(KEY_BYTES),
    f.integer(min(KemSuite), max(KemSuite)),
    f.blob(1, max(suite.public_length for suite in KemSuite)),
    f.integer(0, f.U63),
    _TIME,
    f.array(ADDRESS, 0, MAX_ADDRESSES),
    f.array(f.text(MAX_CAPABILITY, _is_capability), 0, MAX_CAPABILITIES),
    f.integer(0, f.U63),
    _TIME,
    _TIME,
    CHAIN,
)


_SAID = [field.name for field in dataclasses.fields(_Body) if field.name not in ("version", "suite")]


def _from_body(body: _Body, raw: bytes) -> Descriptor:
    values = {name: getattr(body, name) for name in _SAID}
    return Descriptor(peer=peer_id(body.signing_key), suite=KemSuite(body.suite), raw=raw, **values)


def make_descriptor(
    keyring: Keyring,
    chain: Chain,
    *,
    addresses: Sequence[str],
    capabilities: Sequence[str] = (),
    incarnation: int,
    now: float,
    lifetime_s: float,
) -> Descriptor:
    """Sign a descriptor of the keyring's owner, with its current KEM key.

    It never outlives the chain.  ``ConfigurationError`` for addresses or capabilities that cannot be published;
    ``RuntimeError`` when the keyring has not been rotated yet.
    """
    key = keyring.current
    expires = min(now + lifetime_s, chain.expires)
    if expires < now:
        raise ConfigurationError(["this peer's certificate has expired: it needs a new join token"])
    body = _Body(
        _VERSION,
        keyring.signing.public_bytes,
        int(key.suite),
        key.public_bytes,
        key.epoch,
        key.expires,
        tuple(addresses),
        tuple(capabilities),
        incarnation,
        float(now),
        float(expires),
        chain,
    )
    try:
        signed = f.pack(_BODY.write(body, []))
    except ValueError as error:
        raise ConfigurationError([f"this peer cannot be described: {error}"]) from error
    raw = signed + keyring.signing.sign(_TAG + signed)
    if len(raw) > MAX_DESCRIPTOR:
        raise ConfigurationError([f"the peer's descriptor has {len(raw)} bytes; use fewer or shorter addresses"])
    return _from_body(body, raw)


def parse_descriptor(raw: bytes) -> Descriptor:
    """What ``raw`` says, well-formed but unverified.  Raises ``Refused(MALFORMED | OVERSIZED | VERSION)``."""
    if len(raw) > MAX_DESCRIPTOR:
        raise Refused(Refusal.OVERSIZED, "descriptor")
    if len(raw) <= SIGNATURE_BYTES:
        raise Refused(Refusal.MALFORMED, "descriptor")
    raw = bytes(raw)
    body = f.unpack(_BODY, raw[:-SIGNATURE_BYTES])
    if body.version != _VERSION:
        raise Refused(Refusal.VERSION, "descriptor")
    if len(body.kem_key) != KemSuite(body.suite).public_length or body.expires < body.issued:
        raise Refused(Refusal.MALFORMED, "descriptor")
    return _from_body(body, raw)


class DescriptorVerifier:
    """Believes a descriptor, or says why not.  Signatures are checked once per text, times on every call.

    ``revoked``: peer ids and token keys that are no longer believed, whatever they show; empty until revocation
    lists exist, and may be replaced at any time.
    """

    def __init__(self, authority_key: bytes, kept: int = KEPT) -> None:
        """``kept``: verified descriptors kept."""
        self.authority_key = bytes(authority_key)
        self.network = network_id(self.authority_key)
        self.revoked: frozenset[bytes] = frozenset()
        self._kept = kept
        self._verified: dict[bytes, tuple[Descriptor, float, float]] = {}
        """By raw text (a dict compares whole keys, so a digest adds nothing): what it says, and from when to when all
        its times hold."""

    def verify(self, raw: bytes, now: float) -> Descriptor:
        """The descriptor, now known to be a current member's own word.

        Raises ``Refused``: ``MALFORMED``, ``OVERSIZED``, ``VERSION``, ``BAD_SIGNATURE``, ``BAD_SEAL`` (nothing can be
        sealed to its KEM key here), ``NOT_A_MEMBER``, ``CERTIFICATE_EXPIRED``, ``DESCRIPTOR_EXPIRED``.
        """
        known = self._verified.get(raw := bytes(raw))
        if known is not None and known[1] <= now <= known[2] and not self.revoked:
            return known[0]
        if known is not None:
            descriptor = known[0]
        else:
            descriptor = parse_descriptor(raw)
            self._check_forever(descriptor)
        if descriptor.peer in self.revoked or descriptor.chain.token.token_key in self.revoked:
            raise Refused(Refusal.NOT_A_MEMBER, "revoked")
        check_chain_time(descriptor.chain, now)
        if now > descriptor.expires + CLOCK_TOLERANCE_S or now + CLOCK_TOLERANCE_S < descriptor.issued:
            raise Refused(Refusal.DESCRIPTOR_EXPIRED)
        if known is None:
            self._remember(descriptor)
        return descriptor

    def check_signature(self, public_key: bytes, signature: bytes, data: bytes) -> None:
        """Raise ``Refused(BAD_SIGNATURE)`` unless the owner of ``public_key`` signed ``data``."""
        verify(public_key, signature, data)

    def _check_forever(self, descriptor: Descriptor) -> None:
        """What time does not change, cheapest first: chain of the right network, signature, a usable KEM key."""
        if descriptor.chain.authority_key != self.authority_key:
            raise Refused(Refusal.NOT_A_MEMBER, "another network's certificate")
        self._check_own_signature(descriptor)
        check_chain(descriptor.chain, self.authority_key, descriptor.signing_key)
        try:
            # A key of low order, or of a suite that this machine lacks, would else fail later, in every message to it.
            seal(descriptor.kem_key, descriptor.suite, b"", _TAG)
        except ConfigurationError as error:
            raise Refused(Refusal.BAD_SEAL, "its KEM suite is not available here") from error

    def _check_own_signature(self, descriptor: Descriptor) -> None:
        raw = descriptor.raw
        self.check_signature(descriptor.signing_key, raw[-SIGNATURE_BYTES:], _TAG + raw[:-SIGNATURE_BYTES])

    def _remember(self, descriptor: Descriptor) -> None:
        while len(self._verified) >= self._kept:
            self._verified.pop(next(iter(self._verified)), None)
        chain = descriptor.chain
        begins = max(descriptor.issued, chain.issued) - CLOCK_TOLERANCE_S
        self._verified[descriptor.raw] = descriptor, begins, min(descriptor.expires, chain.expires) + CLOCK_TOLERANCE_S
