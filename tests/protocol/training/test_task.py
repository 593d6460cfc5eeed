"""Tasks: one canonical encoding, every mistake told at once, and bytes of strangers that are refused and no more."""

import tracemalloc
from bisect import bisect_left
from collections import Counter
from dataclasses import fields, replace
from functools import cache
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.aggregation.opening import encoding_of
from protocol.aggregation.shape import child_caps
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.limits import MAX_BODY, MAX_BULK, MAX_DESCRIPTOR, MAX_TASK
from protocol.base.printing import is_printable
from protocol.training import task as tasks
from protocol.training.task import RoundKind, Task
from protocol.wire import codec
from protocol.wire import messages as m
from tests.protocol.world import make_task

FULL = make_task(
    hyper=(("activation", "tanh"), ("depth", 2), ("dropout", 0.5), ("hidden", 64), ("skip", True)), momentum=0.9
)
TASKS = st.builds(
    lambda name, hyper, s, k, b, cohort, bits, steps, rounds, clip, ranges: make_task(
        name=name, hyper=tuple(sorted(hyper.items())), collusion_threshold=s, minimum_cohort=s + k, branching=b,
        cohort=s + k + cohort, modulus_bits=bits, steps=steps, statistics_rounds=rounds, clip=clip,
        features=tuple(f"f{i}" for i in range(len(ranges))), ranges=tuple((a, a + w) for a, w in ranges),
    ),
    st.text(min_size=1, max_size=100).filter(is_printable),
    st.dictionaries(st.text(max_size=9), st.one_of(st.integers(-9, 2**60), st.floats(), st.text(), st.booleans())),
    st.integers(2, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 500), st.sampled_from([16, 32, 64]),
    st.integers(1, 10**6), st.integers(0, 9), st.floats(1e-6, 1e6),
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1.0, 1e6)), min_size=1, max_size=5),
)  # fmt: skip


@given(TASKS)
def test_a_task_survives_its_encoding(task: Task) -> None:
    again = tasks.decode(task.encode())
    assert again.encode() == task.encode()
    assert again.id == task.id
    assert len(task.id) == 16


def test_the_encoding_is_pinned() -> None:
    """Tasks of running networks must keep their ids: a change here is a new protocol version."""
    assert make_task().id.hex() == PINNED


PINNED = "9e417568a64ea2acf6be03e3f80d7507"


def test_every_field_counts_for_the_id() -> None:
    seen = {FULL.id}
    for f in fields(Task):
        value = getattr(FULL, f.name)
        match value:
            case bool():
                changed: Any = not value
            case int():
                changed = value + 1
            case float():
                changed = value + 0.25
            case str():
                changed = value + "x"
            case _:
                changed = (*value, value[0]) if f.name != "target_range" else (0.0, 1.0)
        seen.add(replace(FULL, **{f.name: changed}).id)
    assert len(seen) == len(fields(Task)) + 1


def test_ages_and_kinds() -> None:
    task = make_task(statistics_rounds=2, steps=5)
    assert task.last_age == 7
    assert [task.kind_at(age) for age in (0, 1, 2, 6)] == [RoundKind.STATISTICS] * 2 + [RoundKind.GRADIENT] * 2


