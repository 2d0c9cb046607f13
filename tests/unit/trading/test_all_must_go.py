"""Halt, flatten and breaker against what is on its way; and whose pause ends when."""

from __future__ import annotations

import pytest

from aml100.domain.events import (
    BarsClosed,
    Command,
    CommandName,
    ConcernChanged,
    Decision,
    RiskChanged,
    Tick,
    TradingState,
)
from aml100.domain.orders import Action, OrderKind, OrderStatus
from aml100.domain.units import Coin
from tests.harness import BTC, QUIET_BARS
from tests.unit.trading.stage import Stage, bar, placed_in

LAST = QUIET_BARS - 1


def tell(stage: Stage, name: CommandName, by: str = "somebody", *coins: Coin) -> list[OrderKind]:
    effects = stage.core.process(Command(name, by, stage.core.state.now_ms, coins))
    return kinds_in(effects)


def kinds_in(effects: object) -> list[OrderKind]:
    return [order.kind for placed in placed_in(effects) for order in placed.orders]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [CommandName.HALT, CommandName.FLATTEN])
@pytest.mark.parametrize("answered", [False, True])
def test_b11_an_entry_that_fills_after_the_word_is_closed_at_once(name: CommandName, answered: bool) -> None:
    """A halt finds nothing to close while an entry is on its way: its fill must not stay as a position."""
    stage = Stage({LAST: Action.BUY})
    (placed,) = placed_in(stage.close(LAST))
    entry = placed.orders[0]
    if answered:  # said to be filled, and the fill itself has not come
        stage.answer(entry.cloid, OrderStatus.FILLED)
    assert OrderKind.EXIT not in tell(stage, name)
    effects = stage.fill(entry, "15")
    (exit_,) = (one for each in placed_in(effects) for one in each.orders if one.kind is OrderKind.EXIT)
    assert (exit_.size, exit_.reduce_only) == (15, True)
    stage.fill(exit_, "15")
    stage.answer(exit_.cloid, OrderStatus.FILLED)
    assert OrderKind.EXIT in kinds_in(stage.fill(entry, "25"))  # and so must what comes after that


def test_a_new_entry_after_a_flatten_stays() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 2: Action.BUY})
    (placed,) = placed_in(stage.close(LAST))
    tell(stage, CommandName.FLATTEN)
    for order in placed.orders:
        stage.answer(order.cloid, OrderStatus.REJECTED, "no match")
    stage.close(LAST + 1)
    (again,) = placed_in(stage.close(LAST + 2))
    assert OrderKind.EXIT not in kinds_in(stage.fill(again.orders[0], "40"))
    assert stage.core.ledger.position(BTC).size == 40
    assert stage.core.exits.all_gone()  # it is not what was to go: a flatten that looks only now is not told otherwise


def test_a_flatten_of_another_coin_closes_nothing_here() -> None:
    stage = Stage({LAST: Action.BUY})
    stage.open_long()
    assert tell(stage, CommandName.FLATTEN, "somebody", Coin("ETH")) == []
    assert stage.core.coin(BTC).closing == ""
    assert tell(stage, CommandName.FLATTEN, "somebody", BTC) == [OrderKind.EXIT]


def test_once_the_engine_leaves_nothing_is_opened_and_what_is_held_may_go() -> None:
    """A bar that closes while it waits for its exits must not undo them."""
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.BUY, LAST + 2: Action.SELL})
    (placed,) = placed_in(stage.close(LAST))
    for order in placed.orders:
        stage.answer(order.cloid, OrderStatus.REJECTED, "no match")
    tell(stage, CommandName.STOP)
    effects = stage.close(LAST + 1)
    assert placed_in(effects) == []
    assert gates_of(effects)["leaving"] == "the engine ends"
    stage.fill(placed.orders[0], "40")
    assert kinds_in(stage.close(LAST + 2)) == [OrderKind.EXIT]


def test_an_entry_whose_fills_have_not_come_is_not_sent_again() -> None:
    """The venue calls it filled and the books are flat still: another one would double the position."""
    buys = {LAST: Action.BUY, LAST + 1: Action.BUY, LAST + 2: Action.BUY, LAST + 11: Action.BUY}
    stage = Stage(buys)
    (placed,) = placed_in(stage.close(LAST))
    for order in placed.orders:
        status = OrderStatus.FILLED if order.kind is OrderKind.ENTRY else OrderStatus.CANCELED
        stage.answer(order.cloid, status)
    for row in (LAST + 1, LAST + 2):
        effects = stage.close(row)
        assert placed_in(effects) == []
        assert gates_of(effects)["in_flight"] == "an entry was filled and its fills have not come yet"
    for row in range(LAST + 3, LAST + 11):
        stage.close(row)
    assert placed_in(stage.close(LAST + 11)) != []  # they will not come any more: the books are what counts


def gates_of(effects: object) -> dict[str, str]:
    (decision,) = (one for one in effects if isinstance(one, Decision))  # type: ignore[attr-defined]
    return {gate.name: gate.reason for gate in decision.gates if not gate.ok}


# --- pauses ---------------------------------------------------------------------------------------------------


def tripped(*, paused_first: bool) -> Stage:
    """The breaker has tripped on a loss, and is over its pause at `later`."""
    stage = Stage({LAST: Action.BUY}, guarded=True)
    stage.open_long("250")
    if paused_first:
        tell(stage, CommandName.PAUSE)
    effects = stage.close(LAST + 1, "98.5")
    assert OrderKind.EXIT in kinds_in(effects)
    (exit_,) = (one for each in placed_in(effects) for one in each.orders if one.kind is OrderKind.EXIT)
    stage.fill(exit_, "250", "98.5")
    assert stage.core.state.trading is TradingState.PAUSED
    return stage


def later(stage: Stage) -> None:
    row = LAST + 3 + 1440
    one = bar(row, "98.5")
    stage.core.process(BarsClosed(one.end_ms, (one,)))


@pytest.mark.parametrize("paused_first", [False, True])
def test_the_breaker_does_not_end_a_pause_of_somebody_else(paused_first: bool) -> None:
    stage = tripped(paused_first=paused_first)
    if not paused_first:
        tell(stage, CommandName.PAUSE)
    later(stage)
    assert (stage.core.state.trading, stage.core.state.reason) == (TradingState.PAUSED, "entries paused by somebody")
    assert stage.core.risk.state.breaker_until_ms == 0
    tell(stage, CommandName.RESUME)
    assert stage.core.state.trading is TradingState.TRADING


def test_a_resume_tells_that_the_breaker_is_over() -> None:
    """As the end of its own pause does: who follows the guards by their events would see it tripped for good."""
    stage = tripped(paused_first=False)
    effects = stage.core.process(Command(CommandName.RESUME, "cli:ann", stage.core.state.now_ms))
    told = [(one.guard, one.state) for one in effects if isinstance(one, RiskChanged)]
    assert told == [("circuit_breaker", "ok")]


def test_d20_the_breakers_pause_ends_in_what_is_in_doubt() -> None:
    stage = tripped(paused_first=False)
    stage.core.process(ConcernChanged("reconcile", "positions differ: BTC venue 1 ours 0"))
    later(stage)
    assert stage.core.state.trading is TradingState.MANAGE_ONLY
    stage.core.process(Tick(stage.core.state.now_ms, 1.0))
    stage.core.process(ConcernChanged("reconcile", ""))
    assert stage.core.state.trading is TradingState.TRADING
