"""Rows of the long screens: decisions with their gates, alerts, log, models.

Each row has a key that stays with its meaning, so that a list keeps its place when rows arrive.
"""

from __future__ import annotations

from typing import Final

from aml100.control.alerts import RUNBOOK
from aml100.control.protocol import AlertView, DecisionView, ModelView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Column, Line, Span, cells, cut_words, gauge, line, pack, rule, table
from aml100.tui.view import LinkState, View
from aml100.tui.widgets.curves import ACTION_ROLES
from aml100.tui.widgets.listing import SECTION, Row

WAITING = Row("waiting", line((" waiting for the engine", "dim")))


def section(title: str, view: View, width: int, note: Line = ()) -> Row:
    """A heading inside a list; an old snapshot's age stands in it."""
    return Row(f"{SECTION}{title}", rule(title, view.age_note or note, width))


def why_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """The last decisions with every gate's verdict, after a histogram of the reasons."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("reasons", view, width, line(("decisions of this run by outcome", "dim")))]
    rows += [Row(f"reason {at}", one) for at, one in enumerate(histogram_lines(snapshot, width))]
    rows.append(Row("gap", ()))
    words = line(("newest first, UTC; ● order; Q of HOLD BUY SELL; Enter: gates", "dim"))
    rows.append(section("decisions", view, width, words))
    coin_width = max([len(one.coin) for one in snapshot.decisions], default=0)
    for one in snapshot.decisions:
        rows += decision_rows(one, width, coin_width)
    return rows


LONGEST_BAR: Final = 40
SHORTEST_BAR: Final = 8
REASONS: Final = {
    "order": "an order was sent",
    "policy": "it chose to wait, or to keep what it has",
    "model": "no model yet: none was trained so far",
    "series": "no bar follows, so nothing could be filled",
    "q_gap": "the best action hardly beat the next one",
    "halt": "trading was halted or paused",
    "pause": "entries were paused",
    "stale_data": "a stream was silent or late",
    "late": "the decision came too long after its bar",
    "clock_skew": "our clock and the venue's differ too much",
    "loop_lag": "the engine's event loop ran late",
    "order_rate": "as many orders as a minute allows were sent",
    "rejects": "the venue refused several orders in a row",
    "cooldown": "losing trades in a row: a pause",
    "spacing": "too soon after the last trade",
    "daily_trades": "as many trades as a day allows were opened",
    "in_flight": "an order or its fills were still on their way",
    "leaving": "the engine was being stopped",
    "entry_resting": "an entry rests already",
    "leverage": "the position is too large for the equity",
    "liquidation": "the liquidation price is too near",
    "price_collar": "the price is too far from the mark price",
    "size": "under the venue's smallest order",
}
"""What the reasons of the histogram mean: gates by name, and what is no gate."""


def histogram_lines(snapshot: Snapshot, width: int) -> list[Line]:
    """One bar a reason, the most frequent first."""
    counts = sorted(snapshot.why_histogram, key=lambda pair: -pair[1])
    if not counts:
        return [line((" none yet", "dim"))]
    total = sum(number for _, number in counts)
    longest = min(max(len(name) for name, _ in counts), max(width - 30, 8))
    lines = []
    meanings = [REASONS.get(name, "") for name, _ in counts]
    room = width - longest - 2 - len(f" {'':>7} 100 % ")
    bar_width = min(max(room - max(map(len, meanings)) - 1, SHORTEST_BAR), LONGEST_BAR, max(room, 1))
    for (name, number), words in zip(counts, meanings, strict=True):
        head = f" {cut_words(name, longest):<{longest}} "
        tail = f" {figures.count(number):>7} {number * 100 / total:3.0f} % "
        bar = gauge(number / counts[0][1], bar_width)
        meaning = cut_words(words, max(room - bar_width - 1, 0))
        lines.append((*line(head), *bar, *line(tail), (f" {meaning}" if len(meaning) > 1 else "", "dim")))
    return lines


def decision_rows(one: DecisionView, width: int, coin_width: int = 0) -> list[Row]:
    """The decision, its sentence, and its gates."""
    key = f"{one.bar_ms} {one.coin}"
    q = " ".join(f"{value:+.4f}" for value in one.q) if one.q is not None else "no Q values"
    is_order = one.outcome == "order"
    head = pack(
        width,
        [
            line(
                (f" {figures.day_time(one.bar_ms)} ", "dim"),
                (f"{one.coin:<{coin_width}} ", "strong"),
                (f"{one.action:<4} ", ACTION_ROLES.get(one.action, "text")),
                ("● " if is_order else "· ", "good" if is_order else "dim"),
                q,
            ),
            line((one.regime, "dim")),
            line((f"confidence {one.confidence:.2f}", "dim")),
        ],
    )
    rows = [Row(key, head, one), Row(f"{key} why", line("   ", cut_words(one.why, width - 3)))]
    passed = [gate.name for gate in one.gates if gate.ok]
    for gate in one.gates:
        if not gate.ok and gate.reason != one.why:
            text = cut_words(f"{gate.name}: {gate.reason}", width - 5)
            rows.append(Row(f"{key} {gate.name}", line(("   ✗ ", "bad"), text)))
    if passed:
        rows.append(Row(f"{key} passed", line(("   ✓ ", "good"), (cut_words(" ".join(passed), width - 5), "dim"))))
    return rows


LEVEL_ROLES = {"debug": "dim", "info": "text", "warning": "warn", "error": "bad", "critical": "alarm"}


LOG_ORDERS: Final = ("everything", "warnings and worse", "errors")
_LOG_LEVELS: Final = (frozenset[str](), frozenset({"debug", "info"}), frozenset({"debug", "info", "warning"}))


def log_rows(view: View, width: int, order: int = 0) -> list[Row]:
    """What the engine said, newest last; `order` leaves out the lesser levels."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    hidden = _LOG_LEVELS[order % len(_LOG_LEVELS)]
    rows: list[Row] = []
    for one in snapshot.log:
        if one.level.lower() in hidden:
            continue
        role = LEVEL_ROLES.get(one.level.lower(), "text")
        head = line((f" {figures.second(one.time_ms)}Z ", "dim"), (f"{one.level.upper():<8} ", role))
        text = "".join(character if character.isprintable() else " " for character in one.text)
        rows.append(Row(f"{one.time_ms} {one.text}", (*head, (cut_words(text, width - cells(head)), role)), one))
    return rows or [Row("empty", line((f" nothing yet ({LOG_ORDERS[order % len(LOG_ORDERS)]})", "dim")))]


