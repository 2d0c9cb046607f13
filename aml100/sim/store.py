"""The embedded venue's own durable memory, beside state.db.

The one idea: the venue is deterministic, so its inputs are its state. Every step (a bar opened, a bar played, an
action admitted) is one row, committed before anything about it leaves the process; now and then a snapshot replaces
the rows before it. After a kill the snapshot is loaded and the rows after it are played again. WAL with synchronous
NORMAL survives the death of the process at any instant.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from aml100.domain.errors import AmlError, StateError, UsageError

SNAPSHOT_EVERY: Final = 5000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS snapshot(id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS inputs(seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL);
"""


class StoreFailed(AmlError):
    """The file cannot be written just now, as on a full disk; nothing was done, and it may be tried again."""

    recoverable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Saved:
    """What a former run left: its last snapshot and the inputs after it, in order."""

    snapshot: bytes | None
    inputs: tuple[tuple[str, bytes], ...]


class VenueStore:
    """One file, one venue. Opened by `load`, closed by `close`; not for use by several threads."""

    def __init__(self, path: Path, identity: str) -> None:
        """`identity` names the market (data or process, seed, warm-up): another one's file is refused."""
        self.path = path
        self.identity = identity
        self.since_snapshot = 0
        self._db: sqlite3.Connection | None = None

    def load(self) -> Saved:
        """Open the file, made where it is absent.

        Raises:
            UsageError: it belongs to another market.
            StateError: it is damaged; left untouched.
        """
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            kept = self._db.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
            if kept is not None and kept[0] != self.identity:
                self.close()
                raise UsageError(
                    f"{self.path}: the simulated venue here plays {kept[0]}, not {self.identity}; "
                    "allowed: the --data, --process, --seed, --coin and --warmup-bars it was started with"
                )
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (self.identity,))
            snapshot = self._db.execute("SELECT body FROM snapshot").fetchone()
            inputs = tuple(self._db.execute("SELECT kind, body FROM inputs ORDER BY seq"))
        except sqlite3.DatabaseError as problem:
            self.close()
            raise StateError(f"{self.path}: not usable as the simulated venue's state: {problem}") from None
        self.since_snapshot = len(inputs)
        return Saved(None if snapshot is None else snapshot[0], inputs)

    def append(self, kind: str, body: bytes) -> None:
        """Make one input durable; StoreFailed where it is not."""
        assert self._db is not None
        try:
            self._db.execute("INSERT INTO inputs(kind, body) VALUES (?, ?)", (kind, body))
        except sqlite3.OperationalError as problem:
            raise StoreFailed(f"{self.path}: cannot be written ({problem})") from None
        self.since_snapshot += 1

    def compact(self, snapshot: bytes) -> None:
        """Put a snapshot in the place of all inputs so far; StoreFailed where they stay."""
        assert self._db is not None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?)", (snapshot,))
            self._db.execute("DELETE FROM inputs")
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as problem:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreFailed(f"{self.path}: cannot be written ({problem})") from None
        self.since_snapshot = 0

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
