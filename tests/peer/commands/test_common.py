"""What people and programs read."""

import json
import math

import pytest

from peer.commands.common import print_json, shown, size, table


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [math.inf, 1.5], "c": "ü"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "ü"}


def test_tables_are_aligned() -> None:
    text = table([{"a": "long value", "b": 1.23456}, {"a": None, "b": True}], {"a": "first", "b": "second"})
    assert text == "first       second\nlong value  1.235\n-           yes"


def test_what_others_wrote_moves_no_cursor_and_begins_no_line() -> None:
    text = table([{"a": "\x1b[2Jx\nforged  line", "b": ["\x07", "größer"]}], {"a": "first", "b": "second"})
    assert text.splitlines()[1:] == ["\\x1b[2Jx\\nforged  line  \\x07, größer"]


def test_values() -> None:
    assert [shown(v) for v in (None, False, math.nan, [], ("a", 2), 7)] == ["-", "no", "-", "-", "a, 2", "7"]
    assert [size(v) for v in (None, 999, 1000, 2.5e6, 3e9, 4e12)] == [
        "-",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]
