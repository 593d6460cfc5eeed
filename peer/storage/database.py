"""The database file: opened only when sound, used by one thread, every failure one sentence.

Neighbours: ``store`` and ``history`` hand it functions of a connection.
Invariants: one connection, one thread; every ``run`` is one transaction, whole or not at all; a file that fails the
check is not written to, not even its write-ahead log.

Durability.  The journal is the reason for ``synchronous=FULL``: "never send the same round under other masks" and
"never the same value twice" must also survive a power cut, and in WAL mode ``NORMAL`` promises only the survival of a
killed process (the log is synced at checkpoints, not at commits).  One durable commit measured 0.35 ms on a
laptop-class SSD and 1.3 ms with twelve peers on the same disk, once per contribution; what a peer can relearn
(models, history) takes ``NORMAL``: 0.03 ms.
"""

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from peer.errors import StorageError
from peer.files import why
from protocol.base.errors import ConfigurationError

T = TypeVar("T")

SCHEMA_VERSION = 1
APPLICATION_ID = 0x73757375
"""Marks the file as ours ("susu")."""
_HEADER = b"SQLite format 3\0"
_BUSY_TIMEOUT_S = 5.0
_WAL_LIMIT_BYTES = 64 * 2**20

_SCHEMA = """
CREATE TABLE journal_rounds (round BLOB PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE journal_uses (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoints (task BLOB PRIMARY KEY, age INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE tasks (
    digest BLOB PRIMARY KEY, encoding BLOB NOT NULL, submitter_key BLOB NOT NULL, signature BLOB NOT NULL
);
CREATE TABLE descriptors (position INTEGER PRIMARY KEY, raw BLOB NOT NULL);
CREATE TABLE rounds (
    number INTEGER PRIMARY KEY AUTOINCREMENT, round TEXT NOT NULL, task TEXT NOT NULL, kind TEXT NOT NULL,
    age INTEGER NOT NULL, started REAL NOT NULL, finished REAL NOT NULL, role TEXT NOT NULL,
    planned INTEGER NOT NULL, cohort INTEGER NOT NULL, published INTEGER NOT NULL, reason TEXT NOT NULL,
    loss REAL, accuracy REAL, min_mask_neighbours INTEGER, bytes INTEGER
);
"""


_TABLES = frozenset(re.findall(r"CREATE TABLE (\w+)", _SCHEMA))


class Database:
    """One checked SQLite file and the thread that alone touches it.  Made by ``open_database``."""

    def __init__(self, path: Path, executor: ThreadPoolExecutor, connection: sqlite3.Connection) -> None:
        self.path = path
        self._executor = executor
        self._connection = connection
        self._closed = False

    async def run(self, action: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """Do ``action`` in one transaction, committed when this returns; ``durable``: also through a power cut.

        A cancelled caller does not cancel the action.  Raises ``StorageError``.
        """
        if self._closed:
            raise StorageError(f"{self.path} is closed already")
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._transaction, action, durable)
        return await asyncio.shield(work)

    def _transaction(self, action: Callable[[sqlite3.Connection], T], durable: bool) -> T:
        connection = self._connection
        try:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = action(connection)
                connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT or a full disk may have rolled back by itself.
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StorageError(_sentence(self.path, error)) from error
        return result

    async def close(self) -> None:
        """Finish what is under way and close the file; harmless when done twice."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._connection.close)
        except sqlite3.Error as error:
            raise StorageError(_sentence(self.path, error)) from error
        finally:
            self._executor.shutdown(wait=False)


async def open_database(path: Path) -> Database:
    """Open the database at ``path``, or make it.

    Raises ``ConfigurationError`` when the file is damaged, foreign or of a newer version (and leaves it as it is), and
    ``StorageError`` when the disk does not let it be opened.
    """
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="storage")
    try:
        connection = await asyncio.get_running_loop().run_in_executor(executor, _open, path)
    except BaseException:
        executor.shutdown(wait=False)
        raise
    return Database(path, executor, connection)


def _open(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with path.open("rb") as stream:
            header = stream.read(len(_HEADER))
    except OSError as error:
        raise StorageError(f"cannot open {path}: {why(error)}") from error
    if header and header != _HEADER:
        raise _damaged(path, "it is no SQLite database")
    if header:
        _check(path)
    try:
        # Transactions are begun and ended in so many words (isolation_level None), never by the driver.
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
            if not header or connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(
                    f"PRAGMA synchronous = FULL; BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION};"
                    f"PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise StorageError(_sentence(path, error)) from error
    return connection


def _check(path: Path) -> None:
    """Look at the file through a connection that cannot write (nor replay the log into the file on closing)."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise StorageError(_sentence(path, error)) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error
    if finding != "ok":
        raise _damaged(path, str(finding).splitlines()[-1])
    if tables and application != APPLICATION_ID:
        raise ConfigurationError([f"{path} is the database of another program; move it away"])
    if version > SCHEMA_VERSION:
        raise ConfigurationError(
            [f"{path} was written by a newer susurrus (version {version}, this one knows {SCHEMA_VERSION}); upgrade"]
        )
    if (tables or version) and not tables >= _TABLES:
        raise _damaged(path, f"it has lost its {', '.join(sorted(_TABLES - tables))}")


def _damaged(path: Path, finding: str) -> ConfigurationError:
    # Ten minutes is the longest round (limits.MAX_BUDGET_S): after it, forgotten rounds can do no harm.  What a single
    # record has answered is another matter.
    return ConfigurationError(
        [
            f"the database {path} is damaged ({finding}) and was left as it is; put back a copy of it, or move it "
            "away, wait ten minutes and start again with an empty one; if this peer has a single record, do neither: "
            "what it has answered would be forgotten, and answered again"
        ]
    )


def _sentence(path: Path, error: sqlite3.Error) -> str:
    detail = str(error)
    match detail:
        case "database or disk is full":
            return f"cannot write {path}: the disk is full; free some space"
        case "attempt to write a readonly database" | "unable to open database file":
            return f"cannot write {path}: it, or its directory, may only be read; change the permissions"
        case "database is locked":
            return f"cannot write {path}: another program holds it"
        case "disk I/O error":
            return f"cannot use {path}: the disk reports an error"
    return f"cannot use {path}: {detail}"
