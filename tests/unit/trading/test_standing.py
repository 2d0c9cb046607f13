"""Our books against the venue's: what is in doubt, what is taken over, what is never believed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aml100.domain.events import (
    BooksOpened,
    ConcernChanged,
    Decision,
    EquitySeen,
    FillReceived,
    MoneyReceived,
    Reconciled,
    RestingOrder,
    RiskChanged,
    Tick,
    TradingState,
)
from aml100.domain.orders import Action, Fill, OrderKind, Side
from aml100.domain.units import Cloid, Coin
from tests.harness import BTC, QUIET_BARS
from tests.unit.trading.stage import Stage, placed_in

LAST = QUIET_BARS - 1


@pytest.mark.parametrize("equity", [None, Decimal(0), Decimal("NaN"), Decimal(100_000), Decimal(900)])
def test_b12_an_equity_that_cannot_be_one_stops_entries_and_closes_nothing(equity: Decimal | None) -> None:
    stage = Stage({LAST: Action.BUY, LAST + 3: Action.SELL, LAST + 5: Action.BUY}, guarded=True)
    stage.open_long()
    effects = stage.core.process(EquitySeen(equity, 1))
    assert stage.core.state.trading is TradingState.MANAGE_ONLY
    assert stage.core.state.reason.startswith("equity unknown")
    assert placed_in(effects) == []
    assert stage.core.ledger.position(BTC).size == 40
    assert placed_in(stage.close(LAST + 1)) == []
    stage.core.process(EquitySeen(stage.core.ledger.equity(), 2))
    assert stage.core.state.trading is TradingState.TRADING


def test_b12_a_marked_equity_that_jumps_with_nothing_booked_trips_no_breaker() -> None:
    stage = Stage({LAST: Action.BUY}, guarded=True)
    stage.open_long("250")  # 2.5 times the equity, so that a wrong price shows
    stage.close(LAST + 1, "100")
    effects = stage.close(LAST + 2, "70")  # a price nobody traded at: 7500 of 10000 gone
    assert stage.core.state.trading is TradingState.MANAGE_ONLY
    assert "equity unknown" in stage.core.state.reason
    assert placed_in(effects) == []
    assert stage.core.coin(BTC).closing == ""
    assert stage.core.risk.state.drawdown < 0.01
    stage.close(LAST + 3, "100")
    assert stage.core.state.trading is TradingState.TRADING
    stage.close(LAST + 4, "70")
    stage.close(LAST + 5, "70")  # seen twice: it is so, and the breaker acts
    assert stage.core.risk.state.drawdown > 0.5
    assert stage.core.state.trading is TradingState.HALTED


def test_d20_a_difference_no_fill_explains_lets_exits_go_and_nothing_else() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.SELL})
    stage.open_long()
    stage.core.process(Reconciled(((BTC, Decimal(30)),), ()))
    assert stage.core.state.trading is TradingState.MANAGE_ONLY
    assert "BTC venue 30 ours 40" in stage.core.state.reason
    (exit_,) = placed_in(stage.close(LAST + 1))
    assert [order.kind for order in exit_.orders] == [OrderKind.EXIT]
    stage.core.process(Reconciled(((BTC, Decimal(40)),), ()))
    assert stage.core.state.trading is TradingState.TRADING


def test_d19_while_the_account_is_unread_decisions_are_journalled_and_no_entry_goes() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.BUY})
    stage.core.process(ConcernChanged("reconcile", "not reconciled with the venue: timeout"))
    effects = stage.close(LAST)
    (decision,) = (one for one in effects if isinstance(one, Decision))
    refusing = next(gate for gate in decision.gates if not gate.ok)
    assert (decision.outcome, refusing.name) == ("none", "manage_only")
    stage.core.process(ConcernChanged("reconcile", ""))
    assert len(placed_in(stage.close(LAST + 1))) == 1


def test_d5_a_foreign_position_is_taken_over_and_protected_from_todays_mark() -> None:
    stage = Stage(adopts_positions=True)
    stage.core.ledger.mark(BTC, Decimal(110))  # the position is 10 % up: a stop under its entry would be far away
    effects = stage.core.process(Reconciled(((BTC, Decimal(-3)),), (), ((BTC, Decimal(100)),)))
    (placed,) = placed_in(effects)
    stop, target = placed.orders
    assert (stop.kind, stop.side, stop.size, stop.trigger_price) == (
        OrderKind.STOP_LOSS, Side.BUY, Decimal(3), Decimal("110.66"),
    )  # fmt: skip
    assert target.trigger_price == Decimal("108.02")
    assert stage.core.ledger.position(BTC).entry == 100
    assert any(isinstance(one, RiskChanged) and one.guard == "adopted" for one in effects)
    assert stage.core.state.trading is TradingState.TRADING


def test_d5_a_foreign_position_in_another_coin_is_told_to_be_unmanaged() -> None:
    stage = Stage(adopts_positions=True)
    stage.core.process(Reconciled(((Coin("DOGE"), Decimal(5)),), (), ((Coin("DOGE"), Decimal(1)),)))
    assert "DOGE venue 5 ours 0 (unmanaged: not traded here)" in stage.core.state.reason


def test_foreign_orders_are_told_once_and_left_alone() -> None:
    stage = Stage()
    foreign = RestingOrder(BTC, 77, None, Side.BUY, Decimal(1), Decimal(90), None, reduce_only=False, is_stop=False)
    first = stage.core.process(Reconciled((), (foreign,)))
    assert [one.reason for one in first if isinstance(one, RiskChanged)] == ["1 orders at the venue are not ours"]
    assert stage.core.process(Reconciled((), (foreign,))) == []


def test_a_client_id_that_was_not_given_here_is_another_programs_where_it_comes_while_we_run() -> None:
    """Not one that rested at the start, nor a person's order, which has none; and it is told once."""
    stage = Stage()

    def resting(oid: int, cloid: str | None) -> RestingOrder:
        known = None if cloid is None else Cloid(cloid)
        return RestingOrder(BTC, oid, known, Side.SELL, Decimal(1), Decimal(90), None, reduce_only=True, is_stop=True)

    def told(*orders: RestingOrder) -> list[str]:
        found = stage.core.process(Reconciled((), orders))
        return [one.reason for one in found if isinstance(one, RiskChanged) and one.state == "tripped"]

    before, by_hand, theirs = resting(1, "0xa"), resting(2, None), resting(3, "0xb")
    assert told(before) == []
    assert told(before, by_hand) == []
    assert told(before, theirs) == ["BTC: order 3 has a client id that was not given here (0xb)"]
    assert told(theirs, resting(4, "0xc")) == []


def test_what_an_account_did_before_is_not_ours_and_money_is_no_return() -> None:
    stage = Stage()
    core = stage.core
    core.process(BooksOpened(Decimal(500), core.state.now_ms + 1000))
    old = Fill(BTC, Side.BUY, Decimal(100), Decimal(1), Decimal(1), core.state.now_ms - 1, 9, 9, None, is_taker=True)
    assert core.process(FillReceived(old)) == []
    balance, peak = core.ledger.balance, core.risk.state.peak
    core.process(MoneyReceived(Decimal(-200), core.state.now_ms + 5, "withdraw-1"))
    assert core.ledger.balance == balance - 200
    assert core.risk.state.peak == peak - 200
    assert core.process(MoneyReceived(Decimal(-200), core.state.now_ms, "withdraw-1")) == []


def test_a_pause_or_halt_is_not_lifted_by_a_concern_that_ends() -> None:
    stage = Stage()
    stage.core.set_state(TradingState.PAUSED, "by hand", 0)
    stage.core.process(ConcernChanged("equity", "equity unknown"))
    stage.core.process(ConcernChanged("equity", ""))
    assert stage.core.state.trading is TradingState.PAUSED
    stage.core.process(Tick(stage.core.state.now_ms, 1.0))
