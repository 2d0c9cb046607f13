"""The stop: seen resting, placed again, resized, and the target beside it (GUARANTEES B1, D4, D6, D8)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aml100.domain.events import AskOrders, CancelOrders, Effect, PositionChanged, RiskChanged, Tick
from aml100.domain.orders import Action, OrderKind, OrderStatus, TimeInForce
from aml100.domain.units import ZERO
from tests.harness import BTC, QUIET_BARS
from tests.unit.trading.stage import Stage, placed_in

LAST = QUIET_BARS - 1


def tick(stage: Stage, wall_s: float) -> list[Effect]:
    return stage.core.process(Tick(stage.core.state.now_ms, wall_s))


@pytest.mark.parametrize("stops", [{}, {"stop_loss": ZERO, "atr_stop": 2.0}], ids=["fixed", "by ATR"])
def test_b1_a_stop_nobody_saw_is_asked_for_then_placed_again_then_the_position_goes(stops: dict[str, object]) -> None:
    stage = Stage({LAST: Action.BUY}, **stops)
    (placed,) = placed_in(stage.close(LAST, high="101", low="99"))
    stage.fill(placed.orders[0], "40")
    tick(stage, 100.0)
    (asked,) = (one for one in tick(stage, 101.6) if isinstance(one, AskOrders))
    assert asked.cloids == (stage.core.coin(BTC).stop_cloid,)
    again = tick(stage, 103.1)
    (placing,) = placed_in(again)
    assert [order.kind for order in placing.orders] == [OrderKind.STOP_LOSS]
    assert any(isinstance(one, RiskChanged) and "placing again" in one.reason for one in again)
    closing = tick(stage, 107.6)
    assert [order.kind for one in placed_in(closing) for order in one.orders] == [OrderKind.EXIT]
    assert any(isinstance(one, RiskChanged) and "closing" in one.reason for one in closing)


def test_b1_d4_a_stop_counts_only_when_it_is_seen_resting() -> None:
    stage = Stage({LAST: Action.BUY})
    (placed,) = placed_in(stage.close(LAST))
    effects = stage.fill(placed.orders[0], "40")
    shown = [one for one in effects if isinstance(one, PositionChanged)][-1]
    assert (shown.protected, shown.stop_oid) == (False, None)
    cloid = stage.core.coin(BTC).stop_cloid
    assert cloid is not None
    stage.answer(cloid, OrderStatus.RESTING, oid=7)
    resting = stage.core.protection.resting_stop(BTC)
    assert resting is not None
    assert resting.oid == 7


def test_b1_a_lost_stop_is_placed_again_at_once_and_the_third_loss_closes() -> None:
    stage = Stage({LAST: Action.BUY})
    stop, _ = stage.open_long()
    for _ in range(2):
        effects = stage.answer(stop.cloid, OrderStatus.CANCELED, "the venue does not know it any more")
        (placed,) = placed_in(effects)
        (stop,) = placed.orders
        assert stop.kind is OrderKind.STOP_LOSS
    assert placed_in(stage.answer(stop.cloid, OrderStatus.REJECTED, "Insufficient margin")) == []
    (placed,) = placed_in(tick(stage, 1.0))
    assert [order.kind for order in placed.orders] == [OrderKind.EXIT]


def test_d6_a_partial_fill_resizes_stop_and_target_new_before_old() -> None:
    stage = Stage({LAST: Action.BUY}, entry_style="maker", maker_timeout_bars=5)
    (placed,) = placed_in(stage.close(LAST))
    entry = placed.orders[0]
    assert entry.tif is TimeInForce.ALO
    stage.answer(entry.cloid, OrderStatus.RESTING)
    for size, whole in (("10", 10), ("15", 25)):
        effects = stage.fill(entry, size, taker=False)
        (placing,) = placed_in(effects)
        assert [order.size for order in placing.orders] == [Decimal(whole)] * 2
        assert not any(isinstance(one, CancelOrders) for one in effects)  # the old ones rest until the new are seen
        for order in placing.orders:
            stage.answer(order.cloid, OrderStatus.RESTING)
    known, blotter = stage.core.coin(BTC), stage.core.blotter
    stop, target = blotter.get(known.stop_cloid), blotter.get(known.target_cloid)
    assert stop is not None
    assert target is not None
    assert (stop.status, target.status) == (OrderStatus.RESTING, OrderStatus.RESTING)
    assert stop.order.size == target.order.size == 25


def test_an_exit_that_is_refused_is_tried_again_less_and_less_often() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.SELL})
    stage.open_long()
    (placed,) = placed_in(stage.close(LAST + 1))
    exit_ = placed.orders[0]
    tick(stage, 10.0)
    stage.answer(exit_.cloid, OrderStatus.REJECTED, "Order could not immediately match against any resting orders.")
    assert placed_in(tick(stage, 10.1)) == []
    (placed,) = placed_in(tick(stage, 10.3))
    stage.answer(placed.orders[0].cloid, OrderStatus.REJECTED, "No liquidity available for market order.")
    assert placed_in(tick(stage, 10.6)) == []
    assert len(placed_in(tick(stage, 10.9))) == 1


def test_d8_what_is_too_small_to_close_is_dust_and_no_loop() -> None:
    stage = Stage({LAST: Action.BUY, LAST + 1: Action.SELL})
    stage.open_long()
    (placed,) = placed_in(stage.close(LAST + 1))
    effects = stage.answer(placed.orders[0].cloid, OrderStatus.REJECTED, "Order must have minimum value of $10.")
    assert any(isinstance(one, RiskChanged) and one.guard == "dust" for one in effects)
    for second in range(1, 100):
        assert placed_in(tick(stage, float(second))) == []
