"""Opening state.db: what is refused, and how a connection is set up.

A file is looked at through a read-only connection before anything writes to it, so that a damaged, foreign or newer
one stays as it was found. Connections are in autocommit mode; transactions are begun and ended by hand.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final, Literal, TypeAlias

from aml100.domain.errors import SafetyRefusal, StateError
from aml100.storage.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]

_MAGIC: Final = b"SQLite format 3\x00"
_QUICK_CHECK_BYTES: Final = 256 << 20
"""Up to this size every page is looked at on opening; larger files are left to `verify` and `doctor`."""
_WAL_PAGES: Final = 10_000
"""A safety net: the writer checkpoints earlier than this, when it has nothing else to do."""


def _damaged(path: Path, what: str) -> StateError:
    return StateError(f"{path}: damaged or no state.db ({what}); left untouched; allowed: a state.db of AML-100")


def connect_read(path: Path, busy_timeout_ms: int = 5_000) -> sqlite3.Connection:
    """A connection that cannot write; usable from any thread, one at a time."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    return connection


def check_file(path: Path) -> int:
    """The schema version of the state.db at `path`; 0 where there is none yet.

    Raises:
        StateError: it is no SQLite file, is cut short, is damaged, is another program's, or is newer than this one.
    """
    if path.is_dir():
        raise StateError(f"{path}: is a folder; allowed: the path of a state.db")
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise _damaged(path, "it does not begin as a SQLite file does")
    try:
        connection = connect_read(path)
        try:
            return _check_open(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _damaged(path, str(error)) from None


def _check_open(connection: sqlite3.Connection, path: Path) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == 0 and version == 0 and count == 0:
            return 0
        raise _damaged(path, "a database of another program")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path}: has schema version {version}; allowed: at most {SCHEMA_VERSION}, which this program knows; "
            "left untouched: use the newer program"
        )
    if path.stat().st_size <= _QUICK_CHECK_BYTES:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _damaged(path, " ".join(str(verdict).split()))
    return int(version)


def check_owner(connection: sqlite3.Connection, path: Path, network: str, account: str) -> None:
    """SafetyRefusal where the file belongs to another network or account; an account of "" is nobody's yet."""
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('network', 'account')").fetchall())
    for key, wanted in (("network", network), ("account", account.lower())):
        if wanted and key in meta and meta[key] != wanted:
            raise SafetyRefusal(f"{path}: belongs to {key} {meta[key]}, not {wanted}; use another --state")


def check_belongs(path: Path, network: str, account: str) -> None:
    """Refuse, before anything is opened, a file that is damaged or of another network or account.

    Raises:
        StateError, SafetyRefusal: as `open_writer`.
    """
    if check_file(path):
        reader = connect_read(path)
        try:
            check_owner(reader, path, network, account)
        finally:
            reader.close()


def open_writer(
    path: Path, synchronous: Synchronous, network: str, account: str, busy_timeout_ms: int
) -> sqlite3.Connection:
    """The one writing connection: checked, migrated, owned, in WAL mode.

    Raises:
        StateError: see `check_file`; or the file cannot be written.
        SafetyRefusal: it belongs to another network or account.
    """
    version = check_file(path)
    check_belongs(path, network, account)
    if not path.parent.is_dir():
        raise StateError(f"{path}: its folder does not exist; allowed: a path in an existing folder")
    try:
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{path}: cannot be opened for writing ({error})") from None
    try:
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA fullfsync = {int(synchronous == 'FULL')}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        migrate(connection, version)
        connection.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
            [one for one in (("network", network), ("account", account.lower())) if one[1]],
        )
        check_owner(connection, path, network, account)
    except sqlite3.Error as error:
        connection.close()
        raise StateError(f"{path}: cannot be written ({error})") from None
    except SafetyRefusal:
        connection.close()
        raise
    return connection
