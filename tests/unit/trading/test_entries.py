"""Entries that rest: how long, what takes them away, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from aml100.domain.events import (
    CancelOrders,
    Command,
    CommandName,
    ConcernChanged,
    Decision,
    Effect,
    RiskChanged,
    SeriesEnd,
)
from aml100.domain.market import BookTop
from aml100.domain.orders import Action, Order, OrderKind, OrderStatus, TimeInForce
from tests.harness import BTC, QUIET_BARS
from tests.unit.trading.stage import Stage, placed_in

LAST = QUIET_BARS - 1


def cancels(effects: list[Effect]) -> list[str]:
    return [cloid for one in effects if isinstance(one, CancelOrders) for _, cloid in one.orders]


def resting(
    style: str = "maker_then_taker", bars: int = 2, later: Mapping[int, Action] | None = None
) -> tuple[Stage, Order]:
    """A stage on which a maker entry, decided on the last quiet bar, rests."""
    stage = Stage({LAST: Action.BUY, **(later or {})}, entry_style=style, maker_timeout_bars=bars)
    (placed,) = placed_in(stage.close(LAST))
    entry = placed.orders[0]
    assert (entry.kind, entry.tif) == (OrderKind.ENTRY, TimeInForce.ALO)
    stage.answer(entry.cloid, OrderStatus.RESTING)
    return stage, entry


def test_after_its_time_it_is_cancelled_and_only_then_what_is_left_is_taken() -> None:
    stage, entry = resting()
    stage.fill(entry, "10", taker=False)
    assert cancels(stage.close(LAST + 1)) == []
    effects = stage.close(LAST + 2)
    assert entry.cloid in cancels(effects)
    assert placed_in(effects) == []
    after = stage.answer(entry.cloid, OrderStatus.CANCELED, "canceled")
    (placed,) = placed_in(after)
    (rest,) = placed.orders  # its stop follows the fill, for there is one already
    assert (rest.kind, rest.tif, rest.size) == (OrderKind.ENTRY, TimeInForce.IOC, Decimal(30))
    assert any(isinstance(one, RiskChanged) and "after 2 bars" in one.reason for one in after)


def test_a_plain_maker_entry_just_goes() -> None:
    stage, entry = resting("maker", 1)
    assert cancels(stage.close(LAST + 1)) == [entry.cloid]
    assert placed_in(stage.answer(entry.cloid, OrderStatus.CANCELED, "canceled")) == []


def test_a_post_only_refusal_counts_as_timed_out_and_not_as_a_reject() -> None:
    stage = Stage({LAST: Action.BUY}, entry_style="maker_then_taker")
    (placed,) = placed_in(stage.close(LAST))
    refused = "Post only order would have immediately matched, bbo was 99@100. asset=0"
    (taken,) = placed_in(stage.answer(placed.orders[0].cloid, OrderStatus.REJECTED, refused))
    assert [order.kind for order in taken.orders] == [OrderKind.ENTRY, OrderKind.STOP_LOSS, OrderKind.TAKE_PROFIT]
    assert stage.core.risk.state.rejects_in_row == 0


def test_the_same_signal_waits_and_the_opposite_one_takes_it_away() -> None:
    stage, entry = resting(bars=9, later={LAST + 1: Action.BUY, LAST + 2: Action.SELL})
    effects = stage.close(LAST + 1)
    (decision,) = (one for one in effects if isinstance(one, Decision))
    assert (decision.outcome, decision.gates[-1].name) == ("none", "entry_resting")
    effects = stage.close(LAST + 2)
    assert cancels(effects) == [entry.cloid]
    assert placed_in(effects) == []
    assert placed_in(stage.answer(entry.cloid, OrderStatus.CANCELED, "canceled")) == []


@pytest.mark.parametrize("cause", ["pause", "halt", "flatten", "concern", "end"])
def test_what_ends_entries_takes_a_resting_one_away_for_good(cause: str) -> None:
    stage, entry = resting(bars=9)
    now_ms = stage.core.state.now_ms
    match cause:
        case "concern":
            effects = stage.core.process(ConcernChanged("equity", "equity unknown"))
        case "end":
            effects = stage.close(LAST + 1, ending=((BTC, SeriesEnd.GAP),))
        case _:
            effects = stage.core.process(Command(CommandName(cause), "test", now_ms))
    assert entry.cloid in cancels(effects)
    assert placed_in(stage.answer(entry.cloid, OrderStatus.CANCELED, "canceled")) == []


def test_a_stop_that_closes_a_part_takes_the_rest_of_the_entry_away() -> None:
    stage, entry = resting(bars=9)
    effects = stage.fill(entry, "10", taker=False)
    for one in placed_in(effects):
        for order in one.orders:
            stage.answer(order.cloid, OrderStatus.RESTING)
    stop = stage.core.blotter.get(stage.core.coin(BTC).stop_cloid)
    assert stop is not None
    assert entry.cloid in cancels(stage.fill(stop.order, "10", "99.4"))


def test_on_a_live_market_it_joins_the_touch() -> None:
    stage = Stage({LAST: Action.SELL}, entry_style="maker", is_live=True)
    stage.core.process(BookTop(BTC, 0, Decimal("99.9"), Decimal("100.2")))
    (placed,) = placed_in(stage.close(LAST))
    assert placed.orders[0].price == Decimal("100.2")


def test_a_bar_that_is_learnt_late_is_decided_and_sends_nothing() -> None:
    stage = Stage({LAST: Action.BUY})
    effects = stage.close(LAST, is_late=True)
    (decision,) = (one for one in effects if isinstance(one, Decision))
    assert (decision.action, decision.outcome, decision.gates[0].name) == (Action.BUY, "none", "late")
    assert placed_in(effects) == []
