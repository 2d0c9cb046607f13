"""An alarm journalled by somebody else than the engine: one row of `commands`, by the sentinel.

Safe beside a living engine too: the row takes the table's own number, never one of the writer's sequence.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from aml100.storage.rows import COMMAND_SQL


def record_alarm(path: Path, guard: str, text: str, time_ms: int) -> bool:
    """Keep an alarm in state.db; false where it cannot be written. Nothing is made that is not there."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as connection:
            connection.execute(COMMAND_SQL, (None, time_ms, "alarm", "sentinel", f"{guard}: {text}"))
    except sqlite3.Error:
        return False
    return True
