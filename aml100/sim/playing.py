"""How market time passes at the simulated venue: two calls a bar, and what they do to orders and positions.

`open_bars` sets the clock and the prices to the bars' opens and pays the hour's funding; `play_bars` walks the range
of the same bars for everything that waits, stops before targets before limits, and leaves the prices at the closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from aml100.domain.events import FundingPaid
from aml100.domain.market import Bar, Instrument
from aml100.domain.orders import OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import DAY_MS, HOUR_MS, ZERO, Coin, truncate_usd
from aml100.sim.accounts import Account, FundingEvent, OrderRecord, VenueEvent
from aml100.sim.books import ExchangeRules
from aml100.sim.executions import Executions
from aml100.sim.liquidation import liquidate
from aml100.sim.refusals import NO_MATCH


class Playing(Executions):
    """Books whose market moves. `opened` are the bars that were opened and not yet played."""

    def __init__(self, instruments: Sequence[Instrument], rules: ExchangeRules) -> None:
        super().__init__(instruments, rules)
        self.opened: Sequence[Bar] = ()

    def open_bars(self, bars: Sequence[Bar], funding: Mapping[Coin, Decimal]) -> list[VenueEvent]:
        """Move market time and prices to the opens of these bars, which share their open time.

        Where that is a full hour, each open position of a coin with a rate in `funding` pays size x open x rate,
        before anything fills at that open.
        """
        self.opened = bars
        self.now_ms = now = bars[0].open_ms
        prices = self.prices
        for bar in bars:
            prices[bar.coin] = bar.open
        self.ladder.refill()
        if not self.active:
            return []
        events: list[VenueEvent] = []
        if funding and now % HOUR_MS == 0:
            self._pay_funding(bars, funding, events)
        self.fire_schedules(events)
        return events

    def play_bars(self) -> list[VenueEvent]:
        """Walk the range of the opened bars; afterwards prices are the closes and the time is the bars' end."""
        bars, self.opened = self.opened, ()
        if not bars:
            return []
        events: list[VenueEvent] = []
        self.now_ms = end_ms = bars[0].end_ms
        if self.active:
            for account in list(self.active.values()):
                for bar in bars:
                    self._play_bar(account, bar, events)
                if account.holdings:
                    liquidate(self, account, bars, events)
        prices = self.prices
        for bar in bars:
            prices[bar.coin] = bar.close
        self.now_ms = end_ms
        if self.active:
            self.fire_schedules(events)
        return events

    def fire_schedules(self, events: list[VenueEvent]) -> None:
        """Carry out the scheduled cancels whose market time has come."""
        now_ms = self.now_ms
        due = [one for one in self.active.values() if one.cancel_at_ms is not None and now_ms >= one.cancel_at_ms]
        for account in due:
            account.cancel_at_ms = None
            day = now_ms // DAY_MS
            account.fired = (day, account.fired[1] + 1 if account.fired[0] == day else 1)
            for record in self.open_orders(account.address):
                if record.oid in account.open_oids:  # else it went with its parent
                    self.close(record, OrderStatus.CANCELED, "scheduledCancel", events)
            self.note_activity(account)

    def _pay_funding(self, bars: Sequence[Bar], funding: Mapping[Coin, Decimal], events: list[VenueEvent]) -> None:
        for account in self.active.values():
            for bar in bars:
                held, rate = account.holdings.get(bar.coin), funding.get(bar.coin)
                if held is None or rate is None:
                    continue
                amount = truncate_usd(-held.size * bar.open * rate) + ZERO
                paid = FundingPaid(bar.coin, self.now_ms, rate, amount, held.size)
                account.apply_funding(paid)
                events.append(FundingEvent(account.address, paid))

    def _play_bar(self, account: Account, bar: Bar, events: list[VenueEvent]) -> None:
        """Stops, then targets, then limits; a limit's children are armed in the bar that fills it."""
        coin, orders = bar.coin, self.orders
        waiting = [orders[oid] for oid in account.open_oids]
        if not any(one.order.coin == coin and one.is_reached_by(bar) for one in waiting):
            return  # as most bars do
        self._fire_triggers(account, bar, OrderKind.STOP_LOSS, events)
        self._fire_triggers(account, bar, OrderKind.TAKE_PROFIT, events)
        if self._fill_limits(account, bar, events):
            self._fire_triggers(account, bar, OrderKind.STOP_LOSS, events)
            self._fire_triggers(account, bar, OrderKind.TAKE_PROFIT, events)

    def _fire_triggers(self, account: Account, bar: Bar, kind: OrderKind, events: list[VenueEvent]) -> None:
        """Fire the triggers of one kind that the bar's range touches, nearest to its open first."""
        touched: list[tuple[Decimal, int, OrderRecord]] = []
        for oid in account.open_oids:
            record = self.orders[oid]
            order, level = record.order, record.order.trigger_price
            if level is None or order.coin != bar.coin or order.kind is not kind or not record.is_armed_trigger:
                continue
            if record.is_reached_by(bar):
                touched.append((abs(level - bar.open), oid, record))
        for _, _, record in sorted(touched, key=lambda one: one[:2]):
            if record.is_armed_trigger:  # a sibling may have taken it away meanwhile
                self._fire(account, record, bar, events)

    def _fire(self, account: Account, record: OrderRecord, bar: Bar, events: list[VenueEvent]) -> None:
        """A trigger's level is reached: execute it as far as its own price allows; a limit trigger rests else."""
        order = record.order
        level = order.trigger_price
        assert level is not None
        price, has_depth = level, self.rules.has_depth
        self.now_ms = bar.end_ms
        if order.kind is OrderKind.STOP_LOSS:
            beyond = bar.open <= level if order.side is Side.SELL else bar.open >= level
            base = bar.open if beyond else level
            price = base if has_depth else self.worsened(base, order.side)
            self.now_ms = bar.open_ms if beyond else bar.end_ms
        record.triggered = order.tif is TimeInForce.GTC
        if price > order.price if order.side is Side.BUY else price < order.price:
            if record.triggered:
                self.change(record, OrderStatus.RESTING, "triggered", events)
            else:
                self.close(record, OrderStatus.REJECTED, "iocCancelRejected", events, NO_MATCH)
            return
        self.execute(account, record, price, events, is_taker=True, limit=order.price)

    def _fill_limits(self, account: Account, bar: Bar, events: list[VenueEvent]) -> bool:
        """Fill what the bar traded strictly through; an order its account can no longer carry is cancelled."""
        any_filled = False
        for oid in list(account.open_oids):
            record = self.orders[oid]
            order = record.order
            if order.coin != bar.coin or not record.is_live_limit:
                continue
            if record.is_reached_by(bar):
                is_through = bar.open < order.price if order.side is Side.BUY else bar.open > order.price
                self.now_ms = bar.open_ms if is_through else bar.end_ms
                left = replace(order, size=record.remaining)
                if self.rules.check_margin and not order.reduce_only and not self.affords(account, left, order.price):
                    self.close(record, OrderStatus.CANCELED, "marginCanceled", events)
                    continue
                any_filled |= self.execute(account, record, order.price, events, is_taker=False).size > 0
        return any_filled
