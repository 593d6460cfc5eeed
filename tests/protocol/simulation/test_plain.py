"""Whatever a person writes: a parser either understands it or says what is wrong, and never fails in another way."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.base.errors import ConfigurationError
from protocol.simulation import churn, distributions, faults, network_model, traces
from protocol.simulation.plain import Table

WORDS = ["kind", "preset", "wan", "connections", "nat", "open", "measured", "latency_s", "loss", "up_bytes_per_s"]
WORDS += [*distributions.KINDS, "value", "low", "high", "mean", "median", "sigma", "values", "weights", "width"]
WORDS += [*churn.KINDS, "per_hour", "down_s", "on_s", "off_s", "start_hour", "session_s", "files", "format", "csv", "t"]
WORDS += ["crash", "slow", "partition", "peer", "peers", "random", "groups", "share", "at", "from", "to", "factor"]
words = st.sampled_from(WORDS)
scalars = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | words | st.text(max_size=5)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)


def understood_or_told(parse: Callable[[], object]) -> None:
    problems = ["none"]
    try:
        parse()
    except ConfigurationError as error:
        problems = error.problems
    assert problems
    assert all(problem and "\n" not in problem for problem in problems)


@settings(max_examples=500, deadline=None)
@given(plain)
def test_any_plain_data(data: object) -> None:
    understood_or_told(lambda: distributions.parse(data, "d"))
    understood_or_told(lambda: network_model.parse(data, "n"))
    understood_or_told(lambda: churn.parse(data, "c", 1, {"t": "peer"}))
    understood_or_told(lambda: faults.parse(data, "f", 5))
    understood_or_told(lambda: faults.parse([data], "f"))
    assert all(isinstance(name, str) for name in churn.files(data))


kinds = st.sampled_from([*distributions.KINDS, *churn.KINDS, "crash", "restart", "slow", "skew", "cut", "partition"])


@settings(max_examples=500, deadline=None)
@given(kinds, st.dictionaries(words, plain, max_size=6))
def test_any_parameters_of_a_known_kind(kind: str, parameters: dict[str, object]) -> None:
    data = {**parameters, "kind": kind}
    understood_or_told(lambda: distributions.parse(data, "d"))
    understood_or_told(lambda: churn.parse(data, "c", 1, {"t": "peer"}))
    understood_or_told(lambda: faults.parse([data], "f", 5))


times = ["0", "1", "-1", "17e3", "nan", "2024-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
cells = st.sampled_from([*times, "a", "b", '"', "", "\0", "é"])
rows = st.lists(st.lists(cells | st.text(max_size=4), max_size=4), max_size=6)


@settings(max_examples=500, deadline=None)
@given(rows, st.booleans())
def test_any_text(rows: list[list[str]], with_header: bool) -> None:
    header = "peer,online_from,online_to\n" if with_header else ""
    understood_or_told(lambda: traces.parse_csv(header + "\n".join(",".join(row) for row in rows), "t"))
    understood_or_told(lambda: traces.parse_stunner("\n".join(";".join(row) for row in rows), "t"))


def test_a_table_tells_what_it_was_asked_for() -> None:
    problems: list[str] = []
    table = Table({"a": 1, "b": True, "c": [1, 2], "d": "x" * 100, "e": 2.5}, "t", problems)
    assert table.number("a") == 1.0
    assert table.whole("a") == 1
    assert table.flag("b", False) is True
    assert table.flag("f", False) is False
    assert table.numbers("c", longest=2) == [1.0, 2.0]
    assert table.number("g", 7.0) == 7.0
    assert table.ok
    table.number("b")
    table.whole("e")
    table.whole("z")
    table.numbers("y", longest=2)
    table.numbers("c", longest=1)
    table.word("d", ("x", "y"))
    table.close()
    assert not table.ok
    assert problems == [
        "t.b must be a number, not True",
        "t.e must be a whole number, not 2.5",
        "t needs z",
        "t needs y",
        "t.c must be a list of 1 to 1 numbers",
        f"t.d is '{'x' * 56}...: one of x, y",
    ]
    Table({"q": 1}, "t", problems).close()
    assert problems[-1] == "t has no key 'q'; its keys: "


@pytest.mark.parametrize("data", [3, None, [], "x"])
def test_what_is_not_a_table(data: object) -> None:
    problems: list[str] = []
    assert not Table(data, "t", problems).ok
    assert problems == [f"t must be a table of keys and values, not {data!r}"]
