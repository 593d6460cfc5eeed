"""CSV, NPZ and LIBSVM files: read back exactly what was written; every mistake names file, row and column."""

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from peer.learning import readers
from peer.learning.datasets import load_dataset
from peer.learning.readers import infer_classes, read_header, read_table, write_csv, write_npz
from protocol.base.errors import ConfigurationError


def problems(path: Path, **options) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_table(path, **{"target": "t", **options})
    assert all(sentence.startswith(f"{path}: ") for sentence in caught.value.problems)
    return [sentence.removeprefix(f"{path}: ") for sentence in caught.value.problems]


def text(tmp_path: Path, content: str, name: str = "x.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8"))
    return path


# --- what works ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_shards_read_back_exactly(tmp_path: Path, ending: str) -> None:
    data = load_dataset("spambase")
    x, y = data.X[::50] / 7, data.y[::50]
    path = tmp_path / f"shard.{ending}"
    if ending == "csv":
        write_csv(path, x, y, features=data.features, target="spam", classes=data.classes)
    else:
        write_npz(path, x, y, features=data.features, classes=data.classes)
    for features in (None, data.features):
        table = read_table(path, target="spam", features=features, classes=data.classes)
        assert np.array_equal(table.X, x)
        assert np.array_equal(table.y, y)
        assert table.features == data.features
        assert (table.X.dtype, table.y.dtype) == (np.float64, np.int64)
    backwards = read_table(path, target="spam", features=data.features[::-1], classes=data.classes)
    assert np.array_equal(backwards.X, x[:, ::-1])


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_regression_targets_read_back_exactly(tmp_path: Path, ending: str) -> None:
    x, y = np.array([[0.1, -2e300], [1.0, 3.0]]), np.array([1 / 3, -5.0])
    path = tmp_path / f"r.{ending}"
    if ending == "csv":
        write_csv(path, x, y, features=("a", "b"), target="t")
    else:
        write_npz(path, x, y, features=("a", "b"))
    table = read_table(path, target="t")
    assert np.array_equal(table.X, x)
    assert np.array_equal(table.y, y)
    assert table.y.dtype == np.float64


def test_csv_as_other_programs_write_it(tmp_path: Path) -> None:
    path = text(tmp_path, '\ufeff"a, b",t, c\r\n1,"yes", 2e1\r\n\r\n-0.5,no,.5\r\n')
    table = read_table(path, target="t", features=["c", "a, b"], classes=["no", "yes"])
    assert table.X.tolist() == [[20, 1], [0.5, -0.5]]
    assert table.y.tolist() == [1, 0]
    assert read_header(path) == ("a, b", "t", "c")


def test_labels_are_compared_as_numbers_too(tmp_path: Path) -> None:
    path = text(tmp_path, "a,t\n1,1.0\n1,+1\n1,-1\n1, 1 \n")
    assert read_table(path, target="t", classes=["-1", "1"]).y.tolist() == [1, 1, 0, 1]


def test_libsvm(tmp_path: Path) -> None:
    path = text(tmp_path, "# a comment\n+1 1:0.5 3:2 # more\n\n-1 qid:7 2:-1e-3\n-1\n", "x.svm")
    table = read_table(path, target="t", classes=["-1", "1"])
    assert table.X.tolist() == [[0.5, 0, 2], [0, -1e-3, 0], [0, 0, 0]]
    assert table.y.tolist() == [1, 0, 0]
    assert table.features == ("f1", "f2", "f3")
    wider = read_table(path, target="t", classes=["-1", "1"], features=["p", "q", "r", "s"])
    assert wider.X.shape == (3, 4)
    assert wider.features == ("p", "q", "r", "s")
    assert read_table(path, target="t", format="libsvm").y.tolist() == [1.0, -1.0, -1.0]


def test_npz_as_other_programs_write_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(
        path, X=np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(3, 2)), y=np.array([2, 0, 2], dtype=np.int8)
    )
    table = read_table(path, target="t", classes=["0", "1", "2"], features=["a", "b"])
    assert table.X.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert table.y.tolist() == [2, 0, 2]
    assert read_table(path, target="t").features == ("f1", "f2")
    np.savez(path, X=np.eye(2, dtype=">f4"), y=np.array([True, False]))
    assert read_table(path, target="t", classes=["0", "1"]).y.tolist() == [1, 0]


