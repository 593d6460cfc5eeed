"""What server and client share: the two paths, an answer, and the error of an exchange that did not happen.

Neighbours: ``server`` and ``client`` import it; ``addresses`` raises ``Unreachable`` too.
Invariants: values only; ``Unreachable`` never carries a body.
"""

from dataclasses import dataclass

ENVELOPE_PATH = "/v1/envelope"
"""One sealed envelope per POST."""
HELLO_PATH = "/v1/hello"
"""A small clear-text body: how a newcomer asks a seed who it is."""

BODY_TYPE = "application/octet-stream"
MAX_ANSWER = 64 * 2**10
"""Largest body of an answer that a client takes, bytes: a refusal's sentence, or a few descriptors."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint says: an HTTP status and a small opaque body."""

    status: int
    body: bytes = b""

    @property
    def accepted(self) -> bool:
        """Whether the body was taken (status 2xx)."""
        return 200 <= self.status < 300


class Unreachable(Exception):
    """An exchange with ``address`` did not take place; ``why`` is one human sentence without the address."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"{address} cannot be reached: {why}")
        self.address = address
        self.why = why
