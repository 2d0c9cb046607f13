"""What the run has shown so far, kept for screens: curves, trades, decisions, log lines, counts.

Money that decides anything lives in the core; this is the view. Everything is bounded, so a week's run weighs what an
hour's does.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from aml100.control.protocol import ActionCount, DecisionView, GateView, LogLine, OpenOrderView, TradeView
from aml100.domain.clock import wall_ms
from aml100.domain.events import (
    CommandDone,
    Decision,
    EquityMarked,
    FillRecorded,
    LedgerPosted,
    OrderRecorded,
    Record,
    RiskChanged,
    StateChanged,
    TradeClosed,
)
from aml100.domain.market import Bar
from aml100.domain.orders import Action, Order, OrderStatus, Side, TimeInForce
from aml100.domain.units import Coin, decimal_text
from aml100.storage.reader import StateReader

CURVE_POINTS = 240
ACTION_STRETCHES = 60
ENDED = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED)
MOST_STRETCHES = CURVE_POINTS // 2 - 2
"""Even; with two points each and the last one, a curve has fewer than CURVE_POINTS."""


Point: TypeAlias = tuple[int, float]
"""(time_ms, value)"""


@dataclass(slots=True)
class Curve:
    """A series in equal stretches of which the lowest and the highest point are kept, and the last point of all.

    So the deepest fall stays in the picture however long the run, and an old stretch looks the same at every look. A
    stretch doubles when there are too many of them.
    """

    stretch: int = 1
    _stretches: list[tuple[Point, Point]] = field(default_factory=list)
    _in_last: int = 0
    _last: Point | None = None

    def add(self, time_ms: int, value: float) -> None:
        self._last = point = (time_ms, value)
        if not self._stretches or self._in_last >= self.stretch:
            self._stretches.append((point, point))
            self._in_last = 0
            if len(self._stretches) > MOST_STRETCHES:
                newest = self._stretches.pop()
                pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
                self._stretches = [(_lower(a[0], b[0]), _higher(a[1], b[1])) for a, b in pairs]
                self._stretches.append(newest)
                self.stretch *= 2
        low, high = self._stretches[-1]
        self._stretches[-1] = _lower(low, point), _higher(high, point)
        self._in_last += 1

    def thinned(self) -> tuple[Point, ...]:
        """At most CURVE_POINTS points, the last one always among them."""
        if self._last is None:
            return ()
        kept = 1 if self.stretch == 1 else 2  # of every stretch as many, which keeps them evenly spaced
        extremes = (point for ends in self._stretches for point in sorted(ends)[:kept])
        return (*(point for point in extremes if point != self._last), self._last)


def _lower(a: Point, b: Point) -> Point:
    return b if b[1] < a[1] else a


def _higher(a: Point, b: Point) -> Point:
    return b if b[1] > a[1] else a


@dataclass(slots=True)
class ActionHistory:
    """Counts of HOLD, BUY and SELL over equal stretches of decisions; the stretch doubles when there are too many."""

    stretch: int = 4
    _counts: list[ActionCount] = field(default_factory=list)
    _in_last: int = 0

    def add(self, time_ms: int, action: Action) -> None:
        if not self._counts or self._in_last >= self.stretch:
            self._counts.append(ActionCount(time_ms, 0, 0, 0))
            self._in_last = 0
            if len(self._counts) > 2 * ACTION_STRETCHES:
                self._halve()
        last = self._counts[-1]
        self._counts[-1] = ActionCount(
            last.time_ms,
            last.hold + (action is Action.HOLD),
            last.buy + (action is Action.BUY),
            last.sell + (action is Action.SELL),
        )
        self._in_last += 1

    def _halve(self) -> None:
        """Pairs become one; the newest stretch, just begun, stays."""
        newest = self._counts.pop()
        pairs = zip(self._counts[::2], self._counts[1::2], strict=False)
        self._counts = [ActionCount(a.time_ms, a.hold + b.hold, a.buy + b.buy, a.sell + b.sell) for a, b in pairs]
        self._counts.append(newest)
        self.stretch *= 2

    def shown(self) -> tuple[ActionCount, ...]:
        """At most ACTION_STRETCHES of them, the newest last."""
        return tuple(self._counts[-ACTION_STRETCHES:])


class Telemetry:
    """A listener; also fed with bars and trades as they come."""

    def __init__(self) -> None:
        self.equity = Curve()
        self.price: dict[Coin, deque[tuple[int, float]]] = {}
        """(open_ms, close) of the latest bars of each coin."""
        self.action_history = ActionHistory()
        self.trades: deque[TradeClosed] = deque(maxlen=10_000)
        self.decisions: deque[Decision] = deque(maxlen=50)
        self.done_orders: deque[OrderRecorded] = deque(maxlen=30)
        """Orders that ended, the latest first."""
        self.log: deque[LogLine] = deque(maxlen=200)
        self.actions: Counter[Action] = Counter()
        self.why: Counter[str] = Counter()
        self.max_drawdown = 0.0
        """Deepest fall from the highest equity ever marked; a resume begins the guards' peak anew, not this one."""
        self._peak = 0.0
        """That equity, and what was paid in or taken out since; 0 before the first mark."""
        self.fees = 0.0
        self._training: object = "idle"
        """State of the training that was last told of."""
        self._now_ms = 0
        """Market time of the last mark; 0 before the first."""

    def restore(self, reader: StateReader) -> None:
        """What earlier runs on this state.db left."""
        moved = deque(row for row in reader.ledger_rows() if row.kind == "deposit")
        for point in reader.equity_curve():
            while moved and moved[0].time_ms <= point.time_ms:
                self._move_money(moved.popleft())
            self.equity.add(point.time_ms, float(point.equity))
            self._fall(float(point.equity), point.drawdown_pct / 100)
        self.trades.extend(reader.trades())
        self.fees = float(sum(trade.fees for trade in self.trades))
        for action, count in zip(Action, reader.action_counts(), strict=True):
            self.actions[action] = count

    def _fall(self, equity: float, since_resumed: float) -> None:
        """Equity is marked; `since_resumed` is its fall as the guards see it."""
        self._peak = max(self._peak, equity)
        ever = 1.0 - equity / self._peak if self._peak > 0.0 else 0.0
        self.max_drawdown = max(self.max_drawdown, since_resumed, ever)

    def _move_money(self, posted: LedgerPosted) -> None:
        if self._peak > 0.0:
            self._peak += float(posted.amount)

    def on_bars(self, bars: Sequence[Bar]) -> None:
        for bar in bars:
            self.price.setdefault(bar.coin, deque(maxlen=CURVE_POINTS)).append((bar.open_ms, float(bar.close)))

    def on_record(self, record: Record) -> None:
        match record:
            case EquityMarked():
                self._now_ms = record.time_ms
                self.equity.add(record.time_ms, float(record.equity))
                self._fall(float(record.equity), record.drawdown_frac)
            case LedgerPosted(kind="deposit"):
                self._move_money(record)
            case Decision():
                self.decisions.appendleft(record)
                self.actions[record.action] += 1
                self.action_history.add(record.bar_ms, record.action)
                self.why[_refusing_gate(record)] += 1
            case TradeClosed():
                self.trades.append(record)
                self.fees += float(record.fees)
                side = "long" if record.side is Side.BUY else "short"
                self.say(
                    f"{record.coin} {side} closed: {record.exit_reason}, {record.pnl:+.2f} USD net",
                    record.exit_ms,
                )
            case FillRecorded():
                fill = record.fill
                kind = record.kind or record.reason
                why = kind if record.reason in ("", kind) else f"{kind}: {record.reason}"
                self.say(
                    f"{fill.coin} {fill.side} {decimal_text(fill.size)} filled at {decimal_text(fill.price)} ({why})",
                    fill.time_ms,
                )
            case OrderRecorded():
                if record.status in ENDED:
                    self._keep_done(record)
            case RiskChanged():
                self.say(f"{record.guard} {record.state}: {record.reason}", record.time_ms, "warning")
            case StateChanged():
                why = f": {record.reason}" if record.reason else ""
                level = "info" if record.state == "trading" else "warning"
                self.say(f"the state is now {record.state}{why}", record.time_ms, level)
            case CommandDone():
                level = "info" if record.ok else "warning"
                self.say(f"{record.name} by {record.by}: {record.result}", record.time_ms, level)
            case _:
                pass

    def _keep_done(self, record: OrderRecorded) -> None:
        """An order that ended stands here once: its number at the venue may come after its end."""
        for at, one in enumerate(self.done_orders):
            if one.order.cloid == record.order.cloid:
                self.done_orders[at] = record
                return
        self.done_orders.appendleft(record)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "training":
            if fields["state"] == self._training:
                return
            self._training = fields["state"]
        sentence = sentence_of(kind, fields)
        if sentence:
            level = "warning" if fields.get("state") in ("stale", "down", "failed") else "info"
            self.say(sentence, self._now_ms, level)

    def say(self, text: str, time_ms: int, level: str = "info") -> None:
        """One line for the log screen, at the market's time like all others; at the wall's where there is none yet."""
        self.log.append(LogLine(time_ms or wall_ms(), level, text))

    def trade_views(self) -> tuple[TradeView, ...]:
        """The latest first."""
        latest = list(self.trades)[-50:][::-1]
        return tuple(
            TradeView(
                coin=t.coin,
                side=t.side.value,
                entry_ms=t.entry_ms,
                exit_ms=t.exit_ms,
                entry_price=_short(float(t.entry_price)),
                exit_price=_short(float(t.exit_price)),
                size=decimal_text(t.size),
                pnl=f"{t.pnl:.2f}",
                exit_reason=t.exit_reason,
                fees=f"{t.fees:.4f}",
                funding=f"{t.funding:.4f}",
                bars_held=t.bars_held,
            )
            for t in latest
        )

    def done_order_views(self) -> tuple[OpenOrderView, ...]:
        """The latest first; `reason` is the latest word where there is one, else why it was made."""
        return tuple(
            order_view(one.order, one.oid, one.status, one.reason or one.order.reason) for one in self.done_orders
        )

    def decision_views(self) -> tuple[DecisionView, ...]:
        """The latest first."""
        return tuple(
            DecisionView(
                coin=d.coin,
                bar_ms=d.bar_ms,
                action=d.action.name,
                q=d.q,
                confidence=d.confidence,
                regime=d.regime,
                outcome=d.outcome,
                why=why_sentence(d),
                gates=tuple(GateView(g.name, g.ok, g.reason) for g in d.gates),
            )
            for d in self.decisions
        )


