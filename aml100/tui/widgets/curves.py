"""Panels with curves: equity with its drawdown shaded, price with our entries and exits, what the policy chose.

A chart is drawn anew at most once a second, the figures above it at every frame.
"""

from __future__ import annotations

from collections.abc import Sequence

from aml100.control.protocol import ActionCount, PositionView, Snapshot, TradeView
from aml100.tui import figures
from aml100.tui.ink import Line, line, pack
from aml100.tui.view import Painter, Prices, View, coins_of
from aml100.tui.widgets.chart import bars, curve
from aml100.tui.widgets.panels import headed, waiting
from aml100.tui.widgets.plot import Plot

LEVEL_REACH = 1.0
"""Targets and stops up to so many heights of the price's own range away widen the picture; others are arrows."""


class Charts:
    """The charts of this second: each is drawn when it is first asked for, and kept until `chart_no` moves on."""

    def __init__(self) -> None:
        self._drawn: dict[Painter, tuple[tuple[object, ...], list[Line]]] = {}

    def drawn(self, draw: Painter, view: View, width: int, height: int) -> list[Line]:
        """What `draw` made of the view of this second."""
        if view.snapshot is None or height <= 0:
            return []
        key = (view.chart_no, view.prices, width, height, view.ascii)
        kept = self._drawn.get(draw)
        if kept is None or kept[0] != key:
            kept = self._drawn[draw] = key, draw(view, width, height)
        return kept[1]


# --- equity ------------------------------------------------------------------------------------------------------


def equity_figures(snapshot: Snapshot, width: int) -> Line:
    """Equity, its change, the drawdown now and at worst."""
    equity, start = figures.as_float(snapshot.equity), figures.as_float(snapshot.initial_equity)
    change = (equity / start - 1.0) * 100.0 if start > 0 else None
    if equity == start == 0.0:
        return line((" not known: no money booked yet", "dim"))
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
    """Warns at half of the nearest guard's limit, alarms at all of it."""
    limits = [one.limit for one in snapshot.risk if one.guard == "circuit_breaker" and one.limit]
    limit = min(limits, default=3.5)
    if snapshot.drawdown_pct >= limit:
        return "bad"
    return "warn" if snapshot.drawdown_pct >= limit / 2 else "text"


def too_short(width: int, height: int) -> list[Line]:
    """In place of a curve of fewer than two points."""
    return [line((" the curve begins with the second point"[:width], "dim"))][:height]


def framed_curve(values: list[float], width: int, height: int, *, plain: bool, decimals: int = 2) -> list[Line]:
    """A curve with its highest and lowest value written at the right."""
    if len(values) < 2 or height < 1:
        return too_short(width, height)
    top, bottom = f"{max(values):,.{decimals}f}", f"{min(values):,.{decimals}f}"
    label = max(len(top), len(bottom))
    drawn = curve(values, max(width - label - 3, 2), height, plain=plain)
    lines = []
    for at, row in enumerate(drawn):
        mark = top if at == 0 else bottom if at == height - 1 else ""
        lines.append(line(" ", (row, "curve"), (f" {mark:>{label}} ", "dim")))
    return lines


def running_peaks(values: Sequence[float]) -> list[float]:
    """The highest value so far at each point.

    >>> running_peaks([1.0, 3.0, 2.0])
    [1.0, 3.0, 3.0]
    """
    peak = values[0] if values else 0.0
    peaks = []
    for value in values:
        peak = max(peak, value)
        peaks.append(peak)
    return peaks


