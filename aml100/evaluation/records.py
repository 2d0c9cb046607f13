"""Finished records read back: equity.csv and trades.csv of a folder, as `backtest --out` writes them.

Only what phases are judged by is read, column-wise, so that a thousand folders are a matter of seconds. A file that
cannot be used is refused with its row (the header is row 1); nothing is guessed or left out.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from aml100.domain.errors import DataFileError, UsageError
from aml100.domain.orders import ExitReason
from aml100.domain.units import iso_utc
from aml100.evaluation.objectives import Trials
from aml100.evaluation.seen import is_out_of_sample
from aml100.evaluation.windows import Floats, Ints, PhaseRecord

_NO_VALUE: Final = re.compile(
    r"CSV column #(\d+): Row #(\d+): CSV conversion error to (\w+): invalid value ('.*)", re.S
)
_RAGGED: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): ([^\r\n]*)")
_EQUITY: Final = {"time": pa.int64(), "equity": pa.float64(), "drawdown_pct": pa.float64()}
_TRADES: Final = {"exit_time": pa.int64(), "pnl_usd": pa.float64(), "exit_reason": pa.string()}


def record_folders(directory: Path) -> list[Path]:
    """Sub-folders that hold a record, by name; UsageError where there is none.

    A folder with neither file is no record (a walk-forward keeps its models beside its folds); one that lacks only one
    of them is a damaged record, and reading it says so.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such folder; allowed: a folder of back-tests")
    try:
        inside = sorted(directory.iterdir())
        found = [one for one in inside if (one / "equity.csv").is_file() or (one / "trades.csv").is_file()]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror}); allowed: a folder of yours") from None
    if not found:
        raise UsageError(f"{directory}: no sub-folder with equity.csv and trades.csv; allowed: one for each record")
    return found


def read_phase_record(folder: Path, interval_ms: int | None = None) -> PhaseRecord:
    """The record of one folder.

    The opening equity is what metrics.json says; without it, what the first row's drawdown is measured from.

    Args:
        interval_ms: length of a bar; None: the commonest step between the rows.

    Raises:
        DataFileError: a file is missing, not readable, has a number that is none, or times that do not ascend.
    """
    path = folder / "equity.csv"
    table = _read(path, _EQUITY)
    times, equity = _column(table, "time"), _column(table, "equity")
    _check(path, times, equity)
    interval = _interval_of(path, times, interval_ms)
    trades_path = folder / "trades.csv"
    trades = _read(trades_path, _TRADES)
    exits, profits = _column(trades, "exit_time"), _column(trades, "pnl_usd")
    if not np.isfinite(profits).all():
        row = int(np.flatnonzero(~np.isfinite(profits))[0])
        raise DataFileError(f"{trades_path}: row {row + 2}: pnl_usd is not finite; allowed: a number")
    # A close at the end of a series is stamped with its bar's end, and moved the equity of that bar.
    ended = np.asarray(pa.compute.equal(trades["exit_reason"], str(ExitReason.END)).combine_chunks(), dtype=np.bool_)
    return PhaseRecord(
        open_ms=times,
        equity=equity,
        interval_ms=interval,
        initial_equity=_opening_equity(folder, equity, _column(table, "drawdown_pct")),
        exit_ms=exits - np.where(ended, interval, 0),
        profits=profits,
    )


def read_trials(folder: Path) -> Trials:
    """By how many trials the record was found, as its metrics.json says; one where there is none.

    Raises:
        DataFileError: metrics.json does not read.
    """
    path = folder / "metrics.json"
    facts = _facts(path)
    count, variance, pbo = (_number(path, facts, name) for name in ("trials", "trial_sharpe_variance", "pbo"))
    return Trials(1 if count is None else int(count), variance, pbo)


def holds_evidence(folder: Path) -> bool:
    """False where metrics.json says that the record knew the future, or was made from bars that it is judged by.

    Raises:
        DataFileError: metrics.json does not read.
    """
    return is_out_of_sample(_facts(folder / "metrics.json"))


