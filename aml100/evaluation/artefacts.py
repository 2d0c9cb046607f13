"""What a back-test leaves behind: metrics.json, trades.csv, fills.csv, equity.csv, decisions.parquet, report.html.

The folder is written beside its place and moved there when it is whole, so nothing half written is ever read. Numbers
in CSV are exact decimals; times are UTC milliseconds.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aml100.domain.errors import UsageError
from aml100.domain.events import Decision, FillRecorded, TradeClosed
from aml100.domain.units import decimal_text
from aml100.evaluation.backtest import BacktestResult, EquityRow
from aml100.evaluation.report import ReportInput, render_report

TRADE_COLUMNS = (
    "id",
    "coin",
    "side",
    "entry_time",
    "entry_price",
    "exit_time",
    "exit_price",
    "size",
    "pnl_usd",
    "fees_usd",
    "funding_usd",
    "return_pct",
    "exit_reason",
    "bars_held",
)
FILL_COLUMNS = ("time", "coin", "side", "price", "size", "fee_usd", "liquidity")
EQUITY_COLUMNS = ("time", "equity", "balance", "drawdown_pct", "position")


def check_place(folder: Path) -> None:
    """UsageError where a back-test's folder cannot be written; asked before the work is done, too.

    It may not be the folder one works in: that is replaced, and a shell would be left in one that is no more.
    """
    is_there = folder.exists() or folder.is_symlink()
    if is_there and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "metrics.json").exists())):
        raise UsageError(f"{folder}: holds something else; allowed: a new or empty folder, or an earlier back-test")
    if os.path.realpath(folder) == os.getcwd():
        raise UsageError(f"{folder}: is the folder you are in; allowed: another one, new or empty")
    need_folder(folder.parent)


def need_folder(folder: Path) -> None:
    """Make a folder that is to be written into; UsageError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made ({error.strerror}); allowed: a new folder, or one of yours"
        ) from None
    try:  # what may be written, root may not always: only trying tells
        tempfile.TemporaryDirectory(prefix=".aml100-", dir=folder).cleanup()
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); allowed: a new folder, or one of yours"
        ) from None


def write_artefacts(folder: Path, result: BacktestResult, page: ReportInput) -> None:
    """Write a back-test's folder; an earlier one of the same name is replaced whole.

    Raises:
        UsageError: the place will not do, see `check_place`.
        OSError: the disk is full; it names the folder, where nothing is left.
    """
    check_place(folder)
    folder = Path(os.path.realpath(folder))  # a link stays, what it leads to is replaced
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_all(made, result, page)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
        folder.chmod(0o755)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write_all(folder: Path, result: BacktestResult, page: ReportInput) -> None:
    (folder / "metrics.json").write_text(json.dumps(page.document, indent=2, allow_nan=False) + "\n")
    write_trades(folder / "trades.csv", result.trades)
    write_fills(folder / "fills.csv", result.fills)
    write_equity(folder / "equity.csv", result.equity)
    write_decisions(folder / "decisions.parquet", result.decisions)
    (folder / "report.html").write_text(render_report(page))


def write_trades(path: Path, trades: Iterable[TradeClosed]) -> None:
    """Round trips, oldest first; `pnl_usd` is net of fees and funding, `return_pct` is of the entry notional."""
    rows = (
        (
            number,
            t.coin,
            t.side.value,
            t.entry_ms,
            decimal_text(t.entry_price),
            t.exit_ms,
            decimal_text(t.exit_price),
            decimal_text(t.size),
            decimal_text(t.pnl),
            decimal_text(t.fees),
            decimal_text(t.funding),
            repr(float(t.pnl / (t.entry_price * t.size) * 100)),
            str(t.exit_reason),
            t.bars_held,
        )
        for number, t in enumerate(trades, start=1)
    )
    _write_csv(path, TRADE_COLUMNS, rows)


def write_fills(path: Path, fills: Iterable[FillRecorded]) -> None:
    """Executions, oldest first; a fee > 0 was paid."""
    rows = (
        (
            f.fill.time_ms,
            f.fill.coin,
            f.fill.side.value,
            decimal_text(f.fill.price),
            decimal_text(f.fill.size),
            decimal_text(f.fill.fee),
            "taker" if f.fill.is_taker else "maker",
        )
        for f in fills
    )
    _write_csv(path, FILL_COLUMNS, rows)


def write_equity(path: Path, rows: Iterable[EquityRow]) -> None:
    """One row a bar: `time` is the bar's open, the figures are those at its close."""
    _write_csv(path, EQUITY_COLUMNS, _equity_cells(rows))


def _equity_cells(rows: Iterable[EquityRow]) -> Iterator[tuple[object, ...]]:
    """While nothing is held the numbers are the same objects as in the row before, and so is their text."""
    numbers: tuple[Decimal | None, Decimal | None, Decimal | None] = (None, None, None)
    equity = balance = position = ""
    for row in rows:
        if row.equity is not numbers[0]:
            equity = decimal_text(row.equity)
        if row.balance is not numbers[1]:
            balance = decimal_text(row.balance)
        if row.position is not numbers[2]:
            position = decimal_text(row.position)
        numbers = (row.equity, row.balance, row.position)
        yield row.time_ms, equity, balance, repr(row.drawdown_frac * 100), position


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """The columns of state.db's decisions."""
    texts: dict[int, str] = {}  # most decisions share one tuple of gates with many others
    gates = []
    for d in decisions:
        text = texts.get(id(d.gates))
        if text is None:
            found = [{"name": g.name, "ok": g.ok, "reason": g.reason} for g in d.gates]
            text = texts[id(d.gates)] = json.dumps(found, separators=(",", ":"))
        gates.append(text)
    table = pa.table(
        {
            "time_ms": pa.array([d.time_ms for d in decisions], pa.int64()),
            "coin": pa.array([d.coin for d in decisions], pa.string()),
            "bar_ms": pa.array([d.bar_ms for d in decisions], pa.int64()),
            "action": pa.array([int(d.action) for d in decisions], pa.int8()),
            "q_hold": pa.array([None if d.q is None else d.q[0] for d in decisions], pa.float64()),
            "q_buy": pa.array([None if d.q is None else d.q[1] for d in decisions], pa.float64()),
            "q_sell": pa.array([None if d.q is None else d.q[2] for d in decisions], pa.float64()),
            "outcome": pa.array([d.outcome for d in decisions], pa.string()),
            "gates": pa.array(gates, pa.string()).dictionary_encode(),
            "confidence": pa.array([d.confidence for d in decisions], pa.float64()),
            "regime": pa.array([str(d.regime) for d in decisions], pa.string()).dictionary_encode(),
        }
    )
    pq.write_table(table, path, compression="zstd")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
