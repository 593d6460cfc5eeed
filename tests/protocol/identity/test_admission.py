"""Tokens and certificate chains: what is believed, and every way of not being believed."""

from dataclasses import replace

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.limits import CLOCK_TOLERANCE_S
from protocol.identity.admission import (
    LAST_EXPIRY,
    Authority,
    PeerCertificate,
    _peer_statement,
    admit,
    decode_chain,
    decode_token,
    is_address,
    issue_token,
    verify_chain,
)
from protocol.identity.keys import SigningKey, network_id

NOW = 1_700_000_000.0


def reason(call, *args, **kwargs) -> Refusal:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    return caught.value.reason


@pytest.fixture
def peer_key() -> bytes:
    return SigningKey(b"p" * 32).public_bytes


def test_token_round_trip(world):
    text = world.token.encode()
    assert text.startswith("susurrus-token-v1.")
    assert decode_token(text) == world.token
    assert decode_token(f"  {text[:60]}\n{text[60:]}\n") == world.token
    assert world.token.network == world.authority.network == network_id(world.authority.key.public_bytes)
    assert repr(world.token.secret) not in repr(world.token)


def test_every_damaged_token_is_told_so(world):
    text = world.token.encode()
    prefix = len("susurrus-token-v1.")
    for place in range(prefix, len(text)):
        with pytest.raises(ConfigurationError):
            decode_token(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])
    for length in range(len(text)):
        with pytest.raises(ConfigurationError):
            decode_token(text[:length])
    for other in ("", "hello", text.upper(), text + "A", text + "é"):
        with pytest.raises(ConfigurationError):
            decode_token(other)


def test_a_token_that_another_authority_claims_is_refused(world, other_world):
    forged = replace(world.token, authority_key=other_world.authority.key.public_bytes)
    with pytest.raises(ConfigurationError, match="damaged"):
        decode_token(forged.encode())
    with pytest.raises(ConfigurationError, match="not signed by the authority"):
        admit(forged, b"k" * 32, NOW)


def test_a_token_whose_secret_is_not_its_key_is_refused(world, other_world):
    with pytest.raises(ConfigurationError, match="damaged"):
        decode_token(replace(world.token, secret=other_world.token.secret).encode())


def test_bad_tokens_are_not_issued(world):
    with pytest.raises(ConfigurationError) as caught:
        issue_token(world.authority, NOW, 0.0, ("nonsense", "b:99999"), SeededEntropy(1), "a\nb")
    assert len(caught.value.problems) == 4


def test_a_token_ends_while_calendars_have_dates(world):
    last = issue_token(world.authority, NOW, LAST_EXPIRY - NOW, (), world.entropy)
    assert last.expires == LAST_EXPIRY
    with pytest.raises(ConfigurationError, match="end before the year 10000"):
        issue_token(world.authority, NOW, LAST_EXPIRY + 1 - NOW, (), world.entropy)


def test_token_keys_differ(world):
    second = issue_token(world.authority, NOW, 60.0, (), world.entropy, "second")
    assert second.certificate.token_key != world.token.certificate.token_key


def test_admit_and_verify(world, peer_key):
    chain = admit(world.token, peer_key, NOW + 5)
    assert chain.network == world.authority.network
    assert chain.expires == world.token.expires
    authority_key = world.authority.key.public_bytes
    verify_chain(chain, authority_key, peer_key, NOW + 5)
    again = decode_chain(chain.encode())
    assert again == chain
    verify_chain(again, authority_key, peer_key, chain.expires + CLOCK_TOLERANCE_S)


def test_expired_token_admits_nobody(world, peer_key):
    with pytest.raises(ConfigurationError, match=r"expired on 2023-11-15 22:13 UTC; ask for a new one"):
        admit(world.token, peer_key, world.token.expires)


def test_clock_before_the_token(world, peer_key):
    with pytest.raises(ConfigurationError, match="set the clock"):
        admit(world.token, peer_key, NOW - 3600)
    chain = admit(world.token, peer_key, NOW - CLOCK_TOLERANCE_S / 2)
    verify_chain(chain, world.authority.key.public_bytes, peer_key, NOW)


def test_expired_and_not_yet_valid_chains(world, peer_key):
    chain = admit(world.token, peer_key, NOW)
    key = world.authority.key.public_bytes
    assert (
        reason(verify_chain, chain, key, peer_key, chain.expires + CLOCK_TOLERANCE_S + 1) is Refusal.CERTIFICATE_EXPIRED
    )
    assert reason(verify_chain, chain, key, peer_key, NOW - CLOCK_TOLERANCE_S - 1) is Refusal.CERTIFICATE_EXPIRED