def test_infer_classes(tmp_path: Path) -> None:
    def infer(*labels: str, most: int = 100) -> tuple[str, ...]:
        return infer_classes(text(tmp_path, "t,a\n" + "".join(f"{label},1\n" for label in labels)), "t", most)

    assert infer("10", "2", "10") == ("2", "10")
    assert infer("dog", "cat", "3") == ("3", "cat", "dog")
    assert infer("1.5", "2") == ()
    assert infer("1", "2", "3", most=2) == ()
    with pytest.raises(ConfigurationError, match="row 5, column 't': 'd' is one label too many"):
        infer("a", "b", "c", "d", most=2)
    with pytest.raises(ConfigurationError, match="row 3, column 't': is empty"):
        infer("a", "", "b")
    with pytest.raises(ConfigurationError, match="no column called 'q'"):
        infer_classes(tmp_path / "x.csv", "q")


# --- what does not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["is empty, a header row with the names of the columns is needed"]),
        ("\n\n", ["is empty, a header row with the names of the columns is needed"]),
        ("a,t\n", ["has a header row but no records"]),
        ("t\n1\n", ["row 1 names no column besides the target"]),
        ("a,b\n1,2\n", ["row 1 has no column called 't'"]),
        ("a,a,t\n1,2,3\n", ["row 1 names column 'a' more than once"]),
        ("a,t,t\n1,2,3\n", ["row 1 names column 't' more than once"]),
        ("a,t\n1,2\n1\n1,2,3\n", ["row 3 has 1 cells, the header has 2", "row 4 has 3 cells, the header has 2"]),
        ("a,b,t\n1,x,2\n,1,2\n", ["row 2, column 'b': 'x' is not a number",
                                  "row 3, column 'a': is empty, a number is needed"]),
        ("a,t\n1,2\nnan,2\n1,2\ninf,2\n", ["row 3, column 'a': 'nan' is not a finite number",
                                           "row 5, column 'a': 'inf' is not a finite number"]),
        ("a,t\n1,-inf\n1,\n1,z\n", ["row 2, column 't': '-inf' is not a finite number",
                                    "row 3, column 't': is empty, a number is needed",
                                    "row 4, column 't': 'z' is not a number"]),
        ('a,t\n"1\n2",3\n4,x\n', ["row 3, column 'a': '1\\n2' is not a number",
                                  "row 4, column 't': 'x' is not a number"]),
        ('a,t\n"1,2\n', ["row 2 is not valid CSV (unexpected end of data)"]),
    ],
)  # fmt: skip
def test_bad_csv(tmp_path: Path, content: str, expected: list[str]) -> None:
    assert problems(text(tmp_path, content)) == expected


def test_unknown_labels_and_missing_columns(tmp_path: Path) -> None:
    path = text(tmp_path, "a,t\n1,yes\n1,maybe\n1,2\n")
    assert problems(path, classes=["no", "yes"]) == [
        "row 3, column 't': 'maybe' is not one of the classes no, yes",
        "row 4, column 't': '2' is not one of the classes no, yes",
    ]
    assert problems(path, features=["a", "b", "c"], classes=["no", "yes"]) == [
        "row 1 has no column called 'b'",
        "row 1 has no column called 'c'",
    ]


def test_reading_stops_after_ten_mistakes(tmp_path: Path) -> None:
    found = problems(text(tmp_path, "a,t\n" + "x,1\n" * 50))
    assert len(found) == 11
    assert found[9] == "row 11, column 'a': 'x' is not a number"
    assert found[10] == "there may be more mistakes, the rest was not read"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.csv") == ["there is no such file"]
    assert problems(tmp_path / "none.npz") == ["there is no such file"]
    assert problems(tmp_path, format="csv") == ["is not a regular file"]
    assert problems(Path("/dev/zero"), format="csv") == ["is not a regular file"]
    assert problems(text(tmp_path, "a,t\n1,1\n", "x.dat")) == [
        "the file's ending does not tell its format, use one of csv, npz, libsvm"
    ]
    assert problems(text(tmp_path, "a"), format="xls") == ["format 'xls' is not known, use one of csv, npz, libsvm"]
    path = tmp_path / "latin.csv"
    path.write_bytes(b"a,t\n1,\xe9\n")
    assert problems(path) == ["is not UTF-8 text"]
    assert problems(text(tmp_path, "a,t\n1,\0\n"))[0].startswith("row 2")


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_CELLS", 10)
    monkeypatch.setattr(readers, "MAX_LINE", 100)
    assert problems(text(tmp_path, "a,b,t\n" + "1,1,1\n" * 6)) == [
        "has more than 10 values, split it over several peers"
    ]
    assert problems(text(tmp_path, "a,t\n" + "1" * 101 + ",1\n")) == ["row 2 is longer than 100 characters"]
    for content in ("1 6:1\n1 1:1\n", "1\n" * 11):
        assert "more than 10 values" in problems(text(tmp_path, content, "x.svm"))[0]
    np.savez_compressed(tmp_path / "x.npz", X=np.zeros((6, 2)), y=np.zeros(6))
    assert problems(tmp_path / "x.npz") == ["array X of shape (6, 2) is too large, at most 10 values will do"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["is empty, it holds no records"]),
        ("x 1:1\n1 1:y\n", ["row 1, label: 'x' is not a number", "row 2, column 1: 'y' is not a number"]),
        ("1 1:nan\n1 2:inf\n", ["row 1, column 1: 'nan' is not a finite number",
                                "row 2, column 2: 'inf' is not a finite number"]),
        ("1 0:1\n1 a:1\n1 2:1 1:1\n1 1:1 1:1\n1 3\n1 4:1\n1 -1:1\n", [
            f"row {row}: '{token}' must be index:value, indices growing, 1 to 3"
            for row, token in ((1, "0:1"), (2, "a:1"), (3, "1:1"), (4, "1:1"), (5, "3"), (6, "4:1"), (7, "-1:1"))]),
    ],
)  # fmt: skip
def test_bad_libsvm(tmp_path: Path, content: str, expected: list[str]) -> None:
    assert problems(text(tmp_path, content, "x.libsvm"), features=["a", "b", "c"]) == expected


