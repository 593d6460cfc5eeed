"""Two kinds of error, never mixed: ours (a caller broke a contract) and theirs (a stranger sent something bad).

Neighbours: ``wire`` and ``identity`` raise ``Refused``; the driver counts it and answers the stranger.
Invariants: a ``Refused`` always carries a ``Refusal`` member and changes no state; its sentence holds no secret.
"""

from enum import Enum


class Refusal(Enum):
    """Why bytes or a message from outside were not taken.  Value: one human sentence."""

    MALFORMED = "the bytes are not a well-formed message"
    OVERSIZED = "the message is larger than its kind allows"
    VERSION = "the message speaks another protocol version"
    WRONG_NETWORK = "the message belongs to another network"
    WRONG_RECIPIENT = "the message is addressed to another peer"
    UNKNOWN_SENDER = "the sender's descriptor is not known here"
    NOT_A_MEMBER = "the sender has no valid certificate of this network"
    CERTIFICATE_EXPIRED = "the sender's certificate has expired"
    DESCRIPTOR_EXPIRED = "the descriptor has expired, or one of the two clocks is wrong"
    BAD_SIGNATURE = "the signature does not verify"
    BAD_SEAL = "the sealed body does not open"
    UNKNOWN_EPOCH = "the message is sealed to a key that is gone"
    EXPIRED = "the message has expired, or one of the two clocks is wrong"
    FAR_FUTURE = "the message's expiry lies too far ahead, or one of the two clocks is wrong"
    REPLAYED = "the message was seen before"
    OUT_OF_PHASE = "the message does not fit the state of its round"
    NOT_EXPECTED = "the sender has no part in what the message speaks of"
    OVER_CAP = "the partial counts more contributions than its cap"
    BAD_SEEDS = "a mask seed is missing, doubled or cannot be opened"
    WRONG_LENGTH = "the vector has not the length that the task says"
    BUSY = "too much is waiting here already"


class Refused(Exception):
    """Something from outside was refused; ``reason`` says why, ``detail`` where (never a secret)."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(reason.value + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail


class ConfigurationError(ValueError):
    """Something that a person wrote cannot be used.  ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PrivacyRefusal(Exception):
    """A privacy guarantee refused the work (exit code 3)."""
