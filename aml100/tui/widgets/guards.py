"""Rows of the risk screen (each guard with its headroom, the request budget) and of feed and latency."""

from __future__ import annotations

from typing import Final

from aml100.control.protocol import AccessView, FeedView, RiskView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Column, Line, Span, cells, cut_words, gauge, line, pack, table
from aml100.tui.view import View
from aml100.tui.widgets.account import FEED_ROLES, at_stops
from aml100.tui.widgets.listing import Row
from aml100.tui.widgets.rows import WAITING, section

GUARD_GLYPHS: Final = {"ok": ("✓", "good"), "tripped": ("✗", "bad"), "off": ("○", "dim"), "info": ("·", "dim")}
NO_LIMIT: Final = 100_000_000
"""From here on an allowance is none: the simulated venue's."""

TIGHT: Final = 0.7
"""Share of a limit from which its bar warns."""

ROOM_FOR_BOTH: Final = 60
"""Cells from which a guard's bar and what it said have room beside each other."""

WIDE: Final = 110
"""Width from which the beginning of a guard's meaning says something; Enter says all of it."""

GUARD_MEANINGS: Final = {
    "circuit_breaker": "drawdown from the peak since the last resume; at the limit: cancel, flatten, pause",
    "hard_stop": "the same drawdown; at the limit: flatten and halt until a person resumes",
    "daily_loss": "loss since 00:00 UTC; at the limit: no entries today",
    "daily_trades": "trades opened since 00:00 UTC; at the limit: no entries today",
    "losses_in_row": "losing trades in a row; at the limit: no entries for the cooldown",
    "orders_per_minute": "orders sent in the last minute; at the limit: entries wait",
    "rejects_in_row": "orders the venue rejected in a row; at the limit: no entries",
    "loop_lag": "how late the engine's event loop runs; over the limit: no entries",
}


