"""The life of our orders by client id."""

from __future__ import annotations

from decimal import Decimal

from aml100.domain.events import OrderChanged
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side
from aml100.domain.units import Cloid, Coin
from aml100.trading.blotter import Blotter, OrderBook


def order(cloid: Cloid) -> Order:
    return Order(cloid, Coin("BTC"), Side.BUY, OrderKind.ENTRY, Decimal(1), Decimal(100), False)


def test_client_ids_never_repeat_and_follow_from_the_salt_alone() -> None:
    one, again, other = Blotter(OrderBook("a")), Blotter(OrderBook("a")), Blotter(OrderBook("b"))
    ids = [one.next_cloid() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids[:3] == [again.next_cloid() for _ in range(3)]
    assert other.next_cloid() not in ids
    assert all(len(cloid) == 34 and cloid.startswith("0x") for cloid in ids)


def test_d1_unknown_outcome_stays_unknown_until_the_venue_answers() -> None:
    blotter = Blotter(OrderBook("a"))
    cloid = blotter.next_cloid()
    blotter.add(order(cloid))
    blotter.apply(OrderChanged(cloid, OrderStatus.UNKNOWN, None, "timeout"), 1)
    tracked = blotter.get(cloid)
    assert tracked is not None
    assert tracked.is_in_flight
    assert blotter.unsettled() == (cloid,)
    blotter.apply(OrderChanged(cloid, OrderStatus.FILLED, 7), 2)
    assert tracked.is_done
    assert blotter.unsettled() == ()


def test_old_messages_after_the_end_change_nothing() -> None:
    blotter = Blotter(OrderBook("a"))
    cloid = blotter.next_cloid()
    blotter.add(order(cloid))
    assert blotter.apply(OrderChanged(cloid, OrderStatus.FILLED, 7), 1) is not None
    assert blotter.apply(OrderChanged(cloid, OrderStatus.RESTING, 7), 2) is None
    tracked = blotter.get(cloid)
    assert tracked is not None
    assert tracked.status is OrderStatus.FILLED


def test_finished_orders_are_forgotten_only_after_many_more() -> None:
    blotter = Blotter(OrderBook("a"))
    ids = [blotter.next_cloid() for _ in range(100)]
    for cloid in ids:
        blotter.add(order(cloid))
        blotter.apply(OrderChanged(cloid, OrderStatus.CANCELED), 1)
    assert blotter.get(ids[-1]) is not None
    assert blotter.get(ids[0]) is None
    assert len(blotter.book.orders) < 50
