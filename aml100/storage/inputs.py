"""Recorded inputs of the core: rows of state.db while they are young, one file a day beside it afterwards.

What an input is, storage does not know: the log that brings them packs them too. A row holds what one transaction
brought. Archives are whole files, replaced as the history store's are, and hold exactly the rows they took from
state.db, so that a kill between writing the file and deleting the rows leaves both, never neither; a reader takes each
row once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from aml100.domain.errors import DataFileError
from aml100.domain.units import DAY_MS, iso_utc
from aml100.storage.files import replace_file

_COLUMNS: Final = ("seq", "run_id", "book", "wall_ms", "from_ms", "to_ms", "count", "begins", "data")
_HEAD: Final = _COLUMNS[:-1]


@dataclass(frozen=True, slots=True)
class Packed:
    """Inputs of one transaction: the market times they span, how many, and whether a core begins among them."""

    from_ms: int
    to_ms: int
    count: int
    begins: bool
    data: bytes


class InputSource(Protocol):
    """Who records inputs; asked at every step that is journalled."""

    def take(self) -> Sequence[tuple[int, Any]]:
        """Everything since the last call: market time and input."""

    def pack(self, entries: Sequence[tuple[int, Any]]) -> Packed:
        """For the journal, on the writer's thread; may be called again for the same entries."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row, of state.db or an archive; `wall_ms`: when it was written. No `data` where heads were asked for."""

    seq: int
    run_id: str
    book: str
    wall_ms: int
    from_ms: int
    to_ms: int
    count: int
    begins: bool
    data: bytes = b""


class InputTable(Protocol):
    """The part of state.db that holds them."""

    path: Path
    book: str

    def input_rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Rows of a query over the table `inputs`."""


def archive_folder(state: Path) -> Path:
    """Where the archives of a state.db lie."""
    return state.with_name(f"{state.name}.inputs")


def heads(table: InputTable) -> list[InputRow]:
    """Every row of the book without its data, in order, each once."""
    found: dict[int, InputRow] = {}
    for path in sorted(archive_folder(table.path).glob("*.parquet")):
        for row in _archived(path, _HEAD):
            if row.book == table.book:
                found[row.seq] = row
    for values in table.input_rows(f"SELECT {', '.join(_HEAD)} FROM inputs WHERE book = ?", table.book):
        row = InputRow(*values)
        found[row.seq] = row
    return [found[seq] for seq in sorted(found)]


def rows(table: InputTable, wanted: Sequence[InputRow]) -> Iterator[InputRow]:
    """The same rows with their data, in order; a day's archive is in memory at a time."""
    left = {row.seq for row in wanted}
    days = {iso_utc(row.wall_ms)[:10] for row in wanted}
    for path in sorted(archive_folder(table.path).glob("*.parquet")):
        if path.stem in days:
            for row in _archived(path, _COLUMNS):
                if row.seq in left:
                    left.discard(row.seq)
                    yield row
    if left:
        sql = f"SELECT {', '.join(_COLUMNS)} FROM inputs WHERE book = ? AND seq >= ? AND seq <= ? ORDER BY seq"
        for values in table.input_rows(sql, table.book, min(left), max(left)):
            if values[0] in left:
                yield InputRow(*values)


def archive_day(table: InputTable, before_ms: int) -> tuple[int, int] | None:
    """Move the oldest day that ended before `before_ms` (wall time) into its file; its bounds, None where none is left.

    The rows are in the file when this returns, and in state.db still: the caller deletes them there.

    Raises:
        DataFileError: the file cannot be written or read.
    """
    oldest = next(iter(table.input_rows("SELECT min(wall_ms) FROM inputs")))[0]
    if oldest is None or oldest // DAY_MS * DAY_MS + DAY_MS > before_ms:
        return None
    from_ms = int(oldest) // DAY_MS * DAY_MS
    to_ms = from_ms + DAY_MS
    path = archive_folder(table.path) / f"{iso_utc(from_ms)[:10]}.parquet"
    found = {row.seq: row for row in _archived(path, _COLUMNS)} if path.exists() else {}
    sql = f"SELECT {', '.join(_COLUMNS)} FROM inputs WHERE wall_ms >= ? AND wall_ms < ?"
    for values in table.input_rows(sql, from_ms, to_ms):
        row = InputRow(*values)
        found[row.seq] = row
    ordered = [found[seq] for seq in sorted(found)]
    columns = {name: [getattr(row, name) for row in ordered] for name in _COLUMNS}
    replace_file(path, lambda file: pq.write_table(pa.table(columns), file, compression="zstd"))
    return from_ms, to_ms


def _archived(path: Path, columns: Sequence[str]) -> Iterator[InputRow]:
    try:
        read = pq.read_table(path, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"{path}: not a readable archive of inputs ({str(error).splitlines()[0]})") from None
    for values in zip(*(read.column(name).to_pylist() for name in columns), strict=True):
        yield InputRow(*values)
