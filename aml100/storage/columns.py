"""Raw columns out of Parquet, Feather and CSV files: which format, which column is which, which unit of time.

Nothing is judged here beyond what can be read at all; `importing` decides what a bar may look like. Rows are counted
as a person counts them in the file: from 1, and a CSV's header is row 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet

from aml100.domain.errors import DataFileError
from aml100.domain.units import iso_utc, parse_time_ms
from aml100.market.series import Floats, Ints

PRICES: Final = ("open", "high", "low", "close")

_KLINE: Final = (
    "time",
    *PRICES,
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_base_volume",
    "taker_quote_volume",
    "ignore",
)
"""Columns of Binance's kline files, which come without a header; shorter files keep the first six."""

# Exclusive upper bounds of an integer time in seconds, milliseconds and microseconds; above is nanoseconds.
_SECONDS_BELOW: Final = 100_000_000_000
_MILLIS_BELOW: Final = 100_000_000_000_000
_MICROS_BELOW: Final = 100_000_000_000_000_000
_RAGGED: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): ([^\r\n]*)")
_FLOATS_BELOW: Final = 2.0**62
_YEAR_10000_MS: Final = 253_402_300_800_000
_PARQUET: Final = (b"PAR1",)
_FEATHER: Final = (b"ARROW1", b"FEA1")
_BINARY: Final = _PARQUET + _FEATHER
"""How files begin that are no CSV."""


@dataclass(frozen=True, slots=True)
class RawTable:
    """A file as read. `first_row` is what a person calls the first data row; `is_text`: a CSV, with lines to count."""

    path: Path
    table: Any
    names: tuple[str, ...]
    first_row: int
    origin: str | None
    is_headless: bool = False
    is_text: bool = False

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> Any:
        """One column as an Arrow array; the name must be among `names`."""
        column = self.table.column(self.names.index(name)).combine_chunks()
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column

    def refuse(self, index: int, what: str) -> DataFileError:
        """An error that names the file and the row of a position in the columns."""
        row = index + self.first_row
        return DataFileError(f"{self.path}: row {_line_of(self.path, row) if self.is_text else row}: {what}")


def read_table(path: Path, headless: Sequence[str] | None = None) -> RawTable:
    """Read a file by what it contains, not by what it is called.

    Args:
        headless: names of the columns of a CSV whose first line is data already; None: such a line is the header.

    Raises:
        DataFileError: it is missing, empty, or no such file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not head.strip():
        raise DataFileError(f"{path}: row 1: the file is empty; allowed: time, open, high, low, close, volume")
    try:
        if head.startswith(_PARQUET):
            table, first_row = pa_parquet.read_table(path), 1
        elif head.startswith(_FEATHER):
            table, first_row = pa_feather.read_table(path), 1
        else:
            table, first_row = _read_csv(path, headless), 1 if headless else 2
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if ragged := _RAGGED.search(str(error)):
            row, wanted, found, line = ragged.groups()
            row = _line_of(path, int(row))
            what = f"row {row}: has {found} columns: {line[:60]!r}; allowed: {wanted}, as the first row has"
            raise DataFileError(f"{path}: {what}") from None
        reason = str(error).splitlines()[0].replace(str(path), "").strip()
        raise DataFileError(f"{path}: not a readable Parquet, Feather or CSV file ({reason})") from None
    names = tuple(str(name).strip().lower() for name in table.column_names)
    origin = (table.schema.metadata or {}).get(b"origin")
    is_text = not head.startswith(_BINARY)
    return RawTable(path, table, names, first_row, origin.decode() if origin else None, headless is not None, is_text)


def _line_of(path: Path, row: int) -> int:
    """The line of a CSV in which this row stands: Arrow passes blank lines over, a person counts them."""
    with path.open("rb") as lines:
        return next(islice((number for number, line in enumerate(lines, 1) if line.strip()), row - 1, None), row)


def _read_csv(path: Path, headless: Sequence[str] | None) -> Any:
    """On all cores; a file that fails is read once more on one, since only so the error knows the row."""
    names = list(headless) if headless else None
    try:
        return pa_csv.read_csv(path, read_options=pa_csv.ReadOptions(column_names=names))
    except pa.ArrowInvalid:
        return pa_csv.read_csv(path, read_options=pa_csv.ReadOptions(column_names=names, use_threads=False))


def headless_columns(path: Path) -> tuple[str, ...] | None:
    """Column names for a CSV that begins with data; None where it begins with a header, is no CSV or does not read."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return None
    if head.startswith(_BINARY) or not head.strip():
        return None
    cells = head.splitlines()[0].decode("utf-8", "replace").split(",")
    try:
        [float(cell.strip().strip('"')) for cell in cells[1:6]]
    except ValueError:
        return None
    if len(cells) < 6:
        raise DataFileError(
            f"{path}: row 1: has {len(cells)} columns; allowed: at least time, {', '.join(PRICES)}, volume"
        )
    extra = tuple(f"column{number}" for number in range(len(_KLINE), len(cells)))
    return (*_KLINE, *extra)[: len(cells)]


