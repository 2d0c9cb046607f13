"""Rows of trades and orders: positions, open orders, orders that ended, closed trades; sorted as the operator wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aml100.control.protocol import OpenOrderView, Snapshot, TradeView
from aml100.tui import figures
from aml100.tui.ink import Column, Line, Span, line, table
from aml100.tui.view import View
from aml100.tui.widgets.account import move_pct, position_block, positions_note, unprotected_first
from aml100.tui.widgets.listing import Row
from aml100.tui.widgets.rows import WAITING, section

SORTS: Final[tuple[tuple[str, Callable[[TradeView], float | str], bool], ...]] = (
    ("newest first", lambda one: one.exit_ms, True),
    ("largest loss first", lambda one: figures.as_float(one.pnl), False),
    ("largest profit first", lambda one: figures.as_float(one.pnl), True),
    ("longest held first", lambda one: one.exit_ms - one.entry_ms, True),
    ("by coin", lambda one: one.coin, False),
    ("by reason", lambda one: one.exit_reason, False),
)
"""Orders of the closed trades: their name, the key, and whether the largest comes first."""


def trade_rows(view: View, width: int, order: int) -> list[Row]:
    """Positions, orders and closed trades."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("positions", view, width, positions_note(snapshot, width - 20))]
    for position in unprotected_first(snapshot):
        block = position_block(position, min(width, 100), view)
        for at, spans in enumerate(block):
            rows.append(Row(f"position {position.coin} {at}", spans, position if at == 0 else None))
    if not snapshot.positions:
        rows.append(Row("flat", line((" flat, no open position", "dim"))))
    rows += [Row("gap", ()), section("open orders", view, width, line((str(len(snapshot.open_orders)), "dim")))]
    rows += order_rows("order", snapshot.open_orders, width)
    name, key, reverse = SORTS[order % len(SORTS)]
    shown, closed = len(snapshot.trades), snapshot.performance.trades
    part = f"the latest {shown} of {closed:,}, " if closed > shown else "closed, "
    words = line((f"{part}net of fees and funding; {name} (s sorts)", "dim"))
    rows += [Row("gap 2", ()), section("trades", view, width, words)]
    rows += _closed_rows(sorted(snapshot.trades, key=key, reverse=reverse), width)
    if snapshot.recent_orders:
        latest = line((f"the latest {len(snapshot.recent_orders)}", "dim"))
        rows += [Row("gap 3", ()), section("orders that ended", view, width, latest)]
        rows += order_rows("ended", snapshot.recent_orders, width)
    return rows


def order_rows(kind: str, orders: Sequence[OpenOrderView], width: int) -> list[Row]:
    columns = [
        Column(" oid"),
        Column("coin"),
        Column("side"),
        Column("kind"),
        Column("price", numeric=True),
        Column("size", numeric=True),
        Column("status"),
        Column("UTC", rank=1),
        Column("reduce", rank=3),
        Column("why", rank=2),
        Column("cloid", rank=4),
    ]
    body: list[list[Span]] = [
        [
            (f" {one.oid if one.oid is not None else '-'}", "text"),
            (one.coin, "strong"),
            (one.side, "good" if one.side == "buy" else "bad"),
            (one.kind, "text"),
            ("market" if one.is_market else figures.price(one.price), "text"),
            (one.size, "text"),
            (one.status, "bad" if one.status == "rejected" else "warn" if one.status == "unknown" else "dim"),
            (figures.day_time(one.created_ms), "dim"),
            ("yes" if one.reduce_only else "no", "dim"),
            (one.reason[:40], "dim"),
            (one.cloid, "dim"),
        ]
        for one in orders
    ]
    if not body:
        return [Row(f"no {kind}", line((" none", "dim")))]
    heading, *lines = table(columns, body, width)
    return [
        Row(f"{kind} heading", heading),
        *(Row(f"{kind} {one.cloid}", spans, one) for one, spans in zip(orders, lines, strict=True)),
    ]


