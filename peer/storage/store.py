"""What is kept, in the words of those who ask: the journal, models, tasks, descriptors, counters, history.

Neighbours: ``peer.driver`` (journal, checkpoints, tasks), ``peer.session`` (counters, descriptors, history).
Invariants: an awaited method has committed when it returns (``durable`` ones through a power cut).
``save_checkpoint`` and the history return at once and are written together, at most every half second: a killed peer
loses no more than that of them, and a full disk delays them without stopping the peer.
"""

import asyncio
import hashlib
import logging
import sqlite3
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peer.errors import StorageError
from peer.storage import history
from peer.storage.database import Database, open_database
from protocol.base.errors import Refused
from protocol.base.ids import RoundId, TaskId
from protocol.base.limits import MAX_BUDGET_S
from protocol.training.task import SignedTask, decode
from protocol.wire.messages import Checkpoint

_log = logging.getLogger(__name__)

FLUSH_S = 0.5
RETRY_S = 10.0
PRUNE_EVERY = 256
"""So many rounds are remembered before those that have expired are dropped: a peer may run for months."""


class Storage:
    """The peer's memory, from ``Storage.open`` to ``close``.  Every awaited method may raise ``StorageError``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checkpoints: dict[TaskId, Checkpoint] = {}
        self._rounds: deque[tuple[Any, ...]] = deque(maxlen=history.MAX_ROUNDS)
        self._totals = dict.fromkeys(history.TOTALS, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._failing = False
        self._remembered = 0

    @classmethod
    async def open(cls, path: Path) -> "Storage":
        """Open or make the database at ``path``; errors as ``open_database``."""
        return cls(await open_database(path))

    async def close(self) -> None:
        """Write what is pending and close.  Raises ``StorageError`` if that fails; the file is closed all the same."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if self._flushing is not None:
                await self._flushing
            await self.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._database.close()

    # --- the journal ----------------------------------------------------------------------------------------

    async def remember_round(self, round_id: RoundId, expires: float) -> None:
        """Durably: this peer has entered ``round_id`` (until ``expires``, Unix seconds: ``MAX_BUDGET_S`` from now)."""
        self._remembered += 1
        prune = self._remembered % PRUNE_EVERY == 0

        def write(connection: sqlite3.Connection) -> None:
            statement = "INSERT OR REPLACE INTO journal_rounds (round, expires) VALUES (?, ?)"
            connection.execute(statement, (round_id, expires))
            if prune:
                connection.execute("DELETE FROM journal_rounds WHERE expires <= ?", (expires - MAX_BUDGET_S,))

        await self._database.run(write, durable=True)

    async def remember_uses(self, keys: Sequence[bytes]) -> None:
        """Durably, for ever, all or none: what a deterministic contribution has answered, or a schema's tasks ask."""

        def write(connection: sqlite3.Connection) -> None:
            rows = [(key,) for key in keys]
            connection.executemany("INSERT OR IGNORE INTO journal_uses (key) VALUES (?)", rows)

        await self._database.run(write, durable=True)

    async def forget_expired(self, now: float) -> None:
        """Drop rounds that expired before ``now``."""
        await self._execute("DELETE FROM journal_rounds WHERE expires <= ?", (now,))

    async def rounds_remembered(self, now: float) -> frozenset[RoundId]:
        """Rounds that have not expired at ``now``."""
        rows = await self._query("SELECT round FROM journal_rounds WHERE expires > ?", (now,))
        return frozenset(RoundId(row[0]) for row in rows)

    async def uses(self) -> frozenset[bytes]:
        """Every key of ``remember_uses``."""
        return frozenset(row[0] for row in await self._query("SELECT key FROM journal_uses"))

    # --- models, tasks, descriptors -------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep ``checkpoint`` as its task's model unless an older call gave a newer one; written soon, not at once."""
        held = self._checkpoints.get(checkpoint.task)
        if held is None or checkpoint.age >= held.age:
            self._checkpoints[checkpoint.task] = checkpoint
            self._schedule(FLUSH_S)

    async def load_checkpoints(self) -> list[Checkpoint]:
        """The newest model kept of every task, in order of task id."""
        await self.flush()
        rows = await self._query("SELECT task, age, state FROM checkpoints ORDER BY task")
        return [Checkpoint(TaskId(task), age, state) for task, age, state in rows]

    async def save_task(self, encoding: bytes, submitter_key: bytes, signature: bytes) -> None:
        """Durably keep a task: its canonical encoding, who submitted it and that key's signature."""
        row = (hashlib.sha256(encoding).digest(), encoding, submitter_key, signature)
        statement = "INSERT OR REPLACE INTO tasks (digest, encoding, submitter_key, signature) VALUES (?, ?, ?, ?)"
        await self._execute(statement, row, durable=True)

    async def drop_task(self, task: TaskId, encoding: bytes) -> None:
        """Forget a task and the model kept of it."""
        self._checkpoints.pop(task, None)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM tasks WHERE digest = ?", (hashlib.sha256(encoding).digest(),))
            connection.execute("DELETE FROM checkpoints WHERE task = ?", (task,))

        await self._database.run(write)

    async def load_tasks(self) -> list[SignedTask]:
        """Every task kept, the last that came last; one that this version cannot read is left there and logged."""
        tasks = []  # rowids grow from row to row
        for encoding, key, signature in await self._query(
            "SELECT encoding, submitter_key, signature FROM tasks ORDER BY rowid"
        ):
            try:
                tasks.append(SignedTask(decode(encoding), key, signature))
            except Refused as refused:
                _log.warning("a task in %s is left out: %s", self._database.path, refused)
        return tasks

    async def save_descriptors(self, raw: Sequence[bytes]) -> None:
        """Replace the peers remembered for the next start: their descriptors exactly as signed, best first."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM descriptors")
            connection.executemany("INSERT INTO descriptors (position, raw) VALUES (?, ?)", list(enumerate(raw)))

        await self._database.run(write)

    async def load_descriptors(self) -> list[bytes]:
        """What ``save_descriptors`` kept, in its order; nothing about them is checked here."""
        return [row[0] for row in await self._query("SELECT raw FROM descriptors ORDER BY position")]

    # --- counters -------------------------------------------------------------------------------------------

    async def next_incarnation(self, floor: int = 0) -> int:
        """Durably: a number above all before, at least ``floor`` (the clock's seconds help if the file was lost)."""

        def bump(connection: sqlite3.Connection) -> int:
            value = max(_counter(connection, "incarnation") + 1, floor)
            _raise_counter(connection, "incarnation", value)
            return value

        return await self._database.run(bump, durable=True)

    async def save_identity(self, incarnation: int, kem_epoch: int) -> None:
        """Durably: both are in use (a rumour was refuted, the KEM key replaced); smaller ones are ignored."""

        def raise_both(connection: sqlite3.Connection) -> None:
            _raise_counter(connection, "incarnation", incarnation)
            _raise_counter(connection, "kem_epoch", kem_epoch)

        await self._database.run(raise_both, durable=True)

    async def kem_epoch(self) -> int:
        """The last KEM epoch in use, 0 before the first."""
        return await self._database.run(lambda c: _counter(c, "kem_epoch"))

    async def save_kem_epoch(self, epoch: int) -> None:
        """Durably: ``epoch`` is in use; a smaller one than before is ignored."""
        await self._database.run(lambda c: _raise_counter(c, "kem_epoch", epoch), durable=True)

    async def listen_port(self) -> int | None:
        """The port of the last run, which others may still know."""
        return await self._database.run(lambda c: _counter(c, "listen_port")) or None

    async def save_listen_port(self, port: int) -> None:
        """Remember the port in use."""
        statement = "INSERT OR REPLACE INTO counters (name, value) VALUES ('listen_port', ?)"
        await self._execute(statement, (port,))

    # --- history --------------------------------------------------------------------------------------------

    def add_round(self, row: history.Row) -> None:
        """Add a finished round (``history.COLUMNS``); a ``root``'s counts as published or failed."""
        values = history.checked(row)
        self._rounds.append(values)
        if row.get("role", "root") == "root":
            self._totals["rounds_published" if row["published"] else "rounds_failed"] += 1
        self._schedule(FLUSH_S)

    def add_contributions(self, count: int = 1) -> None:
        """Count contributions that left this peer."""
        self._totals["contributions"] += count
        self._schedule(FLUSH_S)

    async def list_rounds(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rounds first."""
        await self.flush()
        return await self._database.run(lambda c: history.read_rounds(c, limit))

    async def totals(self) -> dict[str, int]:
        """``rounds_published``, ``rounds_failed`` and ``contributions`` since this home was made."""
        await self.flush()
        return await self._database.run(history.read_totals)

    # --- writing what is pending ----------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write pending checkpoints and history now; on failure they stay pending and ``StorageError`` is raised."""
        checkpoints, self._checkpoints = self._checkpoints, {}
        rounds, self._rounds = list(self._rounds), deque(maxlen=history.MAX_ROUNDS)
        totals, self._totals = self._totals, dict.fromkeys(history.TOTALS, 0)
        if not (checkpoints or rounds or any(totals.values())):
            return

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO checkpoints (task, age, state) VALUES (?, ?, ?) ON CONFLICT (task) DO UPDATE SET"
                " age = excluded.age, state = excluded.state WHERE excluded.age >= age",
                [(c.task, c.age, c.state) for c in checkpoints.values()],
            )
            if rounds:
                history.write_rounds(connection, rounds)
            history.add_totals(connection, totals)

        try:
            await self._database.run(write)
        except StorageError:
            for task, checkpoint in checkpoints.items():
                if task not in self._checkpoints or self._checkpoints[task].age < checkpoint.age:
                    self._checkpoints[task] = checkpoint
            self._rounds.extendleft(reversed(rounds[: history.MAX_ROUNDS - len(self._rounds)]))
            for name, amount in totals.items():
                self._totals[name] += amount
            raise

    def _schedule(self, delay_s: float) -> None:
        if self._timer is None and self._flushing is None:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        delay_s = FLUSH_S
        try:
            await self.flush()
            self._failing = False
        except StorageError as error:
            if not self._failing:
                _log.error("%s; the newest models and history wait in memory", error)
            self._failing = True
            delay_s = RETRY_S
        finally:
            self._flushing = None
        if self._checkpoints or self._rounds or any(self._totals.values()):
            self._schedule(delay_s)

    # --- helpers --------------------------------------------------------------------------------------------

    async def _execute(self, statement: str, values: tuple[Any, ...] = (), *, durable: bool = False) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute(statement, values)

        await self._database.run(write, durable=durable)

    async def _query(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return await self._database.run(lambda connection: connection.execute(statement, values).fetchall())


def _counter(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def _raise_counter(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute(
        "INSERT INTO counters (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        (name, value),
    )
