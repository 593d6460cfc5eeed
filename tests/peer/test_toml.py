"""What is written as TOML is read back equal."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from peer.toml import key, listed, quoted

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
