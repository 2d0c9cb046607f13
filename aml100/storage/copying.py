"""A copy of a state, whole and in files: the rows as one state.db, and beside it the archives of recorded inputs and
the memory of an embedded venue.

The rows are copied first. A day that moves into an archive meanwhile is then in both, and whoever reads takes each row
once; the other way round it could be in neither. The venue may have moved on meanwhile, as any venue does while an
engine is away; one that knew less than the journal could not be continued.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlmodel import SQLModel

from aml100.domain.errors import StateError, UsageError
from aml100.storage import tables
from aml100.storage.inputs import archive_folder
from aml100.storage.sqlite import SqliteConnection, migrate
from aml100.storage.store import Connection, Store
from aml100.storage.stores import store_of

_BLOCK: Final = 1_000


def backup(path: Path, target: Path) -> None:
    """A consistent copy, also while an engine writes: `target`, a state.db, with `target.inputs/` and `target.venue`
    where there are any.

    The names follow the state's own rule, so that `--state target` is the restored state.

    Raises:
        StateError: `path` is no sound state.
        UsageError: `target` exists or cannot be written.
    """
    store = store_of(path)
    if store.version() == 0:
        raise StateError(f"{store}: no state here; allowed: one that `run` has made")
    for one in (target, archive_folder(target), venue_file(target)):
        if one.exists():
            raise UsageError(f"{one}: exists; allowed: a new name")
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600))
        with closing(sqlite3.connect(part, isolation_level=None, factory=SqliteConnection)) as copy:
            copy_rows(store, copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        _copy_archives(archive_folder(path), archive_folder(target))
        _copy_venue(venue_file(path), venue_file(target))
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        shutil.rmtree(archive_folder(target), ignore_errors=True)
        venue_file(target).unlink(missing_ok=True)
        raise UsageError(f"{target}: cannot be written ({error})") from None


def copy_rows(store: Store, copy: SqliteConnection) -> None:
    """Every row into an empty SQLite file: page by page from another one, table by table from a database."""
    with closing(store.connect_read()) as source:
        if isinstance(source, SqliteConnection):
            source.backup(copy)
            return
        source.begin_reading()
        migrate(copy, 0)
        copy.begin()
        for name in SQLModel.metadata.tables:
            _copy_table(name, source, copy)
        copy.commit()


def _copy_table(name: str, source: Connection, copy: SqliteConnection) -> None:
    names = [column.name for column in SQLModel.metadata.tables[name].columns]
    order = "rowid" if name in tables.IN_ORDER_OF_ARRIVAL else names[0]
    rows = source.execute(f"SELECT {', '.join(names)} FROM {name} ORDER BY {order}")
    insert = f"INSERT OR REPLACE INTO {name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    while block := rows.fetchmany(_BLOCK):
        copy.executemany(insert, block)


def _copy_archives(source: Path, target: Path) -> None:
    """Archives are replaced as a whole while an engine runs, so each is copied as it was at one instant."""
    if not source.is_dir():
        return
    target.mkdir(mode=0o700)
    for path in sorted(source.glob("*.parquet")):
        _sync(Path(shutil.copy2(path, target / path.name)))
    _sync(target)


def venue_file(state: Path) -> Path:
    """Where the embedded venue of a state.db keeps its accounts."""
    return state.with_name(f"{state.name}.venue")


def _copy_venue(source: Path, target: Path) -> None:
    if not source.exists():
        return
    os.close(os.open(target, os.O_CREAT | os.O_RDWR, 0o600))
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as there,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        there.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    _sync(target)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
