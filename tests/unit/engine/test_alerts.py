"""What the engine does becomes what an operator hears of, and is taken back when it is over."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from aml100.control.alerts import RUNBOOK, AlertBook
from aml100.domain.events import FillRecorded, OrderRecorded, PositionChanged, RiskChanged, StateChanged, TradingState
from aml100.domain.orders import Fill, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import Cloid, Coin
from aml100.engine.alerts import AlertListener

BTC = Coin("BTC")


@pytest.fixture
def alarms() -> AlertListener:
    return AlertListener(AlertBook(), lambda: 5)


def codes(alarms: AlertListener) -> list[str]:
    found = [one.code for one in alarms.book.active()]
    assert set(found) <= set(RUNBOOK)
    return found


def order(status: OrderStatus, cloid: str = "0x1", reason: str = "") -> OrderRecorded:
    made = Order(Cloid(cloid), BTC, Side.BUY, OrderKind.ENTRY, Decimal(1), Decimal(100), reduce_only=False)
    return OrderRecorded(made, status, None, reason, 0)


def position(size: str, *, protected: bool) -> PositionChanged:
    return PositionChanged(BTC, Decimal(size), Decimal(100), Decimal(0), 1, protected, 0)


def test_halt_stands_until_somebody_resumes(alarms: AlertListener) -> None:
    alarms.on_record(RiskChanged("hard_stop", "tripped", "drawdown 4.6 %", 0))
    alarms.on_record(StateChanged(TradingState.HALTED, "hard stop", 0))
    assert codes(alarms) == ["hard_stop", "halted"]
    alarms.on_record(StateChanged(TradingState.TRADING, "", 0))
    assert codes(alarms) == []


@pytest.mark.parametrize("after", [position("1", protected=True), position("0", protected=False)])
def test_lost_stop_alarms_until_protected_or_flat(alarms: AlertListener, after: PositionChanged) -> None:
    """B1."""
    alarms.on_record(RiskChanged("protection", "tripped", "BTC: stop lost", 0))
    alarms.on_record(position("1", protected=False))
    assert codes(alarms) == ["protection"]
    alarms.on_record(after)
    assert codes(alarms) == []


def test_order_of_unknown_outcome_alarms_until_it_is_known(alarms: AlertListener) -> None:
    """D1."""
    alarms.on_record(order(OrderStatus.UNKNOWN))
    alarms.on_record(order(OrderStatus.UNKNOWN, "0x2"))
    alarms.on_record(order(OrderStatus.FILLED))
    assert [one.text for one in alarms.book.active()] == ["BTC entry 0x2"]


def test_rejected_order_alarms_until_one_is_taken(alarms: AlertListener) -> None:
    alarms.on_record(order(OrderStatus.REJECTED, reason="minimum value of 10 USD"))
    assert [one.text for one in alarms.book.active()] == ["BTC entry: minimum value of 10 USD"]
    alarms.on_record(order(OrderStatus.FILLED, "0x2"))
    assert codes(alarms) == []


def test_silent_stream_alarms_by_coin_and_channel(alarms: AlertListener) -> None:
    """B7."""
    for channel in ("candle", "bbo"):
        alarms.on_event("feed", {"coin": "BTC", "channel": channel, "state": "stale"})
    alarms.on_event("feed", {"coin": "BTC", "channel": "bbo", "state": "live"})
    assert [one.text for one in alarms.book.active()] == ["BTC candle is silent"]
    alarms.on_event("feed", {"coin": "BTC", "channel": "bbo", "state": "down"})
    assert codes(alarms) == ["feed_stale", "feed_down"]


def test_journal_that_cannot_be_written_is_an_alarm_of_its_own(alarms: AlertListener) -> None:
    """D3."""
    alarms.on_record(StateChanged(TradingState.PAUSED, "engine, journal failing: disk full", 0))
    assert codes(alarms) == ["journal_failing", "paused"]


def test_failed_training_and_liquidation_are_told(alarms: AlertListener) -> None:
    alarms.on_event("training", {"state": "failed", "reason": "killed"})
    fill = Fill(BTC, Side.SELL, Decimal(90), Decimal(1), Decimal(0), 0, 1, 1, None, is_taker=True, is_liquidation=True)
    alarms.on_record(FillRecorded(fill, None, "", Decimal(-10), Decimal(0)))
    assert codes(alarms) == ["training_failed", "liquidated"]
    alarms.on_event("training", {"state": "running"})
    assert codes(alarms) == ["liquidated"]


def test_new_engine_keeps_a_halt_and_nothing_else(alarms: AlertListener) -> None:
    """C29: a death is over once somebody lives; a halt outlives a restart."""
    alarms.on_record(StateChanged(TradingState.HALTED, "halted by ann", 0))
    alarms.book.raise_("engine_dead", "gone", 1, level="alarm")
    alarms.begin("halted", "halted by ann")
    assert codes(alarms) == ["halted"]
    alarms.begin("trading", "")
    assert codes(alarms) == []
    alarms.begin("manage_only", "positions differ")
    assert codes(alarms) == ["manage_only"]


def test_guards_have_their_page_in_the_runbook(alarms: AlertListener) -> None:
    """B12, D10: every guard that trips has a code that the runbook knows."""
    for guard in ("equity", "leverage BTC", "exit", "listing", "something new"):
        alarms.on_record(RiskChanged(guard, "tripped", guard, 0))
    assert codes(alarms) == ["equity_unknown", "leverage", "exit_failed", "listing", "guard"]
    alarms.on_record(RiskChanged("equity", "ok", "over", 0))
    alarms.on_record(RiskChanged("leverage BTC", "ok", "over", 0))
    alarms.on_record(position("0", protected=False))
    assert codes(alarms) == ["listing", "guard"]


def test_a_halt_that_outlives_its_engine_is_one_halt(tmp_path: Path) -> None:
    """A file HALT, an engine that is started again an hour later, and once more."""
    path, hour_ms = tmp_path / "alerts.jsonl", 3_600_000
    first = AlertListener(AlertBook(path), lambda: 0)
    first.begin("starting", "")
    first.on_record(StateChanged(TradingState.HALTED, "halted by file:HALT", 0))
    for wall_ms in (hour_ms, 2 * hour_ms):
        book = AlertBook(path)
        book.load()
        AlertListener(book, lambda now_ms=wall_ms: now_ms).begin("halted", "halted by file:HALT")
        (only,) = book.active()
        assert (only.code, only.count, only.last_ms) == ("halted", 1, 0)
