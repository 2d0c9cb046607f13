"""The tuned parameters in force, read without the rest of the storage: commands ask for them before anything heavy."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aml100.storage.address import is_note
from aml100.storage.files import read_only_uri
from aml100.storage.store import Connection

_SQL = "SELECT id, changes FROM parameters WHERE state = 'active' ORDER BY updated_ms DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Tuned:
    """Values by dotted keys of params.json, and the version they are of."""

    id: str
    values: dict[str, object]


def tuned_in_force(state: Path) -> Tuned | None:
    """What `optimize` found and somebody promoted on this state; None where nothing is, or there is no state.

    Raises:
        AmlError: the database that holds it does not answer.
    """
    if is_note(state):
        from aml100.storage.stores import store_of

        store = store_of(state)
        if store.version() == 0:
            return None
        with closing(store.connect_read()) as connection:
            return _read(connection)
    if not state.is_file():
        return None
    try:
        with closing(sqlite3.connect(read_only_uri(state), uri=True)) as file:
            return _read(file)
    except sqlite3.Error:
        return None


def _read(connection: Connection | sqlite3.Connection) -> Tuned | None:
    row = connection.execute(_SQL).fetchone()
    if row is None:
        return None
    return Tuned(str(row[0]), {key: now for key, (_, now) in json.loads(row[1]).items()})
