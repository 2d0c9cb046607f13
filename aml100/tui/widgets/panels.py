"""The panels of the dashboard, each a function from a view to lines.

Each panel opens with a rule that carries its name and, when the snapshot is old, STALE or OFFLINE with the age. Good
and bad are said by sign and glyph first; colour repeats it.
"""

from __future__ import annotations

from aml100.control.protocol import ObjectiveView, PositionView, Snapshot, TrainingView
from aml100.tui.view import View
from aml100.tui.widgets import figures
from aml100.tui.widgets.chart import curve, hanging_bars
from aml100.tui.widgets.ink import Line, Span, cells, cut_words, first_fit, gauge, line, pack, rule, spread
from aml100.tui.widgets.sheet import Sheet

VERDICTS = {
    "PASS": ("✓", "good"),
    "PROVISIONAL": ("◐", "warn"),
    "FAIL": ("✗", "bad"),
    "UNKNOWN": ("○", "dim"),
}
ACTION_ROLES = {"HOLD": "dim", "BUY": "good", "SELL": "bad"}
FEED_ROLES = {"LIVE": ("●", "good"), "STALE": ("▲", "warn"), "OFFLINE": ("✗", "bad")}

_OBJECTIVE_LABELS = {
    "monthly_return": ("return /month", " %"),
    "monthly_return_min_pct": ("return /month", " %"),
    "monthly_return_pct": ("return /month", " %"),
    "sharpe": ("Sharpe", ""),
    "sharpe_min": ("Sharpe", ""),
    "profit_factor": ("profit factor", ""),
    "profit_factor_min": ("profit factor", ""),
    "win_rate": ("win rate", " %"),
    "win_rate_pct": ("win rate", " %"),
    "win_rate_min_pct": ("win rate", " %"),
    "max_drawdown": ("drawdown max", " %"),
    "max_drawdown_pct": ("drawdown max", " %"),
    "trade_density": ("trade density", " %"),
    "trade_density_pct": ("trade density", " %"),
    "trade_density_min_pct": ("trade density", " %"),
}


def headed(title: str, view: View, width: int, body: list[Line], note: Line = ()) -> list[Line]:
    """A body under its rule; an old snapshot's age takes the place of the note."""
    return [rule(title, view.age_note or note, width), *body]


def waiting(title: str, view: View, width: int) -> list[Line]:
    """A panel before the first snapshot."""
    return headed(title, view, width, [line((" waiting for the engine", "dim"))])


# --- phase -------------------------------------------------------------------------------------------------------