def sentence_of(kind: str, fields: Mapping[str, object]) -> str:
    """An event of the engine for the log; empty for one that the log says otherwise, or not.

    >>> sentence_of("cycle", {"number": 3, "source": "realised", "verdict": "FAIL"})
    'cycle 3 ended: FAIL (realised)'
    >>> sentence_of("feed", {"coin": "BTC", "channel": "bbo", "state": "stale", "age_ms": 31000, "gap_bars": 2})
    'BTC bbo is stale, silent for 31 s, 2 bars missing'
    """
    match kind:
        case "feed":
            silent = f", silent for {float(str(fields['age_ms'])) / 1000:.0f} s" if fields["state"] == "stale" else ""
            missing = f", {fields['gap_bars']} bars missing" if fields.get("gap_bars") else ""
            return f"{fields['coin']} {fields['channel']} is {fields['state']}{silent}{missing}"
        case "cycle":
            return f"cycle {fields['number']} ended: {fields['verdict']} ({fields['source']})"
        case "phase":
            words = f"phase {fields['from']} -> {fields['to']}"
        case "model":
            words = f"model {fields['id']} {str(fields['event']).replace('_', ' ')}"
        case "training":
            words = f"training {fields['state']}"
        case _:
            return ""
    return f"{words}: {fields['reason']}" if fields.get("reason") else words


