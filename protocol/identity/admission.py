"""Who belongs: an authority signs a join token's key, the token's key signs a peer's key; anyone checks it offline.

Neighbours: ``descriptor`` carries a ``Chain`` and verifies it; the daemon stores the authority's seed, tokens and its
own chain; people hand tokens to one another.
Invariants: a network *is* its authority's public key; a peer certificate never outlives its token's certificate;
every certificate is bound to its network and kind by a domain tag; a chain says nothing about any other key than the
one that it is checked against.  A token is a bearer secret: who holds it can admit peers until it expires.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import NetworkId
from protocol.base.limits import CLOCK_TOLERANCE_S, MAX_ADDRESS, MAX_ADDRESSES
from protocol.base.printing import date
from protocol.identity import fields as f
from protocol.identity.keys import KEY_BYTES, SIGNATURE_BYTES, SigningKey, network_id, verify

MAX_LABEL = 64
LAST_EXPIRY = 253_402_300_799.0
"""Unix seconds of the last date that calendars have: 9999-12-31 23:59:59 UTC."""

_PREFIX = "susurrus-token-v1."
_CHECK_BYTES = 4
_TOKEN_TAG = b"susurrus token certificate v1\0"
_PEER_TAG = b"susurrus peer certificate v1\0"


def _millis(seconds: float) -> int:
    return round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class TokenCertificate:
    """The authority's word that ``token_key`` may admit peers.  Times in Unix milliseconds."""

    token_key: bytes
    issued_ms: int
    expires_ms: int
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The token key's word that a peer (whose key is stated where it is checked) is a member."""

    issued_ms: int
    expires_ms: int
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """Authority -> token -> peer: all that is needed, beside the peer's public key, to check its membership."""

    authority_key: bytes
    token: TokenCertificate
    peer: PeerCertificate

    @property
    def network(self) -> NetworkId:
        """The network that this chain speaks of (which proves nothing before ``verify_chain``)."""
        return network_id(self.authority_key)

    @property
    def issued(self) -> float:
        """Unix seconds before which it is not valid."""
        return max(self.token.issued_ms, self.peer.issued_ms) / 1000

    @property
    def expires(self) -> float:
        """Unix seconds after which it is not valid."""
        return min(self.token.expires_ms, self.peer.expires_ms) / 1000

    def encode(self) -> bytes:
        """Bytes for ``decode_chain``: about 250."""
        return f.pack(CHAIN.write(self, []))


_MILLIS = f.integer(0, int(f.MAX_TIME) * 1000)
_TOKEN_CERTIFICATE = f.record(TokenCertificate, f.fixed(KEY_BYTES), _MILLIS, _MILLIS, f.fixed(SIGNATURE_BYTES))
_PEER_CERTIFICATE = f.record(PeerCertificate, _MILLIS, _MILLIS, f.fixed(SIGNATURE_BYTES))
CHAIN: f.Field[Chain] = f.record(Chain, f.fixed(KEY_BYTES), _TOKEN_CERTIFICATE, _PEER_CERTIFICATE)
"""The wire form, which ``descriptor`` embeds."""


def decode_chain(data: bytes) -> Chain:
    """The chain of ``Chain.encode``; well-formedness only.  Raises ``Refused(MALFORMED | OVERSIZED)``."""
    return f.unpack(CHAIN, data)


def _span(issued_ms: int, expires_ms: int) -> bytes:
    return issued_ms.to_bytes(8, "big") + expires_ms.to_bytes(8, "big")


def _token_statement(authority_key: bytes, token_key: bytes, issued_ms: int, expires_ms: int) -> bytes:
    return _TOKEN_TAG + authority_key + token_key + _span(issued_ms, expires_ms)


def _peer_statement(authority_key: bytes, token_key: bytes, peer_key: bytes, issued_ms: int, expires_ms: int) -> bytes:
    return _PEER_TAG + authority_key + token_key + peer_key + _span(issued_ms, expires_ms)


@dataclass(frozen=True, slots=True)
class Authority:
    """The key that names a network and makes its tokens; kept by whoever runs the network, never by its peers."""

    key: SigningKey

    @property
    def network(self) -> NetworkId:
        """The network's id."""
        return network_id(self.key.public_bytes)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What a new peer is given: the authority's public key, the right to admit, and where to find the network."""

    authority_key: bytes
    certificate: TokenCertificate
    secret: bytes = field(repr=False)
    """Seed of the token's signing key."""
    seeds: tuple[str, ...]
    """``host:port`` of peers to ask first."""
    label: str
    """For people (which token was this?); not signed, and never leaves the token."""

    @property
    def network(self) -> NetworkId:
        """The network that the token lets into."""
        return network_id(self.authority_key)

    @property
    def expires(self) -> float:
        """Unix seconds."""
        return self.certificate.expires_ms / 1000

    def encode(self) -> str:
        """One line of text without spaces, to be handed over as a secret."""
        body = f.pack(_TOKEN.write(self, []))
        return _PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")


