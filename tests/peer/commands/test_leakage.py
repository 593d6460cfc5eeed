"""``susurrus leakage``: flags in, tables, documents and exit codes out; shapes and recorded rounds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peer.audit.recording import encode_record
from peer.cli import app
from protocol.base.ids import PeerId, RoundId
from protocol.privacy.exposure import Faults, Shape, closed_form
from protocol.privacy.record import RoundRecord

SMALL = "--branching 2 --depth 2 --collusion-threshold 2 --trees 2000"


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["leakage", *[str(arg) for arg in args]])


def document(*args: object) -> dict[str, Any]:
    result = invoke(*args, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_shape_as_a_document() -> None:
    found = document(*SMALL.split(), "--corrupt", 0.2, "--corrupt", 0.5, "--failures", 0.1, "--late", 0.2)
    theory = closed_form(Shape(2, 2, 0, 2), Faults(0.1, 0.2), 0.5)
    assert [(row["corrupt"], row["of"]) for row in found["rows"]] == [
        (0.2, "published"),
        (0.2, "arrived"),
        (0.5, "published"),
        (0.5, "arrived"),
    ]
    for row in found["rows"]:
        assert row["exact"] == pytest.approx(row["theory"], rel=1e-9)
        assert row["exact_z"] == 0
        assert abs(row["z"]) < 3
        assert sum(row["component_sizes"]) > 0
        assert row["trees"] == 2000
    assert found["rows"][3]["theory"] == theory.arrived.share
    assert found["rows"][2]["contributors"] == theory.published.contributors
    assert found["exact"] == {"complete": True, "patterns": 361, "smallest_coalition": 2}
    assert 0 < found["largest_z"] < 3
    assert (found["nodes"], found["failures"], found["late"], found["seed"]) == (7, 0.1, 0.2, 0)


def test_one_seed_gives_one_result() -> None:
    args = [*SMALL.split(), "--failures", 0.2]
    assert invoke(*args, "--seed", 5).stdout == invoke(*args, "--seed", 5).stdout
    assert invoke(*args, "--seed", 5).stdout != invoke(*args, "--seed", 6).stdout


def test_a_shape_as_tables() -> None:
    text = " ".join(invoke(*SMALL.split(), "--failures", 0.1).stdout.split())
    assert "A tree of 7 nodes: branching 2, depth 2; S = 2." in text
    assert "linear algebra for all 128 coalitions in all" in text
    assert "the smallest that learns a value has 2 members" in text
    assert "has 2 members. It is equal to theory." in text
    assert "standard errors, of 8 compared." in text
    assert text.count("arrived ") >= 8
    assert "Anonymity set" in text


def test_what_is_not_computed_is_said() -> None:
    text = invoke("--trees", 0).stdout
    assert "Exact: left out, as 2^63 coalitions" in text
    assert "Anonymity set" not in text
    assert "Monte Carlo: " not in text
    assert "arrived  " not in text, "without faults both are the same, and one is shown"
    assert document("--trees", 0)["rows"][0]["monte_carlo"] is None


def test_the_default_depth_grows_with_the_threshold() -> None:
    found = document("--collusion-threshold", 7, "--branching", 1, "--trees", 0, "--corrupt", 0.1)
    assert (found["depth"], found["nodes"]) == (7, 8)


@pytest.mark.parametrize(
    ("args", "mistakes"),
    [
        ("--branching 0 --failures 2 --late -1 --corrupt 1 --corrupt nan --trees -1 --seed -1 --coalition 3", 8),
        ("--depth 2", 1),
        ("--depth 2 --trunk 3 --collusion-threshold 4", 2),
        ("--branching 64 --depth 64", 1),
        ("--round DIR --branching 2 --depth 3 --trunk 0 --collusion-threshold 3 --failures 0 --late 0 --trees 1", 7),
        ("--round DIR --corrupt 1.5 --coalition -1", 2),
    ],
)
def test_all_mistakes_at_once(args: str, mistakes: int) -> None:
    result = invoke(*args.split())
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == mistakes, result.stderr
    assert result.stdout == ""


# --- recorded rounds ----------------------------------------------------------------------------------------------


def records(number: int, parents: tuple[int, ...], s: int, *, masked: bool = True) -> list[RoundRecord]:
    """A published round: ``parents[v]`` of every node, -1 for the root.  The last node's partial came late."""

    def peer(v: int) -> PeerId:
        return PeerId(bytes([0xA0 + v]) * 16)

    last = len(parents) - 1
    found = []
    for v, parent in enumerate(parents):
        up, above = [], v
        while above and len(up) < s:
            above = parents[above]
            up.append(peer(above))
        children = [c for c, p in enumerate(parents) if p == v]
        found.append(
            RoundRecord(
                round=RoundId(bytes([0x10 + number]) * 16),
                peer=peer(v),
                parent=None if parent < 0 else peer(parent),
                ancestors=tuple(up),
                collusion_threshold=s,
                modulus_bits=16,
                contributed=True,
                sent=v > 0,
                children=tuple(peer(c) for c in children if c != last),
                value=b"xx",
                masks={t: bytes(32) for t in up[1:s]} if masked else {},
                opened={},
                received={peer(c): b"vv" for c in children},
                sent_vector=b"vv" if v else None,
                cohort=1,
                total=None if v else b"tt",
                published=v == 0,
            )
        )
    return found


def write(directory: Path, rounds: list[list[RoundRecord]]) -> Path:
    directory.mkdir(exist_ok=True)
    for record in (record for one in rounds for record in one):
        with (directory / f"{record.peer.hex()}.jsonl").open("ab") as file:
            file.write(encode_record(record))
    return directory


