"""The tuned parameters in force, read without the rest of the storage: commands ask for them before anything heavy."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tuned:
    """Values by dotted keys of params.json, and the version they are of."""

    id: str
    values: dict[str, object]


def tuned_in_force(state: Path) -> Tuned | None:
    """What `optimize` found and somebody promoted on this state file; None where nothing is, or it is no state file."""
    if not state.is_file():
        return None
    try:
        connection = sqlite3.connect(f"file:{state}?mode=ro", uri=True)
        try:
            row = connection.execute(
                "SELECT id, changes FROM parameters WHERE state = 'active' ORDER BY updated_ms DESC LIMIT 1"
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    if row is None:
        return None
    return Tuned(str(row[0]), {key: now for key, (_, now) in json.loads(row[1]).items()})
