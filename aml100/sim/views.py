"""The simulated venue's present state as its clients may see it, over both of its doors.

/info and the streams show the same things; here each is put together once, from the replay, past the faults that
freeze what is shown.
"""

from __future__ import annotations

from decimal import Decimal

from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.sim import account_answers, market_answers
from aml100.sim.accounts import Account
from aml100.sim.candles import candles_between
from aml100.sim.dexes import dex_of, listed
from aml100.sim.faults import Faults
from aml100.sim.ladder import LEVELS
from aml100.sim.replay import Replay
from aml100.sim.words import Json, Object, text

_FOREVER = 2**62


class Views:
    """Reads the replay; changes nothing."""

    def __init__(self, replay: Replay, faults: Faults, prints_a_bar: int) -> None:
        """`prints_a_bar`: the trades of a bar, which its candle counts."""
        self.replay, self.exchange = replay, replay.exchange
        self._faults = faults
        self._prints = prints_a_bar

    # --- the market -------------------------------------------------------------------------------------------

    def coins(self, dex: str) -> list[Coin]:
        """The coins of an exchange by asset id."""
        return [one.coin for one in listed(self.exchange.instruments.values(), dex)]

    def shown(self, coin: Coin) -> Decimal | None:
        """The price around which the book is shown; None before the coin has one."""
        price = self.exchange.prices.get(coin)
        return None if price is None else self._faults.shown(coin, price)

    def mids(self, dex: str) -> dict[str, Json]:
        prices = {coin: self.shown(coin) for coin in self.exchange.prices if dex_of(coin) == dex}
        return {coin: text(price) for coin, price in prices.items() if price is not None}

    def context(self, coin: Coin) -> Object:
        return market_answers.context(self.exchange, coin, self.replay.seen(coin), self.replay.rate(coin))

    def bbo(self, coin: Coin) -> Object:
        sides = market_answers.levels(self.exchange, coin, 1, self.shown(coin))
        return {"coin": coin, "time": self.exchange.now_ms, "bbo": [side[0] if side else None for side in sides]}

    def book(self, coin: Coin, depth: int | None = None, figures: int = 0, mantissa: int | None = None) -> Object:
        """The book, or with `figures` its levels grouped, and then with the spread."""
        price, depth = self.shown(coin), LEVELS if depth is None else depth
        if not figures:
            levels = market_answers.levels(self.exchange, coin, depth, price)
            return {"coin": coin, "time": self.exchange.now_ms, "levels": levels}
        levels = market_answers.aggregated(self.exchange, coin, depth, price, figures, mantissa)
        bids, asks = levels
        answer: Object = {"coin": coin, "time": self.exchange.now_ms, "levels": levels}
        if bids and asks:
            answer["spread"] = text(Decimal(str(asks[0]["px"])) - Decimal(str(bids[0]["px"])))
        return answer

    def candles(self, coin: Coin, interval_ms: int, start_ms: int, end_ms: int, most: int | None) -> list[Bar]:
        """Candles that overlap [start, end], the forming one too."""
        seen, forming = self.replay.seen(coin), self.replay.forming.get(coin)
        return candles_between(seen, forming, interval_ms, start_ms, end_ms, most, self._prints)

    def last_candle(self, coin: Coin, interval_ms: int) -> Bar | None:
        """The newest bar of an interval, forming or closed; None where there is none."""
        found = self.candles(coin, interval_ms, 0, _FOREVER, 1)
        return found[-1] if found else None

    # --- accounts ---------------------------------------------------------------------------------------------

    def account(self, user: str) -> Account | None:
        return self.exchange.accounts.get(user)

    def clearinghouse(self, user: str, dex: str) -> Object:
        view = self.exchange.margin(user) if self.account(user) else None
        return account_answers.clearinghouse(view, self.exchange.now_ms, dex)

    def open_orders(self, user: str, dex: str) -> list[Json]:
        """The plain form, newest first."""
        account = self.account(user)
        rows = [] if account is None else self.exchange.open_orders(user)
        return [
            account_answers.open_order(one, self.exchange.size_of)
            for one in reversed(rows)
            if dex_of(one.order.coin) == dex
        ]

    def front_orders(self, user: str, dex: str) -> list[Json]:
        """The fuller form, newest first."""
        account = self.account(user)
        rows = [] if account is None else self.exchange.open_orders(user)
        size_of = self.exchange.size_of
        return [
            account_answers.front_order(one, self.exchange.orders, size_of)
            for one in reversed(rows)
            if dex_of(one.order.coin) == dex
        ]

    def fills(self, user: str, most: int) -> list[Json]:
        """The latest fills, oldest first."""
        account = self.account(user)
        return [account_answers.fill(one) for one in (account.fills[-most:] if account else [])]

    def fundings(self, user: str, most: int) -> list[Json]:
        """The latest funding payments in the streams' flat form, oldest first."""
        account = self.account(user)
        paid = account.fundings[-most:] if account else []
        return [{"time": one.time_ms, **account_answers.funding_delta(one)} for one in paid]

    def transfers(self, user: str) -> list[Json]:
        account = self.account(user)
        return [account_answers.ledger_entry(one) for one in (account.transfers if account else [])]

    def active_asset(self, user: str, coin: Coin) -> Object:
        return account_answers.active_asset(self.exchange, user, coin)