BROOM = (-1, 0, 1, 1, 1)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return write(tmp_path / "rounds", [records(1, BROOM, 2), records(0, (-1, 0, 1, 2), 2)])


def test_recorded_rounds_as_a_document(recorded: Path) -> None:
    found = document("--round", recorded, "--corrupt", 0.5, "--coalition", 1, "--coalition", 2)
    path, broom = found["rounds"]
    assert [one["id"] for one in found["rounds"]] == ["10" * 16, "11" * 16]
    assert found["leaks_below_threshold"] is False
    assert (broom["peers"], broom["published"], broom["arrived"], broom["fewest_mask_neighbours"]) == (5, 4, 5, 2)
    assert (path["published"], path["arrived"]) == (3, 4)
    by_q, of_one, of_two = broom["exposure"]
    # 0: 1, 2, 3; 1: 0, 2, 3; leaves: 0, 1, and the late one's value is as exposed as the others'
    assert by_q["arrived"] == pytest.approx((2 * 0.5**3 + 3 * 0.5**2) / 5)
    assert by_q["published"] == pytest.approx((2 * 0.5**3 + 2 * 0.5**2) / 4)
    assert of_one["arrived"] == of_one["sampled"] == 0
    assert of_two["arrived"] == pytest.approx(3 / 6 / 5)  # two given ones of the four others: one pair of six
    assert abs(of_two["sampled"] - of_two["arrived"]) < 3 * of_two["sampled_error"]
    assert broom["coalitions_below_threshold"] == 1 + 5
    assert broom["violations"] == []


def test_recorded_rounds_as_tables(recorded: Path) -> None:
    result = invoke("--round", recorded)
    assert result.exit_code == 0, result.output
    assert "10101010" in result.stdout
    assert "size 2" in result.stdout, "the default size is S"
    assert "11 examined, all there are" in result.stdout
    assert "None of them learned a value." in result.stdout


def test_one_file_may_hold_a_whole_round(tmp_path: Path) -> None:
    file = tmp_path / "round.jsonl"
    file.write_bytes(b"".join(map(encode_record, records(0, BROOM, 2))))
    assert document("--round", file)["rounds"][0]["arrived"] == 5


def test_a_round_that_leaks_below_the_threshold(tmp_path: Path) -> None:
    """Nobody drew a mask, so that a node learns what its leaf sent: exit code 3, in words and as a document."""
    leaking = write(tmp_path / "rounds", [records(0, (-1, 0, 1, 2, 3), 3, masked=False)])
    result = invoke("--round", leaking)
    assert result.exit_code == 3
    assert "VIOLATION (coalition)" in result.stdout
    assert "records are missing or break the protocol" in result.stdout
    assert "None of them" not in result.stdout
    as_json = invoke("--round", leaking, "--json")
    assert as_json.exit_code == 3
    assert json.loads(as_json.stdout)["leaks_below_threshold"] is True
    assert json.loads(as_json.stdout)["rounds"][0]["violations"]


def test_a_late_partial_that_only_its_sender_recorded_is_seen(tmp_path: Path) -> None:
    """Without masks, what came late is all that the parent knows of that peer."""
    (root, middle, other, late) = records(0, (-1, 0, 1, 1), 2, masked=False)
    silent = [root, middle, other]
    object.__setattr__(middle, "received", {other.peer: b"vv"})
    told = invoke("--round", write(tmp_path / "told", [[*silent, late]]))
    assert f"peer {late.peer.hex()[:8]}" in told.stdout


def test_recordings_that_are_none(recorded: Path, tmp_path: Path) -> None:
    files = sorted(recorded.iterdir())
    with files[0].open("ab") as file:
        file.write(b"nonsense\n{}\n")
    with files[1].open("ab") as file:
        file.write(b'{"round": ')  # cut short: its peer died
    result = invoke("--round", recorded)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert f"{files[0]}, line 3" in result.stderr
    assert f"{files[0]}, line 4" in result.stderr
    missing = invoke("--round", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "cannot be read" in missing.stderr
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert "holds no complete record" in invoke("--round", tmp_path / "empty.jsonl").stderr


def test_rounds_that_make_no_sense_are_all_named(tmp_path: Path) -> None:
    twice, mixed = records(0, BROOM, 2), records(1, BROOM, 2)
    mixed[1] = records(1, BROOM, 3)[1]
    result = invoke("--round", write(tmp_path / "rounds", [[*twice, twice[0]], mixed, records(2, BROOM, 2)]))
    assert result.exit_code == 2
    assert [line.split("cannot")[0].strip()[-8:] for line in result.stderr.splitlines()] == ["10101010", "11111111"]


def test_rounds_with_ancestors_that_nobody_can_have_are_named(tmp_path: Path) -> None:
    itself, twice, another = (records(number, BROOM, 2) for number in range(3))
    last = itself[-1]
    itself[-1] = replace(last, ancestors=(last.ancestors[0], last.peer))
    twice[-1] = replace(last, round=twice[0].round, ancestors=last.ancestors[:1] * 2)
    child = next(record for record in another if record.peer in another[0].children)
    another[another.index(child)] = replace(child, ancestors=(last.peer,))
    result = invoke("--round", write(tmp_path / "rounds", [itself, twice, another, records(3, BROOM, 2)]))
    assert result.exit_code == 2
    named = [line.split("cannot")[0].strip()[-8:] for line in result.stderr.splitlines()]
    assert named == ["10101010", "11111111", "12121212"]