def floats(raw: RawTable, name: str, times: Ints | None = None) -> Floats:
    """A column as float64; what is missing becomes NaN.

    DataFileError at the first text that is no number, with the time of its row where `times` are known.
    """
    column = raw.column(name)
    if pa.types.is_null(column.type):
        return np.full(len(raw), np.nan)
    try:
        cast = column.cast(pa.float64())
    except pa.ArrowException:
        for index, text in enumerate(column.to_pylist()):
            try:
                float(text if text is not None else "nan")
            except (TypeError, ValueError):
                at = "" if times is None else f"({iso_utc(int(times[index]))}) "
                raise raw.refuse(index, f"{at}{name} is {text!r}; allowed: a number") from None
        cast = pa.array([float("nan" if text is None else text) for text in column.to_pylist()], pa.float64())
    values: Floats = cast.to_numpy(zero_copy_only=False)
    return values


def times_ms(raw: RawTable, name: str = "time", *, unit_by_row: bool = False) -> Ints:
    """A column of times as UTC milliseconds.

    Integers are seconds, milliseconds, microseconds or nanoseconds by their size: by that of the first one, or of
    each (`unit_by_row`: some sources changed the unit in the middle). Texts are ISO 8601, UTC where no zone is given.
    DataFileError where a time is missing, is none, or is finer than a millisecond.
    """
    result = _converted_ms(raw, name, unit_by_row)
    outside = np.flatnonzero((result < 0) | (result >= _YEAR_10000_MS))
    if len(outside):
        value = raw.column(name)[int(outside[0])].as_py()
        raise raw.refuse(int(outside[0]), f"{name} is {value}; allowed: from 1970 on, before the year 10000")
    return result


def _converted_ms(raw: RawTable, name: str, unit_by_row: bool) -> Ints:
    column = raw.column(name)
    if column.null_count:
        missing = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise raw.refuse(missing, f"{name} is missing; allowed: ms, s or ISO 8601")
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return _whole_ms(raw, name, micros.to_numpy(zero_copy_only=False), np.int64(1_000))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _parsed_ms(raw, name, column)
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(~((np.abs(values) < _FLOATS_BELOW) & (values == np.floor(values))))
        if len(odd):
            raise raw.refuse(int(odd[0]), f"{name} is {values[odd[0]]}; allowed: whole ms or s, or ISO 8601")
        numbers: Ints = values.astype(np.int64)
    elif pa.types.is_integer(column.type):
        numbers = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    else:
        raise raw.refuse(0, f"{name} is of type {column.type}; allowed: ms, s or ISO 8601")
    size = np.abs(numbers if unit_by_row else numbers[:1])
    scale = np.select(
        [size < _SECONDS_BELOW, size < _MILLIS_BELOW, size < _MICROS_BELOW],
        [np.int64(-1_000), np.int64(1), np.int64(1_000)],
        np.int64(1_000_000),
    )
    return _whole_ms(raw, name, numbers, scale)


def _whole_ms(raw: RawTable, name: str, numbers: Ints, scale: Ints | np.int64) -> Ints:
    """Divide by `scale`; a negative one multiplies. What does not divide is refused."""
    divisor = np.maximum(scale, 1)
    finer = np.flatnonzero(numbers % divisor)
    if len(finer):
        raise raw.refuse(int(finer[0]), f"{name} is {numbers[finer[0]]}; allowed: whole milliseconds, on the bar grid")
    result: Ints = numbers // divisor * np.where(scale < 0, -scale, 1)
    return result


def _parsed_ms(raw: RawTable, name: str, column: Any) -> Ints:
    out = np.empty(len(column), dtype=np.int64)
    for index, text in enumerate(column.to_pylist()):
        try:
            out[index] = parse_time_ms(text.replace("Z", "+00:00"))
        except ValueError as error:
            raise raw.refuse(index, f"{name}: {error}") from None
    return out
