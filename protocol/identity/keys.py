"""Keys: a peer's Ed25519 identity, its KEM keys by epoch, and the ids that follow from public keys.

Neighbours: ``sealing`` seals to a ``KemKey``, ``descriptor`` publishes a ``Keyring``'s public half, ``admission``
signs with a ``SigningKey``.
Invariants: an id is a digest of a public key, so whoever checks it needs no directory; epochs only grow, also across
restarts; an old KEM key is dropped ``KEM_KEEP_S`` after it was replaced, and with it every message sealed to it
becomes unreadable; no repr shows a secret.  (Python cannot wipe memory: a dropped key is unreachable, not zeroed.)
"""

import functools
import hashlib
from enum import IntEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import ID_BYTES, NetworkId, PeerId
from protocol.base.limits import KEM_EPOCH_S, KEM_KEEP_S

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
"""An Ed25519 public key, and the seed of its private key."""
SIGNATURE_BYTES = 64
TAG_BYTES = 16
"""AES-256-GCM tag."""
_X25519_BYTES = 32
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_PARSED_KEYS = 512
"""Parsed public keys kept: twice a full membership view; a parsed hybrid key weighs about 10 kB."""


def peer_id(public_key: bytes) -> PeerId:
    """The id of the peer with this Ed25519 public key: SHA-256 with a domain tag, first 16 bytes."""
    return PeerId(hashlib.sha256(b"susurrus peer\0" + public_key).digest()[:ID_BYTES])


def network_id(public_key: bytes) -> NetworkId:
    """The id of the network whose authority has this Ed25519 public key."""
    return NetworkId(hashlib.sha256(b"susurrus network\0" + public_key).digest()[:ID_BYTES])


class SigningKey:
    """An Ed25519 private key (RFC 8032).  ``public_bytes``: 32 bytes; ``peer_id``: the id that follows from it.

    Made of a secret seed of 32 bytes; ``ValueError`` for another length.
    """

    __slots__ = ("_key", "_seed", "peer_id", "public_bytes")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise ValueError(f"a signing seed has {KEY_BYTES} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(self._seed)
        self.public_bytes = self._key.public_key().public_bytes_raw()
        self.peer_id = peer_id(self.public_bytes)

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes to keep (storage only)."""
        return self._seed

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature.  ``data`` must begin with a domain tag of its own."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.peer_id.hex()[:8]})"


@functools.lru_cache(_PARSED_KEYS)
def _verifying_key(public_key: bytes) -> ed25519.Ed25519PublicKey:
    return ed25519.Ed25519PublicKey.from_public_bytes(public_key)


def verify(public_key: bytes, signature: bytes, data: bytes) -> None:
    """Raise ``Refused(BAD_SIGNATURE)`` unless ``signature`` over ``data`` is by the owner of ``public_key``."""
    try:
        _verifying_key(bytes(public_key)).verify(bytes(signature), data)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Refused(Refusal.BAD_SIGNATURE) from error


class KemSuite(IntEnum):
    """How bodies are sealed: HPKE base mode (RFC 9180) with HKDF-SHA256 and AES-256-GCM over this KEM."""

    X25519 = 1
    HYBRID = 2
    """ML-KEM-768 + X25519: stays closed while either of the two holds."""

    @property
    def public_length(self) -> int:
        """Bytes of a public key."""
        return _X25519_BYTES if self is KemSuite.X25519 else _MLKEM_PUBLIC_BYTES + _X25519_BYTES

    @property
    def enc_length(self) -> int:
        """Bytes of an encapsulated key."""
        return 32 if self is KemSuite.X25519 else 1120

    @property
    def overhead(self) -> int:
        """Bytes by which a sealed text exceeds its plaintext."""
        return self.enc_length + TAG_BYTES


@functools.lru_cache(1)
def hybrid_available() -> bool:
    """Whether this machine's cryptography library can do ML-KEM-768 + X25519."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem

        key = mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(_MLKEM_SEED_BYTES))
        hpke.MLKEM768X25519PrivateKey(key, x25519.X25519PrivateKey.from_private_bytes(b"\1" * 32))
        return int(hpke.KEM.MLKEM768_X25519.enc_length()) == KemSuite.HYBRID.enc_length
    except Exception:  # an older library lacks the names, another backend the algorithm: either way it is not there
        return False