def _closed_rows(trades: Sequence[TradeView], width: int) -> list[Row]:
    columns = [
        Column(" exit UTC"),
        Column("coin"),
        Column("side"),
        Column("size", numeric=True, rank=1),
        Column("entry", numeric=True),
        Column("exit", numeric=True),
        Column("USD", numeric=True),
        Column("move", numeric=True, rank=3),
        Column("reason"),
        Column("held", numeric=True, rank=2),
        Column("bars", numeric=True, rank=5),
        Column("fees", numeric=True, rank=4),
        Column("funding", numeric=True, rank=6),
    ]
    body: list[list[Span]] = [
        [
            (f" {figures.day_time(one.exit_ms)}", "dim"),
            (one.coin, "strong"),
            ("long" if one.side == "buy" else "short", "text"),
            (one.size, "text"),
            (figures.price(one.entry_price), "text"),
            (figures.price(one.exit_price), "text"),
            (figures.money(one.pnl, signed=True), figures.tone(figures.as_float(one.pnl))),
            (figures.percent(move_pct(one), signed=True), "dim"),
            (one.exit_reason, "dim"),
            (figures.span((one.exit_ms - one.entry_ms) / 1000), "dim"),
            (str(one.bars_held), "dim"),
            (figures.money(one.fees), "dim"),
            (figures.money(one.funding, signed=True), "dim"),
        ]
        for one in trades
    ]
    if not body:
        return [Row("no trades", line((" none yet", "dim")))]
    heading, *lines = table(columns, body, width)
    return [
        Row("trades heading", heading),
        *(
            Row(f"trade {one.coin} {one.entry_ms} {one.exit_ms}", spans, one)
            for one, spans in zip(trades, lines, strict=True)
        ),
    ]


def ids_of(snapshot: Snapshot) -> list[str]:
    """Everything that has an id an operator may need elsewhere."""
    ids = [f"run {snapshot.run_id}", f"model {snapshot.model.id}"]
    ids += [f"stop {one.coin} {one.stop_oid}" for one in snapshot.positions]
    return ids + [f"order {one.coin} {one.kind} {one.oid} {one.cloid}" for one in snapshot.open_orders]


def id_of(item: object) -> str:
    """What `c` copies of a chosen row; empty where it has no id."""
    match item:
        case OpenOrderView():
            return f"{item.oid if item.oid is not None else '-'} {item.cloid}"
        case TradeView():
            return f"{item.coin} {item.entry_ms} {item.exit_ms}"
        case _:
            return str(getattr(item, "id", None) or getattr(item, "stop_oid", None) or "")


def order_details(one: OpenOrderView) -> list[Line]:
    """An order, field by field."""
    rows = [
        ("order id", "not known yet" if one.oid is None else str(one.oid)),
        ("client id", one.cloid),
        ("what", f"{one.side} {one.size} {one.coin} ({one.kind})"),
        ("price", f"market, at worst {figures.price(one.price)}" if one.is_market else figures.price(one.price)),
        ("status", one.status),
        ("reduce only", "yes" if one.reduce_only else "no"),
        ("made", figures.moment(one.created_ms) if one.created_ms else figures.UNKNOWN),
        ("why", one.reason or figures.UNKNOWN),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]


def trade_details(one: TradeView) -> list[Line]:
    """A closed trade, field by field."""
    fees, funding = figures.money(one.fees), figures.money(one.funding, signed=True)
    rows: list[tuple[str, str, str]] = [
        ("what", f"{'long' if one.side == 'buy' else 'short'} {one.size} {one.coin}", "strong"),
        ("in", f"{figures.moment(one.entry_ms)} at {figures.price(one.entry_price)}", "text"),
        ("out", f"{figures.moment(one.exit_ms)} at {figures.price(one.exit_price)}, by {one.exit_reason}", "text"),
        ("held", f"{figures.span((one.exit_ms - one.entry_ms) / 1000)}, {one.bars_held} bars", "text"),
        ("price moved", f"{figures.percent(move_pct(one), 3, signed=True)} our way", "text"),
        ("costs", f"fees {fees}, funding {funding} USD (+ is received)", "text"),
        ("profit", f"{figures.money(one.pnl, signed=True)} USD net", figures.tone(figures.as_float(one.pnl))),
    ]
    return [line((f"{name:<13}", "dim"), (text, role)) for name, text, role in rows]
