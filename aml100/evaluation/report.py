"""The page for people: one self-contained HTML file, no script, nothing fetched.

It begins with what the figures support, shows equity, drawdown and the trades on the price, and gives each figure its
interval and its definition.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aml100.domain.events import TradeClosed
from aml100.domain.orders import Side
from aml100.domain.units import interval_name, iso_utc
from aml100.evaluation.breakdown import Month, months
from aml100.evaluation.drawing import Chart, Curve, Mark
from aml100.evaluation.evidence import evidence_sentence
from aml100.evaluation.metrics import Floats, RunRecord
from aml100.evaluation.style import STYLE
from aml100.market.series import BarSeries

MOST_MARKS: Final = 1500
LATEST_TRADES: Final = 200
_FOOT: Final = (
    "<footer class='quiet'>Decided on a bar's close, filled at the next open with slippage (an entry that rests: "
    "when the market trades through it); stops before targets inside a bar; hourly funding; fees by liquidity. Not "
    "modelled: queues, market impact, outages, and what others would have done had these orders been there. A "
    "back-test is the past, not a forecast.</footer>"
)


@dataclass(frozen=True, slots=True, eq=False)
class ReportInput:
    """What the page is made of: the run, metrics.json, the bars, and equity curves to hold the run's against."""

    record: RunRecord
    document: Mapping[str, object]
    series: Sequence[BarSeries]
    baseline_curves: Mapping[str, Floats] = field(default_factory=dict)


def render_report(page: ReportInput) -> str:
    """The whole page."""
    document = page.document
    title = f"{document.get('policy')} on {', '.join(str(one.coin) for one in page.series)}"
    body = [
        _head(page, title),
        f"<p class='note'>{html.escape(evidence_sentence(document))}</p>",
        _cards(document),
        "<h2>Equity</h2>",
        _equity(page),
        "<h2>Drawdown</h2>",
        _drawdown(page),
        *(_price(one, page.record.trades) for one in page.series),
        "<div class='two'><div><h2>Actions</h2>",
        _actions(document),
        "</div><div><h2>What costs took</h2>",
        _costs(document),
        "</div></div>",
        "<h2>Months</h2>",
        _months(months(page.record)),
        "<h2>Held against</h2>",
        _baselines(document),
        "<h2>Where it came from</h2>",
        _breakdown(document),
        "<h2>All figures</h2>",
        _figures(document),
        _latest(page.record.trades),
        _FOOT,
    ]
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>Back-test: {html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>"
    )


# --- head ---------------------------------------------------------------------------------------------------------


def _head(page: ReportInput, title: str) -> str:
    record, document = page.record, page.document
    facts = [
        f"{iso_utc(int(record.open_ms[0]))[:16].replace('T', ' ')} to "
        f"{iso_utc(int(record.open_ms[-1]) + record.interval_ms)[:16].replace('T', ' ')} UTC",
        f"{document.get('bars'):,} bars of {interval_name(record.interval_ms)}",
        str(document.get("data_origin")),
    ]
    if document.get("model"):
        facts.append(f"model {document['model']}")
    if document.get("data_sha256"):
        facts.append(f"data {str(document['data_sha256'])[:12]}")
    if not document.get("risk_checks"):
        facts.append("risk checks off")
    return f"<header><h1>{html.escape(title)}</h1><p class='quiet'>{html.escape(' · '.join(facts))}</p></header>"


_CARDS: Final = (
    ("total_return_pct", "Return", "%"),
    ("monthly_return_pct", "A month", "%"),
    ("sharpe", "Sharpe", ""),
    ("max_drawdown_pct", "Max drawdown", "%"),
    ("profit_factor", "Profit factor", ""),
    ("win_rate_pct", "Win rate", "%"),
    ("trades", "Trades", ""),
    ("exposure_pct", "Exposure", "%"),
)


def _cards(document: Mapping[str, object]) -> str:
    cards = []
    for name, words, unit in _CARDS:
        value = document.get(name)
        tone = ""
        if name in ("total_return_pct", "monthly_return_pct", "sharpe") and isinstance(value, float):
            tone = " up" if value > 0 else " down" if value < 0 else ""
        shown = "n/a" if value is None else f"{value:,}" if isinstance(value, int) else f"{_number(value)}{_unit(unit)}"
        cards.append(
            f"<div class='card'><div class='what'>{words}</div><div class='figure{tone}'>{shown}</div>"
            f"<div class='quiet'>{_interval_text(document, name, unit) or '&nbsp;'}</div></div>"
        )
    return f"<section class='cards'>{''.join(cards)}</section>"


def _unit(unit: str) -> str:
    return f"<span class='unit'>{unit}</span>" if unit else ""


def _interval_text(document: Mapping[str, object], name: str, unit: str = "") -> str:
    intervals = document.get("intervals")
    figures = intervals.get("figures", {}) if isinstance(intervals, Mapping) else {}
    one = figures.get(name)
    return f"{_number(one['low'])} to {_number(one['high'])}{' ' + unit if unit else ''}" if one else ""


# --- charts -------------------------------------------------------------------------------------------------------