def risk_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """Each guard with value, limit and what is left; the request budget; what refused entries so far."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    tripped = sum(1 for one in snapshot.risk if one.state == "tripped")
    words = line((f"{tripped} tripped" if tripped else "none tripped", "bad" if tripped else "good"))
    rows = [section("guards", view, width, words)]
    for one in sorted(snapshot.risk, key=_tightness):
        rows.append(Row(f"guard {one.guard}", guard_line(one, width), one))
    if not snapshot.risk:
        rows.append(Row("no guards", line((" none reported", "dim"))))
    budget = snapshot.budget
    rows += [Row("gap", ()), section("requests to the venue", view, width)]
    rows.append(Row("weight", _meter("weight, last minute", budget.weight_used, budget.weight_limit, width)))
    rows.append(Row("actions", _meter("address actions", budget.actions_used, budget.actions_cap, width)))
    rows += [Row("gap 2", ()), section("exposure", view, width)]
    rows += _exposure_rows(snapshot)
    return rows


def _tightness(one: RiskView) -> tuple[int, float]:
    """Tripped first, then by how much of the limit is used; what is off comes last."""
    used = one.value / one.limit if one.value is not None and one.limit else -1.0
    return {"tripped": 0, "off": 2}.get(one.state, 1), -used


def guard_line(one: RiskView, width: int) -> Line:
    """`✓ circuit_breaker  0.42 of 3.5 %  left 3.08  ███░░░`."""
    glyph, role = GUARD_GLYPHS.get(one.state, ("?", "warn"))
    shown = figures.number if one.unit == "%" else figures.trimmed
    value = shown(one.value)
    limit = "off" if one.limit is None or one.limit == 0 else figures.trimmed(one.limit)
    unit = f" {one.unit}" if one.unit and limit != "off" else ""
    limited = "  no limit set" if limit == "off" else f" of {limit + unit:<9} "
    head = line((f" {glyph} ", role), f"{one.guard:<18} ", (f"{value:>8}", "strong"), (f"{limited:<16}", "dim"))
    meaning = GUARD_MEANINGS.get(one.guard, "")
    if one.reason and width - cells(head) < ROOM_FOR_BOTH:
        return (*head, (cut_words(one.reason, width - cells(head)), "bad" if one.state == "tripped" else "dim"))
    if one.value is not None and one.limit:
        left = max(one.limit - one.value, 0.0)
        bar_role = "bad" if one.state == "tripped" else "warn" if one.value / one.limit > TIGHT else "accent"
        headroom = f"left {shown(left)}"
        bar = gauge(one.value / one.limit, max(min(width - cells(head) - 16, 12), 6), bar_role)
        head = (*head, *bar, (f" {headroom:<12} ", "text"))
    words = cut_words(one.reason or meaning, max(width - cells(head), 0))
    return (*head, (words if one.reason or words == meaning or width >= WIDE else "", "dim"))


def guard_details(one: RiskView) -> list[Line]:
    """A guard in words."""
    rows = [
        ("guard", one.guard),
        ("state", one.state),
        ("value", f"{figures.trimmed(one.value)} {one.unit}".strip()),
        ("limit", "off" if not one.limit else f"{figures.trimmed(one.limit)} {one.unit}".strip()),
        ("meaning", GUARD_MEANINGS.get(one.guard, "")),
        ("said", one.reason or "-"),
        ("set by", "params.json, section risk; `aml100-console config show` says where each value comes from"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]


def at_stop_words(snapshot: Snapshot, from_here: float) -> Line:
    """What all stops together would leave since the entries, and what they would take from what stands now."""
    since_entry = at_stops(snapshot)
    if since_entry is None:
        return line((" a position has no stop: what it may lose is not limited", "bad"))
    return line(
        (" if every stop is hit ", "dim"),
        (f"{figures.money(since_entry, signed=True)} USD", figures.tone(since_entry)),
        (" since entry, ", "dim"),
        (figures.money(from_here, signed=True), figures.tone(from_here)),
        (" from here", "dim"),
    )


def _exposure_rows(snapshot: Snapshot) -> list[Row]:
    equity = figures.as_float(snapshot.equity)
    notional = sum(abs(figures.as_float(p.size) * figures.as_float(p.mark)) for p in snapshot.positions)
    leverage = notional / equity if equity > 0 else None
    naked = [p.coin for p in snapshot.positions if not p.protected]
    worst = 0.0
    for p in snapshot.positions:
        if p.stop_price is not None:
            worst += figures.as_float(p.size) * (figures.as_float(p.stop_price) - figures.as_float(p.mark))
    first = line(
        (" notional ", "dim"),
        (f"{figures.money(notional)} USD", "strong"),
        ("   leverage ", "dim"),
        (figures.number(leverage), "strong"),
    )
    rows = [Row("exposure", first)]
    if snapshot.positions:
        rows.append(Row("stops", at_stop_words(snapshot, worst)))
    if naked:
        rows.append(Row("naked", line((f" ✗ NAKED: {', '.join(naked)} ", "alarm"))))
    elif snapshot.positions:
        rows.append(Row("covered", line((" ✓ every position has its stop resting on the venue", "good"))))
    return rows


def _meter(label: str, used: int, limit: int, width: int) -> Line:
    if limit >= NO_LIMIT:
        return line(f"   {label:<18} {figures.count(used):>8}", ("  no limit on this venue", "dim"))
    share = used / limit if limit else 0.0
    left = f" left {figures.count(max(limit - used, 0))}"
    head = line(f"   {label:<18} {figures.count(used):>8} of {figures.count(limit):<9} ")
    bar = gauge(share, max(min(width - cells(head) - len(left) - 1, 24), 1), "warn" if share > TIGHT else "accent")
    return (*head, *bar, (left, "text"))


# --- feed and latency --------------------------------------------------------------------------------------------


def feed_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """Every stream with its age and gaps, the worst first; then what takes time."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    feeds = sorted(snapshot.feeds, key=lambda one: (-_badness(one), one.coin, one.channel))
    bad = sum(1 for one in feeds if one.state != "LIVE")
    note = line((f"{bad} not LIVE: no entries there" if bad else "all LIVE", "warn" if bad else "good"))
    rows = [section("streams", view, width, note), *_stream_rows(feeds, view, width)]
    rows += [Row("gap", ()), section("latency", view, width)]
    rows += _latency_rows(snapshot, view)
    rows += [Row("gap 2", ()), section("where it comes from", view, width)]
    rows.append(Row("origin", line((" data ", "dim"), snapshot.origin, ("   venue ", "dim"), snapshot.venue)))
    clock = f" market {figures.moment(snapshot.time_ms)}, runs ×{figures.trimmed(snapshot.speed)}"
    rows.append(Row("clock", line(clock, ("   wall ", "dim"), figures.moment(snapshot.wall_ms))))
    if snapshot.access != AccessView():
        rows.append(Row("access", _access_line(snapshot.access, width)))
    rows.append(
        Row("pid", line(f" engine pid {snapshot.pid}   up {figures.span(snapshot.uptime_s)}   {snapshot.run_id}"))
    )
    return rows


