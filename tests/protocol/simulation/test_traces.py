"""Recorded traces: what is read from them, and every mistake with its line."""

import pytest

from protocol.base.errors import ConfigurationError
from protocol.simulation import traces
from protocol.simulation.traces import Trace, devices, parse_csv, parse_stunner

HEADER = "peer,online_from,online_to\n"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_csv(text, "t.csv")
    return caught.value.problems


# --- a user's own CSV -----------------------------------------------------------------------------------------------


def test_sessions_in_seconds_in_any_order() -> None:
    text = "\ufeffPeer, online_from ,online_to\r\nbob,10,20.5\r\nann,5,6\r\n\r\nbob,0,4\r\n ann ,6, 1e3\r\n"
    assert parse_csv(text, "t.csv") == Trace(("bob", "ann"), (((0.0, 4.0), (10.0, 20.5)), ((5.0, 1000.0),)))


def test_calendar_times_count_from_the_first() -> None:
    text = HEADER + (
        "a,2024-03-01T12:00:00Z,2024-03-01 13:00:00\n"
        "b,2024-03-01T12:30:00+01:00,2024-03-01T11:45:00\n"
        '"c, the third",2024-03-02,2024-03-02T00:00:01.5Z\n'
    )
    assert parse_csv(text, "t.csv") == Trace(
        ("a", "b", "c, the third"), (((1800.0, 5400.0),), ((0.0, 900.0),), ((45000.0, 45001.5),))
    )


def test_all_mistakes_of_a_csv_are_told_with_their_lines() -> None:
    text = "peer,from,to\na,0,10\na,5,20\nb,9,3\nb,4,4\nc,x,1\nd,1\n,1,2\ne,-1,nan\na,8,9\nf,2024-01-01,7\ng,1,inf\n"
    assert mistakes(text) == [
        "t.csv line 1: the header must be peer,online_from,online_to, not 'peer,from,to'",
        "t.csv line 4: online_to 3 is not after online_from 9",
        "t.csv line 5: online_to 4 is not after online_from 4",
        "t.csv line 6: 'x' is not a number of seconds, as the first time of this text is",
        "t.csv line 7: a line must be peer,online_from,online_to, not 'd,1'",
        "t.csv line 8: a line must be peer,online_from,online_to, not ',1,2'",
        "t.csv line 9: -1 seconds is not a time after the world's start",
        "t.csv line 9: nan seconds is not a time after the world's start",
        "t.csv line 11: '2024-01-01' is not a number of seconds, as the first time of this text is",
        "t.csv line 12: inf seconds is not a time after the world's start",
        "t.csv line 3: this session of 'a' overlaps with that of line 2",
        "t.csv line 10: this session of 'a' overlaps with that of line 3",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["t.csv: is empty"]),
        (" \n\n", ["t.csv: is empty"]),
        (HEADER, ["t.csv: there is no session"]),
        (
            HEADER + "a,2024-01-01,5\n",
            ["t.csv line 2: '5' is not an ISO 8601 time, as the first time of this text is"],
        ),
        (
            HEADER + "a,soon,5\na,1,2\n",
            ["t.csv line 2: 'soon' is not a number of seconds, nor an ISO 8601 time"],
        ),
        (
            HEADER + 'a,0,1\n"b' + "x" * 140_000 + ",1,2\n",
            ["t.csv line 3: is not CSV: field larger than field limit (131072)"],
        ),
    ],
)
def test_texts_that_are_no_trace(text: str, sentences: list[str]) -> None:
    assert mistakes(text) == sentences


def test_a_text_is_bounded_and_so_are_the_sentences_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mistakes(HEADER + "a,2,1\n" * 1000)
    assert len(found) == 101
    assert found[-1] == "t.csv: 900 more mistakes"
    monkeypatch.setattr(traces, "MAX_LINES", 10)
    assert mistakes(HEADER + "a,1,2\n" * 11) == [
        "t.csv: is too large: 93 characters in 12 lines; at most 268435456 in 10"
    ]
    with pytest.raises(ConfigurationError, match="is too large"):
        parse_stunner("1;1\n" * 11, "day")


# --- day files of STUNner ---------------------------------------------------------------------------------------------


def test_a_device_is_online_until_the_next_other_state() -> None:
    day = "1000;0;x\n2000;1;10.0.0.1;4\n3000;1\n4500;0;a;b;c\n5000;1;\n6000;-1;\n6500;-1\n7000;1\n8000;1\n"
    assert parse_stunner(day, "day") == ((2.0, 4.5), (5.0, 6.0), (7.0, 8.0))
    assert parse_stunner("1000;1\n", "day") == ()
    assert parse_stunner("1000;1\n1000;0\n2000;1\n3000;0\n3000;1\n4000;0\n", "day") == ((2.0, 4.0),)


def test_all_mistakes_of_a_day_are_told_with_their_lines() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_stunner("1000;1\nx;0\n900;0\n2000;2\nfoo\n-5;1\n3000;online\n", "day")
    assert caught.value.problems == [
        "day line 2: 'x' is not a time in milliseconds since 1970",
        "day line 3: the time goes back, from 1000 to 900",
        "day line 4: the state must be 1, 0 or -1, not '2'",
        "day line 5: a line must be epoch_ms;state;..., not 'foo'",
        "day line 6: '-5' is not a time in milliseconds since 1970",
        "day line 7: the state must be 1, 0 or -1, not 'online'",
    ]
    with pytest.raises(ConfigurationError) as caught:
        parse_stunner("", "day")
    assert caught.value.problems == ["day: is empty"]


def test_devices_share_one_clock() -> None:
    found = devices([("one", "5000;1\n9000;0\n"), ("none", "1000;0\n"), ("two", "7000;1\n8000;-1\n")])
    assert found == Trace(("one", "none", "two"), (((0.0, 4.0),), (), ((2.0, 3.0),)))
    with pytest.raises(ConfigurationError) as caught:
        devices([("one", "5000;3\n"), ("two", "x;1\n")])
    assert caught.value.problems == [
        "one line 1: the state must be 1, 0 or -1, not '3'",
        "two line 1: 'x' is not a time in milliseconds since 1970",
    ]
