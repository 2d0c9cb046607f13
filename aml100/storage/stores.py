"""Which store a path names."""

from __future__ import annotations

from pathlib import Path

from aml100.storage.address import is_note
from aml100.storage.store import Store


def store_of(path: Path) -> Store:
    """A state.db, or the schema of a database that a note points to.

    Raises:
        StateError: the note does not read.
        UsageError: the driver of PostgreSQL is not installed.
    """
    if is_note(path):
        from aml100.storage.postgres import PostgresStore

        return PostgresStore(path)
    from aml100.storage.sqlite import SqliteStore

    return SqliteStore(path)


def has_state(path: Path) -> bool:
    """Whether an engine has ever written here."""
    return store_of(path).version() > 0 if is_note(path) else path.is_file()
