"""Why the simulated venue does not take an order: the venue's status word and its text, or None where it does.

`shape_problem` needs the order and the instrument alone, `child_problem` its parent too; `market_problem` asks the
present prices and the account. Texts end with ` asset=N` as on the live venue; that suffix is added by the caller.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeAlias

from aml100.domain.orders import Order, OrderStatus, Side, TimeInForce
from aml100.domain.units import MIN_NOTIONAL_USD
from aml100.sim.accounts import Account, OrderTags
from aml100.sim.books import Books

Problem: TypeAlias = tuple[str, str] | None

MAX_AWAY: Final = Decimal("0.8")
OPEN_ORDERS: Final = 1000
OPEN_ORDERS_MOST: Final = 5000
VOLUME_AN_ORDER_USD: Final = 5_000_000

REDUCES: Final = "Reduce only order would increase position."
UNEXPECTED: Final = "Unexpected number of trigger orders"
NO_MATCH: Final = "Order could not immediately match against any resting orders."


def shape_problem(books: Books, account: Account, order: Order, tags: OrderTags) -> Problem:
    """What is wrong with the order by itself."""
    instrument = books.instruments[order.coin]
    if not order.size.is_finite() or order.size < 0 or (order.size == 0 and not tags.whole):
        return "rejected", "Order has zero size."
    if order.size != instrument.round_size(order.size):
        return "rejected", "Order has invalid size."
    for price in (order.price, order.trigger_price):
        if price is None:
            continue
        if not price.is_finite() or price <= 0:
            return "rejected", "Order has invalid price."
        if price != instrument.round_price(price):
            return "tickRejected", "Price must be divisible by tick size."
    known = account.cloids.get(order.cloid) if order.cloid else None
    if known is not None and books.orders[known].status is not OrderStatus.REJECTED:
        return "rejected", "Order has a duplicate cloid."
    return None


def child_problem(books: Books, account: Account, parent: Order, child: Order, tags: OrderTags) -> Problem:
    """What is wrong with an order as protection of its parent."""
    if child.coin != parent.coin or not child.is_trigger:
        return "rejected", UNEXPECTED
    if not child.reduce_only or child.side is parent.side:
        return "reduceOnlyRejected", REDUCES
    return shape_problem(books, account, child, tags)


def on_position_problem(books: Books, account: Account, order: Order) -> Problem:
    """What is wrong with an order as protection of the position there is."""
    if not order.is_trigger:
        return "rejected", UNEXPECTED
    if not order.reduce_only or books.capped(account, order, Decimal(1)) == 0:
        return "reduceOnlyRejected", REDUCES
    return None


def market_problem(books: Books, account: Account, order: Order) -> Problem:
    """What the present market and the account have against the order."""
    price = books.prices.get(order.coin)
    if price is None:
        return "marketOrderNoLiquidityRejected", "No liquidity available for market order."
    if abs(order.price - price) > MAX_AWAY * price:
        return "rejected", "Order price cannot be more than 80% away from the reference price"
    if len(account.open_oids) >= OPEN_ORDERS and _is_one_too_many(account, order):
        return "tooManyOpenOrdersRejected", "Too many open orders."
    marketable = not order.is_trigger and books.is_marketable(order)
    basis = max(order.price, price) if order.tif is TimeInForce.IOC or marketable else order.price
    if not order.reduce_only and basis * order.size < MIN_NOTIONAL_USD:
        return "minTradeNtlRejected", "Order must have minimum value of $10."
    if order.trigger_price is not None:
        if order.trigger_price >= price if order.fires_below else order.trigger_price <= price:
            return "badTriggerPxRejected", "Invalid TP/SL price."
        return None
    if order.reduce_only and books.capped(account, order, order.size) == 0:
        return "reduceOnlyRejected", REDUCES
    if order.tif is TimeInForce.ALO:
        bid, ask = books.touch(order.coin)
        best = books.best_offer(order.coin, order.side)
        bid, ask = (bid, min(ask, best)) if order.side is Side.BUY else (max(bid, best), ask)
        if order.price >= ask if order.side is Side.BUY else order.price <= bid:
            text = f"Post only order would have immediately matched, bbo was {bid}@{ask}."
            return "badAloPxRejected", text
    if order.tif is TimeInForce.IOC and not marketable:
        return "iocCancelRejected", NO_MATCH
    if books.rules.check_margin and not order.reduce_only and not books.affords(account, order, price):
        return "perpMarginRejected", "Insufficient margin to place order."
    return None


def _is_one_too_many(account: Account, order: Order) -> bool:
    allowed = min(OPEN_ORDERS + int(account.volume / VOLUME_AN_ORDER_USD), OPEN_ORDERS_MOST)
    return order.reduce_only or order.is_trigger or len(account.open_oids) >= allowed
