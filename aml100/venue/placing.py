"""From our orders to the venue's words, and what its answers make of them.

An order becomes the mapping that is hashed and sent, keys in the order that the venue expects. What could never be
meant, such as a price that is no number or a size of zero, stops here (GUARANTEES D8, D9). An answer is read element by
element, for `ok` says only that the request was understood; what it does not mention is unknown, not refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from typing import Final

from aml100.domain.errors import InvariantBroken, ProtocolViolation
from aml100.domain.events import Grouping, OrderChanged
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, decimal_text
from aml100.venue import wire
from aml100.venue.signing import Json
from aml100.venue.words import number, order_status, status_reason


class MarginMode(Enum):
    """Margin shared by all positions, or kept apart for each."""

    CROSS = "cross"
    ISOLATED = "isolated"


_CLOID: Final = re.compile(r"0x[0-9a-f]{32}")


def require_meant(order: Order) -> None:
    """InvariantBroken unless every number of an order is finite and above zero."""
    for what, value in (("price", order.price), ("size", order.size), ("trigger price", order.trigger_price)):
        if value is not None and (not value.is_finite() or value <= 0):
            name = f"order {order.cloid} of {order.coin}: {what}"
            raise InvariantBroken(f"{name} must be finite and above zero, not {value}; nothing was sent")


def number_to_wire(value: Decimal, what: str) -> str:
    """Plain digits of a price or size; InvariantBroken unless it is finite, above zero and has at most 8 decimals.

    >>> number_to_wire(Decimal("65000.50"), "price")
    '65000.5'
    """
    if not value.is_finite() or value <= 0:
        raise InvariantBroken(f"{what} must be finite and above zero, not {value}; nothing was sent")
    text = decimal_text(value)
    if len(text.partition(".")[2]) > 8:
        raise InvariantBroken(f"{what} has more than 8 decimals: {text}; nothing was sent")
    return text


def order_to_wire(order: Order, asset_id: int) -> dict[str, Json]:
    """An order in the venue's words, keys in the order that is hashed.

    Raises:
        InvariantBroken: a number in it cannot be meant, its client id is malformed, or it says neither how long it
            lives nor what triggers it.
    """
    name = f"order {order.cloid} of {order.coin}"
    if _CLOID.fullmatch(order.cloid) is None:
        raise InvariantBroken(f"{name}: a client id is 0x and 32 lower-case hex digits; nothing was sent")
    price, size = number_to_wire(order.price, f"{name}: price"), number_to_wire(order.size, f"{name}: size")
    return {
        "a": asset_id,
        "b": order.side is Side.BUY,
        "p": price,
        "s": size,
        "r": order.reduce_only,
        "t": _order_type(order, name),
        "c": order.cloid,
    }


def _order_type(order: Order, name: str) -> dict[str, Json]:
    if order.trigger_price is not None:
        if order.kind not in (OrderKind.STOP_LOSS, OrderKind.TAKE_PROFIT) or not order.reduce_only:
            raise InvariantBroken(f"{name}: only a reduce-only stop or target has a trigger; nothing was sent")
        trigger: dict[str, Json] = {
            "isMarket": True,
            "triggerPx": number_to_wire(order.trigger_price, f"{name}: trigger price"),
            "tpsl": "sl" if order.kind is OrderKind.STOP_LOSS else "tp",
        }
        return {"trigger": trigger}
    if order.tif is None:
        raise InvariantBroken(f"{name}: has neither a time in force nor a trigger; nothing was sent")
    return {"limit": {"tif": order.tif.value}}


def order_action(wires: Sequence[dict[str, Json]], grouping: Grouping) -> dict[str, Json]:
    return {"type": "order", "orders": list(wires), "grouping": grouping.value}


def cancel_by_cloid_action(cancels: Sequence[tuple[int, Cloid]]) -> dict[str, Json]:
    """`cancels` are (asset id, client id)."""
    return {"type": "cancelByCloid", "cancels": [{"asset": asset, "cloid": cloid} for asset, cloid in cancels]}


def cancel_action(cancels: Sequence[tuple[int, int]]) -> dict[str, Json]:
    """`cancels` are (asset id, the venue's order id)."""
    return {"type": "cancel", "cancels": [{"a": asset, "o": oid} for asset, oid in cancels]}


def leverage_action(asset_id: int, leverage: int, mode: MarginMode) -> dict[str, Json]:
    return {"type": "updateLeverage", "asset": asset_id, "isCross": mode is MarginMode.CROSS, "leverage": leverage}


def noop_action() -> dict[str, Json]:
    """Does nothing but use up its nonce: whether the venue knows the signer shows all the same."""
    return {"type": "noop"}


def place_results(orders: Sequence[Order], answer: wire.ExchangeAnswer) -> list[OrderChanged]:
    """What became of each order of one request.

    A refusal of the whole request, also one told by a single error for several orders, rejects all. An order the
    answer does not mention is unknown and has to be asked for.
    """
    if isinstance(answer.response, str):
        text = answer.response or "refused"
        return [OrderChanged(order.cloid, OrderStatus.REJECTED, None, text) for order in orders]
    statuses = answer.response.data.statuses if answer.response.data is not None else []
    if len(statuses) == 1 and len(orders) > 1:
        only = statuses[0]
        if isinstance(only, wire.ElementStatus) and only.error is not None:
            return [OrderChanged(order.cloid, OrderStatus.REJECTED, None, only.error) for order in orders]
    results = [_place_result(order, status) for order, status in zip(orders, statuses, strict=False)]
    for order in orders[len(results) :]:
        results.append(OrderChanged(order.cloid, OrderStatus.UNKNOWN, None, "not mentioned in the venue's answer"))
    return results


def _place_result(order: Order, status: wire.ElementStatus | str) -> OrderChanged:
    if isinstance(status, str):
        return OrderChanged(order.cloid, order_status(status), None, status_reason(status))
    if status.error is not None:
        return OrderChanged(order.cloid, OrderStatus.REJECTED, None, status.error)
    if status.resting is not None:
        return OrderChanged(order.cloid, OrderStatus.RESTING, status.resting.oid)
    if status.filled is not None:
        return _filled_result(order, status.filled)
    return OrderChanged(order.cloid, OrderStatus.UNKNOWN, None, "the venue's answer says nothing about it")


def _filled_result(order: Order, filled: wire.FilledStatus) -> OrderChanged:
    """Filled at once, perhaps in part: the rest of an Ioc is gone, that of a Gtc rests."""
    try:
        total = number(filled.totalSz, "filled.totalSz")
    except ProtocolViolation as problem:
        return OrderChanged(order.cloid, OrderStatus.UNKNOWN, filled.oid, str(problem))
    if total >= order.size:
        return OrderChanged(order.cloid, OrderStatus.FILLED, filled.oid)
    part = f"filled {decimal_text(total)} of {decimal_text(order.size)}"
    if order.tif is TimeInForce.GTC and not order.reduce_only:
        return OrderChanged(order.cloid, OrderStatus.RESTING, filled.oid, part)
    return OrderChanged(order.cloid, OrderStatus.FILLED, filled.oid, part)


def cancel_results(count: int, answer: wire.ExchangeAnswer) -> list[str | None]:
    """For each of `count` cancels None where it succeeded, else the venue's text."""
    if isinstance(answer.response, str):
        return [answer.response or "refused"] * count
    statuses = answer.response.data.statuses if answer.response.data is not None else []
    results: list[str | None] = []
    for status in statuses[:count]:
        if isinstance(status, str):
            results.append(None if status == "success" else status)
        else:
            results.append(status.error or "the venue's answer says nothing about it")
    if len(results) == 1 and results[0] is not None:
        return results * count
    return results + ["not mentioned in the venue's answer"] * (count - len(results))


def refusal_of(answer: wire.ExchangeAnswer) -> str | None:
    """The venue's text where it refused a request that is not about orders."""
    return (answer.response or "refused") if isinstance(answer.response, str) else None