def equity_chart(points: Sequence[tuple[int, float]], width: int, height: int, *, plain: bool) -> list[Line]:
    """Equity, with the fall from its running peak shaded; the deepest fall is named in the last row."""
    values = [value for _, value in points]
    if len(values) < 2 or height < 1:
        return too_short(width, height)
    peaks = running_peaks(values)
    falls = [1.0 - value / peak if peak > 0 else 0.0 for value, peak in zip(values, peaks, strict=True)]
    footed = height >= 6
    low, high = min(values), max(values)
    labels = [f"{high:,.2f}", f"{low:,.2f}"]
    gutter = max(map(len, labels))
    plot = Plot(max(width - gutter - 3, 2), height - footed, low, high, plain=plain)
    plot.add_shade(peaks, values, "bad")
    plot.add_curve(values)
    plot.label(0, labels[0])
    plot.label(plot.height - 1, labels[1])
    lines = plot.lines(gutter)
    if footed:
        worst = max(range(len(falls)), key=falls.__getitem__)
        lines.append(_fall_line(falls[worst], points, worst, width, plain=plain))
    return lines


def _fall_line(fall: float, points: Sequence[tuple[int, float]], at: int, width: int, *, plain: bool) -> Line:
    """The deepest fall in the picture, when it was, and what time the picture spans."""
    deepest = line((f" {':' if plain else '░'}", "bad"), (f" fall to {fall * 100:.2f} %", "dim"))
    when = line((f"{figures.day_time(points[at][0])} UTC", "dim"))
    span = line((f"from {figures.day_time(points[0][0])}", "dim"))
    return pack(width, [deepest, when, span])


def equity_lines(view: View, width: int, height: int, charts: Charts) -> list[Line]:
    """Equity with its curve; the drawdown is the shade under the peak."""
    if view.snapshot is None:
        return waiting("equity", view, width)
    figures_line = equity_figures(view.snapshot, width)
    return headed("equity", view, width, [figures_line, *charts.drawn(_draw_equity, view, width, height - 2)])


def _draw_equity(view: View, width: int, height: int) -> list[Line]:
    points = view.snapshot.equity_curve if view.snapshot is not None else ()
    return equity_chart(points, width, height, plain=view.ascii)


# --- price -------------------------------------------------------------------------------------------------------

ENTRY_SIGNS = {"buy": ("▲", "good"), "sell": ("▼", "bad")}


def shown_prices(view: View, snapshot: Snapshot) -> Prices:
    """What the price chart shows: the coin that was chosen, else the coin in hand, else the first one."""
    ours = Prices(snapshot.price_coin, snapshot.price_curve)
    return ours if view.prices is None or view.prices.coin == ours.coin else view.prices


def price_chart(snapshot: Snapshot, prices: Prices, width: int, height: int, *, plain: bool) -> list[Line]:
    """The price with entries (▲ long, ▼ short), exits (× with the sign's colour), entry, target and stop."""
    points = prices.points
    if len(points) < 2 or height < 1:
        return too_short(width, height)
    values = [value for _, value in points]
    position = next((one for one in snapshot.positions if one.coin == prices.coin), None)
    levels = _levels(position)
    low, high = _reach(values, [value for value, _, _ in levels])
    footed = height >= 6
    labels = [figures.level(high), figures.level(low), *(label for _, _, label in levels)]
    gutter = max(map(len, labels))
    inner = max(width - gutter - 3, 2)
    plot = Plot(inner, height - footed, low, high, points[0][0], points[-1][0], plain)
    for value, role, label in levels:
        plot.add_level(value, role, label)
    plot.add_curve(values)
    trades = [one for one in snapshot.trades if one.coin == prices.coin]
    marked = sum(_mark_trade(plot, one) for one in reversed(trades))
    if position is not None:
        sign, role = ENTRY_SIGNS["sell" if position.size.startswith("-") else "buy"]
        plot.add_mark(position.opened_ms, figures.as_float(position.entry_price), sign, role)
    plot.label(0, labels[0])
    plot.label(plot.height - 1, labels[1])
    lines = plot.lines(gutter)
    if footed:
        lines.append(_price_legend(points, marked, width))
    return lines


def _levels(position: PositionView | None) -> list[tuple[float, str, str]]:
    """Value, role and label of the lines across."""
    if position is None:
        return []
    found = []
    wanted = (("TP", position.target_price, "good"), ("SL", position.stop_price, "bad"))
    for name, text, role in wanted:
        if text is not None:
            found.append((figures.as_float(text), role, f"{name} {figures.price(text)}"))
    return found


