"""What is written as TOML is read back equal."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.toml import key, listed, parsed, quoted

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT)
def test_strings(value: str) -> None:
    assert tomllib.loads(f"x = {quoted(value)}") == {"x": value}


@given(st.lists(TEXT))
def test_lists(values: list[str]) -> None:
    assert tomllib.loads(f"x = {listed(values)}") == {"x": values}


@given(TEXT)
def test_keys(name: str) -> None:
    assert tomllib.loads(f"[data.{key(name)}]\nx = 1") == {"data": {name: {"x": 1}}}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("[a", "Expected ']'"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "9" * 5000, "a number in it has thousands of digits"),
        ("[b]\na = [0x" + "f" * 5000 + "]", "a number in it has thousands of digits"),
    ],
)
def test_every_mistake_is_a_sentence(source: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parsed(source)


def test_numbers_of_any_size_that_can_be_told_are_read() -> None:
    assert parsed("a = " + "9" * 400) == {"a": 10**400 - 1}
