"""Finished records read back: equity.csv and trades.csv of a folder, as `backtest --out` writes them.

Only what phases are judged by is read, column-wise, so that a thousand folders are a matter of seconds. A file that
cannot be used is refused with its row (the header is row 1); nothing is guessed or left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from aml100.domain.errors import DataFileError, UsageError
from aml100.domain.orders import ExitReason
from aml100.domain.units import iso_utc
from aml100.evaluation.objectives import Trials
from aml100.evaluation.windows import Floats, Ints, PhaseRecord

_EQUITY: Final = {"time": pa.int64(), "equity": pa.float64(), "drawdown_pct": pa.float64()}
_TRADES: Final = {"exit_time": pa.int64(), "pnl_usd": pa.float64(), "exit_reason": pa.string()}


def record_folders(directory: Path) -> list[Path]:
    """Sub-folders that hold a record, by name; UsageError where there is none.

    A folder with neither file is no record (a walk-forward keeps its models beside its folds); one that lacks only one
    of them is a damaged record, and reading it says so.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such folder; allowed: a folder of back-tests")
    found = [
        one for one in sorted(directory.iterdir()) if (one / "equity.csv").is_file() or (one / "trades.csv").is_file()
    ]
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
    facts = _facts(folder / "metrics.json")
    variance, pbo = facts.get("trial_sharpe_variance"), facts.get("pbo")
    try:
        return Trials(
            int(facts.get("trials", 1)),
            None if variance is None else float(variance),
            None if pbo is None else float(pbo),
        )
    except (ValueError, TypeError):
        path = folder / "metrics.json"
        raise DataFileError(f"{path}: trials, pbo: no numbers; allowed: as backtest --out writes it") from None


def _facts(path: Path) -> dict[str, Any]:
    """What metrics.json holds; nothing where it is not there."""
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text())
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise DataFileError(f"{path}: is no JSON object; allowed: as backtest --out writes it")
    return facts


def _read(path: Path, columns: dict[str, Any]) -> Any:
    options = pa_csv.ConvertOptions(column_types=columns, include_columns=list(columns), null_values=[])
    try:
        return pa_csv.read_csv(path, pa_csv.ReadOptions(use_threads=False), convert_options=options)
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file; allowed: a folder as backtest --out writes it") from None
    except KeyError as error:
        raise DataFileError(f"{path}: row 1: {error.args[0]}; allowed: {', '.join(columns)}") from None
    except pa.ArrowInvalid as error:
        raise DataFileError(f"{path}: {error}") from None


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
        try:
            value = json.loads(path.read_text())["initial_equity"]
            return float(value)
        except (ValueError, KeyError, TypeError):
            raise DataFileError(f"{path}: initial_equity: no number; allowed: as backtest --out writes it") from None
    kept = 1.0 - float(drawdown_pct[0]) / 100.0
    return float(equity[0]) / kept if kept > 0.0 else float(equity[0])
