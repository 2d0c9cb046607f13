"""A state in one SQLite file: what is refused, and how a connection is set up.

A file is looked at through a read-only connection before anything writes to it, so that a damaged, foreign or newer
one stays as it was found. Connections are in autocommit mode; transactions are begun and ended by hand.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final

from aml100.domain.errors import SafetyRefusal, StateError
from aml100.storage.files import read_only_uri
from aml100.storage.migrations import MIGRATIONS, SCHEMA_VERSION, VERSION_SQL, statements_of
from aml100.storage.owner import check_owner, take_ownership
from aml100.storage.store import Connection, Synchronous

APPLICATION_ID: Final = 0x414D4C31
"""Marks a SQLite file as ours (`AML1`)."""

_MAGIC: Final = b"SQLite format 3\x00"
_QUICK_CHECK_BYTES: Final = 256 << 20
"""Up to this size every page is looked at on opening; larger files are left to `verify` and `doctor`."""
_WAL_PAGES: Final = 10_000
"""A safety net: the writer checkpoints earlier than this, when it has nothing else to do."""
_AT_ONCE: Final = 32
"""Rows that one statement inserts where many wait: beginning and ending one costs a third of a row."""
_SHOWN: Final = 3
_UNREACHABLE: Final = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_BUSY", "SQLITE_LOCKED")
"""What says nothing of the file itself."""


class SqliteConnection(sqlite3.Connection):
    """A connection in autocommit mode that speaks as `store.Connection` wants."""

    failures: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)
    refusals: ClassVar[tuple[type[Exception], ...]] = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        sqlite3.ProgrammingError,
        sqlite3.InterfaceError,
    )

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        self.execute("BEGIN")

    def did_commit(self) -> bool:
        """A commit that failed here is never in doubt."""
        return False

    def tidy(self) -> None:
        self.execute("PRAGMA wal_checkpoint(PASSIVE)")


class SqliteWriter(SqliteConnection):
    """The writing one: on leaving it empties the write-ahead log into the file."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:  # type: ignore[override]
        """In order, as one by one; several rows a statement where it inserts them."""
        whole = len(rows) - len(rows) % _AT_ONCE
        several = _several(sql) if whole else None
        if several is not None:
            blocks = (rows[first : first + _AT_ONCE] for first in range(0, whole, _AT_ONCE))
            super().executemany(several, (tuple(chain.from_iterable(block)) for block in blocks))
            rows = rows[whole:]
        super().executemany(sql, rows)

    def close(self) -> None:
        if not self.in_transaction:
            with suppress(sqlite3.Error):  # what is in the log is kept all the same
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        super().close()


@lru_cache
def _several(sql: str) -> str | None:
    """The INSERT of one row of values as that of _AT_ONCE rows; None for what is no such statement."""
    parts = re.fullmatch(r"(INSERT INTO .* VALUES )(\((?:\?, )*\?\))(.*)", sql)
    return None if parts is None else parts[1] + ", ".join([parts[2]] * _AT_ONCE) + parts[3]


class SqliteStore:
    """A state.db."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def connect_read(self, busy_timeout_ms: int = 5_000) -> SqliteConnection:
        connection = sqlite3.connect(
            read_only_uri(self.path), uri=True, isolation_level=None, check_same_thread=False, factory=SqliteConnection
        )
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        return connection

    def version(self) -> int:
        path = self.path
        try:
            if path.is_dir():
                raise StateError(f"{path}: is a folder; allowed: the path of a state.db")
            if not path.exists() or path.stat().st_size == 0:
                return 0
            with path.open("rb") as file:
                header = file.read(100)
        except OSError as error:
            raise StateError(f"{path}: cannot be read ({error.strerror}); left untouched") from None
        if len(header) < 100 or not header.startswith(_MAGIC):
            raise self._damaged("it does not begin as a SQLite file does")
        try:
            with closing(self.connect_read()) as connection:
                return self._check_open(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(_UNREACHABLE):
                raise StateError(f"{path}: cannot be read ({error}); left untouched") from None
            raise self._damaged(str(error)) from None

    def _check_open(self, connection: sqlite3.Connection) -> int:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if application == 0 and version == 0 and count == 0:
                return 0
            raise self._damaged("a database of another program")
        if version > SCHEMA_VERSION:
            raise StateError(
                f"{self}: has schema version {version}; allowed: at most {SCHEMA_VERSION}, which this program knows; "
                "left untouched: use the newer program"
            )
        if self.path.stat().st_size <= _QUICK_CHECK_BYTES:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise self._damaged(" ".join(str(verdict).split()))
        return int(version)

    def _damaged(self, what: str) -> StateError:
        return StateError(f"{self}: damaged or no state.db ({what}); left untouched; allowed: a state.db of AML-100")

    def check_belongs(self, network: str, account: str) -> None:
        if self.version():
            with closing(self.connect_read()) as reader:
                check_owner(reader, self, network, account)

    def open_writer(
        self, synchronous: Synchronous, network: str, account: str, busy_timeout_ms: int
    ) -> SqliteConnection:
        path, version = self.path, self.version()
        self.check_belongs(network, account)
        if not path.parent.is_dir():
            raise StateError(f"{path}: its folder does not exist; allowed: a path in an existing folder")
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=SqliteWriter)
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{path}: cannot be opened for writing ({error})") from None
        try:
            connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute(f"PRAGMA fullfsync = {int(synchronous == 'FULL')}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            migrate(connection, version)
            take_ownership(connection, self, network, account)
        except sqlite3.Error as error:
            connection.close()
            raise StateError(f"{path}: cannot be written ({error})") from None
        except SafetyRefusal:
            connection.close()
            raise
        return connection

    def soundness(self, connection: Connection) -> tuple[bool, str]:
        pages = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        return pages == ["ok"], "; ".join(pages[:_SHOWN])

    def size_bytes(self) -> int:
        beside = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in beside if file.is_file())

    def written_ms(self) -> int:
        return int(self.path.stat().st_mtime * 1000)


def migrate(connection: SqliteConnection, version: int) -> None:
    """Bring a file from `version` to SCHEMA_VERSION, each step in a transaction of its own.

    A step that fails leaves the file at the version before it.
    """
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.begin()
        try:
            for statement in statements_of(script):
                connection.execute(statement)
            connection.execute(VERSION_SQL, (str(number),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
        except sqlite3.Error:
            connection.rollback()
            raise
        connection.commit()
