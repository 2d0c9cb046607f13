"""What a back-test leaves behind: metrics.json, trades.csv, fills.csv, equity.csv, decisions.parquet, report.html.

The folder is written beside its place and moved there when it is whole, so nothing half written is ever read. Numbers
in CSV are exact decimals; times are UTC milliseconds.
"""

from __future__ import annotations

import csv
import html
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aml100.domain.errors import UsageError
from aml100.domain.events import Decision, FillRecorded, TradeClosed
from aml100.domain.units import decimal_text, iso_utc
from aml100.evaluation.backtest import BacktestResult, EquityRow

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


def write_artefacts(folder: Path, result: BacktestResult, metrics: Mapping[str, object]) -> None:
    """Write a back-test's folder; an earlier one of the same name is replaced whole.

    Raises:
        UsageError: the place is a file, or a folder that holds something else.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "metrics.json").exists())):
        raise UsageError(f"{folder}: holds something else; allowed: a new or empty folder, or an earlier back-test")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_all(made, result, metrics)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
        folder.chmod(0o755)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write_all(folder: Path, result: BacktestResult, metrics: Mapping[str, object]) -> None:
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_trades(folder / "trades.csv", result.trades)
    write_fills(folder / "fills.csv", result.fills)
    write_equity(folder / "equity.csv", result.equity)
    write_decisions(folder / "decisions.parquet", result.decisions)
    (folder / "report.html").write_text(render_report(result, metrics))


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
    _write_csv(
        path,
        EQUITY_COLUMNS,
        (
            (
                r.time_ms,
                decimal_text(r.equity),
                decimal_text(r.balance),
                repr(r.drawdown_frac * 100),
                decimal_text(r.position),
            )
            for r in rows
        ),
    )


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """The columns of state.db's decisions."""
    gates = [
        json.dumps([{"name": g.name, "ok": g.ok, "reason": g.reason} for g in d.gates], separators=(",", ":"))
        for d in decisions
    ]
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


# --- the page for people ----------------------------------------------------------------------------------------

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .6rem;border-bottom:1px solid #d8dee4;text-align:right}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto;background:#f6f8fa}
.note{background:#fff8c5;padding:.6rem .9rem;border-left:4px solid #bf8700}
"""


def render_report(result: BacktestResult, metrics: Mapping[str, object]) -> str:
    """One self-contained page: the curve, the figures, the latest trades, and what they are worth as evidence."""
    title = f"{metrics.get('policy')} on {metrics.get('data_origin')}"
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(_plain(value))}</td></tr>"
        for name, value in metrics.items()
        if not isinstance(value, Mapping)
    )
    trades = "".join(
        f"<tr><td>{iso_utc(t.entry_ms)}</td><td>{t.coin}</td><td>{t.side}</td><td>{t.entry_price:.6g}</td>"
        f"<td>{t.exit_price:.6g}</td><td>{t.pnl:.2f}</td><td>{t.exit_reason}</td></tr>"
        for t in result.trades[-200:]
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>Back-test: {html.escape(title)}</h1>"
        f"<p class='note'>{html.escape(evidence_sentence(metrics))}</p>"
        f"<h2>Equity, USD</h2>{_curve([float(r.equity) for r in result.equity])}"
        f"<h2>Figures</h2><table>{rows}</table>"
        "<h2>Latest trades</h2><table><tr><th>entry</th><th>coin</th><th>side</th><th>entry price</th>"
        f"<th>exit price</th><th>net USD</th><th>exit</th></tr>{trades}</table></html>"
    )


def evidence_sentence(metrics: Mapping[str, object]) -> str:
    """What the figures support, in one plain sentence."""
    days, trades, psr = metrics.get("sharpe_days"), metrics.get("trades"), metrics.get("psr")
    if not isinstance(psr, float):
        return f"{trades} trades over {days} daily returns: too little to say whether this was skill or luck."
    words = "supports" if psr >= 0.95 else "does not support"
    return (
        f"{trades} trades over {days} daily returns; the chance that the true Sharpe ratio is above zero is {psr:.0%}, "
        f"before counting how many variants were tried. That {words} a claim of skill at the usual 95 %."
    )


def _plain(value: object) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)


def _curve(values: Sequence[float], width: int = 960, height: int = 240) -> str:
    if len(values) < 2:
        return "<p>no bars</p>"
    step = max(1, len(values) // width)
    shown = [*values[::step], values[-1]]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    points = " ".join(
        f"{i * width / (len(shown) - 1):.1f},{height - 10 - (v - low) / span * (height - 20):.1f}"
        for i, v in enumerate(shown)
    )
    return (
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='equity from {values[0]:.2f} to {values[-1]:.2f}'>"
        f"<polyline fill='none' stroke='#0969da' stroke-width='1.5' points='{points}'/>"
        f"<text x='4' y='14' font-size='12'>{high:,.2f}</text>"
        f"<text x='4' y='{height - 4}' font-size='12'>{low:,.2f}</text></svg>"
    )
