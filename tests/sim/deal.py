"""An exchange without a server, and the shortest words for trading on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from aml100.domain.events import Grouping
from aml100.domain.market import Bar, instrument_for
from aml100.domain.orders import Order, OrderKind, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.sim.accounts import FillEvent, FundingEvent, OrderEvent, OrderTags, VenueEvent
from aml100.sim.exchange import Exchange, OrderResult
from tests.sim.stage import RULES

BTC, ETH = Coin("BTC"), Coin("ETH")
ANN, BEN = "0x" + 40 * "a", "0x" + 40 * "b"
T0 = 1_751_241_600_000
_cloids = iter(f"0x{number:032x}" for number in range(1, 10_000_000))


def d(text: str | int) -> Decimal:
    return Decimal(text)


def bar(open_: str, high: str, low: str, close: str, minute: int = 0, coin: Coin = BTC) -> Bar:
    return Bar(coin, 60_000, T0 + minute * 60_000, d(open_), d(high), d(low), d(close), d(10), 4)


def order(
    side: str,
    size: str,
    price: str,
    tif: str | None = "Gtc",
    *,
    reduce_only: bool = False,
    trigger: tuple[str, str] | None = None,
    cloid: str | None = None,
    coin: Coin = BTC,
) -> Order:
    """A limit order, or a trigger `(sl|tp, price)`, market unless `tif` is Gtc; the client id is a fresh one."""
    kind = OrderKind.EXIT if reduce_only else OrderKind.ENTRY
    if trigger is not None:
        kind = OrderKind.STOP_LOSS if trigger[0] == "sl" else OrderKind.TAKE_PROFIT
    return Order(
        cloid=Cloid(next(_cloids) if cloid is None else cloid),
        coin=coin,
        side=Side(side),
        kind=kind,
        size=d(size),
        price=d(price),
        reduce_only=reduce_only or trigger is not None,
        tif=None if tif is None else TimeInForce(tif),
        trigger_price=None if trigger is None else d(trigger[1]),
    )


class Deal:
    """An exchange at 60,000 USD with two accounts; `say` keeps the words of what happened last."""

    def __init__(self, *, depth: bool = False, deposit: str = "10000") -> None:
        self.exchange = Exchange(
            [replace(instrument_for(BTC), asset_id=0), replace(instrument_for(ETH), asset_id=1)],
            replace(RULES, has_depth=depth),
        )
        for address in (ANN, BEN):
            self.exchange.add_account(address, d(deposit))
        self.events: list[VenueEvent] = []
        self.minute = 0
        self.open("60000")

    def open(self, price: str) -> None:
        """The next bar opens here, for both coins."""
        eth = bar("3000", "3000", "3000", "3000", self.minute, ETH)
        self.events = self.exchange.open_bars([bar(price, price, price, price, self.minute), eth], {})

    def play(self, open_: str, high: str, low: str, close: str) -> list[VenueEvent]:
        """A whole bar: it opens, its range is walked, and the next one opens at its close."""
        self.exchange.open_bars([bar(open_, high, low, close, self.minute)], {})
        self.events = self.exchange.play_bars()
        self.minute += 1
        return self.events

    def place(
        self,
        *orders: Order,
        who: str = ANN,
        grouping: Grouping = Grouping.NA,
        tags: tuple[OrderTags, ...] = (),
    ) -> list[OrderResult]:
        results, self.events = self.exchange.place(who, orders, grouping, tags)
        return results

    def one(self, order: Order, who: str = ANN) -> OrderResult:
        return self.place(order, who=who)[0]

    def bracket(self, parent: Order, *children: Order, who: str = ANN) -> list[OrderResult]:
        return self.place(parent, *children, who=who, grouping=Grouping.NORMAL_TPSL)

    def words(self) -> list[str]:
        return [one.word for one in self.events if isinstance(one, OrderEvent)]

    def fills(self) -> list[tuple[Decimal, Decimal]]:
        """Price and size of the fills that happened last."""
        return [(one.fill.price, one.fill.size) for one in self.events if isinstance(one, FillEvent)]

    def paid(self) -> Iterator[FundingEvent]:
        return (one for one in self.events if isinstance(one, FundingEvent))

    def held(self, who: str = ANN, coin: Coin = BTC) -> Decimal:
        return self.exchange.position_size(who, coin)

    def resting(self, who: str = ANN) -> list[Decimal]:
        """Sizes that rest, oldest first."""
        return [self.exchange.size_of(one) for one in self.exchange.open_orders(who)]