def alert_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """What is wrong now, then what was; what came while nobody watched is marked."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    active = [one for one in snapshot.alerts if one.active]
    past = [one for one in snapshot.alerts if not one.active]
    rows = [section("now", view, width, line(("wall clock UTC; Enter says what to do", "dim")))]
    if view.link.state is not LinkState.LIVE and view.replay is None:
        words = " ? as it was: the engine does not answer; alerts.jsonl has what came since"
        rows.append(Row("silent", line((cut_words(words, width), "warn"))))
    elif not active:
        rows.append(Row("none", line((" ✓ no alert", "good"))))
    rows += [row for one in active for row in _alert_rows(one, view, width)]
    rows += [Row("gap", ()), section("over", view, width, line(("newest first", "dim")))]
    if not past:
        rows.append(Row("none past", line((" none", "dim"))))
    return rows + [row for one in past for row in _alert_rows(one, view, width)]


def _alert_rows(one: AlertView, view: View, width: int) -> list[Row]:
    glyph, role = ("✗", "bad") if one.level == "alarm" else ("▲", "warn")
    if not one.active:
        glyph, role = "·", "dim"
    missed = " MISSED" if 0 < view.seen_ms < one.last_ms <= view.came_ms else ""
    times = f" ×{one.count}" if one.count > 1 else ""
    head = line(
        (f" {glyph} ", role),
        (f"{figures.day_time(one.last_ms)} ", "dim"),
        (f"{one.code}{times}", "strong"),
        (missed, "warn"),
        "  ",
    )
    return [Row(f"alert {one.id}", (*head, (cut_words(one.text, width - cells(head)), "text")), one)]


def alert_details(one: AlertView) -> list[Line]:
    """What it means, when it was, where the runbook says more."""
    state = "now" if one.active else "over"
    rows = [
        ("what", RUNBOOK.get(one.code, "")),
        ("said", one.text),
        ("state", f"{one.level}, {state}"),
        ("first", figures.moment(one.first_ms)),
        ("last", figures.moment(one.last_ms)),
        ("times", str(one.count)),
        ("what to do", f"docs/operating.md, runbook, {one.code}"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]


def decision_details(one: DecisionView) -> list[Line]:
    """A decision with the verdict of every gate."""
    q = "none" if one.q is None else "  ".join(f"{n} {v:+.4f}" for n, v in zip(ACTION_ROLES, one.q, strict=True))
    rows = [
        line(("decided on    ", "dim"), f"the close of the bar of {figures.moment(one.bar_ms)}, {one.coin}"),
        line(("action        ", "dim"), (one.action, ACTION_ROLES.get(one.action, "text"))),
        line(("Q             ", "dim"), q),
        line(("confidence    ", "dim"), f"{one.confidence:.2f}, regime {one.regime}"),
        line(("outcome       ", "dim"), one.why if one.outcome == "order" else f"no order: {one.why}"),
    ]
    for gate in one.gates:
        glyph, role = ("✓", "good") if gate.ok else ("✗", "bad")
        rows.append(line((f"{glyph} {gate.name:<12}", role), gate.reason))
    return rows


def model_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """The models kept, the champion marked."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    rows = [section("models", view, width, line(("▲ trades now; Enter for details, P promotes, B rolls back", "dim")))]
    columns = [
        Column("  "),
        Column("name"),
        Column("trained UTC", rank=1),
        Column("hold-out", numeric=True),
        Column("state", rank=2),
        Column("id", rank=3),
        Column("note", elastic=True),
    ]
    models = snapshot.models or (snapshot.model,)
    empty = {4: all(not one.state for one in models), 5: all(one.id in (None, one.name) for one in models)}
    body: list[list[Span]] = [
        [
            (" ▲" if one.id == snapshot.model.id and one.id is not None else "  ", "good"),
            (one.name, "strong"),
            (figures.UNKNOWN if one.trained_ms is None else figures.day_time(one.trained_ms), "dim"),
            (figures.percent(one.validation, signed=True), figures.tone(one.validation)),
            (one.state.replace("_", " "), "dim"),
            (one.id or "-", "dim"),
            (one.note, "dim"),
        ]
        for one in models
    ]
    kept = [at for at in range(len(columns)) if not empty.get(at)]
    heading, *lines = table([columns[at] for at in kept], [[row[at] for at in kept] for row in body], width)
    rows.append(Row("heading", heading))
    for one, spans in zip(models, lines, strict=True):
        rows.append(Row(f"model {one.id} {one.name}", spans, one if one.id else None))
    return rows


def model_details(one: ModelView) -> list[Line]:
    """A model, field by field."""
    trained = figures.UNKNOWN if one.trained_ms is None else figures.moment(one.trained_ms)
    rows = [
        ("id", one.id or "-"),
        ("state", one.state.replace("_", " ") or "-"),
        ("trained", trained),
        ("hold-out", f"{figures.percent(one.validation, signed=True)} of one notional, on bars it never trained on"),
        ("note", one.note or "-"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]
