"""What a terminal may be given."""

import math

import pytest

from protocol.base.printing import date, is_printable, printable


@pytest.mark.parametrize("text", ["", "two words", "größer", "是", "می\u200cکنم", "👩\u200d🌾"])
def test_labels_of_any_script_stay_as_they_are(text: str) -> None:
    assert is_printable(text)
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\r\x07", "a\\nb\\r\\x07"),
        ("\x9b\u2028\u202e", "\\x9b\\u2028\\u202e"),
        ("\udcff.csv", "\\udcff.csv"),
    ],
)
def test_what_would_move_a_cursor_or_turn_a_line_is_escaped(text: str, shown: str) -> None:
    assert not is_printable(text)
    assert printable(text) == shown


def test_every_time_has_words() -> None:
    assert date(0) == "1970-01-01 00:00 UTC"
    assert date(253_402_300_799) == "9999-12-31 23:59 UTC"
    for no_date in (253_402_300_800, -1e11, 2.0**40, 1e300, math.inf, math.nan):
        assert date(no_date) == "a date that no calendar has"