HEAVY: dict[str, Any] = {"dimension": 5_767_000, "modulus_bits": 64, "cohort": 1_000_000}
"""The largest model: the seeds of a usual shape fit beside it, and no more."""
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "task.name"),
    ({"model": ""}, "task.model"),
    ({"collusion_threshold": 1}, "collusion_threshold must be 2 to 16"),
    ({"collusion_threshold": 17, "minimum_cohort": 18}, "collusion_threshold must be 2 to 16"),
    ({"minimum_cohort": 3}, "minimum_cohort must be at least collusion_threshold + 1 = 4"),
    ({"cohort": 3}, "cohort must be at least minimum_cohort"),
    ({"cohort": 2_000_000}, "cohort must be at most"),
    ({"branching": 0}, "branching must be"),
    ({"branching": 65}, "branching must be"),
    ({"modulus_bits": 24}, "modulus_bits must be 16, 32 or 64"),
    ({"modulus_bits": 16, "cohort": 9000}, "too large for modulus_bits"),
    ({"clip": 0.0}, "clip must be"),
    ({"clip": float("nan")}, "clip must be"),
    ({"clip": 1e-200}, "clip must be"),
    ({"clip": 1e200}, "clip must be"),
    ({"loss_bound": float("inf")}, "loss_bound must be"),
    ({"loss_bound": 1e300}, "loss_bound must be"),
    ({"learning_rate": -1.0}, "learning_rate must be"),
    ({"learning_rate_decay": -0.1}, "learning_rate_decay"),
    ({"momentum": 1.0}, "momentum"),
    ({"weight_decay": float("nan")}, "weight_decay"),
    ({"batch_per_peer": 0}, "batch_per_peer"),
    ({"batch_per_peer": 100_001, "dimension": 1_000_000}, "times the model's parameters must be at most 100000000000"),
    ({"steps": 0}, "steps"),
    ({"statistics_rounds": -1}, "statistics_rounds"),
    ({"walks": 0}, "walks"),
    ({"walks": 33}, "walks"),
    ({"dimension": 0}, "parameters"),
    ({"dimension": 10_000_000}, "parameters"),
    ({"features": (), "ranges": ()}, "name 1 to 100000 features"),
    ({"branching": 1, "minimum_cohort": 66, "cohort": 100}, "chains of at most 65 peers"),
    ({"ranges": ((0.0, 1.0),)}, "one (low, high) for every feature"),
    ({"ranges": ((0.0, 1.0), (1.0, 1.0))}, "each low below its high"),
    ({"name": "harmless\x1b[2J"}, "task.name must have 1 to 100 printable"),
    ({"model": "linear\nsoftmax"}, "task.model"),
    ({"schema": "toy\x07"}, "data.schema must have printable"),
    ({"target": "kind\r"}, "data.target must have printable"),
    ({"classes": ("yes", "\u202eno")}, "data.classes must have printable"),
    ({"classes": ("0",)}, "at least two different classes"),
    ({"classes": ("0", "0")}, "at least two different classes"),
    ({"classes": (), "target_range": (1.0, 1.0)}, "target_range"),
    ({"dimension": 9_000_000, "modulus_bits": 64}, "must fit into"),
    ({"ranges": ((0.0, 1.0), (-1.5e308, 1.5e308))}, "so must their widths"),
    ({"classes": (), "target_range": (-1.5e308, 1.5e308)}, "target_range"),
    ({"classes": (), "target_range": (0.0, float("inf"))}, "target_range"),
    ({"branching": 64, "collusion_threshold": 4, "minimum_cohort": 5, "cohort": 100_000}, "mask seeds"),
    (HEAVY | {"collusion_threshold": 12, "minimum_cohort": 13}, "the mask seeds that travel with it must fit into"),
    (HEAVY | {"branching": 63}, "the mask seeds that travel with it must fit into"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG)
def test_one_mistake_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        replace(make_task(), **changes).validate()
    assert len(error.value.problems) == 1
    assert sentence in error.value.problems[0]
    with pytest.raises(Refused):
        tasks.decode(replace(make_task(), **changes).encode())


def test_names_and_labels_may_be_of_any_script() -> None:
    task = replace(make_task(), name="größer, 是", target="نوع", classes=("می\u200cکنم", "हाँ", "👩\u200d🌾"))
    assert tasks.decode(task.encode()) == task


def test_all_mistakes_are_told_at_once() -> None:
    wrong = replace(make_task(), name="", clip=-1.0, steps=0, walks=99, momentum=2.0, modulus_bits=7)
    with pytest.raises(ConfigurationError) as error:
        wrong.validate()
    assert len(error.value.problems) == 6


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(Refused):
        tasks.decode(junk)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(st.integers(0, len(fields(Task)) - 1), JUNK)
def test_a_field_of_anything_is_refused_or_taken_as_it_is(index: int, junk: Any) -> None:
    """Whatever stands in one field: a ``Refused``, or a valid task with exactly these bytes."""
    raw = msgpack.unpackb(FULL.encode())
    raw[index] = junk
    encoding = msgpack.packb(raw)
    try:
        task = tasks.decode(encoding)
    except Refused:
        return
    task.validate()
    assert task.encode() == encoding