def is_address(text: str) -> bool:
    """Whether ``text`` is ``host:port``: a name, IPv4 or bracketed IPv6 address, and a port of 1 to 65535."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        return False
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        return ":" in inner and all(c in "0123456789abcdefABCDEF:." for c in inner)
    return bool(host) and all(c.isascii() and (c.isalnum() or c in "-._") for c in host)


def _is_label(text: str) -> bool:
    return text.isprintable()


ADDRESS = f.text(MAX_ADDRESS, is_address)
_TOKEN = f.record(
    JoinToken,
    f.fixed(KEY_BYTES),
    _TOKEN_CERTIFICATE,
    f.fixed(KEY_BYTES),
    f.array(ADDRESS, 0, MAX_ADDRESSES),
    f.text(MAX_LABEL, _is_label),
)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"susurrus token\0" + body).digest()[:_CHECK_BYTES]


def decode_token(text: str) -> JoinToken:
    """The token of ``JoinToken.encode``.  ``ConfigurationError`` with a sentence when it is none or was damaged."""
    text = "".join(text.split())  # terminals and mails break long lines
    if not text.startswith(_PREFIX):
        raise ConfigurationError([f"this is not a join token: one starts with {_PREFIX!r}"])
    encoded = text.removeprefix(_PREFIX)
    damaged = ConfigurationError(["the join token is damaged: was all of it copied?"])
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise damaged from error
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if _checksum(body) != check:
        raise damaged
    try:
        token = f.unpack(_TOKEN, body)
        _check_token(token.authority_key, token.certificate)
    except Refused as error:
        raise damaged from error
    if SigningKey(token.secret).public_bytes != token.certificate.token_key:
        raise damaged
    return token


def issue_token(
    authority: Authority, now: float, lifetime_s: float, seeds: tuple[str, ...], entropy: Entropy, label: str = "token"
) -> JoinToken:
    """A new token.  ``ConfigurationError`` lists a lifetime, seeds or label that cannot be used."""
    problems = [f"the seed {seed!r} is not host:port" for seed in seeds if not is_address(seed)]
    if len(seeds) > MAX_ADDRESSES:
        problems.append(f"a token names at most {MAX_ADDRESSES} seeds, not {len(seeds)}")
    if not 1 <= lifetime_s <= LAST_EXPIRY - now:
        problems.append("a token's lifetime must be at least one second, and end before the year 10000")
    if not (0 < len(label) <= MAX_LABEL and _is_label(label)):
        problems.append(f"a token's label must have 1 to {MAX_LABEL} printable characters")
    if problems:
        raise ConfigurationError(problems)
    key = SigningKey(entropy.token(KEY_BYTES))
    issued, expires = _millis(now), _millis(now + lifetime_s)
    statement = _token_statement(authority.key.public_bytes, key.public_bytes, issued, expires)
    certificate = TokenCertificate(key.public_bytes, issued, expires, authority.key.sign(statement))
    return JoinToken(authority.key.public_bytes, certificate, key.seed, tuple(seeds), label)


def admit(token: JoinToken, peer_public_key: bytes, now: float) -> Chain:
    """Use the token: a chain for this peer, valid as long as the token.  ``ConfigurationError`` when it cannot be."""
    if now >= token.expires:
        raise ConfigurationError([f"the join token expired on {date(token.expires)}; ask for a new one"])
    issued = token.certificate.issued_ms / 1000
    if now + CLOCK_TOLERANCE_S < issued:
        raise ConfigurationError(
            [f"the join token was made on {date(issued)}, but this machine's clock says {date(now)}: set the clock"]
        )
    if len(peer_public_key) != KEY_BYTES:
        raise ValueError(f"a public key has {KEY_BYTES} bytes")
    key = SigningKey(token.secret)
    start = max(_millis(now), token.certificate.issued_ms)
    end = token.certificate.expires_ms
    statement = _peer_statement(token.authority_key, key.public_bytes, peer_public_key, start, end)
    chain = Chain(token.authority_key, token.certificate, PeerCertificate(start, end, key.sign(statement)))
    try:
        check_chain(chain, token.authority_key, peer_public_key)
    except Refused as error:
        raise ConfigurationError(["the join token is not signed by the authority that it names"]) from error
    return chain


def _check_token(authority_key: bytes, token: TokenCertificate) -> None:
    statement = _token_statement(authority_key, token.token_key, token.issued_ms, token.expires_ms)
    try:
        verify(authority_key, token.signature, statement)
    except Refused as error:
        raise Refused(Refusal.NOT_A_MEMBER, "token certificate") from error


def check_chain(chain: Chain, authority_key: bytes, peer_public_key: bytes) -> None:
    """Everything about a chain that time does not change.  Raises ``Refused(NOT_A_MEMBER)``."""
    token, peer = chain.token, chain.peer
    if chain.authority_key != authority_key:
        raise Refused(Refusal.NOT_A_MEMBER, "another network's certificate")
    if peer.expires_ms > token.expires_ms or peer.issued_ms < token.issued_ms:
        raise Refused(Refusal.NOT_A_MEMBER, "peer certificate beyond its token's")
    _check_token(authority_key, token)
    statement = _peer_statement(authority_key, token.token_key, peer_public_key, peer.issued_ms, peer.expires_ms)
    try:
        verify(token.token_key, peer.signature, statement)
    except Refused as error:
        raise Refused(Refusal.NOT_A_MEMBER, "peer certificate") from error


def check_chain_time(chain: Chain, now: float) -> None:
    """What time does change.  Raises ``Refused(CERTIFICATE_EXPIRED)``, beyond the tolerance between clocks."""
    if now > chain.expires + CLOCK_TOLERANCE_S:
        raise Refused(Refusal.CERTIFICATE_EXPIRED)
    if now + CLOCK_TOLERANCE_S < chain.issued:
        raise Refused(Refusal.CERTIFICATE_EXPIRED, "not valid yet: one of the two clocks is wrong")


def verify_chain(chain: Chain, authority_key: bytes, peer_public_key: bytes, now: float) -> None:
    """Raise ``Refused`` unless the chain makes the owner of this key a member of this network now.

    Reasons: ``NOT_A_MEMBER`` (foreign, forged, for another key, or outliving its token), ``CERTIFICATE_EXPIRED``.
    """
    check_chain(chain, authority_key, peer_public_key)
    check_chain_time(chain, now)
