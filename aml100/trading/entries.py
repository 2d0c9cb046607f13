"""How an entry goes to the venue: at once as taker, resting as maker, or resting first and taken when it is time.

A maker entry is post-only. It waits `maker_timeout_bars` closed bars; then it is cancelled, and with
`maker_then_taker` what is left of it is taken once the cancel is known to have happened (never before, or it might
fill twice). A post-only order that the venue refuses because it would have matched counts as timed out. A halt, a
pause, a forced exit, the end of the series and the opposite signal take a resting entry away.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import TYPE_CHECKING

from aml100.domain.events import CancelOrders, Effect, Gate, Grouping, PlaceOrders, RiskChanged, TradingState
from aml100.domain.market import Bar
from aml100.domain.orders import ExitReason, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import MIN_NOTIONAL_USD, Coin
from aml100.trading.blotter import Tracked
from aml100.trading.deciding import NOT_TRADED

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore


class Entries:
    """The part of the core that answers for entry orders."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core

    def resting(self, coin: Coin) -> Tracked | None:
        """The entry of this coin that rests at the venue, or is about to."""
        for tracked in self._core.blotter.live(coin):
            if tracked.order.kind is OrderKind.ENTRY and tracked.order.tif is TimeInForce.ALO:
                return tracked
        return None

    def open(self, coin: Coin, side: Side, size: Decimal, close: Decimal) -> list[Effect]:
        """Send the entry that a decision asks for, its stop and target with it."""
        core = self._core
        known = core.coin(coin)
        known.entry_bars, known.entry_goes_on = 0, False
        if core.rules.entry_style == "taker":
            return self._send(core.new_order(coin, side, OrderKind.ENTRY, size, close, "signal"), close)
        price = self._maker_price(coin, side, close)
        order = Order(
            cloid=core.blotter.next_cloid(),
            coin=coin,
            side=side,
            kind=OrderKind.ENTRY,
            size=size,
            price=price,
            reduce_only=False,
            tif=TimeInForce.ALO,
            reason="signal",
            created_ms=core.state.now_ms,
        )
        known.entry_goes_on = core.rules.entry_style == "maker_then_taker"
        return self._send(order, price)

    def _maker_price(self, coin: Coin, side: Side, close: Decimal) -> Decimal:
        """The touch of our side where a live book is looked at; else the close, on the passive side of the grid."""
        core = self._core
        book = core.book(coin) if core.rules.is_live else None
        touch = None if book is None else (book.bid if side is Side.BUY else book.ask)
        return touch if touch is not None else core.instruments[coin].limit_price(close, side.opposite)

    def _send(self, entry: Order, base: Decimal) -> list[Effect]:
        core = self._core
        children = core.protection.orders_for(entry.coin, entry.side, entry.size, base)
        core.protection.attach(entry.coin, children)
        orders = (entry, *children)
        core.risk.on_entry(core.state.now_ms)
        core.risk.on_orders(len(orders), core.state.now_ms)
        grouping = Grouping.NORMAL_TPSL if children else Grouping.NA
        return [*(core.blotter.add(order) for order in orders), PlaceOrders(orders, grouping)]

    def on_bar(self, bar: Bar, *, ends: bool) -> list[Effect]:
        """A bar closed over a resting entry: count it, and take the entry away when its time is over."""
        core, known = self._core, self._core.coin(bar.coin)
        resting = self.resting(bar.coin)
        if resting is None:
            return []
        known.entry_bars += 1
        if ends:
            return self.cancel(bar.coin)
        if known.entry_bars < core.rules.maker_timeout_bars:
            return []
        return self._cancel(resting)

    def cancel(self, coin: Coin) -> list[Effect]:
        """Take a resting entry away for good."""
        self._core.coin(coin).entry_goes_on = False
        resting = self.resting(coin)
        return [] if resting is None else self._cancel(resting)

    def cancel_all(self, coins: Collection[Coin] = ()) -> list[Effect]:
        """Take every resting entry (of these coins, where some are given) away for good."""
        chosen = [coin for coin in self._core.instruments if not coins or coin in coins]
        return [effect for coin in chosen for effect in self.cancel(coin)]

    @staticmethod
    def _cancel(resting: Tracked) -> list[Effect]:
        return [CancelOrders(((resting.order.coin, resting.order.cloid),))]

    def on_order(self, tracked: Tracked) -> list[Effect]:
        """An entry ended: with `maker_then_taker`, take what is left of a resting one."""
        core, order = self._core, tracked.order
        known = core.coin(order.coin)
        ended = tracked.status in (OrderStatus.CANCELED, OrderStatus.REJECTED)
        if order.kind is not OrderKind.ENTRY or order.tif is not TimeInForce.ALO or not ended:
            return []
        goes_on, known.entry_goes_on = known.entry_goes_on, False
        if not goes_on:
            return []
        left = core.instruments[order.coin].round_size(order.size - tracked.filled)
        refusal = self._refusal(order, left)
        if refusal:
            words = f"{order.coin}: what is left of the resting entry is not taken: {refusal}"
            return [RiskChanged("entry", "info", words, core.state.now_ms)]
        words = f"{order.coin}: resting entry not filled after {known.entry_bars} bars ({tracked.reason}), taking"
        told = RiskChanged("entry", "info", words, core.state.now_ms)
        entry = core.new_order(order.coin, order.side, OrderKind.ENTRY, left, known.close, "signal")
        if core.ledger.position(order.coin).side is order.side:  # partly filled: its stop follows the fill of the rest
            core.risk.on_orders(1, core.state.now_ms)
            return [told, core.blotter.add(entry), PlaceOrders((entry,))]
        return [told, *self._send(entry, known.close)]

    def _refusal(self, order: Order, left: Decimal) -> str:
        """Why the rest of an entry may not be taken now; the gates that time can have changed are asked again."""
        core, known = self._core, self._core.coin(order.coin)
        if core.state.trading is not TradingState.TRADING:
            return core.state.reason or core.state.trading.value
        if order.coin in core.rules.closing_only:
            return NOT_TRADED
        if known.closing and known.closing != ExitReason.SIGNAL:  # a signal that reverses closes and enters at once
            return f"the position is being closed: {known.closing}"
        if left * known.close < MIN_NOTIONAL_USD:
            return "under the venue's minimum of 10 USD"
        refusing = [gate for gate in core.deciding.entry_gates_now(order.coin, left) if not gate.ok]
        return _words(refusing)


def came_to_nothing(tracked: Tracked) -> bool:
    """An entry that ended, as far as anybody knows without a fill."""
    return tracked.status in (OrderStatus.CANCELED, OrderStatus.REJECTED) and not tracked.filled


def would_have_matched(tracked: Tracked) -> bool:
    """A post-only entry was refused because the market had come to it: no fault of anybody's."""
    refused = tracked.status is OrderStatus.REJECTED and tracked.order.tif is TimeInForce.ALO
    return refused and tracked.reason.startswith(("Post only", "badAloPx"))


def _words(gates: list[Gate]) -> str:
    return gates[0].reason if gates else ""
