"""Writing and reading recordings: nothing lost, nothing loose."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.audit import Recorder, Unreadable, audit
from peer.audit.recording import BadLine, encode_record, parse_record, read_lines, recording_files
from peer.errors import PeerError
from protocol.base.errors import ConfigurationError
from protocol.base.ids import PeerId, RoundId
from protocol.privacy.record import RoundRecord

ids = st.binary(min_size=16, max_size=16)
seeds = st.dictionaries(ids.map(PeerId), st.binary(min_size=32, max_size=32), max_size=3)


@st.composite
def any_record(draw: st.DrawFn) -> RoundRecord:
    """Well-formed, not necessarily sensible."""
    bits = draw(st.sampled_from([16, 32, 64]))
    length = draw(st.integers(1, 6)) * bits // 8
    vector = st.binary(min_size=length, max_size=length)
    peers = st.lists(ids.map(PeerId), max_size=4).map(tuple)
    return RoundRecord(
        round=RoundId(draw(ids)),
        peer=PeerId(draw(ids)),
        parent=draw(st.none() | ids.map(PeerId)),
        ancestors=draw(peers),
        collusion_threshold=draw(st.integers(2, 16)),
        modulus_bits=bits,
        contributed=draw(st.booleans()),
        sent=draw(st.booleans()),
        children=draw(peers),
        value=draw(st.none() | vector),
        masks=draw(seeds),
        opened=draw(seeds),
        received=draw(st.dictionaries(ids.map(PeerId), vector, max_size=3)),
        sent_vector=draw(st.none() | vector),
        cohort=draw(st.integers(0, 1000)),
        total=draw(st.none() | vector),
        published=draw(st.booleans()),
    )


def a_record(peer: int = 1, number: int = 1) -> RoundRecord:
    me, other, third = (PeerId(bytes([peer + i]) * 16) for i in range(3))
    return RoundRecord(
        RoundId(bytes([number]) * 16), me, other, (other, third), 2, 32, True, True, (), b"abcdefgh",
        {third: b"s" * 32}, {}, {}, b"12345678", 1, None, False,
    )  # fmt: skip


@settings(max_examples=60)
@given(any_record())
def test_round_trip(record: RoundRecord) -> None:
    line = encode_record(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_record(line) == record


def test_the_documented_format() -> None:
    """Field by field, in the documented order; a format that others read does not change by accident."""
    line = json.loads(encode_record(a_record()))
    assert line == {
        "round": "01" * 16, "peer": "01" * 16, "parent": "02" * 16, "ancestors": ["02" * 16, "03" * 16],
        "collusion_threshold": 2, "modulus_bits": 32, "contributed": True, "sent": True, "children": [],
        "value": "YWJjZGVmZ2g=", "masks": {"03" * 16: "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="}, "opened": {},
        "received": {}, "sent_vector": "MTIzNDU2Nzg=", "cohort": 1, "total": None, "published": False,
    }  # fmt: skip
    assert list(line) == [
        "round", "peer", "parent", "ancestors", "collusion_threshold", "modulus_bits", "contributed", "sent",
        "children", "value", "masks", "opened", "received", "sent_vector", "cohort", "total", "published",
    ]  # fmt: skip


def test_buffers_of_any_kind_are_written() -> None:
    vector = np.array([1, 2], dtype="<u4")
    plain = replace(a_record(), value=vector.tobytes())
    for value in (bytearray(vector.tobytes()), memoryview(vector), memoryview(vector).cast("B")):
        assert encode_record(replace(a_record(), value=value)) == encode_record(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"round": "01" * 15},
        {"round": 7},
        {"peer": "0G" * 16},
        {"peer": "AB" * 16},
        {"peer": None},
        {"parent": ""},
        {"ancestors": "02" * 16},
        {"ancestors": ["02"]},
        {"collusion_threshold": 1},
        {"collusion_threshold": 17},
        {"collusion_threshold": True},
        {"collusion_threshold": 2.0},
        {"modulus_bits": 24},
        {"modulus_bits": 64.0},
        {"contributed": 1},
        {"sent": None},
        {"children": {}},
        {"value": "YWJjZGVmZ2g"},
        {"value": "YWJj ZGVmZ2g="},
        {"value": "YWJj"},
        {"value": ""},
        {"value": 5},
        {"masks": {"03" * 16: "YWJj"}},
        {"masks": {"03": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="}},
        {"masks": []},
        {"opened": {"03" * 16: None}},
        {"received": {"03" * 16: "YWJj"}},
        {"sent_vector": "\u0661"},
        {"cohort": -1},
        {"cohort": "1"},
        {"total": []},
        {"published": "no"},
        {"extra": 1},
    ],
    ids=str,
)
def test_what_is_not_exactly_a_recording_is_refused(change: dict[str, Any]) -> None:
    line = json.loads(encode_record(a_record()))
    with pytest.raises(BadLine):
        parse_record(json.dumps({**line, **change}).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"[]", b"null", b"{", b'{"round": NaN}', b"\xff\xfe", b"[" * 100_000,
        encode_record(a_record()).replace(b'"cohort":1', b'"cohort":1,"cohort":2'),
        encode_record(a_record()).replace(b'"cohort":1,', b""),
        encode_record(a_record()).replace(b'"cohort":1', b'"cohort":Infinity'),
        encode_record(a_record()) + encode_record(a_record()),
    ],
)  # fmt: skip
def test_other_lines_are_refused(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse_record(line)


def test_recorder_appends_and_survives_its_predecessors_death(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "recordings"
    first = Recorder(directory, a_record().peer)
    first.write(a_record(number=1))
    assert [line.record for line in read_lines(first.path)] == [a_record(number=1)], "flushed before it is closed"
    first.write(a_record(number=2))
    first.close()
    first.close()
    with first.path.open("ab") as file:
        file.write(encode_record(a_record(number=3))[:-30])
    torn = list(read_lines(first.path))[-1]
    assert torn.torn
    assert isinstance(torn.record, BadLine)
    second = Recorder(directory, a_record().peer)
    second.write(a_record(number=4))
    second.close()
    assert [line.record for line in read_lines(second.path)] == [a_record(number=n) for n in (1, 2, 4)]
    assert second.path.name == "01" * 16 + ".jsonl"
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("length", [1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 200_000])
def test_a_torn_line_of_any_length_is_cut_off(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("01" * 16 + ".jsonl")
    for whole in (b"", encode_record(a_record())):
        path.write_bytes(whole + b"x" * length)
        Recorder(tmp_path, a_record().peer).close()
        assert path.read_bytes() == whole


def test_recorder_refuses_the_rounds_of_others(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, a_record(peer=1).peer)
    with pytest.raises(ValueError, match="own peer"):
        recorder.write(a_record(peer=5))
    recorder.close()
    assert recorder.path.read_bytes() == b""


def test_a_line_is_read_again_where_it_was(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, a_record().peer)
    for number in range(1, 5):
        recorder.write(a_record(number=number))
    recorder.close()
    for line in read_lines(recorder.path):
        assert line.again() == line.record


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        audit(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreadable, match="cannot be read"):
        audit(tmp_path / "file")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(Unreadable, match="holds no recordings"):
        recording_files(tmp_path)
    (tmp_path / ("01" * 16 + ".jsonl")).write_text("")
    with pytest.raises(Unreadable, match="no complete record"):
        audit(tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        audit(tmp_path, max_coalitions=0)


def test_a_recording_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--audit .*file is a file"):
        Recorder(tmp_path / "file", a_record().peer)
    recorder = Recorder(tmp_path, a_record().peer)

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(PeerError, match="cannot write the recording .*: no space left on device; free some space"):
            recorder.write(a_record())
    recorder.close()


def test_nothing_but_junk_says_where(tmp_path: Path) -> None:
    (tmp_path / f"{a_record().peer.hex()}.jsonl").write_text("{}\n")
    with pytest.raises(Unreadable, match="holds no complete record: line 1 of .* is not a recording"):
        audit(tmp_path)