def phase_lines(view: View, width: int, height: int) -> list[Line]:
    """Phase, cycles done of those required, each objective against its threshold, progress of the cycle."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("phase", view, width)
    phase = snapshot.phase
    note = line((f"cycles {phase.cycles_done}/{phase.cycles_required}", "strong"))
    if phase.provisional:
        note = (*note, (" PROVISIONAL", "warn"))
    body = [objective_line(one, width) for one in phase.objectives]
    label = f" cycle {phase.cycle_number} "
    after = f" {phase.cycle_progress * 100:.0f} % of {figures.trimmed(phase.cycle_days)} d"
    bar_width = max(width - cells(line(label, after)), 0)
    body.append((*line(label), *gauge(phase.cycle_progress, bar_width), *line(after)))
    if phase.last_verdict:
        body.append(line((" last cycle: ", "dim"), cut_words(phase.last_verdict, width - 13)))
    lines = headed(f"phase {phase.name}", view, width, body, note)
    spare = height - len(lines)
    if spare >= len(phase.objectives) and any(one.note for one in phase.objectives):
        return headed(f"phase {phase.name}", view, width, _with_notes(snapshot, width, body), note)
    return lines


def _with_notes(snapshot: Snapshot, width: int, body: list[Line]) -> list[Line]:
    spaced: list[Line] = []
    for one, shown in zip(snapshot.phase.objectives, body, strict=False):
        spaced.append(shown)
        if one.note:
            spaced.append(line(("   " + cut_words(one.note, width - 3), "dim")))
    return spaced + body[len(snapshot.phase.objectives) :]


def objective_line(one: ObjectiveView, width: int) -> Line:
    """`return /month  1.21 ≥ 2 %  ✗ FAIL`, or the note in place of a value that is unknown."""
    label, unit = _OBJECTIVE_LABELS.get(one.name, (one.name.replace("_", " "), ""))
    sign = "≤" if "drawdown" in one.name else "≥"
    glyph, role = VERDICTS.get(one.state, ("○", "dim"))
    verdict = line((f"{glyph} {one.state}", role))
    short = line((glyph, role))
    threshold = f"{sign} {figures.trimmed(one.threshold)}{unit}"
    left: list[Line] = []
    if one.value is None and one.note:
        left.append(line(f" {label:<14}", (one.note, "dim"), " ", (threshold, "dim")))
        left.append(line(f" {label:<14}", (one.note, "dim")))
    value = figures.number(one.value)
    left.append(line(f" {label:<14}", (f"{value:>6} ", "strong"), (threshold, "dim")))
    choices = [spread(head, tail, width) for tail in (verdict, short) for head in left if _room(head, tail, width)]
    return first_fit(width, *choices, left[-1])


def _room(head: Line, tail: Line, width: int) -> bool:
    return cells(head) + cells(tail) + 1 <= width


# --- equity ------------------------------------------------------------------------------------------------------


def equity_figures(snapshot: Snapshot, width: int) -> Line:
    """Equity, its change, the drawdown now and at worst."""
    equity, start = figures.as_float(snapshot.equity), figures.as_float(snapshot.initial_equity)
    change = (equity / start - 1.0) * 100.0 if start > 0 else None
    parts = [
        line((f" {figures.money(snapshot.equity)} USD", "strong")),
        line(("drawdown ", "text"), (figures.percent(snapshot.drawdown_pct), _drawdown_role(snapshot))),
        line((figures.percent(change, signed=True), figures.tone(change))),
        line((f"max {figures.percent(snapshot.performance.max_drawdown_pct)}", "dim")),
        line((f"balance {figures.money(snapshot.balance)}", "dim")),
        line((f"fees {figures.money(snapshot.performance.fees_usd)}", "dim")),
        line((f"funding {figures.money(snapshot.performance.funding_usd, signed=True)}", "dim")),
    ]
    return pack(width, parts)


def _drawdown_role(snapshot: Snapshot) -> str:
    if snapshot.drawdown_pct >= 3.5:
        return "bad"
    return "warn" if snapshot.drawdown_pct >= 2.0 else "text"


def framed_curve(values: list[float], width: int, height: int, *, plain: bool, decimals: int = 2) -> list[Line]:
    """A curve with its highest and lowest value written at the right."""
    if len(values) < 2 or height < 1:
        return [line((" the curve begins with the second point", "dim"))][:height]
    top, bottom = f"{max(values):,.{decimals}f}", f"{min(values):,.{decimals}f}"
    label = max(len(top), len(bottom))
    drawn = curve(values, max(width - label - 3, 2), height, plain=plain)
    lines = []
    for at, row in enumerate(drawn):
        mark = top if at == 0 else bottom if at == height - 1 else ""
        lines.append(line(" ", (row, "curve"), (f" {mark:>{label}} ", "dim")))
    return lines


def drawdowns(values: list[float]) -> list[float]:
    """Fall from the running peak at each point, percent."""
    peak, falls = 0.0, []
    for value in values:
        peak = max(peak, value)
        falls.append((1.0 - value / peak) * 100.0 if peak > 0 else 0.0)
    return falls


class ChartPanel(Sheet):
    """A panel with a chart, which is drawn anew at most once a second, the figures above it at every frame."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self.paint, id=id)
        self._drawn_for: tuple[object, ...] = ()
        self._chart: list[Line] = []

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        raise NotImplementedError

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        raise NotImplementedError

    def chart(self, view: View, width: int, height: int) -> list[Line]:
        """The chart of this second."""
        key = (view.chart_no, width, height, view.ascii)
        if key != self._drawn_for:
            self._drawn_for = key
            self._chart = self.draw(view, width, height) if height > 0 else []
        return self._chart