def test_foreign_chain(world, other_world, peer_key):
    chain = admit(other_world.token, peer_key, NOW)
    key = world.authority.key.public_bytes
    assert reason(verify_chain, chain, key, peer_key, NOW) is Refusal.NOT_A_MEMBER
    relabelled = replace(chain, authority_key=key)
    assert reason(verify_chain, relabelled, key, peer_key, NOW) is Refusal.NOT_A_MEMBER
    ours = admit(world.token, peer_key, NOW)
    assert reason(verify_chain, replace(ours, peer=chain.peer), key, peer_key, NOW) is Refusal.NOT_A_MEMBER
    assert reason(verify_chain, replace(ours, token=chain.token), key, peer_key, NOW) is Refusal.NOT_A_MEMBER


def test_chain_of_another_key(world, peer_key):
    chain = admit(world.token, peer_key, NOW)
    thief = SigningKey(b"t" * 32).public_bytes
    assert reason(verify_chain, chain, world.authority.key.public_bytes, thief, NOW) is Refusal.NOT_A_MEMBER


def test_stretched_certificates(world, peer_key):
    """Times are signed, and even a token's own key cannot give more than the token has."""
    chain = admit(world.token, peer_key, NOW)
    key = world.authority.key.public_bytes
    longer = chain.token.expires_ms + 1000
    token = replace(chain.token, expires_ms=longer)
    assert reason(verify_chain, replace(chain, token=token), key, peer_key, NOW) is Refusal.NOT_A_MEMBER
    peer = replace(chain.peer, issued_ms=chain.peer.issued_ms + 1)
    assert reason(verify_chain, replace(chain, peer=peer), key, peer_key, NOW) is Refusal.NOT_A_MEMBER
    token_key = SigningKey(world.token.secret)
    for issued, expires in ((chain.token.issued_ms, longer), (chain.token.issued_ms - 1, chain.token.expires_ms)):
        statement = _peer_statement(key, token_key.public_bytes, peer_key, issued, expires)
        signed = replace(chain, peer=PeerCertificate(issued, expires, token_key.sign(statement)))
        assert reason(verify_chain, signed, key, peer_key, NOW) is Refusal.NOT_A_MEMBER


def test_a_peer_cannot_admit(world, peer_key):
    """A member's certificate gives no right to sign further ones."""
    member = SigningKey(b"p" * 32)
    chain = admit(world.token, member.public_bytes, NOW)
    friend = SigningKey(b"f" * 32).public_bytes
    key = world.authority.key.public_bytes
    start, end = chain.peer.issued_ms, chain.peer.expires_ms
    statement = _peer_statement(key, chain.token.token_key, friend, start, end)
    forged = replace(chain, peer=PeerCertificate(start, end, member.sign(statement)))
    assert reason(verify_chain, forged, key, friend, NOW) is Refusal.NOT_A_MEMBER


def test_chain_bytes_cut_or_touched(world, peer_key):
    data = admit(world.token, peer_key, NOW).encode()
    key = world.authority.key.public_bytes
    for length in range(len(data)):
        assert reason(decode_chain, data[:length]) in (Refusal.MALFORMED, Refusal.OVERSIZED)
    assert reason(decode_chain, data + b"\0") is Refusal.MALFORMED
    for place in range(len(data)):
        touched = bytearray(data)
        touched[place] ^= 1
        with pytest.raises(Refused):
            verify_chain(decode_chain(bytes(touched)), key, peer_key, NOW)


def test_authority_repr_hides_its_seed():
    authority = Authority(SigningKey(b"s" * 32))
    assert "ssss" not in repr(authority)


@pytest.mark.parametrize("good", ["a:1", "seed.example.org:9400", "10.0.0.1:65535", "[::1]:80", "[2001:db8::1]:9"])
def test_addresses(good):
    assert is_address(good)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ":80",
        "a",
        "a:",
        "a:0",
        "a:65536",
        "a:80x",
        "a b:80",
        "::1:80",
        "[a]:80",
        "[zz::]:1",
        "a\n:80",
        "é:80",
        "a:٣",
        "a/b:80",
        "a:999999",
        "user@a:80",
    ],
)
def test_bad_addresses(bad):
    assert not is_address(bad)
