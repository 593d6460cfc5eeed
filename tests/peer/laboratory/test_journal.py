"""The journal: durable, of one experiment, held by one process, mended after a crash."""

from dataclasses import replace
from pathlib import Path

import pytest

from peer.errors import PeerError
from peer.laboratory.journal import FILE, Header, open_journal, seed_of
from peer.laboratory.kinds import Row
from protocol.base.errors import ConfigurationError

HEADER = Header("try", "trial", "full", 3, "0.1.0", "ab")
ROWS: list[Row] = [{"x": 0.1, "s": "ü\u2028", "n": None, "b": True}]


def mistake(directory: Path, header: Header = HEADER) -> str:
    with pytest.raises(ConfigurationError) as caught:
        open_journal(directory, header)
    (sentence,) = caught.value.problems
    return sentence


def test_what_was_appended_is_found_again(tmp_path: Path) -> None:
    assert seed_of(tmp_path / "new") is None
    with open_journal(tmp_path / "new", HEADER) as journal:
        journal.append("a", ROWS)
        journal.append("b", [])
    with open_journal(tmp_path / "new", HEADER) as journal:
        assert journal.finished == {"a": ROWS, "b": []}
    assert seed_of(tmp_path / "new") == 3


@pytest.mark.parametrize("tail", [b'{"run":"c","ro', b'{"run":"c","rows":[', b"\0\0\0\n", b"\xff"])
def test_what_a_crash_left_of_the_last_line_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    with open_journal(tmp_path, HEADER) as journal:
        journal.append("a", ROWS)
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    with open_journal(tmp_path, HEADER) as journal:
        assert journal.finished == {"a": ROWS}
        journal.append("b", ROWS)
    assert path.read_bytes().startswith(whole)
    with open_journal(tmp_path, HEADER) as journal:
        assert journal.finished == {"a": ROWS, "b": ROWS}


def test_a_crash_while_the_header_was_written(tmp_path: Path) -> None:
    with open_journal(tmp_path, HEADER):
        pass
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:10])
    with open_journal(tmp_path, HEADER) as journal:
        assert journal.finished == {}


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    with open_journal(tmp_path, HEADER) as journal:
        journal.append("a", ROWS)
        journal.append("b", ROWS)
    path = tmp_path / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"nonsense\n" + lines[2])
    assert mistake(tmp_path) == f"{path}, line 2: is damaged; delete that line, and its run is done again"


def test_other_experiments_are_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path, HEADER):
        pass
    path = tmp_path / FILE
    ending = "name another --out, or delete the old results"
    assert mistake(tmp_path, replace(HEADER, seed=4, scale="small", runs="cd")) == (
        f"{path} belongs to another experiment: scale full instead of small, seed 3 instead of 4; {ending}"
    )
    assert mistake(tmp_path, replace(HEADER, runs="cd")) == (
        f"{path} is of the same experiment with other parameters; {ending}"
    )
    path.write_text('{"run": "x"}\n')
    assert mistake(tmp_path) == f"{path} is not the journal of an experiment; name another --out"


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assert mistake(tmp_path) == f"--out {tmp_path} is not empty; name a new directory"
    assert mistake(tmp_path / "thesis.tex").startswith(f"--out {tmp_path / 'thesis.tex'} is a file")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path, HEADER), pytest.raises(PeerError, match="another process is writing"):
        open_journal(tmp_path, HEADER)
    with open_journal(tmp_path, HEADER):
        pass