@given(st.integers(0, 1999), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_task(at: int, byte: int) -> None:
    encoding = bytearray(FULL.encode())
    at %= len(encoding)
    before = encoding[at]
    encoding[at] = byte
    try:
        task = tasks.decode(bytes(encoding))
    except Refused:
        return
    assert task.encode() == bytes(encoding)
    assert (task.id == FULL.id) == (byte == before)


def test_what_is_not_canonical() -> None:
    raw = msgpack.unpackb(FULL.encode())
    steps = [f.name for f in fields(Task)].index("steps")
    lax = [
        FULL.encode() + b"\x00",
        msgpack.packb(raw[:-1]),
        msgpack.packb([*raw, 0]),
        msgpack.packb(raw, use_single_float=True),
        # the same number in more bytes than it needs
        FULL.encode().replace(msgpack.packb(raw[steps]), b"\xcd\x00" + bytes([raw[steps]])),
        msgpack.packb([*raw[:steps], float(raw[steps]), *raw[steps + 1 :]]),
        msgpack.packb([*raw[:steps], True, *raw[steps + 1 :]]),
    ]
    for encoding in lax:
        with pytest.raises(Refused) as refused:
            tasks.decode(encoding)
        assert refused.value.reason is Refusal.MALFORMED
    with pytest.raises(Refused) as refused:
        tasks.decode(bytes(MAX_TASK + 1))
    assert refused.value.reason is Refusal.OVERSIZED


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(Refused):
        tasks.decode(b"\x91" * 60_000)


def test_headers_that_claim_much_cost_nothing() -> None:
    """A thousand nested arrays, each said to be long: a small multiple of the bytes is allocated, not megabytes."""
    bomb = (b"\xdc" + (65_000).to_bytes(2, "big")) * 1000
    bomb += b"\xc0" * (MAX_TASK - len(bomb))
    head = FULL.encode()[: FULL.encode().index(b"\x95")]  # up to the array of hyper-parameters
    for data in (bomb, (head + bomb)[:MAX_TASK]):
        tracemalloc.start()
        try:
            with pytest.raises(Refused):
                tasks.decode(data)
            assert tracemalloc.get_traced_memory()[1] < 16 * MAX_TASK
        finally:
            tracemalloc.stop()


EXTREMES = [
    {"clip": clip, "loss_bound": loss, "batch_per_peer": batch, "modulus_bits": bits, "cohort": 4 + cohort}
    for clip in (2.0**-64, 2.0**64)
    for loss in (2.0**-64, 2.0**64)
    for batch in (1, 1_000_000)
    for bits, cohort in ((16, 8187), (32, 999_996), (64, 0))
]


@pytest.mark.parametrize("changes", [*EXTREMES, {"dimension": 9_999_997}])
def test_whatever_is_valid_can_be_encoded(changes: dict[str, Any]) -> None:
    """Else a stranger's task would stop a peer at the first offer of a round."""
    task = make_task(**changes)
    for kind in RoundKind:
        encoding = encoding_of(task, kind, task.cohort)
        assert encoding.nbytes <= MAX_BULK


@cache
def planned(depth: int, cap: int, branching: int, threshold: int) -> tuple[tuple[int, ...], int]:
    """Of a planned subtree: contributors 0 to S - 1 levels below its root, and the most seeds of any partial in it."""
    levels, most = [1] + [0] * (threshold - 1), 0
    for child, count in Counter(child_caps(depth, cap, branching, threshold)).items():
        below, inside = planned(depth + 1, child, branching, threshold)
        levels[1:] = [there + count * under for there, under in zip(levels[1:], below, strict=False)]
        most = max(most, inside)
    own = min(threshold, depth) - 1
    seeds = own + sum(there * min(threshold - i, depth) for i, there in enumerate(levels[1:], start=1))
    return tuple(levels), max(most, seeds) if depth else most


@pytest.mark.parametrize(
    ("threshold", "branching"), [(2, 1), (16, 1), (3, 2), (5, 3), (8, 2), (12, 2), (3, 63), (2, 64), (4, 16)]
)
def test_the_most_seeds_of_a_partial_are_those_of_the_worst_planned_tree(threshold: int, branching: int) -> None:
    most = 0
    for cohort in [*range(threshold + 1, 300), 1000, 4000]:
        task = replace(make_task(), collusion_threshold=threshold, branching=branching, cohort=cohort)
        most = max(most, planned(0, cohort, branching, threshold)[1])
        assert task._most_seeds() == most


@pytest.mark.parametrize(("threshold", "branching"), [(3, 2), (12, 2), (3, 63)])
def test_the_largest_partial_of_a_valid_task_can_be_sent_and_little_more(threshold: int, branching: int) -> None:
    shape = HEAVY | {"collusion_threshold": threshold, "minimum_cohort": threshold + 1, "branching": branching}

    def refused(dimension: int) -> bool:
        return bool(replace(make_task(), **shape | {"dimension": dimension})._too_large())

    largest = bisect_left(range(10_000_000), True, key=refused) - 1
    task = make_task(**shape | {"dimension": largest})
    seeds = [m.SealedSeed(i.to_bytes(16, "big"), bytes(1168)) for i in range(task._most_seeds())]
    groups = tuple(tuple(seeds[i::threshold]) for i in range(threshold))
    vector = bytes(8 * (task.dimension + 3))
    head, tail = codec.encode(m.Partial(b"r" * 16, 999_999, threshold, groups, vector))
    envelope = 88 + MAX_DESCRIPTOR + 64 + 1120 + len(head) + len(tail) + 16
    assert envelope <= MAX_BODY
    assert envelope > MAX_BODY - 8192 or len(vector) > MAX_BULK - 8
