"""Envelopes that no ``Sealer`` would make, for the tests of what an ``Opener`` refuses."""

import pytest

from protocol.base.errors import Refusal, Refused
from protocol.identity.keys import KemSuite, hybrid_available
from protocol.identity.sealing import seal
from protocol.wire.envelope import _FIXED, _SIGNATURE_TAG

NOW = 1_700_000_000.0
SIGNATURE = 64
SUITES = [
    KemSuite.X25519,
    pytest.param(KemSuite.HYBRID, marks=pytest.mark.skipif(not hybrid_available(), reason="no ML-KEM in this library")),
]
MAGIC, VERSION, SUITE, LENGTH, NETWORK, SENDER, RECIPIENT, MESSAGE_ID, EPOCH, EXPIRES = range(10)


def reason(call, *args, **kwargs) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.reason


def with_field(envelope: bytes, field: int, value: object) -> bytes:
    parts = list(_FIXED.unpack_from(envelope))
    parts[field] = value
    return _FIXED.pack(*parts) + envelope[_FIXED.size :]


def forge(signer, fields: tuple, recipient, plaintext: bytes = b"head") -> bytes:
    """An envelope with any header at all, rightly sealed and signed by ``signer``."""
    header = _FIXED.pack(*fields)
    sealed = seal(recipient.kem_key, recipient.suite, plaintext, header)
    signed = _SIGNATURE_TAG + header + sealed[: recipient.suite.enc_length] + sealed[-16:]
    return header + signer.sign(signed) + sealed
