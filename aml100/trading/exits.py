"""How a position is left: at market and reduce-only, tried again where it did not get through.

`CoinState.closing` holds why a position must go, until it is gone; so a restart goes on leaving it. An exit that is
refused is tried again less and less often; what is too small for the venue is dust and left alone (GUARANTEES D8).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from aml100.domain.events import Effect, PlaceOrders, RiskChanged
from aml100.domain.orders import OrderKind, OrderStatus
from aml100.domain.units import Coin
from aml100.trading.blotter import Tracked

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore

_PAUSE_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Wall seconds before an exit that was refused so many times in a row is tried again."""
_FILL_WAIT_S: Final = 2.0
"""Wall seconds that the fills of an exit which is said to be filled may take to come."""
_TOO_SMALL: Final = "Order must have minimum value"


class Exits:
    """The part of the core that answers for leaving positions."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core
        self._again_s: dict[Coin, float] = {}

    def leave(self, coin: Coin, reason: str, now_ms: int) -> list[Effect]:
        """Close the position at market, reduce-only; nothing where an exit is already under way."""
        core = self._core
        position = core.ledger.position(coin)
        if coin not in core.instruments:  # not listed any more: what its rules are nobody knows
            return []
        if position.side is None or any(t.order.kind is OrderKind.EXIT for t in core.blotter.live(coin)):
            return []
        effects = core.entries.cancel(coin)
        price = core.ledger.book.marks.get(coin, position.entry)
        order = core.new_order(coin, position.side.opposite, OrderKind.EXIT, abs(position.size), price, reason)
        core.coin(coin).closing = reason
        core.risk.on_orders(1, now_ms)
        return [*effects, core.blotter.add(order), PlaceOrders((order,))]

    def at_market(self, coin: Coin, reason: str) -> list[Effect]:
        """Leave a position now, whatever the policy thinks."""
        self._core.coin(coin).closing = reason
        return self.leave(coin, reason, self._core.state.now_ms)

    def want_all(self, reason: str, coins: Collection[Coin] = ()) -> None:
        """Every position (of these coins, where some are given) must go, and what an entry on its way may still bring.

        `pending` sends the orders.
        """
        core = self._core
        chosen = coins or core.state.coins
        for coin in core.ledger.open_coins():
            if coin in chosen:
                core.coin(coin).closing = reason
        for tracked in core.blotter.unfilled_entries(chosen):
            tracked.unwanted = reason

    def all_gone(self, coins: Collection[Coin] = ()) -> bool:
        """No position that was to go is left (in these coins, where some are given), nothing on its way may open one.

        A position that was opened since is another one.
        """
        core = self._core
        chosen = coins or core.state.coins
        if any(coin in chosen and core.coin(coin).closing for coin in core.ledger.open_coins()):
            return False
        entries = core.blotter.unfilled_entries(chosen)
        ended = (OrderStatus.CANCELED, OrderStatus.REJECTED)
        return not any(one.unwanted and not one.filled and one.status not in ended for one in entries)

    def pending(self, now_ms: int) -> list[Effect]:
        """Exits that are wanted and not under way: at once, and again where one did not get through."""
        core = self._core
        effects: list[Effect] = []
        for coin in core.ledger.open_coins():
            known = core.coin(coin)
            if known.closing and not known.is_dust and core.surroundings.wall_s >= self._again_s.get(coin, 0.0):
                effects += self.leave(coin, known.closing, now_ms)
        return effects

    def on_first_tick(self, wall_s: float) -> None:
        """Until now time stood at nought, and so did what was put off."""
        self._again_s = {coin: wall_s + wait_s for coin, wait_s in self._again_s.items()}

    def on_order(self, tracked: Tracked) -> list[Effect]:
        """An exit changed its state: its fills are waited for, or it is tried again later."""
        coin, wall_s = tracked.order.coin, self._core.surroundings.wall_s
        if tracked.order.kind is not OrderKind.EXIT:
            return []
        if tracked.status is OrderStatus.FILLED:
            self._again_s[coin] = wall_s + _FILL_WAIT_S
        if tracked.status is not OrderStatus.REJECTED:
            return []
        known, now_ms = self._core.coin(coin), self._core.state.now_ms
        known.exit_failures += 1
        if tracked.reason.startswith(_TOO_SMALL):
            known.is_dust, known.closing = True, ""
            words = f"{coin}: {tracked.order.size} is under the venue's minimum: dust, left alone"
            return [RiskChanged("dust", "info", words, now_ms)]
        pause_s = _PAUSE_S[min(known.exit_failures, len(_PAUSE_S) - 1)]
        self._again_s[coin] = wall_s + pause_s
        return [
            RiskChanged("exit", "tripped", f"{coin}: exit refused ({tracked.reason}), again in {pause_s:g} s", now_ms)
        ]
