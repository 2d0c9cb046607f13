"""Panels of the dashboard: the phase and the curves; what is shared by all panels.

Each panel opens with a rule that carries its name and, when the snapshot is old, STALE or OFFLINE with the age. Good
and bad are said by sign and glyph first; colour repeats it.
"""

from __future__ import annotations

from aml100.control.protocol import ObjectiveView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Line, cells, cut_words, first_fit, gauge, line, pack, rule, spread
from aml100.tui.view import View
from aml100.tui.widgets.chart import bars, curve
from aml100.tui.widgets.sheet import Sheet

VERDICTS = {
    "PASS": ("✓", "good"),
    "PROVISIONAL": ("◐", "warn"),
    "FAIL": ("✗", "bad"),
    "UNKNOWN": ("○", "dim"),
}

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
        if one.note and one.value is not None:
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
        left.append(line(f" {label:<13} ", (one.note, "dim"), " ", (threshold, "dim")))
        left.append(line(f" {label:<13} ", (one.note, "dim")))
    value = figures.number(one.value)
    left.append(line(f" {label:<13}", (f"{value:>6} ", "strong"), (threshold, "dim")))
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
        strip = bars(falls, max(width - len(label) - 2, 1), plain=view.ascii)
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


class PhasePanel(Sheet):
    painter = staticmethod(phase_lines)
