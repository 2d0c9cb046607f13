"""What the venue refuses counts once, whenever its number comes; and what a person's resume begins anew."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aml100.domain.events import (
    BY_ENGINE,
    Command,
    CommandName,
    Decision,
    Effect,
    FillReceived,
    FillRecorded,
    RiskChanged,
    TradeClosed,
    TradingState,
)
from aml100.domain.orders import Action, Fill, Order, OrderStatus
from tests.harness import BTC, QUIET_BARS
from tests.unit.trading.stage import Stage, placed_in

LAST = QUIET_BARS - 1
ROOM = "Insufficient margin to place order"


def refuse(stage: Stage, order: Order) -> list[Effect]:
    """As the venue does: the answer comes without its number, the stream brings it after."""
    at_once = stage.answer(order.cloid, OrderStatus.REJECTED, ROOM, oid=None)
    later = stage.answer(order.cloid, OrderStatus.REJECTED, ROOM, oid=7)
    assert [one.oid for one in later] == [7], "its number is journalled, and nothing else follows"  # type: ignore[union-attr]
    return at_once


def entering(rows: int, **changes: object) -> Stage:
    return Stage({LAST + row: Action.BUY for row in range(rows)}, guarded=True, **changes)


def refused_entries(stage: Stage, count: int, first: int = 0) -> list[RiskChanged]:
    """So many entries, each refused with its children; what the guards said."""
    told: list[RiskChanged] = []
    for row in range(first, first + count):
        (placed,) = placed_in(stage.close(LAST + row))
        for order in placed.orders:
            told += [one for one in refuse(stage, order) if isinstance(one, RiskChanged)]
    return told


def gates_closed(stage: Stage, row: int) -> list[str]:
    (decision,) = (one for one in stage.close(LAST + row) if isinstance(one, Decision))
    return [gate.name for gate in decision.gates if not gate.ok]


def test_five_refused_entries_end_entries_and_a_resume_begins_the_count_anew() -> None:
    stage = entering(12)
    assert refused_entries(stage, 4) == []
    assert stage.core.risk.state.rejects_in_row == 4
    (told,) = refused_entries(stage, 1, first=4)
    assert (told.guard, told.state) == ("rejects", "tripped")
    assert "5 entries refused by the venue in a row" in told.reason
    assert gates_closed(stage, 5) == ["rejects"]
    effects = stage.core.process(Command(CommandName.RESUME, "cli:ann", stage.core.state.now_ms))
    assert [(one.guard, one.state) for one in effects if isinstance(one, RiskChanged)] == [("rejects", "ok")]
    (placed,) = placed_in(stage.close(LAST + 6))
    assert placed.orders


def test_refused_entries_are_no_trades_of_the_day() -> None:
    stage = entering(4)
    refused_entries(stage, 3)
    assert stage.core.risk.state.trades_today == 0
    (placed,) = placed_in(stage.close(LAST + 3))
    assert stage.core.risk.state.trades_today == 1, "one on its way counts, else two would pass a limit of one"
    entry = placed.orders[0]
    stage.answer(entry.cloid, OrderStatus.CANCELED, "canceled")
    assert stage.core.risk.state.trades_today == 0
    stage.fill(entry, "15")  # after that word
    stage.fill(entry, "5")
    assert stage.core.risk.state.trades_today == 1


def test_a_fill_that_comes_after_filled_is_one_trade() -> None:
    stage = entering(1)
    (placed,) = placed_in(stage.close(LAST))
    stage.answer(placed.orders[0].cloid, OrderStatus.FILLED)
    stage.fill(placed.orders[0], "40")
    assert stage.core.risk.state.trades_today == 1


def test_a_refused_exit_waits_its_first_pause_not_its_second() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.SELL})
    stage.open_long()
    (placed,) = placed_in(stage.close(LAST + 1))
    (told,) = (one for one in refuse(stage, placed.orders[0]) if isinstance(one, RiskChanged))
    assert stage.core.coin(BTC).exit_failures == 1
    assert "again in" in told.reason


@pytest.mark.parametrize(("by", "fallen"), [("cli:ann", 0.0), (BY_ENGINE + "journal written again", 0.02)])
def test_the_drawdown_counts_from_a_persons_resume(by: str, fallen: float) -> None:
    """SPEC 9; what the engine paused by itself and lets go on is no judgement of anybody's."""
    stage = Stage({})
    stage.core.risk.mark(Decimal(10_000), stage.core.state.now_ms)
    stage.core.risk.mark(Decimal(9_800), stage.core.state.now_ms)
    stage.core.process(Command(CommandName.PAUSE, "cli:ann", stage.core.state.now_ms))
    stage.core.process(Command(CommandName.RESUME, by, stage.core.state.now_ms))
    assert stage.core.state.trading is TradingState.TRADING
    assert stage.core.risk.state.drawdown == pytest.approx(fallen)


def test_a_liquidation_is_called_one() -> None:
    stage = Stage({LAST: Action.BUY})
    stage.open_long()
    now_ms = stage.core.state.now_ms
    forced = Fill(BTC, placed_side(stage), Decimal(60), Decimal(40), Decimal(0), now_ms, 99, 2, None, True, True)
    effects = stage.core.process(FillReceived(forced))
    (filled,) = (one for one in effects if isinstance(one, FillRecorded))
    (trade,) = (one for one in effects if isinstance(one, TradeClosed))
    told = [one.reason for one in effects if isinstance(one, RiskChanged) and one.guard == "liquidation"]
    assert (filled.reason, trade.exit_reason) == ("liquidation", "risk")
    assert told == ["BTC: the venue closed 40 at 60"]


def placed_side(stage: Stage) -> object:
    """The side that closes the position."""
    side = stage.core.ledger.position(BTC).side
    assert side is not None
    return side.opposite
