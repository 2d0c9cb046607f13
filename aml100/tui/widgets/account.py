"""Panels of the dashboard: position, performance, decisions, feed and training."""

from __future__ import annotations

from aml100.control.protocol import FeedView, PositionView, Snapshot, TradeView, TrainingView
from aml100.tui import figures
from aml100.tui.ink import Column, Line, Span, cells, cut_words, first_fit, line, pack, plain, spread, table
from aml100.tui.view import CALM, View
from aml100.tui.widgets.curves import ACTION_ROLES
from aml100.tui.widgets.panels import headed, waiting

FEED_ROLES = {"LIVE": ("●", "good"), "STALE": ("▲", "warn"), "OFFLINE": ("✗", "bad")}

ROOM_FOR_WORDS = 40
"""Width of a heading's note from which its figures are named."""

# --- position ----------------------------------------------------------------------------------------------------


def position_lines(view: View, width: int, height: int) -> list[Line]:
    """Each position with entry, unrealised, target, stop and whether its stop is seen resting."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("position", view, width)
    body: list[Line] = []
    room = height - 1
    shown = 0
    for position in unprotected_first(snapshot):
        block = position_block(position, width, view)
        if len(body) + len(block) > room and shown:
            break
        body.extend(block)
        shown += 1
    many = len(snapshot.positions)
    title = f"positions {many}" if many > 1 else "position"
    note = positions_note(snapshot, width - len(title) - 7, hidden=many - shown)
    if snapshot.positions and room > len(body):
        body.append(safety_line(snapshot, width))
    if not snapshot.positions:
        body = [line(" flat, no open position")]
        if snapshot.open_orders:
            body.append(line((f" {len(snapshot.open_orders)} resting order(s): t", "dim")))
    return headed(title, view, width, body, note)


def unprotected_first(snapshot: Snapshot) -> list[PositionView]:
    """The positions in their own order, but one without a stop before all others: it must not be the one cut off."""
    return sorted(snapshot.positions, key=lambda one: one.protected)


def at_stops(snapshot: Snapshot) -> float | None:
    """USD that all positions would have made since their entry if every stop were hit now; None: one has no stop."""
    made = 0.0
    for one in snapshot.positions:
        if one.stop_price is None:
            return None
        made += figures.as_float(one.size) * (figures.as_float(one.stop_price) - figures.as_float(one.entry_price))
    return made


def closing_now(snapshot: Snapshot) -> float | None:
    """USD that closing everything at the market now would leave: unrealised profit less the cost; None: not known."""
    if any(not one.close_cost for one in snapshot.positions):
        return None
    return sum(figures.as_float(one.unrealised) - figures.as_float(one.close_cost) for one in snapshot.positions)


def positions_note(snapshot: Snapshot, width: int, *, hidden: int = 0) -> Line:
    """For the heading: positions without a stop, those not shown, the worst that the stops allow, profit of several."""
    naked = sum(1 for one in snapshot.positions if not one.protected)
    worst = at_stops(snapshot) if snapshot.positions else None
    several = len(snapshot.positions) > 1
    made = sum(figures.as_float(one.unrealised) for one in snapshot.positions)
    tone = figures.tone(made)
    return pack(
        width,
        [
            line((f"{naked} NAKED", "bad")) if naked and several else (),
            line((f"+{hidden} more: t", "warn")) if hidden else (),
            line(("unrealised ", "dim") if width > ROOM_FOR_WORDS else "", (figures.money(made, signed=True), tone))
            if several
            else (),
            line(("at stop ", "dim"), (figures.money(worst, signed=True), figures.tone(worst)))
            if worst is not None
            else (),
        ],
    )


def safety_line(snapshot: Snapshot, width: int) -> Line:
    """What it would cost to stop: all closed at the market now, costs included."""
    left = closing_now(snapshot)
    if left is None:
        return ()
    cost = sum(figures.as_float(one.close_cost) for one in snapshot.positions)
    what = f"closing all {len(snapshot.positions)}" if len(snapshot.positions) > 1 else "closing"
    return pack(
        width,
        [
            line((f" {what} now leaves ", "dim"), (figures.money(left, signed=True), figures.tone(left))),
            line((f"costs {figures.money(cost)}", "dim")),
        ],
    )


def position_block(position: PositionView, width: int, view: View = CALM) -> list[Line]:
    """Three rows. Where size, entry and profit have no room beside each other, the entry opens the second row."""
    short, coin = position.size.startswith("-"), position.coin
    size_role = view.role("text", f"position {coin}")
    gain = line((figures.money(position.unrealised, signed=True), figures.tone(figures.as_float(position.unrealised))))
    head = line(
        (f" {coin} ", "strong"),
        ("▼ SHORT " if short else "▲ LONG ", "bad" if short else "good"),
        (position.size.lstrip("-"), size_role),
    )
    entry = figures.level(figures.as_float(position.entry_price))  # an average: its digits have no end
    whole = (*head, (f" @ {entry}", "text"))
    fits = cells(whole) + cells(gain) < width
    first = spread(whole if fits else head, gain, width)
    second = pack(
        width,
        [
            line((" entry ", "dim"), entry) if not fits else (),
            line((" TP ", "dim"), (figures.price(position.target_price), view.role("text", f"target {coin}"))),
            line(("SL ", "dim"), (figures.price(position.stop_price), view.role("text", f"stop {coin}"))),
            line(("mark ", "dim"), figures.price(position.mark)),
            line(("bars ", "dim"), str(position.bars_held)),
        ],
    )
    bars = "" if "bars " in plain(second) else str(position.bars_held)
    return [first, second, protection_line(position, width, view, bars)]


def protection_line(position: PositionView, width: int, view: View = CALM, bars: str = "") -> Line:
    """PROTECTED with the stop's id and age, or NAKED; what was so when the engine was last heard is no promise."""
    if view.age_note:
        return line((" ○ was ", "dim"), ("PROTECTED" if position.protected else "NAKED", "dim"), *_stop_words(position))
    role = view.role("good", f"protection {position.coin}")
    if not position.protected:
        return first_fit(
            width,
            line((" ✗ NAKED: no stop is seen resting on the venue ", "alarm")),
            line((" ✗ NAKED ", "alarm")),
        )
    return pack(
        width,
        [
            (*line((" ", "text"), ("✓ PROTECTED", role)), *_stop_words(position)),
            line(("age ", "dim"), figures.span(position.stop_age_s)),
            line(("bars ", "dim"), bars) if bars else (),
        ],
    )


