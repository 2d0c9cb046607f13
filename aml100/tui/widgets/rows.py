"""Rows of the long screens: decisions with their gates, orders and trades, guards, log.

Each row has a key that stays with its meaning, so that a list keeps its place when rows arrive.
"""

from __future__ import annotations

from aml100.control.protocol import DecisionView, RiskView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Column, Line, Span, cells, cut_words, gauge, line, rule, table
from aml100.tui.view import View
from aml100.tui.widgets.account import ACTION_ROLES, position_block
from aml100.tui.widgets.sheet import Row

WAITING: Row = ("waiting", line((" waiting for the engine", "dim")))


def section(title: str, view: View, width: int, note: Line = ()) -> Row:
    """A heading inside a list; an old snapshot's age stands in it."""
    return (f"section {title}", rule(title, view.age_note or note, width))


def why_rows(view: View, width: int) -> list[Row]:
    """The last decisions with every gate's verdict, after a histogram of the reasons."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("reasons", view, width, line(("decisions so far by outcome", "dim")))]
    rows += [(f"reason {at}", one) for at, one in enumerate(histogram_lines(snapshot, width))]
    rows.append(("gap", ()))
    rows.append(section("decisions", view, width, line(("newest first; Q of HOLD BUY SELL", "dim"))))
    for one in snapshot.decisions:
        rows += decision_rows(one, width)
    return rows


def histogram_lines(snapshot: Snapshot, width: int) -> list[Line]:
    """One bar a reason, the most frequent first."""
    counts = sorted(snapshot.why_histogram, key=lambda pair: -pair[1])
    if not counts:
        return [line((" none yet", "dim"))]
    total = sum(number for _, number in counts)
    longest = min(max(len(name) for name, _ in counts), max(width - 30, 8))
    lines = []
    for name, number in counts:
        head = f" {cut_words(name, longest):<{longest}} "
        tail = f" {figures.count(number):>7} {number * 100 / total:3.0f} %"
        bar = gauge(number / counts[0][1], max(width - len(head) - len(tail) - 1, 1))
        lines.append((*line(head), *bar, *line(tail)))
    return lines


def decision_rows(one: DecisionView, width: int) -> list[Row]:
    """The decision, its sentence, and its gates."""
    key = f"{one.bar_ms} {one.coin}"
    q = " ".join(f"{value:+.4f}" for value in one.q) if one.q is not None else "no Q values"
    head = line(
        (f" {figures.day_time(one.bar_ms)} ", "dim"),
        (f"{one.coin} ", "strong"),
        (f"{one.action:<4} ", ACTION_ROLES.get(one.action, "text")),
        (f"{one.outcome:<5} ", "good" if one.outcome == "order" else "dim"),
        q,
        (f"  {one.regime}  confidence {one.confidence:.2f}", "dim"),
    )
    rows: list[Row] = [(key, head), (f"{key} why", line("   ", cut_words(one.why, width - 3)))]
    passed = [gate.name for gate in one.gates if gate.ok]
    for gate in one.gates:
        if not gate.ok:
            text = cut_words(f"{gate.name}: {gate.reason}", width - 5)
            rows.append((f"{key} {gate.name}", line(("   ✗ ", "bad"), text)))
    if passed:
        rows.append((f"{key} passed", line(("   ✓ ", "good"), (cut_words(" ".join(passed), width - 5), "dim"))))
    return rows


def trade_rows(view: View, width: int) -> list[Row]:
    """Positions, open orders and closed trades."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("positions", view, width)]
    for position in snapshot.positions:
        block = position_block(position, min(width, 100))
        rows += [(f"position {position.coin} {at}", spans) for at, spans in enumerate(block)]
    if not snapshot.positions:
        rows.append(("flat", line((" flat, no open position", "dim"))))
    rows += [("gap", ()), section("open orders", view, width, line((str(len(snapshot.open_orders)), "dim")))]
    rows += _order_rows(snapshot, width)
    rows += [("gap 2", ()), section("trades", view, width, line(("closed, net of fees; newest first", "dim")))]
    rows += _closed_rows(snapshot, width)
    return rows


def _order_rows(snapshot: Snapshot, width: int) -> list[Row]:
    columns = [
        Column(" oid"),
        Column("coin"),
        Column("side"),
        Column("kind"),
        Column("price", numeric=True),
        Column("size", numeric=True),
        Column("status"),
        Column("reduce", rank=2),
        Column("cloid", rank=3),
    ]
    body: list[list[Span]] = [
        [
            (f" {one.oid if one.oid is not None else '-'}", "text"),
            (one.coin, "strong"),
            (one.side, "good" if one.side == "buy" else "bad"),
            (one.kind, "text"),
            (figures.price(one.price), "text"),
            (one.size, "text"),
            (one.status, "dim"),
            ("yes" if one.reduce_only else "no", "dim"),
            (one.cloid, "dim"),
        ]
        for one in snapshot.open_orders
    ]
    if not body:
        return [("no orders", line((" none", "dim")))]
    keys = ["orders", *(f"order {one.cloid}" for one in snapshot.open_orders)]
    return list(zip(keys, table(columns, body, width), strict=True))