def _equity(page: ReportInput) -> str:
    record = page.record
    ends = record.open_ms + record.interval_ms
    shown = [
        Curve(ends, curve, f"line base{number}", f"{name} {curve[-1]:,.2f} USD")
        for number, (name, curve) in enumerate(page.baseline_curves.items())
        if len(curve) == len(ends)
    ]
    own = Curve(ends, record.equity, "line own", f"{record.policy} {record.equity[-1]:,.2f} USD")
    chart = Chart(f"equity from {record.initial_equity:.2f} to {record.equity[-1]:.2f} USD", [*shown, own], height=300)
    legend = [f"<span class='key own'>{html.escape(record.policy)}</span>"]
    legend += [
        f"<span class='key base{number}'>{html.escape(name)}</span>" for number, name in enumerate(page.baseline_curves)
    ]
    return f"<p class='legend'>{''.join(legend)} <span class='quiet'>USD, after all costs</span></p>{chart.svg()}"


def _drawdown(page: ReportInput) -> str:
    record = page.record
    peak = np.maximum(np.maximum.accumulate(record.equity), record.initial_equity)
    fallen = -(1.0 - record.equity / peak) * 100.0
    ends = record.open_ms + record.interval_ms
    return Chart("drawdown in percent", [Curve(ends, fallen, "area")], height=150, filled=True, unit="%").svg()


