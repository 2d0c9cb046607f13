"""A position's stop and target: placed with the entry, moved to the fill, seen resting, gone with the position.

A stop counts only when the venue says that it rests (GUARANTEES D4). The new one is placed before the old one is
cancelled, so there is no naked moment; one that fails twice, or is not seen within the deadline, closes the position
(B1).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from aml100.domain.events import AskOrders, CancelOrders, Effect, PlaceOrders, RiskChanged
from aml100.domain.market import Bar
from aml100.domain.orders import ExitReason, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import Coin
from aml100.trading.blotter import Tracked
from aml100.trading.state import CoinState

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore

_TRIGGER_BAND = Decimal("0.1")
_ATTEMPTS = 2
_ASK, _PLACE, _FLATTEN = 0.3, 0.6, 1.5
"""Shares of the deadline (5 s) after which a stop that is not seen resting is asked for, placed again, given up."""


class Protection:
    """The part of the core that answers for stops and targets."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core
        self._naked_since_s: dict[Coin, float] = {}
        self._asked: set[Coin] = set()

    def orders_for(self, coin: Coin, entry_side: Side, size: Decimal, entry: Decimal) -> tuple[Order, ...]:
        """Stop and target of a position entered at `entry`, rounded to the nearest prices the venue accepts."""
        rules, instrument = self._core.rules, self._core.instruments[coin]
        orders = []
        for kind, distance, direction in (
            (OrderKind.STOP_LOSS, self._stop_distance(coin, entry_side), -1),
            (OrderKind.TAKE_PROFIT, rules.take_profit, 1),
        ):
            if distance:
                level = instrument.round_price(entry * (1 + direction * entry_side.sign * distance))
                if kind is OrderKind.STOP_LOSS:
                    level = self._trailed(coin, entry_side, level)
                orders.append(self._trigger(coin, entry_side.opposite, kind, size, level))
        return tuple(orders)

    def _stop_distance(self, coin: Coin, entry_side: Side) -> Decimal:
        """Of a stop from its entry: fixed, or by the ATR of the bar that decided the entry, then kept."""
        core, known = self._core, self._core.coin(coin)
        if not core.rules.atr_stop:
            return core.rules.stop_loss
        if core.ledger.position(coin).side is not entry_side:
            known.stop_distance = core.rules.stop_distance(known.atr)
        return known.stop_distance or core.rules.stop_loss

    def _trailed(self, coin: Coin, side: Side, level: Decimal) -> Decimal:
        """The stop's level, or the trailing one where that is tighter."""
        core, best = self._core, self._core.coin(coin).best_close
        if best is None or core.ledger.position(coin).side is not side:
            return level
        trailing = core.instruments[coin].round_price(best * (1 - side.sign * core.rules.trailing_stop))
        return max(level, trailing) if side is Side.BUY else min(level, trailing)

    def trail(self, bar: Bar) -> list[Effect]:
        """A bar closed over a position that is kept: the stop follows its best close, never back."""
        core = self._core
        if not core.rules.trailing_stop:
            return []
        known, side = core.coin(bar.coin), core.ledger.position(bar.coin).side
        if side is None:
            return []
        best = known.best_close
        if best is not None and (bar.close <= best if side is Side.BUY else bar.close >= best):
            return []
        known.best_close = bar.close
        return self.follow(bar.coin)

    def _trigger(self, coin: Coin, side: Side, kind: OrderKind, size: Decimal, level: Decimal) -> Order:
        bound = level * (1 + _TRIGGER_BAND * side.sign)
        return Order(
            cloid=self._core.blotter.next_cloid(),
            coin=coin,
            side=side,
            kind=kind,
            size=size,
            price=self._core.instruments[coin].limit_price(bound, side),
            reduce_only=True,
            trigger_price=level,
            reason=kind.value,
            created_ms=self._core.state.now_ms,
        )

    def attach(self, coin: Coin, orders: tuple[Order, ...]) -> None:
        """These orders protect the coin's position from now on, or will once it is filled."""
        known = self._core.coin(coin)
        for order in orders:
            if order.kind is OrderKind.STOP_LOSS:
                known.stop_cloid, known.stop_price = order.cloid, order.trigger_price
            else:
                known.target_cloid, known.target_price = order.cloid, order.trigger_price

    def follow(self, coin: Coin) -> list[Effect]:
        """Make stop and target fit the position as it is now; place new ones where price or size differ."""
        core, known = self._core, self._core.coin(coin)
        position = core.ledger.position(coin)
        if position.side is None or coin not in core.instruments:
            return []
        fresh = []
        base = position.entry if known.anchor is None else known.anchor
        for wanted in self.orders_for(coin, position.side, abs(position.size), base):
            current_cloid = known.stop_cloid if wanted.kind is OrderKind.STOP_LOSS else known.target_cloid
            current = core.blotter.get(current_cloid)
            if current is not None and not current.is_done and _same(current.order, wanted):
                continue
            if current is not None and not current.is_done:
                known.superseded[wanted.cloid] = current.order.cloid
            fresh.append(wanted)
        if not fresh:
            return []
        self.attach(coin, tuple(fresh))
        core.risk.on_orders(len(fresh), core.state.now_ms)
        return [*(core.blotter.add(order) for order in fresh), PlaceOrders(tuple(fresh))]

    def dissolve(self, coin: Coin) -> list[Effect]:
        """The position is gone: so are its stop and target."""
        known = self._core.coin(coin)
        live = self._core.blotter.live(coin)
        kept = {known.stop_cloid, known.target_cloid} if any(t.order.kind is OrderKind.ENTRY for t in live) else set()
        left = [t for t in live if t.order.is_trigger and t.order.cloid not in kept]
        if not kept:
            known.stop_cloid = known.target_cloid = known.stop_price = known.target_price = None
        known.best_close = None
        known.superseded.clear()
        known.stop_failures = 0
        self._forget(coin)
        if not left:
            return []
        return [CancelOrders(tuple((coin, t.order.cloid) for t in left))]

    def on_order(self, tracked: Tracked) -> list[Effect]:
        """A protective order, or the entry it belongs to, changed its state."""
        core, order = self._core, tracked.order
        known = core.coin(order.coin)
        if not order.is_trigger:
            return []
        if tracked.status is OrderStatus.RESTING:
            old = known.superseded.pop(order.cloid, None)
            effects: list[Effect] = [CancelOrders(((order.coin, old),))] if old is not None else []
            if order.cloid == known.stop_cloid:
                known.stop_failures = 0
                self._forget(order.coin)
                if core.ledger.position(order.coin).size != 0:
                    effects.append(core.position_record(order.coin))
            return effects
        if tracked.status in (OrderStatus.REJECTED, OrderStatus.CANCELED):
            return self._on_lost(tracked)
        return []

    def _on_lost(self, tracked: Tracked) -> list[Effect]:
        """The venue refused or dropped a protective order of an open position: fall back, place again, or close."""
        core, order = self._core, tracked.order
        known = core.coin(order.coin)
        is_stop, is_target = order.cloid == known.stop_cloid, order.cloid == known.target_cloid
        if core.ledger.position(order.coin).size == 0 or not (is_stop or is_target) or known.closing:
            return []
        old = core.blotter.get(known.superseded.pop(order.cloid, None))
        if old is not None and not old.is_done:
            self.attach(order.coin, (old.order,))
            record = core.position_record(order.coin)
            if is_stop and known.best_close is not None and tracked.status is OrderStatus.REJECTED:
                # The market is beyond the trailing stop already: what it would have done is done at once.
                return [record, *core.exits.at_market(order.coin, ExitReason.STOP_LOSS)]
            return [record]
        now_ms = core.state.now_ms
        why = tracked.reason or "cancelled at the venue, which gives no reason"
        if not is_stop:
            known.target_cloid = known.target_price = None
            words = f"{order.coin}: target lost: {why}; the position goes on without one"
            return [RiskChanged("protection", "info", words, now_ms)]
        known.stop_failures += 1
        lost = RiskChanged("protection", "tripped", f"{order.coin}: stop lost: {why}", now_ms)
        if known.stop_failures > _ATTEMPTS:
            known.closing = ExitReason.RISK
            return [lost, core.position_record(order.coin)]
        return [lost, core.position_record(order.coin), *self.follow(order.coin)]

    def resting_stop(self, coin: Coin) -> Tracked | None:
        """The stop that is known to rest on the venue and covers the whole position."""
        stop = self._core.blotter.get(self._core.coin(coin).stop_cloid)
        if stop is None or stop.status is not OrderStatus.RESTING:
            return None
        return stop if stop.order.size >= abs(self._core.ledger.position(coin).size) else None

    def on_deadline(self, wall_s: float) -> list[Effect]:
        """A position whose stop is not seen resting: the venue is asked, the stop placed again, the position closed.

        So that it is protected or on its way out well within twice the deadline (GUARANTEES B1).
        """
        core = self._core
        effects: list[Effect] = []
        if not core.rules.has_stop:
            return effects
        for coin in core.ledger.open_coins():
            known = core.coin(coin)
            if coin not in core.instruments:
                continue
            if self.resting_stop(coin) is not None or known.closing or known.is_dust:
                self._forget(coin)
                continue
            naked = (wall_s - self._naked_since_s.setdefault(coin, wall_s)) / core.rules.protection_s
            naked_s = naked * core.rules.protection_s
            stop = core.blotter.get(known.stop_cloid)
            if naked > _FLATTEN:
                known.closing = ExitReason.RISK
                reason = f"{coin}: no stop seen resting for {naked_s:.1f} s, closing"
                effects.append(RiskChanged("protection", "tripped", reason, core.state.now_ms))
            elif naked > _PLACE and known.stop_failures == 0:
                known.stop_failures += 1
                known.stop_cloid = None
                reason = f"{coin}: no stop seen resting for {naked_s:.1f} s, placing again"
                effects.append(RiskChanged("protection", "tripped", reason, core.state.now_ms))
                effects += self.follow(coin)
                self._supersede(known, stop)
            elif naked > _ASK and coin not in self._asked and stop is not None and not stop.is_done:
                self._asked.add(coin)
                effects.append(AskOrders((stop.order.cloid,)))
        return effects

    @staticmethod
    def _supersede(known: CoinState, stop: Tracked | None) -> None:
        """Should the stop that nobody saw be there after all, it goes when the new one is seen."""
        if stop is not None and not stop.is_done and known.stop_cloid is not None:
            known.superseded[known.stop_cloid] = stop.order.cloid

    def _forget(self, coin: Coin) -> None:
        """This coin is not naked, or not any more."""
        self._naked_since_s.pop(coin, None)
        self._asked.discard(coin)


def _same(one: Order, other: Order) -> bool:
    return one.trigger_price == other.trigger_price and one.size == other.size and one.side is other.side