class EquityPanel(ChartPanel):
    """Equity with its curve; where there is height, the drawdown hangs below."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return waiting("equity", view, width)
        figures_line = equity_figures(view.snapshot, width)
        return headed("equity", view, width, [figures_line, *self.chart(view, width, height - 2)])

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return []
        values = [value for _, value in view.snapshot.equity_curve]
        if height < 8 or len(values) < 2:
            return framed_curve(values, width, height, plain=view.ascii)
        above = framed_curve(values, width, height - 1, plain=view.ascii)
        falls = drawdowns(values)
        label = f" drawdown to {figures.percent(max(falls))} "
        strip = hanging_bars(falls, max(width - len(label) - 2, 1), plain=view.ascii)
        return [*above, line(" ", (strip, "bad"), (label, "dim"))]


class PricePanel(ChartPanel):
    """The price of the first coin."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        snapshot = view.snapshot
        if snapshot is None:
            return waiting("price", view, width)
        note = line((snapshot.origin, "warn" if snapshot.origin.startswith("synthetic") else "dim"))
        return headed("price", view, width, self.chart(view, width, height - 1), note)

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return []
        values = [value for _, value in view.snapshot.price_curve]
        decimals = 2 if not values or max(values) >= 10 else 5
        return framed_curve(values, width, height, plain=view.ascii, decimals=decimals)


# --- position ----------------------------------------------------------------------------------------------------


def position_lines(view: View, width: int, height: int) -> list[Line]:
    """Each position with entry, unrealised, target, stop and whether its stop is seen resting."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("position", view, width)
    body: list[Line] = []
    room = height - 1
    shown = 0
    for position in snapshot.positions:
        block = position_block(position, width)
        if len(body) + len(block) > room and shown:
            break
        body.extend(block)
        shown += 1
    hidden = len(snapshot.positions) - shown
    note = line((f"+{hidden} more: t", "warn")) if hidden else ()
    if not snapshot.positions:
        body = [line(" flat, no open position")]
        if snapshot.open_orders:
            body.append(line((f" {len(snapshot.open_orders)} resting order(s): t", "dim")))
    return headed("position", view, width, body, note)


def position_block(position: PositionView, width: int) -> list[Line]:
    """Three rows."""
    short = position.size.startswith("-")
    gain = figures.as_float(position.unrealised)
    first = spread(
        line(
            (f" {position.coin} ", "strong"),
            ("▼ SHORT " if short else "▲ LONG ", "bad" if short else "good"),
            f"{position.size.lstrip('-')} @ {figures.price(position.entry_price)}",
        ),
        line((figures.money(position.unrealised, signed=True), figures.tone(gain))),
        width,
    )
    second = pack(
        width,
        [
            line((" TP ", "dim"), figures.price(position.target_price)),
            line(("SL ", "dim"), figures.price(position.stop_price)),
            line(("mark ", "dim"), figures.price(position.mark)),
            line(("bars ", "dim"), str(position.bars_held)),
        ],
    )
    return [first, second, protection_line(position, width)]


def protection_line(position: PositionView, width: int) -> Line:
    """PROTECTED with the stop's id and age, or NAKED."""
    if not position.protected:
        return first_fit(
            width,
            line((" ✗ NAKED: no stop is seen resting on the venue ", "alarm")),
            line((" ✗ NAKED ", "alarm")),
        )
    oid = figures.UNKNOWN if position.stop_oid is None else str(position.stop_oid)
    return pack(
        width,
        [
            line((" ✓ PROTECTED", "good")),
            line(("stop ", "dim"), oid),
            line(("age ", "dim"), figures.span(position.stop_age_s)),
            line(("bars ", "dim"), str(position.bars_held)) if width < 60 else (),
        ],
    )


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
                    " win rate ", (figures.percent(result.win_rate_pct, 1), "strong"), (f" of {result.trades}", "dim")
                ),
                line("PF ", (figures.number(result.profit_factor), "strong")),
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
    return headed("performance", view, width, body, line(("realised, net", "dim")))


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
    wide: list[Span] = []
    narrow: list[Span] = []
    for word, number, share in zip(ACTION_ROLES, actions, shares, strict=True):
        wide += [(f" {word} ", "text"), (figures.count(number), "strong"), (f" {share} ", "dim")]
        narrow += [(f" {word} ", "text"), (share, "strong")]
    return first_fit(width, tuple(wide), tuple(narrow))


# --- decisions ---------------------------------------------------------------------------------------------------