def _price(series: BarSeries, trades: Sequence[TradeClosed]) -> str:
    ends = series.open_ms + series.interval_ms
    own = [trade for trade in trades if trade.coin == series.coin]
    shown = own[-MOST_MARKS // 2 :]
    chart = Chart(
        f"price of {series.coin} with {len(shown)} trades",
        [Curve(ends, series.close, "line price")],
        height=300,
        marks=[mark for trade in shown for mark in _marks_of(trade)],
        gap_ms=series.interval_ms,
    )
    note = f" <span class='quiet'>the latest {len(shown)} of {len(own)} trades</span>" if len(shown) < len(own) else ""
    legend = (
        "<p class='legend'><span class='key long'>▲ long entry</span><span class='key short'>▼ short entry</span>"
        f"<span class='key won'>● exit, gain</span><span class='key lost'>● exit, loss</span>{note}</p>"
    )
    return f"<h2>Trades on the price of {html.escape(series.coin)}</h2>{legend}{chart.svg()}"


def _marks_of(trade: TradeClosed) -> tuple[Mark, Mark]:
    long = trade.side is Side.BUY
    words = f"{'long' if long else 'short'} {trade.size} at {trade.entry_price:.6g}, {iso_utc(trade.entry_ms)}"
    left = f"{trade.exit_reason} at {trade.exit_price:.6g}, {trade.pnl:+.2f} USD, {iso_utc(trade.exit_ms)}"
    return (
        Mark(trade.entry_ms, float(trade.entry_price), "up" if long else "down", "long" if long else "short", words),
        Mark(trade.exit_ms, float(trade.exit_price), "dot", "won" if trade.pnl > 0 else "lost", left),
    )


# --- tables -------------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], css: str = "") -> str:
    head = "".join(f"<th>{one}</th>" for one in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table class='{css}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _actions(document: Mapping[str, object]) -> str:
    shares = document.get("action_distribution")
    if not isinstance(shares, Mapping) or any(value is None for value in shares.values()):
        return "<p class='quiet'>no decision was taken</p>"
    bars = "".join(
        f"<div class='bar'><span class='name'>{name.upper()}</span><span class='track'>"
        f"<span class='fill {name}' style='width:{max(share * 100.0, 0.3):.2f}%'></span></span>"
        f"<span class='value'>{share:.2%}</span></div>"
        for name, share in shares.items()
    )
    return f"<div class='bars'>{bars}</div>"


def _costs(document: Mapping[str, object]) -> str:
    costs = document.get("costs")
    if not isinstance(costs, Mapping):
        return ""
    usd, percent = costs["taken_usd"], costs["taken_pct"]
    rows = [["before costs", _signed(costs["gross_usd"]), ""]]
    rows += [[name, _signed(-usd[name]), f"{-percent[name]:+.2f} %"] for name in ("fees", "funding", "slippage")]
    rows.append(["<b>net</b>", f"<b>{_signed(costs['net_usd'])}</b>", ""])
    note = document.get("funding_note")
    return _table(("", "USD", "of the start"), rows) + (
        "" if note is None else f"<p class='quiet'>funding: {html.escape(str(note))}</p>"
    )


def _months(found: Sequence[Month]) -> str:
    """A year a row, a month a column; the cell's colour is the return, its title the drawdown and the trades."""
    by_name = {one.name: one for one in found}
    years = sorted({one.name[:4] for one in found})
    rows = []
    for year in years:
        cells, growth = [], 1.0
        for month in range(1, 13):
            one = by_name.get(f"{year}-{month:02d}")
            cells.append(_month(one))
            growth *= 1.0 + (one.return_frac if one is not None else 0.0)
        rows.append([year, *cells, f"<b class='{_tone(growth - 1.0)}'>{growth - 1.0:+.2%}</b>"])
    return _table(("", *_MONTHS, "year"), rows, "months")


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_COLOUR: Final = 0.05
"""A monthly return of so much has the strongest colour."""


def _month(one: Month | None) -> str:
    if one is None:
        return ""
    tone = "up" if one.return_frac > 0 else "down"
    depth = min(abs(one.return_frac) / _FULL_COLOUR, 1.0) * 32.0
    shade = f"background:color-mix(in srgb,var(--{tone}) {depth:.0f}%,transparent)" if one.return_frac else ""
    title = f"worst drawdown {one.drawdown_frac:.2%}, {one.trades:,} trades"
    return f"<div class='cell' style='{shade}' title='{title}'>{one.return_frac:+.2%}</div>"


_BASELINE_COLUMNS: Final = (
    ("total_return_pct", "return %"),
    ("sharpe", "Sharpe"),
    ("max_drawdown_pct", "max drawdown %"),
    ("profit_factor", "profit factor"),
    ("win_rate_pct", "win rate %"),
    ("trades", "trades"),
    ("fees_usd", "fees USD"),
)


def _baselines(document: Mapping[str, object]) -> str:
    baselines = document.get("baselines")
    rows = [[f"<b>{html.escape(str(document.get('policy')))}</b>", *(_cell(document, n) for n, _ in _BASELINE_COLUMNS)]]
    if isinstance(baselines, Mapping):
        rows += [[html.escape(name), *(_cell(one, n) for n, _ in _BASELINE_COLUMNS)] for name, one in baselines.items()]
    luck = document.get("luck")
    words = ""
    if isinstance(luck, Mapping):
        words = (
            "<p class='quiet'>random trades about as much as the policy: as many trades, the same turnover. "
            f"Of {luck['runs']} such runs {luck['better_share']:.0%} ended with more equity; their median return was "
            f"{luck['median_return_pct']:+.2f} %.</p>"
        )
    return _table(("", *(words_ for _, words_ in _BASELINE_COLUMNS)), rows) + words


def _breakdown(document: Mapping[str, object]) -> str:
    found = document.get("breakdown")
    if not isinstance(found, Mapping):
        return ""
    names = {"exit_reason": "exit", "regime": "regime at entry", "side": "side", "hour": "hour of entry, UTC"}
    tables, hours = [], ""
    for kind, words in names.items():
        rows = [
            [
                html.escape(name),
                f"{one['trades']:,}",
                _number(one["win_rate_pct"]),
                f"<span class='{_tone(one['pnl_usd'])}'>{_signed(one['pnl_usd'])}</span>",
                _number(one["fees_usd"]),
                _signed(one["funding_usd"]),
            ]
            for name, one in found[kind].items()
        ]
        if not rows:
            continue
        table = _table((words, "trades", "win %", "net USD", "fees", "funding"), rows)
        if kind == "hour":
            hours = f"<details><summary>by {words}</summary>{table}</details>"
        else:
            tables.append(f"<div>{table}</div>")
    if not tables:
        return "<p class='quiet'>no trade was closed</p>"
    return f"<div class='two'>{''.join(tables)}</div>{hours}"


def _figures(document: Mapping[str, object]) -> str:
    rows = [
        [html.escape(name), html.escape(_plain(value)), _interval_text(document, name)]
        for name, value in document.items()
        if not isinstance(value, Mapping) and name not in ("evidence", "data_sha256")
    ]
    intervals = document.get("intervals")
    words = ""
    if isinstance(intervals, Mapping):
        words = (
            f"<p class='quiet'>Intervals: {intervals['confidence']:.0%}, stationary block bootstrap of daily returns "
            f"and of trades, {intervals['resamples']} resamples, seed {intervals['seed']}.</p>"
        )
    table = _table(("figure", "value", "interval"), rows)
    return f"<details><summary>{len(rows)} figures with their intervals</summary>{table}{words}</details>"


def _latest(trades: Sequence[TradeClosed]) -> str:
    shown = list(reversed(trades[-LATEST_TRADES:]))
    rows = [
        [
            iso_utc(t.entry_ms)[:16].replace("T", " "),
            html.escape(t.coin),
            "long" if t.side is Side.BUY else "short",
            f"{t.entry_price:.6g}",
            f"{t.exit_price:.6g}",
            f"{t.bars_held:,}",
            html.escape(str(t.exit_reason)),
            f"<span class='{_tone(float(t.pnl))}'>{_signed(float(t.pnl))}</span>",
        ]
        for t in shown
    ]
    header = ("entry, UTC", "coin", "side", "entry price", "exit price", "bars", "exit", "net USD")
    return (
        f"<details><summary>the latest {len(shown)} of {len(trades)} trades</summary>{_table(header, rows)}</details>"
    )


# --- words --------------------------------------------------------------------------------------------------------


def _tone(value: float) -> str:
    return "up" if value > 0 else "down" if value < 0 else "quiet"


def _number(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    assert isinstance(value, float)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.2f}"


def _signed(value: float) -> str:
    return f"{value:+,.2f}"


def _cell(document: Mapping[str, object], name: str) -> str:
    return _number(document.get(name))


def _plain(value: object) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
