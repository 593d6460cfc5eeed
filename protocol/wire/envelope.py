"""The envelope: one message, signed by its sender, sealed to its recipient, good for once and for a short time.

    header      fixed part (below), then the sender's own descriptor if it is sent along
    signature   64 bytes, Ed25519 by the sender over  domain tag || header || enc || tag
    enc         encapsulated key (32 bytes with X25519, 1,120 hybrid)
    ciphertext  of the plaintext that ``codec`` makes (the kind of message is its first bytes)
    tag         16 bytes, AES-256-GCM

Neighbours: ``codec`` makes and reads the plaintext, ``replay`` remembers message ids, ``identity`` has keys and
descriptors; the daemon's transport carries the bytes and knows nothing of them.
Invariants: nothing of a message is believed, and no state changes, before its signature has been verified; the whole
header is the HPKE ``info``; a message id is accepted once; every refusal has its own reason; whatever cannot be
checked is refused.

**Why the signature need not read the body.**  The recipient R opens the ciphertext under a key K derived from the
encapsulation ``enc``, R's private KEM key and ``info`` = header.  Say that S signed (header, enc, tag), and R obtains
*some* plaintext under just these three.

- Who knows K?  S made ``enc`` afresh for this one message and keeps nothing of it; R can compute K.  Nobody else, as
  long as R's KEM key of that epoch is secret (security of the KEM).
- Another body under the same (header, enc, tag) would be a ciphertext that AES-256-GCM accepts under K with this tag:
  for who does not know K, a forgery (chance at most 2**-106 a try at 48 MB).  Another ``enc``, tag or header does not
  verify: the signature covers them.
- A third peer T cannot pass S's body off as its own.  T can sign (header', enc, tag) with itself as the sender, but
  then ``info`` is header', R derives another key and the tag fails.  This is why the header, sender included, must be
  the ``info``: were it only signed, T could strip S's signature and put its own in its place.
- Nor can R's copy be carried elsewhere: network, recipient, KEM epoch, message id and expiry are in the header.

So R knows that S sent it this body, now, here; that costs S one pass over the body (the AEAD's own) and one
signature over a few hundred bytes.

**What it does not prove.**  R itself knows K, and GCM does not commit to its plaintext: R can compute other
ciphertexts that fit the same tag.  So (envelope, K) proves nothing to a third party: what S said is deniable, and
whatever must convince others (descriptors, certificates, hops of a round, tasks) carries a signature of its own over
all of its bytes.  For the same reason whoever steals R's *KEM* key of an epoch can read and alter what is sent to R
in that epoch (about an hour), and nothing before or after it.  A header is in the clear: who talks to whom, when and
how much, is open to traffic analysis.  A message may also never arrive, and its sender is not told why.

An active wiretap that alters the ciphertext and leaves the rest gets a message through ``inspect`` that ``decrypt``
refuses, and the untouched original is then a replay: it could as well have dropped it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.base.entropy import Entropy
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import ID_BYTES, NetworkId, PeerId
from protocol.base.limits import CLOCK_TOLERANCE_S, MAX_BODY, MAX_DESCRIPTOR, MAX_ENVELOPE_TTL_S
from protocol.identity.descriptor import Descriptor, DescriptorVerifier
from protocol.identity.keys import SIGNATURE_BYTES, TAG_BYTES, KemKey, Keyring, verify
from protocol.identity.sealing import seal
from protocol.wire.messages import Buffer
from protocol.wire.replay import ReplayCache

VERSION = 1
_MAGIC = b"susu"
_SIGNATURE_TAG = b"susurrus envelope v1\0"
_FIXED = struct.Struct(">4sBBH16s16s16s16sQQ")
"""Magic, version, suite, length of the descriptor, network, sender, recipient, message id, KEM epoch, expiry (ms)."""

HEADER_BYTES = _FIXED.size
"""Of a header without a descriptor."""

Lookup = Callable[[PeerId], Descriptor | None]


@dataclass(frozen=True, slots=True)
class Header:
    """An envelope that passed every check but the last (does the body open?): what ``decrypt`` needs."""

    sender: Descriptor
    info: bytes = field(repr=False)
    """The canonical header as it arrived: the HPKE ``info``."""
    body_offset: int
    key: KemKey = field(repr=False)
    """Held here so that a rotation between the two steps does not matter."""


class Sealer:
    """Makes envelopes.  Safe to call from several threads as long as ``entropy`` is."""

    def __init__(self, network: NetworkId, keyring: Keyring, entropy: Entropy) -> None:
        if len(network) != ID_BYTES:
            raise ValueError(f"a network id has {ID_BYTES} bytes")
        self._network = network
        self._keyring = keyring
        self._entropy = entropy

    def seal(
        self,
        to: Descriptor,
        head: bytes,
        tail: Buffer,
        *,
        now: float,
        ttl_s: float,
        own_descriptor: bytes | None = None,
    ) -> list[bytes]:
        """The envelope as two buffers to be sent one after the other (``b"".join`` makes one, at the cost of a copy).

        ``head`` and ``tail`` are what ``codec.encode`` returned; ``ttl_s``: seconds for which the envelope is good;
        ``own_descriptor``: raw, sent in the clear, for a recipient that may not know this peer.  Costs one pass of the
        AEAD and, if there is a tail, one copy to put it behind the head.  Raises ``ValueError`` for what no peer would
        take, ``Refused(BAD_SEAL)`` for a recipient whose KEM key cannot be used.
        """
        descriptor = own_descriptor or b""
        if to.network != self._network:
            raise ValueError("the recipient belongs to another network")
        if to.peer == self._keyring.peer_id:
            raise ValueError("a peer sends nothing to itself")
        if not 0 < ttl_s <= MAX_ENVELOPE_TTL_S:
            raise ValueError(f"an envelope lives for at most {MAX_ENVELOPE_TTL_S} s, not {ttl_s}")
        if len(descriptor) > MAX_DESCRIPTOR:
            raise ValueError("the descriptor is too long")
        tail_bytes = memoryview(tail).nbytes
        overhead = _FIXED.size + len(descriptor) + SIGNATURE_BYTES + to.suite.overhead
        if overhead + len(head) + tail_bytes > MAX_BODY:
            raise ValueError(f"a body of {len(head) + tail_bytes} bytes is too large for an envelope")
        header = (
            _FIXED.pack(
                _MAGIC,
                VERSION,
                to.suite,
                len(descriptor),
                self._network,
                self._keyring.peer_id,
                to.peer,
                self._entropy.token(ID_BYTES),
                to.kem_epoch,
                int((now + ttl_s) * 1000),
            )
            + descriptor
        )
        plaintext = b"".join((head, tail)) if tail_bytes else head
        sealed = seal(to.kem_key, to.suite, plaintext, header)
        signed = _SIGNATURE_TAG + header + sealed[: to.suite.enc_length] + sealed[-TAG_BYTES:]
        return [header + self._keyring.signing.sign(signed), sealed]


class Opener:
    """Believes envelopes, or says why not.  ``inspect`` belongs to one thread; ``decrypt`` may run in any."""

    def __init__(
        self, network: NetworkId, keyring: Keyring, verifier: DescriptorVerifier, replay: ReplayCache | None = None
    ) -> None:
        if verifier.network != network:
            raise ValueError("the verifier is another network's")
        self._network = network
        self._keyring = keyring
        self._verifier = verifier
        self._replay = ReplayCache() if replay is None else replay

    def inspect(self, envelope: Buffer, now: float, lookup: Lookup) -> Header:
        """Every check but opening the body: reads some hundred bytes at both ends, whatever the size; about 0.15 ms.

        ``lookup`` gives the descriptor known for a peer id; one that the envelope brings along is used if that is
        unknown or older.  Remembers the message id once all has passed.  Raises ``Refused`` with one of ``MALFORMED``,
        ``OVERSIZED``, ``VERSION``, ``WRONG_NETWORK``, ``WRONG_RECIPIENT``, ``EXPIRED``, ``FAR_FUTURE``,
        ``UNKNOWN_EPOCH``, ``REPLAYED``, ``UNKNOWN_SENDER``, ``NOT_A_MEMBER``, ``CERTIFICATE_EXPIRED``,
        ``DESCRIPTOR_EXPIRED``, ``BAD_SIGNATURE``, ``BUSY``, or what ``DescriptorVerifier.verify`` raises.
        """
        view = memoryview(envelope)
        size = view.nbytes
        if size > MAX_BODY:
            raise Refused(Refusal.OVERSIZED, "envelope")
        if size < _FIXED.size:
            raise Refused(Refusal.MALFORMED, "envelope")
        (magic, version, suite_number, descriptor_length, network, sender, recipient, message_id, epoch, expires_ms) = (
            _FIXED.unpack_from(view)
        )
        if magic != _MAGIC:
            raise Refused(Refusal.MALFORMED, "envelope")
        if version != VERSION:
            raise Refused(Refusal.VERSION, "envelope")
        if network != self._network:
            raise Refused(Refusal.WRONG_NETWORK)
        if recipient != self._keyring.peer_id:
            raise Refused(Refusal.WRONG_RECIPIENT)
        if sender == recipient:
            raise Refused(Refusal.MALFORMED, "from this peer itself")
        expires = expires_ms / 1000
        if now > expires + CLOCK_TOLERANCE_S:
            raise Refused(Refusal.EXPIRED)
        if now + MAX_ENVELOPE_TTL_S + CLOCK_TOLERANCE_S < expires:
            raise Refused(Refusal.FAR_FUTURE)
        key = self._keyring.find(epoch)
        if key is None or key.suite != suite_number:
            raise Refused(Refusal.UNKNOWN_EPOCH)
        signature_offset = _FIXED.size + descriptor_length
        body_offset = signature_offset + SIGNATURE_BYTES
        if descriptor_length > MAX_DESCRIPTOR or size < body_offset + key.suite.overhead:
            raise Refused(Refusal.MALFORMED, "envelope")
        if self._replay.seen(sender, message_id):
            raise Refused(Refusal.REPLAYED)
        known = self._sender(PeerId(sender), bytes(view[_FIXED.size : signature_offset]), now, lookup)
        info = bytes(view[:signature_offset])
        enc = view[body_offset : body_offset + key.suite.enc_length]
        signed = b"".join((_SIGNATURE_TAG, info, enc, view[size - TAG_BYTES :]))
        verify(known.signing_key, bytes(view[signature_offset:body_offset]), signed)
        # Forgotten when no clock within the tolerance could still take the envelope as current.
        self._replay.remember(sender, message_id, expires + CLOCK_TOLERANCE_S, now)
        return Header(known, info, body_offset, key)

    def decrypt(self, header: Header, envelope: Buffer) -> bytes:
        """The plaintext of an inspected envelope; one pass, one output buffer.  Raises ``Refused(BAD_SEAL)``."""
        return header.key.open(memoryview(envelope)[header.body_offset :], header.info)

    def _sender(self, peer: PeerId, brought: bytes, now: float, lookup: Lookup) -> Descriptor:
        """The newest descriptor of ``peer`` at hand, verified now: membership may have ended since it was learnt."""
        known = lookup(peer)
        if brought:
            descriptor = self._verifier.verify(brought, now)
            if descriptor.peer != peer:
                raise Refused(Refusal.UNKNOWN_SENDER, "the descriptor brought along is another peer's")
            if known is None or descriptor.raw == known.raw or descriptor.supersedes(known):
                return descriptor
        if known is None or known.peer != peer:
            raise Refused(Refusal.UNKNOWN_SENDER)
        return self._verifier.verify(known.raw, now)