def order_view(order: Order, oid: int | None, status: OrderStatus, reason: str) -> OpenOrderView:
    """An order as screens show it; a trigger's price is the level that sets it off, a market order's its bound."""
    return OpenOrderView(
        cloid=order.cloid,
        oid=oid,
        coin=order.coin,
        side=order.side.value,
        kind=order.kind.value,
        price=decimal_text(order.trigger_price or order.price),
        size=decimal_text(order.size),
        status=status.value,
        reduce_only=order.reduce_only,
        created_ms=order.created_ms,
        reason=reason,
        is_market=not order.is_trigger and order.tif is TimeInForce.IOC,
    )


def why_sentence(decision: Decision) -> str:
    """What a decision did, or the first gate that kept it from doing it."""
    refusing = [gate for gate in decision.gates if not gate.ok]
    if decision.outcome == "order" and not refusing:
        return f"{decision.action.name}: order sent"
    if decision.outcome == "order":
        return f"closed; no new entry: {refusing[0].reason}"
    return refusing[0].reason if refusing else "nothing to do"


def _refusing_gate(decision: Decision) -> str:
    return next((gate.name for gate in decision.gates if not gate.ok), "order")


def _short(value: float) -> str:
    return f"{value:.6g}" if value < 100_000 else f"{value:.1f}"
