"""Orders on their way out, and what the venue's answers make of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aml100.domain.errors import InvariantBroken
from aml100.domain.events import Grouping
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.venue import placing, wire
from aml100.venue.placing import MarginMode

CLOID = Cloid("0xa3100000000000000000000000000001")
ENTRY = Order(
    CLOID, Coin("BTC"), Side.BUY, OrderKind.ENTRY, Decimal("0.0100"), Decimal("65000.0"), False, TimeInForce.IOC
)
STOP = replace(
    ENTRY, side=Side.SELL, kind=OrderKind.STOP_LOSS, reduce_only=True, tif=None, trigger_price=Decimal("64000")
)


def test_keys_stand_in_the_order_that_is_hashed() -> None:
    sent = placing.order_to_wire(ENTRY, 0)
    assert list(sent) == ["a", "b", "p", "s", "r", "t", "c"]
    assert sent == {
        "a": 0, "b": True, "p": "65000", "s": "0.01", "r": False, "t": {"limit": {"tif": "Ioc"}}, "c": CLOID
    }  # fmt: skip
    action = placing.order_action([sent], Grouping.NORMAL_TPSL)
    assert list(action) == ["type", "orders", "grouping"]
    assert action["grouping"] == "normalTpsl"


@pytest.mark.parametrize(("kind", "word"), [(OrderKind.STOP_LOSS, "sl"), (OrderKind.TAKE_PROFIT, "tp")])
def test_triggers_execute_at_market(kind: OrderKind, word: str) -> None:
    sent = placing.order_to_wire(replace(STOP, kind=kind), 3)
    trigger = sent["t"]["trigger"]  # type: ignore[index, call-overload]
    assert list(trigger.items()) == [("isMarket", True), ("triggerPx", "64000"), ("tpsl", word)]  # type: ignore[union-attr]
    assert sent["r"] is True


@pytest.mark.parametrize("bad", ["NaN", "-NaN", "Infinity", "-Infinity", "0", "-1", "0E-9"])
@pytest.mark.parametrize("field", ["price", "size", "trigger_price"])
def test_numbers_that_cannot_be_meant_stop_here(field: str, bad: str) -> None:
    """D8, D9."""
    order = replace(STOP, **{field: Decimal(bad)})  # type: ignore[arg-type]
    with pytest.raises(InvariantBroken, match="nothing was sent"):
        placing.order_to_wire(order, 0)
    with pytest.raises(InvariantBroken, match="nothing was sent"):
        placing.require_meant(order)


def test_more_than_eight_decimals_are_never_sent() -> None:
    with pytest.raises(InvariantBroken, match="8 decimals"):
        placing.order_to_wire(replace(ENTRY, price=Decimal("0.123456789")), 0)


@pytest.mark.parametrize(
    "order",
    [
        replace(ENTRY, tif=None),
        replace(ENTRY, cloid=Cloid("0x12")),
        replace(ENTRY, cloid=Cloid("a3" * 16)),
        replace(STOP, reduce_only=False),
        replace(STOP, kind=OrderKind.EXIT),
    ],
)
def test_orders_that_contradict_themselves_stop_here(order: Order) -> None:
    with pytest.raises(InvariantBroken):
        placing.order_to_wire(order, 0)


def ok(*statuses: wire.ElementStatus | str) -> wire.ExchangeAnswer:
    return wire.ExchangeAnswer("ok", wire.ExchangeResult("order", wire.Statuses(list(statuses))))


def refused(text: str) -> wire.ElementStatus:
    return wire.ElementStatus(error=text)


def filled(size: str) -> wire.ElementStatus:
    return wire.ElementStatus(filled=wire.FilledStatus(size, "65000.0", 7))


def test_ok_is_not_success_each_element_is_read() -> None:
    answer = ok(
        wire.ElementStatus(resting=wire.RestingStatus(5)), refused("Insufficient margin. asset=0"), "waitingForFill"
    )
    results = placing.place_results([ENTRY, ENTRY, STOP], answer)
    assert [(r.status, r.oid, r.reason) for r in results] == [
        (OrderStatus.RESTING, 5, ""),
        (OrderStatus.REJECTED, None, "Insufficient margin. asset=0"),
        (OrderStatus.WAITING, None, "waitingForFill"),
    ]


def test_a_refusal_of_the_whole_rejects_all() -> None:
    whole = placing.place_results([ENTRY, STOP], wire.ExchangeAnswer("err", "Action already expired"))
    single = placing.place_results([ENTRY, STOP], ok(refused("Order price too far from oracle")))
    assert [r.status for r in whole + single] == [OrderStatus.REJECTED] * 4
    assert {r.reason for r in whole} == {"Action already expired"}


@pytest.mark.parametrize("answer", [ok(filled("0.01")), ok(filled("0.01"), wire.ElementStatus())])
def test_what_the_answer_does_not_mention_is_unknown_not_refused(answer: wire.ExchangeAnswer) -> None:
    """D4: success only with an id; D1: unknown until asked."""
    first, second = placing.place_results([ENTRY, STOP], answer)
    assert (first.status, first.oid) == (OrderStatus.FILLED, 7)
    assert second.status is OrderStatus.UNKNOWN


def test_a_partial_fill_ends_an_ioc_and_leaves_a_gtc_resting() -> None:
    (ioc,) = placing.place_results([ENTRY], ok(filled("0.004")))
    (gtc,) = placing.place_results([replace(ENTRY, tif=TimeInForce.GTC)], ok(filled("0.004")))
    assert (ioc.status, ioc.reason) == (OrderStatus.FILLED, "filled 0.004 of 0.01")
    assert gtc.status is OrderStatus.RESTING


def test_an_unreadable_fill_is_unknown() -> None:
    (result,) = placing.place_results([ENTRY], ok(filled("NaN")))
    assert (result.status, result.oid) == (OrderStatus.UNKNOWN, 7)


def test_cancels_answer_one_by_one() -> None:
    gone = "Order was never placed, already canceled, or filled. asset=0"
    assert placing.cancel_results(2, ok("success", refused(gone))) == [None, gone]
    assert placing.cancel_results(2, wire.ExchangeAnswer("err", "no")) == ["no", "no"]
    assert placing.cancel_results(2, ok("success"))[1] is not None


def test_actions_have_the_venues_keys() -> None:
    """Shapes of the vectors cancel_one, cancel_by_cloid and update_leverage_cross."""
    assert placing.cancel_action([(0, 556696349186)]) == {"type": "cancel", "cancels": [{"a": 0, "o": 556696349186}]}
    by_cloid = placing.cancel_by_cloid_action([(0, CLOID)])
    assert by_cloid == {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": CLOID}]}
    leverage = placing.leverage_action(0, 10, MarginMode.CROSS)
    assert list(leverage.items()) == [("type", "updateLeverage"), ("asset", 0), ("isCross", True), ("leverage", 10)]