def _facts(path: Path) -> dict[str, Any]:
    """What metrics.json holds; nothing where it is not there."""
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text())
    except (ValueError, RecursionError):
        facts = None
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(facts, dict):
        raise DataFileError(f"{path}: is no JSON object; allowed: as backtest --out writes it")
    return facts


def _number(path: Path, facts: dict[str, Any], name: str) -> float | None:
    """A finite number of metrics.json; None where it is null or not there."""
    value = facts.get(name)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataFileError(f"{path}: {name} = {json.dumps(value)[:60]} is refused; allowed: a finite number")
    return number


def _read(path: Path, columns: dict[str, Any]) -> Any:
    options = pa_csv.ConvertOptions(column_types=columns, include_columns=list(columns), null_values=[])
    try:
        return pa_csv.read_csv(path, pa_csv.ReadOptions(use_threads=False), convert_options=options)
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file; allowed: a folder as backtest --out writes it") from None
    except KeyError as error:
        raise DataFileError(f"{path}: row 1: {error.args[0]}; allowed: {', '.join(columns)}") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataFileError(f"{path}: {_in_words(path, str(error).strip(), columns)}") from None


def _in_words(path: Path, reason: str, columns: dict[str, Any]) -> str:
    """What the reader found wrong, by row, column and value where it says so; its own first line otherwise."""
    if found := _NO_VALUE.search(reason):
        place, row, kind, value = found.groups()
        name = _name_of(path, int(place), columns)
        return f"row {row}: {name} is {value}; allowed: {'a whole number' if kind == 'int64' else 'a number'}"
    if found := _RAGGED.search(reason):
        row, wanted, has, line = found.groups()
        return f"row {row}: has {has} columns: {line[:60]!r}; allowed: {wanted}, as the first row has"
    if path.is_file() and path.stat().st_size == 0:
        return f"row 1: the file is empty; allowed: {', '.join(columns)}"
    return f"cannot be read as CSV ({reason.splitlines()[0]})"


def _name_of(path: Path, place: int, columns: dict[str, Any]) -> str:
    """The column at a place of the header; the names that are read where the header does not say."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    return header[place] if place < len(header) else " or ".join(columns)


def _column(table: Any, name: str) -> Any:
    return table[name].combine_chunks().to_numpy(zero_copy_only=False)


def _check(path: Path, times: Ints, equity: Floats) -> None:
    if len(times) == 0:
        raise DataFileError(f"{path}: row 1: no row follows; allowed: one row a bar")
    bad = np.flatnonzero(~np.isfinite(equity))
    if len(bad):
        row = int(bad[0])
        raise DataFileError(f"{path}: row {row + 2} ({iso_utc(int(times[row]))}): equity is not finite")
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        row = int(back[0]) + 1
        raise DataFileError(f"{path}: row {row + 2} ({iso_utc(int(times[row]))}): not later than the row before")


def _interval_of(path: Path, times: Ints, asked: int | None) -> int:
    steps = np.diff(times)
    if asked is None:
        if len(steps) == 0:
            raise DataFileError(f"{path}: one row has no interval; allowed: --interval, or more rows")
        values, counts = np.unique(steps, return_counts=True)
        asked = int(values[counts.argmax()])
    off = np.flatnonzero(steps % asked)
    if len(off):
        row = int(off[0]) + 1
        raise DataFileError(
            f"{path}: row {row + 2} ({iso_utc(int(times[row]))}): {int(steps[row - 1])} ms after the row before; "
            f"allowed: a multiple of the interval, {asked} ms"
        )
    return asked


def _opening_equity(folder: Path, equity: Floats, drawdown_pct: Floats) -> float:
    path = folder / "metrics.json"
    if path.is_file():
        opening = _number(path, _facts(path), "initial_equity")
        if opening is None:
            raise DataFileError(f"{path}: initial_equity: no number; allowed: as backtest --out writes it")
        return opening
    kept = 1.0 - float(drawdown_pct[0]) / 100.0
    return float(equity[0]) / kept if kept > 0.0 else float(equity[0])
