"""What a paper account is worth: its balance, its positions at the venue's marks, the margin they use.

The ledger is the truth of what was paid; this keeps what the venue would show beside it. At each full hour it notes
what is held, for the rate that will be settled for that hour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from aml100.domain.events import FundingPaid, SettledFunding
from aml100.domain.market import AssetContext, Instrument
from aml100.domain.orders import Fill, Position, Side
from aml100.domain.units import HOUR_MS, ZERO, Coin, decimal_from_float, truncate_usd
from aml100.trading.ledger import apply_fill
from aml100.venue.news import AccountState, CoinLeverage, VenuePosition

_DEFAULT_LEVERAGE: Final = 20


@dataclass(slots=True)
class Held:
    """A position and since when; `at_hour` is its size at the last full hour, for the funding settled there."""

    position: Position
    opened_ms: int
    at_hour: dict[int, tuple[Decimal, Decimal]] = field(default_factory=dict)


class PaperMoney:
    """Balance and positions of one account. `now_ms` is market time as last told.

    Args:
        instruments: rules of the coins as they are now.
        balance: USD.
        positions: with their opening times, as an earlier run left them.
    """

    def __init__(
        self,
        instruments: Callable[[], Mapping[Coin, Instrument]],
        balance: Decimal,
        positions: Mapping[Coin, tuple[Position, int]],
    ) -> None:
        self._instruments = instruments
        self.balance = balance
        self.held = {coin: Held(position, since) for coin, (position, since) in positions.items()}
        self.contexts: dict[Coin, AssetContext] = {}
        self.now_ms = 0
        self._leverage: dict[Coin, CoinLeverage] = {}

    # --- what happens to it -----------------------------------------------------------------------------------

    def on_time(self, now_ms: int) -> None:
        """Market time moves; at each full hour what is held and the oracle's price are noted."""
        hour_ms = now_ms // HOUR_MS * HOUR_MS
        if self.now_ms and hour_ms > self.now_ms:
            for coin, held in self.held.items():
                context = self.contexts.get(coin)
                if context is not None:
                    held.at_hour[hour_ms] = (held.position.size, context.oracle)
        self.now_ms = max(self.now_ms, now_ms)

    def apply_fill(self, fill: Fill) -> Position:
        """Book a fill; the position after it."""
        held = self.held.get(fill.coin)
        position, realised = apply_fill(Position() if held is None else held.position, fill)
        self.balance += realised - fill.fee
        if position.size == 0:
            self.held.pop(fill.coin, None)
        elif held is None:
            self.held[fill.coin] = Held(position, self.now_ms)
        else:
            held.position = position
        return position

    def apply_settled(self, settled: SettledFunding) -> FundingPaid | None:
        """Pay or get the funding of an hour on what was held at it; None where nothing was."""
        held, context = self.held.get(settled.coin), self.contexts.get(settled.coin)
        if held is None or settled.time_ms <= held.opened_ms:
            return None
        noted = held.at_hour.pop(settled.time_ms, None)
        size, oracle = noted or (held.position.size, held.position.entry if context is None else context.oracle)
        rate = decimal_from_float(settled.rate)
        amount = truncate_usd(-size * oracle * rate) + ZERO
        self.balance += amount
        return FundingPaid(settled.coin, settled.time_ms, rate, amount, size)

    def set_leverage(self, coin: Coin, leverage: CoinLeverage) -> None:
        self._leverage[coin] = leverage

    # --- what it is -------------------------------------------------------------------------------------------

    def reducible(self, coin: Coin, side: Side) -> Decimal:
        """How much an order of this side could reduce the position by; 0 where it would add to it."""
        held = self.held.get(coin)
        return ZERO if held is None or held.position.side is side else abs(held.position.size)

    def mark(self, coin: Coin) -> Decimal:
        """The price at which an open position counts: the venue's mark, its entry while there is none."""
        context = self.contexts.get(coin)
        return self.held[coin].position.entry if context is None else context.mark

    def leverage_of(self, coin: Coin) -> CoinLeverage:
        """Leverage and margin mode of this coin."""
        return self._leverage.get(coin) or CoinLeverage(self.leverage_value(coin), True)

    def leverage_value(self, coin: Coin) -> int:
        """The leverage set for a coin, within its bound."""
        most = self._instruments()[coin].max_leverage
        present = self._leverage.get(coin)
        return min(_DEFAULT_LEVERAGE if present is None else present.value, most)

    def equity(self) -> Decimal:
        """Balance and unrealised profit, USD."""
        return self.balance + sum((held.position.unrealised(self.mark(coin)) for coin, held in self.held.items()), ZERO)

    def free(self) -> Decimal:
        """Equity that no position uses as margin, USD."""
        return self.equity() - sum((self._margin(coin) for coin in self.held if coin in self._instruments()), ZERO)

    def is_under_maintenance(self) -> bool:
        """The venue would liquidate this account now."""
        rules = self._instruments()
        needed = sum((self._value(coin) / (2 * rules[coin].max_leverage) for coin in self.held if coin in rules), ZERO)
        return bool(self.held) and self.equity() < needed

    def state(self) -> AccountState:
        """As the venue would show it."""
        positions = tuple(
            VenuePosition(
                coin,
                held.position.size,
                held.position.entry,
                self.leverage_value(coin),
                None,
                self._margin(coin),
                held.position.unrealised(self.mark(coin)),
            )
            for coin, held in self.held.items()
            if coin in self._instruments()
        )
        equity = self.equity()
        return AccountState(equity if equity > 0 else None, max(ZERO, self.free()), positions)

    def _value(self, coin: Coin) -> Decimal:
        return abs(self.held[coin].position.size) * self.mark(coin)

    def _margin(self, coin: Coin) -> Decimal:
        return self._value(coin) / self.leverage_value(coin)