def _stop_words(position: PositionView) -> Line:
    """The id of the stop that rests at the venue."""
    return line(("  stop ", "dim"), str(position.stop_oid)) if position.stop_oid is not None else ()


# --- performance -------------------------------------------------------------------------------------------------


def performance_lines(view: View, width: int, height: int) -> list[Line]:
    """Win rate, profit factor, Sharpe with its interval, what the policy chose, latency."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("performance", view, width)
    result = snapshot.performance
    body = [
        pack(
            width,
            [
                line(
                    " win rate ",
                    (figures.percent(result.win_rate_pct, 1), view.role("strong", "trades")),
                    (f" of {result.trades:,}", "dim"),
                ),
                line("PF ", (figures.number(result.profit_factor), view.role("strong", "trades"))),
                line(("order ", "dim"), _latency(snapshot)),
            ],
        ),
        sharpe_line(snapshot, width),
        actions_line(result.actions, width),
    ]
    if height > 5:
        body.append(
            pack(
                width,
                [
                    line((" return ", "dim"), (figures.percent(result.return_pct, signed=True), "strong")),
                    line(("fees ", "dim"), figures.money(result.fees_usd)),
                    line(("funding ", "dim"), figures.money(result.funding_usd, signed=True)),
                ],
            )
        )
    label = ("in-sample figures", "warn") if result.in_sample else ("realised, net", "dim")
    return headed("performance", view, width, body, line(label))


def _latency(snapshot: Snapshot) -> str:
    latency = snapshot.order_latency_ms
    return figures.UNKNOWN if latency is None else f"{latency:.1f} ms"


def sharpe_line(snapshot: Snapshot, width: int) -> Line:
    """The Sharpe ratio with its interval, or why there is none."""
    result = snapshot.performance
    if result.sharpe is None:
        note = result.sharpe_note or figures.UNKNOWN
        return first_fit(width, line(" Sharpe ", (note, "dim")), line(" Sharpe ", (figures.UNKNOWN, "dim")))
    value = figures.number(result.sharpe)
    if result.sharpe_low is None or result.sharpe_high is None:
        return line(" Sharpe ", (value, "strong"))
    interval = f" [{figures.number(result.sharpe_low)}, {figures.number(result.sharpe_high)}]"
    note = f" {result.sharpe_note}" if result.sharpe_note else ""
    return first_fit(
        width,
        line(" Sharpe ", (value, "strong"), (interval + note, "dim")),
        line(" Sharpe ", (value, "strong"), (interval, "dim")),
        line(" Sharpe ", (value, "strong")),
    )


def actions_line(actions: tuple[int, int, int], width: int) -> Line:
    """HOLD, BUY and SELL with their counts and shares."""
    total = sum(actions)
    shares = [f"{number * 100 / total:.0f}%" if total else figures.UNKNOWN for number in actions]
    words = list(zip(ACTION_ROLES, actions, shares, strict=True))
    exact = [line(f"{word} ", (f"{number:,}", "strong"), (f" {share}", "dim")) for word, number, share in words]
    short = [line(f"{word} ", (figures.count(number), "strong"), (f" {share}", "dim")) for word, number, share in words]
    bare = [line(f"{word} ", (share, "strong")) for word, _, share in words]
    return first_fit(width, *(_indented(parts, gap) for parts in (exact, short, bare) for gap in ("   ", " ")))


def _indented(parts: list[Line], gap: str) -> Line:
    spans: list[Span] = []
    for part in parts:
        spans += [(gap if spans else " ", "text"), *part]
    return tuple(spans)


# --- decisions ---------------------------------------------------------------------------------------------------


def decision_lines(view: View, width: int, height: int) -> list[Line]:
    """The last decisions: when, coin, action, Q values of HOLD, BUY and SELL, and the one sentence why."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("decisions", view, width)
    body: list[Line] = []
    latest = snapshot.decisions[: height - 1]
    coin_width = max([len(one.coin) for one in latest], default=3)
    values = ["".join(f" {value:+.3f}" for value in one.q) if one.q is not None else " no Q" for one in latest]
    q_width = max(map(len, values), default=0)
    for one, q in zip(latest, values, strict=True):
        glyph = "●" if one.outcome == "order" else "·"
        head = line(
            (f" {figures.minute(one.bar_ms)} ", "dim"),
            f"{one.coin:<{coin_width}} ",
            (f"{one.action:<4}", ACTION_ROLES.get(one.action, "text")),
            (f"{q:>{q_width}} ", "dim"),
            (f"{glyph} ", "good" if one.outcome == "order" else "dim"),
        )
        body.append((*head, (cut_words(one.why, width - cells(head)), "text")))
    if not body:
        body = [line((" none yet: the first complete window decides first", "dim"))]
    return headed("decisions", view, width, body, line(("UTC · Q of HOLD BUY SELL · y says why", "dim")))