def _access_line(access: AccessView, width: int) -> Line:
    """Clock, signing key and nonces on a real venue, and what is the matter with them."""
    glyph, role = {"ok": ("✓", "good"), "amber": ("▲", "warn")}.get(access.state, ("✗", "bad"))
    until_ms = access.agent_valid_until_ms
    parts = [
        line((f" {glyph} ", role), (access.reason, role)) if access.reason else line((f" {glyph}", role)),
        line(("clock ", "dim"), f"{access.clock_offset_ms:+d} ms") if access.clock_offset_ms is not None else (),
        line(("key until ", "dim"), figures.moment(until_ms)) if until_ms is not None else (),
        line(("nonces refused ", "dim"), str(access.nonce_refusals)),
    ]
    return pack(width, parts)


def _badness(one: FeedView) -> int:
    return {"OFFLINE": 2, "STALE": 1}.get(one.state, 0)


def _stream_rows(feeds: list[FeedView], view: View, width: int) -> list[Row]:
    if not feeds:
        return [Row("no feed", line((" no stream yet", "dim")))]
    columns = [
        Column(" state"),
        Column("coin"),
        Column("channel"),
        Column("last message", numeric=True),
        Column("missing bars", numeric=True),
        Column("out of order", numeric=True, rank=1),
        Column("revised", numeric=True, rank=2),
    ]
    body: list[list[Span]] = []
    for one in feeds:
        glyph, role = ("○", "dim") if view.age_note else FEED_ROLES.get(one.state, ("✗", "bad"))
        state = f" {glyph} was {one.state}" if view.age_note else f" {glyph} {one.state}"
        body.append(
            [
                (state, role),
                (one.coin, "strong"),
                (one.channel, "text"),
                (f"{figures.span(one.age_ms / 1000)} ago", "text"),
                (str(one.gap_bars), "warn" if one.gap_bars else "dim"),
                (str(one.out_of_order), "warn" if one.out_of_order else "dim"),
                (str(one.revised), "warn" if one.revised else "dim"),
            ]
        )
    heading, *lines = table(columns, body, width)
    keyed = [Row(f"feed {one.coin} {one.channel}", spans) for one, spans in zip(feeds, lines, strict=True)]
    return [Row("feed heading", heading), *keyed]


def _latency_rows(snapshot: Snapshot, view: View) -> list[Row]:
    order = figures.UNKNOWN if snapshot.order_latency_ms is None else f"{snapshot.order_latency_ms:.1f} ms"
    lag_role = "text" if snapshot.loop_lag_ms < 100 else "warn"
    words = [
        ("order", "decision to the venue's answer", order, "text"),
        ("loop lag", "how late the engine's event loop runs", f"{snapshot.loop_lag_ms:.1f} ms", lag_role),
        ("console", "age of what this screen shows", figures.span(view.link.age_s), "text"),
    ]
    return [
        Row(name, line(f" {name:<10}", (f"{value:>10}", role), (f"   {meaning}", "dim")))
        for name, meaning, value, role in words
    ]