def _reach(values: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """The range of the picture: that of the price, widened to the levels that are near."""
    low, high = min(values), max(values)
    room = max((high - low) * LEVEL_REACH, high * 1e-6)
    near = [value for value in levels if low - room <= value <= high + room]
    return min([low, *near]), max([high, *near])


def _mark_trade(plot: Plot, trade: TradeView) -> bool:
    sign, role = ENTRY_SIGNS["buy" if trade.side == "buy" else "sell"]
    entered = plot.add_mark(trade.entry_ms, figures.as_float(trade.entry_price), sign, role)
    won = figures.as_float(trade.pnl) > 0
    left = plot.add_mark(trade.exit_ms, figures.as_float(trade.exit_price), "×", "good" if won else "bad")
    return entered or left


def _price_legend(points: Sequence[tuple[int, float]], marked: int, width: int) -> Line:
    span = f"{figures.minute(points[0][0])} to {figures.minute(points[-1][0])} UTC"
    legend = line((" ▲", "good"), (" long ", "dim"), ("▼", "bad"), (" short ", "dim"), ("×", "text"), (" exit", "dim"))
    return pack(width, [legend, line((f"{marked} shown", "dim")), line((span, "dim"))])


def price_lines(view: View, width: int, height: int, charts: Charts) -> list[Line]:
    """The price of one coin, and with which key the next one comes."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("price", view, width)
    note = line((snapshot.origin, "warn" if snapshot.origin.startswith("synthetic") else "dim"))
    coin, coins = shown_prices(view, snapshot).coin, coins_of(snapshot)
    place = f" ({coins.index(coin) + 1} of {len(coins)}, v)" if len(coins) > 1 and coin in coins else ""
    title = f"price {coin}{place}".strip()
    return headed(title, view, width, charts.drawn(_draw_price, view, width, height - 1), note)


def _draw_price(view: View, width: int, height: int) -> list[Line]:
    if view.snapshot is None:
        return []
    return price_chart(view.snapshot, shown_prices(view, view.snapshot), width, height, plain=view.ascii)


# --- actions -----------------------------------------------------------------------------------------------------

ACTION_ROLES = {"HOLD": "dim", "BUY": "good", "SELL": "bad"}


def action_strips(
    counts: Sequence[ActionCount], totals: tuple[int, int, int], width: int, *, plain: bool
) -> list[Line]:
    """A row of bars for each action: its share of the decisions over time, oldest left, and how many there were."""
    if not counts:
        return [line((" no decision yet", "dim"))]
    sums = [one.hold + one.buy + one.sell for one in counts]
    every = sum(totals)
    labels = [f"{number:,} {number * 100 / every:.0f}%" if every else figures.UNKNOWN for number in totals]
    gutter = max(map(len, labels))
    room = max(width - gutter - 8, 4)
    series = ([one.hold for one in counts], [one.buy for one in counts], [one.sell for one in counts])
    lines = []
    for name, numbers, label in zip(ACTION_ROLES, series, labels, strict=True):
        shares = [number / total for number, total in zip(numbers, sums, strict=True)]
        strip = bars(shares, room, plain=plain, largest=1.0)
        lines.append(line(f" {name:<4} ", (strip, ACTION_ROLES[name]), f" {label:>{gutter}}"))
    return lines


def action_lines(view: View, width: int, height: int, charts: Charts) -> list[Line]:
    """What the policy chose over time."""
    if view.snapshot is None:
        return waiting("actions", view, width)
    note = line(("share of decisions, newest right", "dim"))
    return headed("actions", view, width, charts.drawn(_draw_actions, view, width, height - 1), note)


def _draw_actions(view: View, width: int, height: int) -> list[Line]:
    if view.snapshot is None:
        return []
    snapshot = view.snapshot
    return action_strips(snapshot.action_curve, snapshot.performance.actions, width, plain=view.ascii)[:height]