def _closed_rows(snapshot: Snapshot, width: int) -> list[Row]:
    columns = [
        Column(" exit UTC"),
        Column("coin"),
        Column("side"),
        Column("size", numeric=True, rank=1),
        Column("entry", numeric=True),
        Column("exit", numeric=True),
        Column("USD", numeric=True),
        Column("reason"),
        Column("held", numeric=True, rank=2),
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
            (one.exit_reason, "dim"),
            (figures.span((one.exit_ms - one.entry_ms) / 1000), "dim"),
        ]
        for one in snapshot.trades
    ]
    if not body:
        return [("no trades", line((" none yet", "dim")))]
    keys = ["trades", *(f"trade {one.coin} {one.entry_ms} {one.exit_ms}" for one in snapshot.trades)]
    return list(zip(keys, table(columns, body, width), strict=True))


GUARD_GLYPHS = {"ok": ("✓", "good"), "tripped": ("✗", "bad"), "info": ("·", "dim")}


def risk_rows(view: View, width: int) -> list[Row]:
    """Each guard with its value and limit; the request budget; health of the loop."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("guards", view, width, line(("value of limit", "dim")))]
    rows += [(f"guard {one.guard}", guard_line(one, width)) for one in snapshot.risk]
    if not snapshot.risk:
        rows.append(("no guards", line((" none reported", "dim"))))
    budget = snapshot.budget
    rows += [("gap", ()), section("requests to the venue", view, width)]
    rows.append(("weight", _meter("weight, last minute", budget.weight_used, budget.weight_limit, width)))
    rows.append(("actions", _meter("address actions", budget.actions_used, budget.actions_cap, width)))
    rows += [("gap 2", ()), section("engine", view, width)]
    latency = figures.UNKNOWN if snapshot.order_latency_ms is None else f"{snapshot.order_latency_ms:.1f} ms"
    rows.append(("lag", line(f" loop lag {snapshot.loop_lag_ms:.1f} ms   order latency {latency}")))
    rows.append(("pid", line(f" pid {snapshot.pid}   up {figures.span(snapshot.uptime_s)}   run {snapshot.run_id}")))
    return rows


def guard_line(one: RiskView, width: int) -> Line:
    """`✓ circuit_breaker  0.42 of 3.5 %  ███░░░`."""
    glyph, role = GUARD_GLYPHS.get(one.state, ("?", "warn"))
    value = figures.UNKNOWN if one.value is None else figures.trimmed(one.value)
    limit = "off" if one.limit is None or one.limit == 0 else figures.trimmed(one.limit)
    unit = f" {one.unit}" if one.unit and limit != "off" else ""
    head = line(
        (f" {glyph} ", role), f"{one.guard:<24} ", (f"{value:>9}", "strong"), (f" of {limit + unit:<10} ", "dim")
    )
    if one.value is not None and one.limit:
        bar_role = "bad" if one.state == "tripped" else "warn" if one.value / one.limit > 0.7 else "accent"
        head = (*head, *gauge(one.value / one.limit, 12, bar_role), (" ", "text"))
    return (*head, (cut_words(one.reason, max(width - cells(head), 0)), "dim"))


def _meter(label: str, used: int, limit: int, width: int) -> Line:
    share = used / limit if limit else 0.0
    head = line(f" {label:<20} {figures.count(used):>7} of {figures.count(limit):<8} ")
    return (*head, *gauge(share, max(min(width - cells(head) - 1, 40), 1), "warn" if share > 0.7 else "accent"))


LEVEL_ROLES = {"debug": "dim", "info": "text", "warning": "warn", "error": "bad", "critical": "alarm"}


def log_rows(view: View, width: int) -> list[Row]:
    """What the engine said, newest last."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows: list[Row] = []
    for one in snapshot.log:
        role = LEVEL_ROLES.get(one.level.lower(), "text")
        head = line((f" {figures.second(one.time_ms)} ", "dim"), (f"{one.level.upper():<8} ", role))
        text = "".join(character if character.isprintable() else " " for character in one.text)
        rows.append((f"{one.time_ms} {one.text}", (*head, (cut_words(text, width - cells(head)), role))))
    return rows or [("empty", line((" nothing yet", "dim")))]


def model_rows(view: View, width: int) -> list[Row]:
    """Training under way, then the models kept, the champion marked."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("models", view, width, line(("▲ trades now", "dim")))]
    columns = [
        Column("  "),
        Column("name"),
        Column("trained UTC", rank=1),
        Column("validation", numeric=True),
        Column("id", rank=2),
        Column("note", elastic=True),
    ]
    models = snapshot.models or (snapshot.model,)
    body: list[list[Span]] = [
        [
            (" ▲" if one.id == snapshot.model.id and one.id is not None else "  ", "good"),
            (one.name, "strong"),
            (figures.UNKNOWN if one.trained_ms is None else figures.day_time(one.trained_ms), "dim"),
            (figures.percent(one.validation, signed=True), figures.tone(one.validation)),
            (one.id or "-", "dim"),
            (one.note, "dim"),
        ]
        for one in models
    ]
    keys = ["heading", *(f"model {one.id} {one.name}" for one in models)]
    rows += list(zip(keys, table(columns, body, width), strict=True))
    return rows
