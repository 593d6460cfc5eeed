"""Whose keys and certificates the peers of a world have: fresh ones, or those of a pool that many worlds share.

Neighbours: ``world`` asks it for every life that begins without a disk; ``randomworlds`` keeps one pool for all worlds.
Invariants: what is given depends on the entropy or the number asked for alone, never on what was given before: a world
has the same ids whether its pool is new or has served a thousand others.  No two lives of a world share a key.
"""

from functools import cache
from typing import Protocol

from protocol.base.entropy import SeededEntropy
from protocol.identity.admission import Authority, Chain, JoinToken, admit, issue_token
from protocol.identity.keys import SigningKey
from protocol.simulation.standins import StandInSigningKey

_CHAIN_S = 3.0e8
"""Certificates outlive every simulation."""


class Identities(Protocol):
    """One network and its members."""

    authority_key: bytes

    def member(self, entropy: SeededEntropy, exact: bool) -> tuple[SigningKey, Chain]:
        """The next member's signing key, real or stood in, and what admits it."""
        ...


class Fresh:
    """A network of its own; keys are drawn from the entropy of the peer."""

    def __init__(self, entropy: SeededEntropy, start: float) -> None:
        self._start = start
        self._token = _token(entropy, start)
        self.authority_key = self._token.authority_key

    def member(self, entropy: SeededEntropy, exact: bool) -> tuple[SigningKey, Chain]:
        """Admitted now."""
        key = _key(entropy.token(32), exact)
        return key, admit(self._token, key.public_bytes, self._start)


class Pooled:
    """Members ``first``, ``first + 1`` and so on of the one network of all pools; made once in a process."""

    def __init__(self, start: float, first: int) -> None:
        self._start, self._next = start, first
        self.authority_key = _pool_token(start).authority_key

    def member(self, entropy: SeededEntropy, exact: bool) -> tuple[SigningKey, Chain]:
        """The next one."""
        self._next += 1
        return _pool_member(self._start, self._next - 1, exact)


@cache
def _pool_token(start: float) -> JoinToken:
    return _token(SeededEntropy("pool"), start)


@cache
def _pool_member(start: float, number: int, exact: bool) -> tuple[SigningKey, Chain]:
    key = _key(SeededEntropy(f"pool member {number}").token(32), exact)
    return key, admit(_pool_token(start), key.public_bytes, start)


def _token(entropy: SeededEntropy, start: float) -> JoinToken:
    authority = Authority(SigningKey(entropy.token(32)))
    return issue_token(authority, start, _CHAIN_S, (), entropy, "simulation")


def _key(seed: bytes, exact: bool) -> SigningKey:
    return SigningKey(seed) if exact else StandInSigningKey(seed)
