"""The task: everything that peers must agree on to train one model together, and its canonical encoding.

Neighbours: ``peer.learning.taskfile`` makes one from a TOML file and adds what only the model knows
(``dimension``); ``state`` lays out a checkpoint, ``aggregation`` reads S, K, shape and encoding from it.
Invariants: frozen; the id is the digest of the canonical encoding, so equal ids mean equal tasks; ``validate``
reports every mistake at once; a task never names code to import.
"""

import hashlib
import math
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Any

import msgpack

from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.ids import TaskId
from protocol.base.limits import (
    MAX_BATCH,
    MAX_BODY,
    MAX_BRANCHING,
    MAX_BULK,
    MAX_COHORT,
    MAX_COLLUSION_THRESHOLD,
    MAX_COORDINATES,
    MAX_DEPTH,
    MAX_FEATURES,
    MAX_NAME,
    MAX_SEEDS_PER_HOP,
    MAX_STATISTICS_ROUNDS,
    MAX_STEPS,
    MAX_TASK,
    MAX_WALKS,
    MAX_WORK,
)
from protocol.base.printing import is_printable
from protocol.identity.fields import Reader
from protocol.identity.keys import KemSuite
from protocol.identity.sealing import SEED_BYTES

LEAST_BOUND, MOST_BOUND = 2.0**-64, 2.0**64
"""Where ``clip`` and ``loss_bound`` must lie: well inside what ``masking.ring`` encodes, whatever is made of them."""
_EXTRA_COORDINATES = 3
"""Weight, loss and hits, which travel behind the gradient."""
_SEED_IN_PARTIAL = SEED_BYTES + max(suite.overhead for suite in KemSuite) + 22
"""Bytes of one mask seed on its way: sealed in the longest way, its contributor's id, and what frames the two."""
_AROUND_PARTIAL = 8192
"""More than anything else of a partial takes, and its envelope with the sender's descriptor."""
_NESTED = {"hyper": 2, "ranges": 2, "features": 1, "classes": 1, "target_range": 1}
"""Fields that are arrays, or arrays of arrays."""
LEAST_FACTOR = 1.0 / 32.0
"""In a statistics round a peer multiplies its moments of each feature by a random factor from here to 1."""


class RoundKind(IntEnum):
    """What a round sums."""

    STATISTICS = 0
    """Per-feature sums for standardisation: randomly weighted first and second moments of fresh samples, scaled to the
    ranges."""
    GRADIENT = 1


Scalar = int | float | str | bool