@functools.lru_cache(len(KemSuite))
def hpke_suite(suite: KemSuite) -> hpke.Suite:
    """The library's suite; ``ConfigurationError`` where the hybrid is not available."""
    if suite is KemSuite.X25519:
        kem = hpke.KEM.X25519
    elif hybrid_available():
        kem = hpke.KEM.MLKEM768_X25519
    else:
        raise ConfigurationError(["the installed cryptography library has no ML-KEM-768; use the x25519 suite"])
    return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


# Quoted: an older library has no hybrid, and must not fail here for a name.
PublicKey: TypeAlias = "x25519.X25519PublicKey | hpke.MLKEM768X25519PublicKey"
PrivateKey: TypeAlias = "x25519.X25519PrivateKey | hpke.MLKEM768X25519PrivateKey"


@functools.lru_cache(_PARSED_KEYS)
def load_public(suite: KemSuite, public: bytes) -> PublicKey:
    """The parsed public key, cached.  ``ValueError`` for a wrong length or encoding."""
    if len(public) != suite.public_length:
        raise ValueError(f"a public key of {suite.name} has {suite.public_length} bytes")
    if suite is KemSuite.X25519:
        return x25519.X25519PublicKey.from_public_bytes(public)
    hpke_suite(suite)
    from cryptography.hazmat.primitives.asymmetric import mlkem

    return hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES]),
        x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_BYTES:]),
    )


def seal(public: bytes, suite: KemSuite, plaintext: Buffer, info: bytes) -> bytes:
    """``enc || ciphertext || tag`` of ``plaintext`` for the owner of ``public``, bound to ``info``.

    Length: that of the plaintext plus ``suite.overhead``.  The plaintext is read once and not copied.  Raises
    ``Refused(BAD_SEAL)`` for a public key that nothing can be sealed to (a stranger chose it).
    """
    try:
        return hpke_suite(suite).encrypt(plaintext, load_public(suite, public), info=info)
    except (ValueError, TypeError) as error:
        raise Refused(Refusal.BAD_SEAL, "the recipient's KEM key cannot be used") from error


class KemKey:
    """One epoch's private KEM key.  ``expires``: Unix seconds after which senders should have a newer one."""

    __slots__ = ("_private", "epoch", "expires", "public_bytes", "suite")

    def __init__(self, suite: KemSuite, epoch: int, expires: float, private: PrivateKey, public_bytes: bytes) -> None:
        self.suite = suite
        self.epoch = epoch
        self.expires = expires
        self.public_bytes = public_bytes
        self._private = private

    @classmethod
    def generate(cls, suite: KemSuite, epoch: int, expires: float, entropy: Entropy) -> "KemKey":
        """A fresh key from ``entropy``.  ``ConfigurationError`` where the suite is not available."""
        hpke_suite(suite)
        curve = x25519.X25519PrivateKey.from_private_bytes(entropy.token(_X25519_BYTES))
        curve_public = curve.public_key().public_bytes_raw()
        if suite is KemSuite.X25519:
            return cls(suite, epoch, expires, curve, curve_public)
        from cryptography.hazmat.primitives.asymmetric import mlkem

        lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(entropy.token(_MLKEM_SEED_BYTES))
        public = lattice.public_key().public_bytes_raw() + curve_public
        return cls(suite, epoch, expires, hpke.MLKEM768X25519PrivateKey(lattice, curve), public)

    def open(self, sealed: Buffer, info: bytes) -> bytes:
        """The plaintext of ``enc || ciphertext || tag`` sealed under ``info``; ``Refused(BAD_SEAL)`` otherwise."""
        try:
            return hpke_suite(self.suite).decrypt(sealed, self._private, info=info)
        except Exception as error:  # InvalidTag, or whatever the library makes of a bad encapsulated key
            raise Refused(Refusal.BAD_SEAL) from error

    def __repr__(self) -> str:
        return f"KemKey({self.suite.name}, epoch={self.epoch})"