def decision_lines(view: View, width: int, height: int) -> list[Line]:
    """The last decisions: when, coin, action, Q values of HOLD, BUY and SELL, and the one sentence why."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("decisions", view, width)
    body: list[Line] = []
    coin_width = max([len(one.coin) for one in snapshot.decisions[:height]], default=3)
    for one in snapshot.decisions[: height - 1]:
        q = "".join(f" {value:+.3f}" for value in one.q) if one.q is not None else f"{'no Q':>21}"
        glyph = "●" if one.outcome == "order" else "·"
        head = line(
            (f" {figures.minute(one.bar_ms)} ", "dim"),
            f"{one.coin:<{coin_width}} ",
            (f"{one.action:<4}", ACTION_ROLES.get(one.action, "text")),
            (f"{q} ", "dim"),
            (f"{glyph} ", "good" if one.outcome == "order" else "dim"),
        )
        body.append((*head, (cut_words(one.why, width - cells(head)), "text")))
    if not body:
        body = [line((" none yet: the first complete window decides first", "dim"))]
    return headed("decisions", view, width, body, line(("Q of HOLD BUY SELL · y says why", "dim")))


# --- feed and training -------------------------------------------------------------------------------------------


def feed_lines(view: View, width: int, height: int) -> list[Line]:
    """Each stream's state and age, the worst first."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("feed", view, width)
    order = {"OFFLINE": 0, "STALE": 1, "LIVE": 2}
    feeds = sorted(snapshot.feeds, key=lambda one: order.get(one.state, 0))
    bad = sum(1 for one in feeds if one.state != "LIVE")
    shown: list[Line] = []
    for one in feeds:
        glyph, role = FEED_ROLES.get(one.state, ("✗", "bad"))
        gaps = (f" gap {one.gap_bars}", "warn") if one.gap_bars else ("", "text")
        age = figures.span(one.age_ms / 1000)
        shown.append(line((f" {glyph} {one.state}", role), f" {one.coin} {one.channel} ", (age, "dim"), gaps))
    body: list[Line] = []
    room = height - 1
    hidden = 0
    columns = 2 if len(shown) > room and width >= 56 else 1
    each = width // columns
    for at, part in enumerate(shown):
        if columns == 2 and at >= room and at - room < room:
            body[at - room] = (*body[at - room], (" " * (each - cells(body[at - room])), "text"), *part)
        elif at < room:
            body.append(part)
        else:
            hidden += 1
    if not shown:
        body = [line((" no stream yet", "dim"))]
    words = f"{len(feeds) - bad} LIVE" + (f", {bad} not" if bad else "") + (f", {hidden} not shown" if hidden else "")
    return headed("feed", view, width, body, line((words, "warn" if bad or not feeds else "good")))


def training_lines(view: View, width: int, height: int) -> list[Line]:
    """Epoch, time left, loss, validation; the model that trades."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("training", view, width)
    training = snapshot.training
    model = pack(
        width,
        [
            line((" model ", "dim"), (cut_words(snapshot.model.name, width - 8), "strong")),
            line(("valid. ", "dim"), figures.percent(snapshot.model.validation, signed=True))
            if snapshot.model.validation is not None
            else (),
        ],
    )
    body = [*training_progress(training, width), model]
    state = line((training.state, {"running": "accent", "failed": "bad"}.get(training.state, "dim")))
    return headed("training", view, width, body[: max(height - 1, 1)], state)


def training_progress(training: TrainingView, width: int) -> list[Line]:
    """Two rows of a training under way; the reason of one that is not."""
    if training.state == "idle" and training.epoch == 0:
        return [line((" " + cut_words(training.reason or "no training under way", width - 1), "dim"))]
    progress = pack(
        width,
        [
            line(" epoch ", (f"{training.epoch}/{training.epochs}", "strong")),
            line(("ETA ", "dim"), figures.span(training.eta_s)),
            line(("seed ", "dim"), str(training.seed)) if training.seed is not None else (),
            line((training.device, "dim")) if training.device else (),
        ],
    )
    outcome = pack(
        width,
        [
            line(" loss ", (figures.number(training.loss, 4), "strong")),
            line("validation ", (figures.percent(training.validation, signed=True), figures.tone(training.validation))),
            line((cut_words(training.reason, max(width // 3, 8)), "dim")) if training.reason else (),
        ],
    )
    return [progress, outcome]


class PhasePanel(Sheet):
    painter = staticmethod(phase_lines)


class PositionPanel(Sheet):
    painter = staticmethod(position_lines)


class PerformancePanel(Sheet):
    painter = staticmethod(performance_lines)


class DecisionPanel(Sheet):
    painter = staticmethod(decision_lines)


class FeedPanel(Sheet):
    painter = staticmethod(feed_lines)


class TrainingPanel(Sheet):
    painter = staticmethod(training_lines)
