"""The life of our orders, by client id.

Answers, stream messages and look-ups arrive in any order and more than once; `apply` takes only what is legal after
what is known (domain/orders.LEGAL_TRANSITIONS). An order whose outcome is unknown stays so until the venue is asked by
client id: it is never sent again (GUARANTEES D1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from aml100.domain.events import OrderChanged, OrderRecorded
from aml100.domain.orders import LEGAL_TRANSITIONS, Order, OrderKind, OrderStatus
from aml100.domain.units import MINUTE_MS, ZERO, Cloid, Coin

REMEMBERED_DONE = 32
"""Finished orders kept, so that a late fill or message still finds what it belongs to."""

FILLS_COME_MS = 10 * MINUTE_MS
"""For so long the fills of an order that the venue calls filled are waited for; its word may come before them."""

DONE = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})


@dataclass(slots=True)
class Tracked:
    """One order and what is known of it.

    `unwanted` says of an entry why whatever it still brings is to be closed at once.
    """

    order: Order
    status: OrderStatus = OrderStatus.CREATED
    oid: int | None = None
    reason: str = ""
    filled: Decimal = ZERO
    unwanted: str = ""

    @property
    def is_done(self) -> bool:
        return self.status in DONE

    @property
    def is_in_flight(self) -> bool:
        """Sent or about to be, and no answer known."""
        return self.status in (OrderStatus.CREATED, OrderStatus.SENT, OrderStatus.UNKNOWN)


@dataclass(slots=True)
class OrderBook:
    """All of the blotter's state; plain data. `issued` counts client ids ever made, so that none comes twice."""

    salt: str = ""
    issued: int = 0
    orders: dict[Cloid, Tracked] = field(default_factory=dict)
    done: list[Cloid] = field(default_factory=list)


class Blotter:
    """Folds order events into an `OrderBook` and hands out client ids."""

    def __init__(self, book: OrderBook) -> None:
        self.book = book

    def next_cloid(self) -> Cloid:
        """A client id never used before on this journal: a digest of its salt and a counter, no random draw."""
        self.book.issued += 1
        digest = hashlib.blake2b(f"{self.book.salt}:{self.book.issued}".encode(), digest_size=16)
        return Cloid("0x" + digest.hexdigest())

    def add(self, order: Order) -> OrderRecorded:
        """A new order, journalled before anything leaves."""
        self.book.orders[order.cloid] = Tracked(order)
        return OrderRecorded(order, OrderStatus.CREATED, None, order.reason, order.created_ms)

    def get(self, cloid: Cloid | None) -> Tracked | None:
        return None if cloid is None else self.book.orders.get(cloid)

    def apply(self, change: OrderChanged, time_ms: int) -> OrderRecorded | None:
        """Fold a change of state; None where it is not ours, old, or says nothing new."""
        tracked = self.book.orders.get(change.cloid)
        if tracked is None:
            return None
        learnt_oid = change.oid is not None and tracked.oid is None
        if change.status not in LEGAL_TRANSITIONS[tracked.status]:
            if not learnt_oid:
                return None
            tracked.oid = change.oid
        else:
            tracked.status = change.status
            tracked.oid = change.oid if change.oid is not None else tracked.oid
            tracked.reason = change.reason or tracked.reason
            if tracked.is_done:
                self._retire(change.cloid)
        reason = tracked.reason or tracked.order.reason
        return OrderRecorded(tracked.order, tracked.status, tracked.oid, reason, time_ms)

    def apply_fill_size(self, cloid: Cloid | None, size: Decimal, time_ms: int) -> OrderRecorded | None:
        """Count a fill towards its order; a record where that completes it."""
        tracked = self.get(cloid)
        if tracked is None or cloid is None:
            return None
        tracked.filled += size
        if tracked.filled >= tracked.order.size:
            return self.apply(OrderChanged(cloid, OrderStatus.FILLED), time_ms)
        return None

    def unfilled_entries(self, coins: Collection[Coin]) -> list[Tracked]:
        """Entries that may still bring a fill: also those said to be done, for a fill may come after that word."""
        known = self.book.orders.values()
        entries = [t for t in known if t.order.kind is OrderKind.ENTRY and t.order.coin in coins]
        return [t for t in entries if t.filled < t.order.size]

    def awaits_fills(self, coin: Coin, now_ms: int) -> bool:
        """An entry of this coin that the venue calls filled, lately, and whose fills have not all come yet."""
        for tracked in reversed(self.book.orders.values()):
            order = tracked.order
            if now_ms - order.created_ms >= FILLS_COME_MS:
                return False
            is_entry = order.kind is OrderKind.ENTRY and order.coin == coin
            if is_entry and tracked.status is OrderStatus.FILLED and tracked.filled < order.size:
                return True
        return False

    def live(self, coin: Coin) -> list[Tracked]:
        """Orders of a coin that are not finished, oldest first."""
        return [t for t in self.book.orders.values() if t.order.coin == coin and not t.is_done]

    def live_all(self) -> list[Tracked]:
        """Orders that are not finished, oldest first."""
        return [t for t in self.book.orders.values() if not t.is_done]

    def unsettled(self) -> tuple[Cloid, ...]:
        """Orders whose outcome must be asked for after a restart."""
        return tuple(c for c, t in self.book.orders.items() if not t.is_done)

    def _retire(self, cloid: Cloid) -> None:
        self.book.done.append(cloid)
        if len(self.book.done) > REMEMBERED_DONE:
            for old in self.book.done[:-REMEMBERED_DONE]:
                self.book.orders.pop(old, None)
            del self.book.done[:-REMEMBERED_DONE]