@dataclass(frozen=True)
class Task:
    """A training task.  Field order is the canonical order; add new fields at the end, with a default.

    Without slots, so that the encoding and the id are computed once: they are asked for in every round.
    """

    name: str
    public_data: bool
    model: str
    """``linear | logistic | softmax | svm | mlp`` or a name that each peer's own configuration maps to a class."""
    hyper: tuple[tuple[str, Scalar], ...]
    """The model's own parameters, sorted by name (for example ``("hidden", 64)``)."""
    schema: str
    """What a peer binds its data to."""
    features: tuple[str, ...]
    """Feature names in order."""
    target: str
    classes: tuple[str, ...]
    """Class labels in order, as text; empty for regression."""
    ranges: tuple[tuple[float, float], ...]
    """Public (low, high) of every feature: values are clipped to it and scaled to [-1, 1]."""
    target_range: tuple[float, float]
    """Public (low, high) of a regression target; (0, 0) for classification."""
    statistics_rounds: int
    """Rounds of secure sums that estimate mean and variance of every feature before training; 0: none."""
    dimension: int
    """Number of model parameters."""
    learning_rate: float
    learning_rate_decay: float
    """``lr(t) = learning_rate / (1 + learning_rate_decay * t)`` with t the training steps so far."""
    momentum: float
    weight_decay: float
    batch_per_peer: int
    steps: int
    """Training steps after which walks stop (the age also counts the statistics rounds)."""
    collusion_threshold: int
    minimum_cohort: int
    branching: int
    cohort: int
    modulus_bits: int
    clip: float
    """Bound on the L2 norm of one contribution's mean gradient."""
    loss_bound: float
    """Upper bound at which a record's reported loss is cut off."""
    walks: int
    initial_seed: int
    """Seed of the initial parameters."""

    def __hash__(self) -> int:
        return hash(self.id)

    def encode(self) -> bytes:
        """The canonical encoding: a msgpack array of the fields in order, floats as 64-bit."""
        return self._encoding

    @cached_property
    def _encoding(self) -> bytes:
        return bytes(msgpack.packb([_plain(getattr(self, f.name)) for f in fields(self)], use_bin_type=True))

    @cached_property
    def id(self) -> TaskId:
        """Truncated SHA-256 of the canonical encoding."""
        return TaskId(hashlib.sha256(b"susurrus task\0" + self.encode()).digest()[:16])

    @cached_property
    def last_age(self) -> int:
        """The age at which walks of this task stop."""
        return self.statistics_rounds + self.steps

    def kind_at(self, age: int) -> RoundKind:
        """What the round that starts from a model of this age sums."""
        return RoundKind.STATISTICS if age < self.statistics_rounds else RoundKind.GRADIENT

    def validate(self) -> None:
        """Raise ``ConfigurationError`` with one sentence for every impossible value."""
        problems: list[str] = []

        def need(ok: bool, sentence: str) -> None:
            if not ok:
                problems.append(sentence)

        s = self.collusion_threshold
        for key, given in (("task.name", self.name), ("task.model", self.model)):
            good = 0 < len(given) <= MAX_NAME and is_printable(given)
            need(good, f"{key} must have 1 to {MAX_NAME} printable characters")
        need(is_printable(self.schema), "data.schema must have printable characters alone")
        need(is_printable(self.target), "data.target must have printable characters alone")
        need(all(map(is_printable, self.classes)), "data.classes must have printable characters alone")
        need(
            2 <= s <= MAX_COLLUSION_THRESHOLD,
            f"aggregation.collusion_threshold must be 2 to {MAX_COLLUSION_THRESHOLD}, not {s}",
        )
        need(
            self.minimum_cohort >= s + 1,
            f"aggregation.minimum_cohort must be at least collusion_threshold + 1 = {s + 1}, not {self.minimum_cohort}",
        )
        need(
            self.cohort >= self.minimum_cohort,
            f"aggregation.cohort must be at least minimum_cohort = {self.minimum_cohort}, not {self.cohort}",
        )
        need(self.cohort <= MAX_COHORT, f"aggregation.cohort must be at most {MAX_COHORT}")
        need(
            1 <= self.branching <= MAX_BRANCHING,
            f"aggregation.branching must be 1 to {MAX_BRANCHING}, not {self.branching}",
        )
        need(
            self.branching != 1 or self.minimum_cohort <= MAX_DEPTH + 1,
            f"aggregation.branching = 1 makes chains of at most {MAX_DEPTH + 1} peers, fewer than minimum_cohort",
        )
        need(
            self.modulus_bits in (16, 32, 64), f"aggregation.modulus_bits must be 16, 32 or 64, not {self.modulus_bits}"
        )
        need(_bound(self.clip), "aggregation.clip must be a positive number, neither tiny nor huge")
        need(_bound(self.loss_bound), "training.loss_bound must be a positive number, neither tiny nor huge")
        need(_positive(self.learning_rate), "training.learning_rate must be a positive number")
        need(
            _finite(self.learning_rate_decay) and self.learning_rate_decay >= 0,
            "training.learning_rate_decay must not be negative",
        )
        need(_finite(self.momentum) and 0 <= self.momentum < 1, "training.momentum must be in [0, 1)")
        need(_finite(self.weight_decay) and self.weight_decay >= 0, "training.weight_decay must not be negative")
        need(1 <= self.batch_per_peer <= MAX_BATCH, f"training.batch_per_peer must be 1 to {MAX_BATCH}")
        need(
            self.batch_per_peer * self.dimension <= MAX_WORK,
            f"training.batch_per_peer times the model's parameters must be at most {MAX_WORK}",
        )
        need(1 <= self.steps <= MAX_STEPS, f"training.steps must be 1 to {MAX_STEPS}")
        need(
            0 <= self.statistics_rounds <= MAX_STATISTICS_ROUNDS,
            f"data.statistics_rounds must be 0 to {MAX_STATISTICS_ROUNDS}",
        )
        need(1 <= self.walks <= MAX_WALKS, f"aggregation.walks must be 1 to {MAX_WALKS}, not {self.walks}")
        most = MAX_COORDINATES - _EXTRA_COORDINATES
        need(1 <= self.dimension <= most, f"the model must have 1 to {most} parameters")
        need(0 < len(self.features) <= MAX_FEATURES, f"data.features must name 1 to {MAX_FEATURES} features")
        need(len(self.ranges) == len(self.features), "data.ranges must give one (low, high) for every feature")
        need(
            all(is_span(a, b) for a, b in self.ranges),
            "data.ranges must be finite, each low below its high, and so must their widths",
        )
        need(
            self.classes != () or is_span(*self.target_range),
            "data.target_range must give the low and the high of a regression target",
        )
        need(
            len(self.classes) != 1 and len(set(self.classes)) == len(self.classes),
            "data.classes must name at least two different classes",
        )
        need(
            self.modulus_bits not in (16, 32, 64) or self.cohort < 2 ** (self.modulus_bits - 3),
            f"aggregation.cohort is too large for modulus_bits = {self.modulus_bits}",
        )
        problems += self._too_large()
        if problems:
            raise ConfigurationError(problems)

    def _too_large(self) -> list[str]:
        """What would not fit into a message."""
        problems = []
        state = 4 * self.dimension * (2 if self.momentum else 1) + 8 * len(self.features)
        vector = (self.dimension + _EXTRA_COORDINATES) * self.modulus_bits // 8
        if max(state, vector) > MAX_BULK:
            problems.append(f"model and contribution must fit into {MAX_BULK} bytes each: use fewer parameters")
        if 2 <= self.collusion_threshold <= MAX_COLLUSION_THRESHOLD and 1 <= self.branching <= MAX_BRANCHING:
            below = sum(self.branching**i for i in range(1, self.collusion_threshold))
            if min(self.cohort, below) > MAX_SEEDS_PER_HOP:
                problems.append(
                    f"aggregation: over {MAX_SEEDS_PER_HOP} mask seeds would meet at one peer; "
                    "use a smaller branching, collusion_threshold or cohort"
                )
            elif not problems and vector + self._most_seeds() * _SEED_IN_PARTIAL + _AROUND_PARTIAL > MAX_BODY:
                problems.append(
                    f"a contribution and the mask seeds that travel with it must fit into {MAX_BODY} bytes: "
                    "use fewer parameters or a smaller branching, collusion_threshold or cohort"
                )
        return problems

    def _most_seeds(self) -> int:
        """No partial of any planned tree holds more seeds: see SPEC.md, section 12.3."""
        s, most, cap = self.collusion_threshold, 0, self.cohort
        for depth in range(1, s + 1):  # below S the same seeds travel in smaller subtrees
            rest, smallest = cap - 1, s - depth + 1
            cap = min(rest, max(-(-rest // self.branching), 2 * smallest - 1))
            seeds, left = depth - 1, max(0, cap - 1)
            for level in range(1, s):
                there = min(self.branching**level, left)
                seeds += there * min(s - level, depth)
                left -= there
            most = max(most, seeds)
        return most


def decode(encoding: bytes) -> Task:
    """The task of a canonical encoding.  Raises ``Refused`` for anything that is not one, exactly."""
    return _decode(bytes(encoding))


@lru_cache(maxsize=16)
def _decode(encoding: bytes) -> Task:
    try:
        if len(encoding) > MAX_TASK:
            raise Refused(Refusal.OVERSIZED, "task")
        task = Task(**_read(Reader(encoding)))
        _check_types(task)
        task.validate()
        if task.encode() != encoding:
            raise Refused(Refusal.MALFORMED, "task encoding is not canonical")
    except Refused:
        raise
    except Exception as error:  # whatever a stranger's bytes provoke is their mistake
        raise Refused(Refusal.MALFORMED, "task") from error
    return task


def _read(reader: Reader) -> dict[str, Any]:
    """The fields as they stand there.  Arrays are opened only where a task has some: nested headers that each claim a
    long one would else make msgpack allocate a thousand times what they take.
    """
    names = [f.name for f in fields(Task)]
    if reader.count() != len(names):
        raise Refused(Refusal.MALFORMED, "task")
    values = {name: _value(reader, _NESTED.get(name, 0)) for name in names}
    if not reader.finished():
        raise Refused(Refusal.MALFORMED, "task")
    return values


def _value(reader: Reader, nested: int) -> Any:
    return tuple([_value(reader, nested - 1) for _ in range(reader.count())]) if nested else reader.value()


@dataclass(frozen=True, slots=True)
class SignedTask:
    """A task as it travels: with the Ed25519 public key (32 bytes) and signature of who submitted it."""

    task: Task
    submitter_key: bytes
    signature: bytes


def is_span(low: float, high: float) -> bool:
    """Whether values between these bounds can be scaled: finite, in order, and no infinite way apart."""
    return math.isfinite(low) and math.isfinite(high) and low < high and math.isfinite(float(high) - float(low))


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _bound(value: float) -> bool:
    return LEAST_BOUND <= value <= MOST_BOUND


def _check_types(task: Task) -> None:
    def is_text_tuple(value: object) -> bool:
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)

    def is_pair(value: object) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(type(v) is float for v in value)

    for f in fields(Task):
        value = getattr(task, f.name)
        match f.name:
            case "features" | "classes":
                ok = is_text_tuple(value)
            case "ranges":
                ok = isinstance(value, tuple) and all(is_pair(v) for v in value)
            case "target_range":
                ok = is_pair(value)
            case "hyper":
                ok = isinstance(value, tuple) and all(
                    isinstance(v, tuple) and len(v) == 2 and isinstance(v[0], str) and isinstance(v[1], Scalar)
                    for v in value
                )
            case _:
                ok = type(value) is f.type
        if not ok:
            raise Refused(Refusal.MALFORMED, f"task field {f.name}")
