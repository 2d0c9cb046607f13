"""How orders of the simulated venue fill, and what a fill does to the orders around it.

Who is on the other side? Nobody in particular, at the price the caller names; or, where the book has depth, the ladder
around that price and the resting orders of other accounts. A fill arms the filled order's children, ends its siblings
and what the changed position leaves without sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aml100.domain.orders import Fill, OrderStatus, Side, TimeInForce
from aml100.domain.units import ZERO, Coin, truncate_usd
from aml100.sim.accounts import PLAIN, Account, FillEvent, Liquidated, OrderRecord, VenueEvent, direction
from aml100.sim.books import Books

_TID_STEP: Final = 0x2545F4914F6CDD
"""Odd, so that n * step mod 2**50 visits every 50-bit trade id once."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What an order got: the size and the average price of it."""

    size: Decimal = ZERO
    average: Decimal = ZERO


class Executions(Books):
    """Books that can fill orders."""

    def execute(
        self,
        account: Account,
        record: OrderRecord,
        price: Decimal,
        events: list[VenueEvent],
        *,
        is_taker: bool,
        limit: Decimal | None = None,
    ) -> Executed:
        """Fill an order as far as it finds somebody, then end it or let it rest; its children and siblings follow.

        A maker fills whole at `price`. A taker fills whole at `price` too, or where the book has depth walks it
        around `price` up to its `limit` (None: whatever it costs).
        """
        order = record.order
        size = self.capped(account, order, self.size_of(record))
        if size == 0:
            self.close(record, OrderStatus.CANCELED, "reduceOnlyCanceled", events)
            return Executed()
        wanted, share = size, record.tags.share
        if share is not None:
            record.tags = PLAIN
            wanted = self.instruments[order.coin].round_size(size * share)
        if is_taker and self.rules.has_depth:
            done = self._walk(account, record, wanted, price, limit, events)
        else:
            done = Executed(wanted, price)
            if wanted:
                self.book_fill(account, record, order.side, wanted, price, events, is_taker=is_taker)
        record.remaining = size - done.size
        if record.remaining == 0 or (done.size and is_taker and not self._may_rest(record)):
            self._finish(account, record, events)
        elif self._may_rest(record) or not is_taker:
            self.change(record, OrderStatus.RESTING, "open", events)
        else:
            self.close(record, OrderStatus.REJECTED, "iocCancelRejected", events, "nothing to trade with")
        self.tidy(account, order.coin, events)
        self.note_activity(account)
        return done

    @staticmethod
    def _may_rest(record: OrderRecord) -> bool:
        return record.order.tif is TimeInForce.GTC and (not record.order.is_trigger or record.triggered)

    def _finish(self, account: Account, record: OrderRecord, events: list[VenueEvent]) -> None:
        """An order has got what it could: its children are armed, its siblings go."""
        self.close(record, OrderStatus.FILLED, "filled", events)
        for oid in record.children:
            child = self.orders[oid]
            if child.status is OrderStatus.WAITING:
                self.change(child, OrderStatus.RESTING, "open", events)
        siblings: list[int] = []
        if record.parent is not None:
            siblings = self.orders[record.parent].children
        elif record.tags.on_position:
            mine = record.order.coin
            if not self.position_size(account.address, mine):
                open_ones = [self.orders[oid] for oid in account.open_oids]
                siblings = [one.oid for one in open_ones if one.tags.on_position and one.order.coin == mine]
        for oid in list(siblings):
            if oid in account.open_oids:
                self.close(self.orders[oid], OrderStatus.CANCELED, "siblingFilledCanceled", events)

    def _walk(
        self,
        account: Account,
        record: OrderRecord,
        size: Decimal,
        price: Decimal,
        limit: Decimal | None,
        events: list[VenueEvent],
    ) -> Executed:
        """Trade against the ladder around `price` and other accounts' resting orders, best price first.

        An own order in the way is cancelled; without a `limit` what the book lacks trades at its last level.
        """
        order = record.order
        sign, other = order.side.sign, order.side.opposite
        offers: list[tuple[Decimal, int, OrderRecord | None, Decimal]] = [
            (maker.order.price, maker.oid, maker, ZERO) for maker in self.makers(order.coin, other)
        ]
        ladder = self.ladder.levels(price, self.instruments[order.coin], other)
        offers += [(level.price, 2**62, None, level.size) for level in ladder]
        left, spent = size, ZERO
        for at, _, maker, available in sorted(offers, key=lambda one: (one[0] * sign, one[1])):
            if left == 0 or (limit is not None and (at - limit) * sign > 0):
                break
            if maker is None:
                part = min(left, available)
                self.ladder.take(order.coin, other, at, part)
            elif maker.address == account.address:
                self.close(maker, OrderStatus.CANCELED, "selfTradeCanceled", events)
                continue
            else:
                part = self._fill_maker(maker, left, events)
            if part:
                self.book_fill(account, record, order.side, part, at, events, is_taker=True)
                left, spent = left - part, spent + part * at
        if left and limit is None and ladder:
            last = ladder[-1].price
            self.book_fill(account, record, order.side, left, last, events, is_taker=True)
            left, spent = ZERO, spent + left * last
        done = size - left
        return Executed(done, spent / done) if done else Executed()

    def _fill_maker(self, record: OrderRecord, at_most: Decimal, events: list[VenueEvent]) -> Decimal:
        """Give a resting order's owner his side of a trade; answers how much he could take."""
        account = self.accounts[record.address]
        size = self.capped(account, record.order, min(at_most, record.remaining))
        if size == 0:
            self.close(record, OrderStatus.CANCELED, "reduceOnlyCanceled", events)
            return ZERO
        order = record.order
        self.book_fill(account, record, order.side, size, order.price, events, is_taker=False)
        record.remaining -= size
        if record.remaining == 0:
            self._finish(account, record, events)
        else:
            self.change(record, OrderStatus.RESTING, "open", events)
        self.tidy(account, order.coin, events)
        self.note_activity(account)
        return size

    def book_fill(
        self,
        account: Account,
        record: OrderRecord,
        side: Side,
        size: Decimal,
        price: Decimal,
        events: list[VenueEvent],
        *,
        is_taker: bool,
        liquidation: Liquidated | None = None,
    ) -> None:
        """One execution at one price: fee, profit, position."""
        coin = record.order.coin
        rate = self.rules.taker_fee_frac if is_taker else self.rules.maker_fee_frac
        if liquidation is not None and liquidation.method == "backstop":
            rate = ZERO
        start = self.position_size(account.address, coin)
        fill = Fill(
            coin=coin,
            side=side,
            price=price,
            size=size,
            fee=truncate_usd(price * size * rate),
            time_ms=self.now_ms,
            tid=self.next_trade * _TID_STEP % (1 << 50),
            oid=record.oid,
            cloid=record.order.cloid or None,
            is_taker=is_taker,
            is_liquidation=liquidation is not None,
        )
        self.next_trade += 1
        realised = account.apply_fill(fill, account.leverage_of(self.instruments[coin]))
        event = FillEvent(account.address, fill, realised, start, direction(side, start, size), liquidation)
        account.keep_fill(event)
        events.append(event)

    def tidy(self, account: Account, coin: Coin, events: list[VenueEvent]) -> None:
        """End what a changed position leaves without sense.

        Triggers tied to a position go with it. Of the reduce-only orders in the book the newest is capped to the
        position, and the older go that do not fit beside it.
        """
        if not account.open_oids:
            return
        held = room = self.position_size(account.address, coin)
        for record in [self.orders[oid] for oid in reversed(account.open_oids)]:
            order = record.order
            if order.coin != coin or not order.reduce_only:
                continue
            reduces = held > 0 if order.side is Side.SELL else held < 0
            if record.tags.on_position:
                if not reduces:
                    self.close(record, OrderStatus.CANCELED, "reduceOnlyCanceled", events)
            elif record.is_live_limit:
                if not reduces or (room != held and record.remaining > abs(room)):
                    self.close(record, OrderStatus.CANCELED, "reduceOnlyCanceled", events)
                else:
                    record.remaining = min(record.remaining, abs(room))
                    room += record.remaining * order.side.sign
