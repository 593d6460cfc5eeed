"""Files and directories appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from peer import files
from peer.errors import PeerError
from peer.files import create_directory, read_bytes, use_directory, write_atomic
from protocol.base.errors import ConfigurationError

FILES = [("key", b"secret", 0o600), ("config.toml", b"x = 1", 0o644)]


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one", 0o600)
    write_atomic(path, b"two", 0o640)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(tmp_path) == ["f"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one", 0o600)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(PeerError, match="cannot write .*: no space left on device"):
        write_atomic(path, b"two", 0o600)
    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("prepared", [False, True], ids=["new", "empty"])
def test_a_directory_is_made_with_its_files(tmp_path: Path, prepared: bool) -> None:
    path = tmp_path / "deep" / "home"
    if prepared:
        (path / "lost+found").mkdir(parents=True)
    create_directory(path, FILES, "a home")
    assert {"config.toml", "key"} <= set(names(path))
    assert (path / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((path / "key").stat().st_mode) == 0o600
    if not prepared:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert names(path.parent) == ["home"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "home"
    create_directory(path, FILES, "a home")
    with pytest.raises(ConfigurationError, match="is not empty; a home needs a new directory"):
        create_directory(path, [("key", b"other", 0o600)], "a home")
    assert (path / "key").read_bytes() == b"secret"
    with pytest.raises(ConfigurationError, match="is a file"):
        create_directory(path / "key", FILES, "a home")


@pytest.mark.parametrize("prepared", [False, True], ids=["new", "empty"])
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: bool) -> None:
    path = tmp_path / "home"
    if prepared:
        path.mkdir()
    calls = 0
    fsync = os.fsync

    def second_fails(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # each file is synced, then its directory
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", second_fails)
    with pytest.raises(PeerError, match="no space left"):
        create_directory(path, FILES, "a home")
    assert names(tmp_path) == (["home"] if prepared else [])
    assert not prepared or names(path) == []


def test_reading_is_bounded_and_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10)
    assert read_bytes(tmp_path / "f", "the file", limit=10) == b"x" * 10
    with pytest.raises(ConfigurationError, match="larger than 9 bytes"):
        read_bytes(tmp_path / "f", "the file", limit=9)
    with pytest.raises(ConfigurationError, match="cannot read the file .*no such file"):
        read_bytes(tmp_path / "g", "the file", limit=9)


def test_a_directory_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file/x", tmp_path / "file/x/y"):
        with pytest.raises(ConfigurationError, match="a directory above it is a file"):
            create_directory(path, [("a", b"", 0o600)], "a test")


def test_a_failed_write_names_the_place_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(PeerError, match=f"cannot write {tmp_path}/new/a: no space left on device; free some space"):
        create_directory(tmp_path / "new", [("a", b"x", 0o600)], "a test")


def test_a_directory_to_write_to(tmp_path: Path) -> None:
    use_directory(tmp_path / "a/b", "--x", empty=True)
    (tmp_path / "a/b/file").write_text("")
    use_directory(tmp_path / "a/b", "--x")
    with pytest.raises(ConfigurationError, match="--x .* is not empty"):
        use_directory(tmp_path / "a/b", "--x", empty=True)
    for path in (tmp_path / "a/b/file", tmp_path / "a/b/file/c"):
        with pytest.raises(ConfigurationError, match="--x .* is a file or inside one"):
            use_directory(path, "--x")
    with pytest.raises(ConfigurationError, match="--x .* cannot be used"):
        use_directory(Path("/proc/none"), "--x")
