"""From what the engine does to what an operator must hear of: a listener that raises and clears alerts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from aml100.control.alerts import RUNBOOK, AlertBook
from aml100.domain.events import (
    FillRecorded,
    OrderRecorded,
    PositionChanged,
    Record,
    RiskChanged,
    StateChanged,
    TradingState,
)
from aml100.domain.orders import OrderStatus

JOURNAL_WORDS = "journal failing"
_STATES = ("halted", "paused", "manage_only")
_CLEARED_BY_RESUME = ("circuit_breaker", "hard_stop", "journal_failing")


_REFUSED = 64
"""Client ids of so many refused orders are remembered."""
_CODES = {"equity": "equity_unknown", "equity_mark": "equity_unknown", "exit": "exit_failed"}


def _code_of(guard: str) -> tuple[str, str]:
    """The runbook's code of a guard, and what tells several of it apart: `leverage BTC` is leverage, of BTC."""
    name, _, key = guard.partition(" ")
    code = _CODES.get(name, name)
    return (code, key) if code in RUNBOOK else ("guard", guard)


class AlertListener:
    """Feeds one alert book.

    Args:
        book: of the state.db.
        wall_ms: wall time, which alerts are dated with.
    """

    def __init__(self, book: AlertBook, wall_ms: Callable[[], int]) -> None:
        self.book = book
        self._wall_ms = wall_ms
        self._refused: deque[str] = deque(maxlen=_REFUSED)
        self.bar_ms = wall_ms()
        """Wall time of the latest closed bar; at first, of the start."""

    def begin(self, state: str, reason: str) -> None:
        """A new engine: what the last one suffered from is over, but for a state that outlives it, which is no news."""
        now_ms = self._wall_ms()
        for one in self.book.active():
            if state == "trading" or one.code not in (*_STATES, *_CLEARED_BY_RESUME):
                self.book.clear_all(one.code, now_ms)
        stands = any((one.code, one.text) == (state, reason) for one in self.book.active())
        if state in _STATES and not stands:
            self._on_state(StateChanged(TradingState(state), reason, now_ms), now_ms)

    def on_record(self, record: Record) -> None:
        now_ms = self._wall_ms()
        match record:
            case StateChanged():
                self._on_state(record, now_ms)
            case RiskChanged(state="tripped"):
                code, key = _code_of(record.guard)
                self.book.raise_(code, record.reason, now_ms, key=key, level="alarm")
            case RiskChanged(state="ok"):
                code, key = _code_of(record.guard)
                self.book.clear(code, now_ms, key=key)
            case PositionChanged() if record.protected or record.size == 0:
                self.book.clear("protection", now_ms)
                if record.size == 0:
                    self.book.clear("exit_failed", now_ms)
            case OrderRecorded():
                self._on_order(record, now_ms)
            case FillRecorded() if record.fill.is_liquidation:
                text = f"{record.fill.coin} {record.fill.size} at {record.fill.price}"
                self.book.raise_("liquidated", text, now_ms, key=record.fill.coin, level="alarm")
            case _:
                pass

    def _on_state(self, record: StateChanged, now_ms: int) -> None:
        state = record.state.value
        for other in _STATES:
            if other != state:
                self.book.clear(other, now_ms)
        if JOURNAL_WORDS in record.reason:
            self.book.raise_("journal_failing", record.reason, now_ms, level="alarm")
        if state in _STATES:
            self.book.raise_(state, record.reason, now_ms, level="warning" if state == "paused" else "alarm")
        if state == "trading":
            for code in _CLEARED_BY_RESUME:
                self.book.clear(code, now_ms)

    def _on_order(self, record: OrderRecorded, now_ms: int) -> None:
        cloid, words = record.order.cloid, f"{record.order.coin} {record.order.kind.value} {record.order.cloid}"
        if record.status is OrderStatus.UNKNOWN:
            self.book.raise_("order_unknown", words, now_ms, key=cloid)
            return
        self.book.clear("order_unknown", now_ms, key=cloid)
        if record.status is OrderStatus.REJECTED:
            if cloid in self._refused:  # only its number at the venue is new
                return
            self._refused.append(cloid)
            text = f"{record.order.coin} {record.order.kind.value}: {record.reason}"
            self.book.raise_("order_rejected", text, now_ms, key=record.order.coin)
        elif record.status in (OrderStatus.RESTING, OrderStatus.FILLED):
            self.book.clear("order_rejected", now_ms, key=record.order.coin)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        now_ms = self._wall_ms()
        if kind == "feed":
            self._on_feed(fields, now_ms)
        elif kind == "training":
            if fields.get("state") == "failed":
                self.book.raise_("training_failed", str(fields.get("reason") or "see the log"), now_ms)
            elif fields.get("state") in ("running", "done"):
                self.book.clear("training_failed", now_ms)
        elif kind == "bar":
            self.bar_ms = now_ms
            self.book.clear("no_bars", now_ms)

    def _on_feed(self, fields: Mapping[str, object], now_ms: int) -> None:
        key = f"{fields.get('coin')} {fields.get('channel')}"
        state = fields.get("state")
        if state == "live":
            self.book.clear("feed_stale", now_ms, key=key)
            self.book.clear("feed_down", now_ms)
        elif state == "stale":
            self.book.raise_("feed_stale", f"{key} is silent", now_ms, key=key)
        elif state == "down":
            self.book.raise_("feed_down", "the stream to the venue is down", now_ms, level="alarm")
