"""Liquidation at the simulated venue: what happens to an account that a price leaves under its maintenance margin.

Cross positions stand or fall together, an isolated one by itself. A position is closed by a market order at its
liquidation price, or at the open where the market opens beyond it. One of more than 100,000 USD loses a fifth first
and is left alone for 30 seconds. Under two thirds of the maintenance margin there is no time for that: the backstop
takes the position over at the price that uses up its margin, so nobody ever owes the venue anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from aml100.domain.market import Bar
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.sim.accounts import Account, Holding, Liquidated, VenueEvent
from aml100.sim.executions import Executions
from aml100.sim.margin import maintenance_margin, margin_view

LARGE_USD: Final = 100_000
FIRST_SHARE: Final = Decimal("0.2")
COOLDOWN_MS: Final = 30_000
BACKSTOP_SHARE: Final = Decimal(2) / 3
_FINE: Final = Decimal("1e-8")

Prices: TypeAlias = Mapping[Coin, Decimal]


def liquidate(books: Executions, account: Account, bars: Sequence[Bar], events: list[VenueEvent]) -> None:
    """Close what the worst prices of these bars leave under its maintenance margin; `books.prices` are their opens."""
    worst = dict(books.prices)
    for bar in bars:
        held = account.holdings.get(bar.coin)
        if held is not None:
            worst[bar.coin] = bar.low if held.size > 0 else bar.high
    doomed = _under_maintenance(books, account, worst)
    if not doomed:
        return
    view = margin_view(account, books.prices, books.instruments)
    levels = {one.coin: one.liquidation_px for one in view.holdings}
    any_cross = any(account.leverage_of(books.instruments[coin]).is_cross for coin in doomed)
    for record in [books.orders[oid] for oid in account.open_oids]:
        if (any_cross or record.order.coin in doomed) and record.oid in account.open_oids:
            books.close(record, OrderStatus.CANCELED, "liquidatedCanceled", events)
    at: dict[Coin, Decimal] = {}
    for coin in doomed:
        level, here, floor = levels[coin] or worst[coin], books.prices[coin], worst[coin]
        is_long = account.holdings[coin].size > 0
        at[coin] = min(here, max(level, floor)) if is_long else max(here, min(level, floor))
    for coins in _pots(books, account, doomed):
        _close_pot(books, account, coins, at, events)
    books.note_activity(account)


def _under_maintenance(books: Executions, account: Account, prices: Prices) -> list[Coin]:
    """Coins whose positions fall at these prices, isolated ones first."""
    cross: list[Coin] = []
    fallen: list[Coin] = []
    margin, maintenance = account.balance, ZERO
    for coin, held in account.holdings.items():
        price, instrument = prices[coin], books.instruments[coin]
        unrealised = held.size * (price - held.entry)
        needed = maintenance_margin(held.size, price, instrument)
        if account.leverage_of(instrument).is_cross:
            cross.append(coin)
            margin += unrealised
            maintenance += needed
        else:
            margin -= held.isolated_margin
            if held.isolated_margin + unrealised < needed:
                fallen.append(coin)
    return fallen + cross if cross and margin < maintenance else fallen


def _pots(books: Executions, account: Account, coins: Sequence[Coin]) -> list[list[Coin]]:
    """Positions that share margin, together: each isolated one alone, all cross ones."""
    cross = [coin for coin in coins if account.leverage_of(books.instruments[coin]).is_cross]
    return [[coin] for coin in coins if coin not in cross] + ([cross] if cross else [])


def _close_pot(
    books: Executions, account: Account, coins: Sequence[Coin], at: Prices, events: list[VenueEvent]
) -> None:
    prices = {**books.prices, **at}
    if books.rules.has_depth:  # whose prices are those of the grid
        for coin in coins:
            prices[coin] = _on_grid(books, coin, account.holdings[coin], prices[coin])
    equity = maintenance = notional = ZERO
    is_cross = account.leverage_of(books.instruments[coins[0]]).is_cross
    if is_cross:
        equity = account.balance - sum((one.isolated_margin for one in account.holdings.values()), ZERO)
    for coin in coins:
        held = account.holdings[coin]
        equity += held.size * (prices[coin] - held.entry) + (ZERO if is_cross else held.isolated_margin)
        maintenance += maintenance_margin(held.size, prices[coin], books.instruments[coin])
        notional += abs(held.size) * prices[coin]
    is_backstop = equity < maintenance * BACKSTOP_SHARE
    value = account.balance + sum(
        (one.size * (prices[coin] - one.entry) for coin, one in account.holdings.items()), ZERO
    )
    for coin in coins:
        held, price = account.holdings[coin], prices[coin]
        if is_backstop:
            price -= (equity / notional * price * (1 if held.size > 0 else -1)).quantize(_FINE)
            note = Liquidated(prices[coin], "backstop", abs(held.size) * prices[coin], value)
            _close_one(books, account, coin, held, abs(held.size), price, note, events)
            continue
        size = _market_share(books, account, coin, held, price)
        if size:
            note = Liquidated(price, "market", size * price, value)
            _close_one(books, account, coin, held, size, price, note, events)


def _market_share(books: Executions, account: Account, coin: Coin, held: Holding, price: Decimal) -> Decimal:
    """How much of a position the market order closes now; 0 while it is left alone."""
    until = account.cooling.get(coin)
    if until is not None and books.now_ms < until:
        return ZERO
    if until is None and abs(held.size) * price > LARGE_USD:
        account.cooling[coin] = books.now_ms + COOLDOWN_MS
        return books.instruments[coin].round_size(abs(held.size) * FIRST_SHARE)
    account.cooling.pop(coin, None)
    return abs(held.size)


def _on_grid(books: Executions, coin: Coin, held: Holding, price: Decimal) -> Decimal:
    """A price for closing a position, rounded against it to one that the venue quotes."""
    return books.instruments[coin].limit_price(price, Side.SELL if held.size > 0 else Side.BUY)


def _close_one(
    books: Executions,
    account: Account,
    coin: Coin,
    held: Holding,
    size: Decimal,
    price: Decimal,
    note: Liquidated,
    events: list[VenueEvent],
) -> None:
    side = Side.SELL if held.size > 0 else Side.BUY
    order = Order(Cloid(""), coin, side, OrderKind.EXIT, size, note.mark, True, TimeInForce.IOC, reason="liquidation")
    record = books.record(account, order, books.take_oid(), OrderStatus.RESTING, "open")
    paid = price if note.method == "backstop" else books.worsened(price, side)
    if books.rules.has_depth and note.method != "backstop":
        paid = _on_grid(books, coin, held, paid)
    books.book_fill(account, record, side, size, paid, events, is_taker=True, liquidation=note)
    record.remaining = ZERO
    books.close(record, OrderStatus.FILLED, "filled", events)
    if coin not in account.holdings:
        account.cooling.pop(coin, None)
