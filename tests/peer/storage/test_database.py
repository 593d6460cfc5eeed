"""The database file: only sound ones are opened, damaged ones stay as they are, failures are sentences."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from peer.errors import StorageError
from peer.storage.database import SCHEMA_VERSION, open_database
from protocol.base.errors import ConfigurationError


async def filled(path: Path) -> None:
    database = await open_database(path)
    await database.run(
        lambda c: c.executemany("INSERT INTO journal_uses VALUES (?)", [(os.urandom(200),) for _ in range(200)])
    )
    await database.close()


async def test_a_new_file_is_private_and_of_this_version(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = await open_database(path)
    assert await database.run(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
    assert await database.run(lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == SCHEMA_VERSION
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await database.close()
    await database.close()


@pytest.mark.parametrize("durable", [True, False])
async def test_the_journal_is_synced_at_every_commit_and_the_rest_is_not(tmp_path: Path, durable: bool) -> None:
    database = await open_database(tmp_path / "state.db")
    level = await database.run(lambda c: c.execute("PRAGMA synchronous").fetchone()[0], durable=durable)
    assert level == (2 if durable else 1)
    await database.close()


async def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "state.db")

    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO journal_uses VALUES (x'01')")
        connection.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(StorageError, match="no_such_table"):
        await database.run(half)
    with pytest.raises(ZeroDivisionError):
        await database.run(lambda c: (c.execute("INSERT INTO journal_uses VALUES (x'02')"), 1 // 0))
    assert await database.run(lambda c: c.execute("SELECT count(*) FROM journal_uses").fetchone()[0]) == 0
    await database.close()
    with pytest.raises(StorageError, match="closed"):
        await database.run(lambda c: None)


async def test_a_cancelled_caller_does_not_undo_what_is_under_way(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "state.db")
    caller = asyncio.ensure_future(
        database.run(lambda c: c.execute("INSERT INTO journal_uses VALUES (x'01')") and None)
    )
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await database.run(lambda c: c.execute("SELECT count(*) FROM journal_uses").fetchone()[0]) == 1
    await database.close()


@pytest.mark.parametrize(("offset", "what"), [(0, "header"), (4096, "page"), (-4096, "tail")])
async def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, offset: int, what: str) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    content = bytearray(path.read_bytes())
    start = offset % len(content)
    content[start : start + 1500] = b"\xa5" * 1500
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged") as caught:
        await open_database(path)
    assert len(caught.value.problems) == 1
    assert str(path) in caught.value.problems[0]
    assert "move it away" in caught.value.problems[0]
    assert path.read_bytes() == content, what


async def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    content = path.read_bytes()[:-5000]
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        await open_database(path)
    assert path.read_bytes() == content


async def test_databases_of_others_and_of_later_versions_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(ConfigurationError, match="another program"):
        await open_database(foreign)

    later = tmp_path / "later.db"
    await filled(later)
    with sqlite3.connect(later) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer susurrus"):
        await open_database(later)

    text = tmp_path / "text.db"
    text.write_text("hello")
    with pytest.raises(ConfigurationError, match="no SQLite database"):
        await open_database(text)
    assert text.read_text() == "hello"


async def test_what_was_committed_survives_without_a_close(tmp_path: Path) -> None:
    """As after SIGKILL: the write-ahead log is still there, and is taken over."""
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    database = await open_database(path)
    await database.run(lambda c: c.execute("INSERT INTO journal_uses VALUES (x'07')") and None)
    assert Path(f"{path}-wal").stat().st_size > 0
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    await database.close()
    again = await open_database(copy)
    assert await again.run(lambda c: c.execute("SELECT key FROM journal_uses").fetchall()) == [(b"\x07",)]
    await again.close()


async def test_a_damaged_file_is_not_even_written_to_from_its_log(tmp_path: Path) -> None:
    """A log left by a crash is replayed into the file when its last connection closes: not into a damaged one."""
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    await filled(path)
    database = await open_database(path)
    await database.run(lambda c: c.execute("INSERT INTO journal_uses VALUES (x'07')") and None)
    content, log = bytearray(path.read_bytes()), Path(f"{path}-wal").read_bytes()
    await database.close()
    content[-4096:] = b"\xa5" * 4096
    copy.write_bytes(content)
    Path(f"{copy}-wal").write_bytes(log)
    with pytest.raises(ConfigurationError, match="damaged"):
        await open_database(copy)
    assert copy.read_bytes() == content
    assert Path(f"{copy}-wal").read_bytes() == log


async def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "state.db")
    await database.run(lambda c: c.execute("INSERT INTO journal_uses VALUES (x'01')") and None)
    pages = await database.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await database.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}") and None)
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        await database.run(lambda c: c.execute("INSERT INTO journal_uses VALUES (zeroblob(100000))") and None)
    assert await database.run(lambda c: c.execute("SELECT key FROM journal_uses").fetchall()) == [(b"\x01",)]
    await database.close()


async def test_a_directory_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file or directory"):
        await open_database(tmp_path / "nowhere" / "state.db")


async def test_a_file_that_lost_a_table_is_damaged_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await (await open_database(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE counters")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is damaged \\(it has lost its counters\\)"):
        await open_database(path)
    assert path.read_bytes() == before