class Keyring:
    """A peer's signing key, its current KEM key and the replaced ones that still open.

    Call ``rotate`` once at the start (a fresh epoch at every start is what makes an old envelope unreadable after a
    restart) and then whenever ``rotation_due``, and ``prune`` at ``prune_at``.  Other threads may read while the owner
    rotates: the keys are one tuple, replaced whole.
    """

    __slots__ = ("_entropy", "_keys", "_last_epoch", "signing", "suite")

    def __init__(self, signing: SigningKey, suite: KemSuite, entropy: Entropy, last_epoch: int = 0) -> None:
        """``last_epoch``: the newest epoch known to have been used before, if storage kept it."""
        hpke_suite(suite)
        self.signing = signing
        self.suite = suite
        self._entropy = entropy
        self._last_epoch = last_epoch
        self._keys: tuple[tuple[KemKey, float], ...] = ()  # newest first, each with the time until which it opens

    @property
    def peer_id(self) -> PeerId:
        """The id of the peer that holds this ring."""
        return self.signing.peer_id

    @property
    def current(self) -> KemKey:
        """The key that the descriptor publishes; ``RuntimeError`` before the first ``rotate``."""
        if not self._keys:
            raise RuntimeError("the keyring has no KEM key yet: call rotate(now) first")
        return self._keys[0][0]

    @property
    def keys(self) -> tuple[KemKey, ...]:
        """All keys that open, newest first."""
        return tuple(key for key, _ in self._keys)

    def rotation_due(self, now: float) -> bool:
        """Whether there is no current key or its time is over."""
        return not self._keys or now >= self._keys[0][0].expires

    def rotate(self, now: float) -> KemKey:
        """Make a new current key; the one before opens for ``KEM_KEEP_S`` more, older ones as long as they had."""
        # Milliseconds since 1970 grow across restarts without storage; the maximum covers a clock set back meanwhile.
        epoch = max(self._last_epoch + 1, int(now * 1000))
        key = self._generate(epoch, now + KEM_EPOCH_S)
        kept = tuple((old, min(until, now + KEM_KEEP_S)) for old, until in self._keys)
        self._last_epoch = epoch
        self._keys = ((key, float("inf")), *kept)
        self.prune(now)
        return key

    def seal(self, public: bytes, suite: KemSuite, plaintext: Buffer, info: bytes) -> bytes:
        """Seal to another peer's key: ``seal`` of this module, of the same kind as this ring's keys."""
        return seal(public, suite, plaintext, info)

    def _generate(self, epoch: int, expires: float) -> KemKey:
        return KemKey.generate(self.suite, epoch, expires, self._entropy)

    @property
    def prune_at(self) -> float:
        """When ``prune`` is due: the Unix seconds until which the oldest key opens; infinity for the current one."""
        return self._keys[-1][1] if self._keys else float("inf")

    def prune(self, now: float) -> None:
        """Drop replaced keys whose time is over; the current one stays."""
        self._keys = self._keys[:1] + tuple((old, until) for old, until in self._keys[1:] if until > now)

    def find(self, epoch: int) -> KemKey | None:
        """The key of this epoch, or None when it is gone or never was."""
        for key, _ in self._keys:
            if key.epoch == epoch:
                return key
        return None

    def __repr__(self) -> str:
        return f"Keyring({self.signing.peer_id.hex()[:8]}, epochs={[key.epoch for key, _ in self._keys]})"