def test_libsvm_with_labels_only(tmp_path: Path) -> None:
    path = text(tmp_path, "1\n2\n", "x.svm")
    assert problems(path) == ["holds no values, only labels"]
    assert read_table(path, target="t", features=["a", "b"]).X.tolist() == [[0, 0], [0, 0]]


X, Y = np.ones((3, 2)), np.array([0, 1, 0])


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": Y}, "has no array called 'X' (it holds y.npy)"),
        ({"X": X}, "has no array called 'y' (it holds X.npy)"),
        ({"X": X[0], "y": Y}, "array X must be numbers, records by features, not float64 of shape (2,)"),
        ({"X": X.astype(str), "y": Y}, "array X must be numbers, records by features"),
        ({"X": X.astype(complex), "y": Y}, "array X must be numbers, records by features"),
        ({"X": X[:0], "y": Y[:0]}, "array X is empty (shape (0, 2))"),
        ({"X": X, "y": Y[:2]}, "array y has 2 entries, array X has 3 rows"),
        ({"X": X, "y": X}, "array y must be numbers or text in one dimension"),
        ({"X": X * np.array([[1], [np.nan], [1]]), "y": Y}, "row 2, column 1: 'nan' is not a finite number"),
        ({"X": X, "y": np.array([0, 5, 0])}, "row 2, array y: '5' is not one of the classes 0, 1"),
        ({"X": X, "y": np.array(["0", "u", "1"])}, "row 2, array y: 'u' is not one of the classes 0, 1"),
        ({"X": X, "y": Y, "features": np.array(["a", "c"])}, "has no feature called 'b'"),
        ({"X": X, "y": Y, "features": np.array(["a", "a"])}, "array features names a column twice"),
        ({"X": X, "y": Y, "features": np.array(["a"])}, "array features must be 2 names as text"),
        ({"X": np.ones((3, 4)), "y": Y}, "array X has 4 columns, 2 features are needed"),
        ({"X": X, "y": np.array([None, 1, 2], dtype=object)}, "array y holds Python objects"),
        ({"X": X.astype(object), "y": Y}, "array X holds Python objects"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays, expected: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    assert problems(path, classes=["0", "1"], features=["a", "b"])[0].startswith(expected)


def test_not_an_npz_at_all(tmp_path: Path) -> None:
    assert problems(text(tmp_path, "a,t\n1,2\n", "x.npz"))[0].startswith("is not a whole NPZ file")
    np.save(tmp_path / "bare.npy", X)
    assert problems(tmp_path / "bare.npy", format="npz")[0].startswith("is not a whole NPZ file")


def npy(shape: str, payload: bytes, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + payload


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (npy("(3, 2)", bytes(8)), "array X is damaged"),
        (npy("(3, 2)", bytes(8 * 7)), "array X is damaged"),
        (npy("(1000000, 40)", bytes(48)), "array X is damaged"),
        (npy("(-1, 2)", bytes(48)), "array X is damaged"),
        (npy("(-3, -2)", bytes(48)), "array X is damaged"),
        (npy("(99999999, 99999999)", bytes(48)), "array X of shape"),
        (npy("(3, 2)", b"", "'<U0'"), "is not a whole NPZ file"),
        (npy("(3, 2)", bytes(48), "'|O'"), "array X holds Python objects"),
        (npy("(3, 2)", bytes(48), "[('a', '<f8')]"), "array X must be numbers"),
        (npy("'x'", bytes(48)), "is not a whole NPZ file"),
        (npy("(3, 2)", bytes(48))[:20], "is not a whole NPZ file"),
        (b"", "is not a whole NPZ file"),
    ],
)
def test_lying_headers_cost_nothing(tmp_path: Path, content: bytes, expected: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("X.npy", content)
        archive.writestr("y.npy", npy("(3,)", bytes(24)))
    assert problems(tmp_path / "x.npz")[0].startswith(expected)


def test_mutated_npz_files_raise_nothing_else(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=X, y=np.array(["0", "1", "0"]), features=np.array(["a", "b"]))
    original, dice = buffer.getvalue(), random.Random(1)
    path = tmp_path / "x.npz"
    for _ in range(400):
        content = bytearray(original)
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(bytes(content[: dice.choice([len(content), dice.randrange(len(content))])]))
        try:
            table = read_table(path, target="t", classes=["0", "1"])
        except ConfigurationError:
            continue
        assert np.isfinite(table.X).all()


def test_mutated_text_files_raise_nothing_else(tmp_path: Path) -> None:
    dice = random.Random(2)
    for ending, original in (("csv", b'a,"b",t\n1,2.5,0\n"3",4e0,1\n'), ("svm", b"1 1:2 3:4\n0 qid:1 2:5 # x\n")):
        path = tmp_path / f"x.{ending}"
        for _ in range(400):
            content = bytearray(original)
            for _ in range(dice.randint(1, 3)):
                content[dice.randrange(len(content))] = dice.choice([*b'",:\n\r #-+.e0', 0, 255, dice.randrange(256)])
            path.write_bytes(content)
            try:
                table = read_table(path, target="t", classes=["0", "1"])
            except ConfigurationError:
                continue
            assert np.isfinite(table.X).all()


def test_what_a_file_says_is_quoted_short_and_harmless(tmp_path: Path) -> None:
    assert problems(text(tmp_path, "a,t\n\x1b[2J,1\n1,2\n" + "9" * 5000 + ",3\n")) == [
        "row 2, column 'a': '\\x1b[2J' is not a number"
    ]
    assert problems(text(tmp_path, "a,t\n" + "9" * 5000 + ",3\n")) == [
        f"row 2, column 'a': '{'9' * 40}...' is not a finite number"
    ]


def test_headers_that_cannot_be_meant(tmp_path: Path) -> None:
    assert problems(text(tmp_path, ",a,,t\n1,2,3,4\n")) == [
        "row 1 has no name for column 1", "row 1 has no name for column 3"
    ]  # fmt: skip
    assert read_table(text(tmp_path, ",a,t\n1,2,3\n"), target="t", features=["a"]).X.tolist() == [[2]]
    for content, quoted in (("a;t\n1;2\n", "a;t"), ("a\tt\n1\t2\n", "a\\tt")):
        sentence = f"row 1 is one column, '{quoted}'; commas must stand between the columns"
        assert problems(text(tmp_path, content)) == [sentence]


def test_ragged_rows_are_left_to_the_reader(tmp_path: Path) -> None:
    assert infer_classes(text(tmp_path, "a,t\n1,x\n1\n1,2,3\n1,y\n"), "t") == ("x", "y")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "a,b\n1,2\n"),
        ("x.csv", "t,b,a\nwhatever,2,1\n"),
        ("x.svm", "1:1 2:2\n"),
        ("x.svm", "whatever 1:1 2:2\n"),
    ],
)
def test_records_whose_target_nobody_asks_for(tmp_path: Path, name: str, content: str) -> None:
    table = read_table(text(tmp_path, content, name), target=None, features=["a", "b"])
    assert (table.X.tolist(), table.y.tolist()) == ([[1, 2]], [0])


@pytest.mark.parametrize("arrays", [{}, {"y": np.array(["whatever"])}])
def test_an_archive_whose_target_nobody_asks_for(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", X=np.array([[1.0, 2.0]]), **arrays)
    assert read_table(tmp_path / "x.npz", target=None, features=["a", "b"]).X.tolist() == [[1, 2]]


def test_wider_floats_that_overflow_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", X=np.array([[np.longdouble("1e4000")]]), y=np.array([1.0]))
    assert problems(tmp_path / "x.npz") == ["row 1, column 1: 'inf' is not a finite number"]