SHORT_REASONS = {"take_profit": "TP", "stop_loss": "SL", "liquidation": "liquid."}


def closed_lines(view: View, width: int, height: int) -> list[Line]:
    """The trades that were closed, newest first: when, which way, what they made, how they ended, how long it took."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("trades", view, width)
    shown = snapshot.trades[: max(height - 2, 0)]
    many = len({one.coin for one in shown}) > 1
    columns = [
        Column(" exit"),
        Column("coin", rank=0 if many else 1),
        Column("side"),
        Column("USD", numeric=True),
        Column("by", rank=1 if many else 0),
        Column("held", numeric=True, rank=2),
        Column("price moved", numeric=True, rank=3),
    ]
    body: list[list[Span]] = [
        [
            (f" {figures.minute_or_day(one.exit_ms, snapshot.time_ms)}", "dim"),
            (one.coin, "text"),
            ("long" if one.side == "buy" else "short", "text"),
            (
                figures.money(one.pnl, signed=True),
                view.role(figures.tone(figures.as_float(one.pnl)), *(["trades"] if one is snapshot.trades[0] else [])),
            ),
            (SHORT_REASONS.get(one.exit_reason, one.exit_reason), "dim"),
            (figures.calm_span((one.exit_ms - one.entry_ms) / 1000), "dim"),
            (figures.percent(move_pct(one), signed=True), "dim"),
        ]
        for one in shown
    ]
    lines = table(columns, body, width) if body else [line((" none closed yet", "dim"))]
    return headed("trades", view, width, lines, line(("net of costs · t shows more", "dim")))


def move_pct(trade: TradeView) -> float | None:
    """How far the price moved our way, percent of the entry price, costs aside."""
    entry, exit_ = figures.as_float(trade.entry_price), figures.as_float(trade.exit_price)
    if not entry:
        return None
    move = (exit_ / entry - 1.0) * 100.0
    return move if trade.side == "buy" else -move


# --- feed and training -------------------------------------------------------------------------------------------


def feed_lines(view: View, width: int, height: int) -> list[Line]:
    """Each stream's state and age, the worst first; where not all have room, the good ones of a coin in one row."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("feed", view, width)
    order = {"OFFLINE": 0, "STALE": 1, "LIVE": 2}
    feeds = sorted(snapshot.feeds, key=lambda one: order.get(one.state, 0))
    bad = sum(1 for one in feeds if one.state != "LIVE")
    room = height - 1
    groups = [[one] for one in feeds]
    if len(groups) > room * _feed_columns(groups, view, width, room):
        good: dict[str, list[FeedView]] = {}
        for one in feeds[bad:]:
            good.setdefault(one.coin, []).append(one)
        groups = [*groups[:bad], *good.values()]
    columns = _feed_columns(groups, view, width, room)
    body: list[Line] = []
    for at, group in enumerate(groups[: room * columns]):
        part = _feed_line(group, view)
        if at < room:
            body.append(part)
        else:
            left = body[at - room]
            body[at - room] = (*left, (" " * (width // 2 - cells(left)), "text"), *part)
    hidden = sum(map(len, groups[room * columns :]))
    if not groups:
        body = [line((" no stream yet", "dim"))]
    words = f"{len(feeds) - bad} LIVE" + (f", {bad} not" if bad else "") + (f", {hidden} not shown" if hidden else "")
    return headed("feed", view, width, body, line((words, "warn" if bad or not feeds else "good")))


def _feed_columns(groups: list[list[FeedView]], view: View, width: int, room: int) -> int:
    """Two columns where one is too short and half of the width is enough for each row."""
    if len(groups) <= room:
        return 1
    return 2 if max(cells(_feed_line(group, view)) for group in groups) < width // 2 else 1


def _feed_line(group: list[FeedView], view: View) -> Line:
    """One stream, or several of one coin in the same state with the age of the oldest."""
    one = max(group, key=lambda feed: feed.age_ms)
    glyph, role = ("○", "dim") if view.age_note else FEED_ROLES.get(one.state, ("✗", "bad"))
    missing = sum(feed.gap_bars for feed in group)
    age = figures.calm_span(one.age_ms / 1000) if one.state == "LIVE" else figures.span(one.age_ms / 1000)
    word = f"was {one.state}" if view.age_note else one.state
    role = view.role(role, *(f"feed {feed.coin} {feed.channel}" for feed in group))
    what = one.channel if len(group) == 1 else f"{len(group)} streams"
    gaps = (f" gap {missing}", "warn") if missing else ("", "text")
    return line((f" {glyph} ", role), (word, role), f" {one.coin} {what} ", (age, "dim"), gaps)


def training_lines(view: View, width: int, height: int) -> list[Line]:
    """Epoch, time left, loss, validation; the model that trades, with what it earned on its hold-out."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("training", view, width)
    training = snapshot.training
    model = pack(
        width,
        [
            line((" ▲ ", "good"), (cut_words(snapshot.model.name, width - 4), "strong")),
            line(("hold-out ", "dim"), figures.percent(snapshot.model.validation, signed=True))
            if snapshot.model.validation is not None
            else (),
        ],
    )
    body = [*training_progress(training, width), model]
    state = line((training.state, {"running": "accent", "failed": "bad"}.get(training.state, "dim")))
    return headed("training", view, width, body[: max(height - 1, 1)], state)


def training_progress(training: TrainingView, width: int) -> list[Line]:
    """Two rows of a training under way: how far it is, what it has come to; the reason of one that is not."""
    if training.state == "idle" and training.epoch == 0:
        return [line((" " + cut_words(training.reason or "no training under way", width - 1), "dim"))]
    progress = pack(
        width,
        [
            line(" epoch ", (f"{training.epoch}/{training.epochs}", "strong")),
            line(("ETA ", "dim"), figures.span(training.eta_s)) if training.state == "running" else (),
            line(("seed ", "dim"), str(training.seed)) if training.seed is not None else (),
            line((training.device, "dim")) if training.device else (),
        ],
    )
    if training.state == "failed" and training.reason:
        return [progress, line((" " + cut_words(training.reason, width - 1), "bad"))]
    outcome = pack(
        width,
        [
            line(" loss ", (figures.number(training.loss, 4), "strong")),
            line("validation ", (figures.percent(training.validation, signed=True), figures.tone(training.validation))),
            line((cut_words(training.reason, max(width // 3, 8)), "dim")) if training.reason else (),
        ],
    )
    return [progress, outcome]
