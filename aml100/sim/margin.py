"""Margin arithmetic of the simulated venue: what an account is worth, what it may still open, when it is liquidated.

Pure functions of an account, the present prices and the instruments, by the relations that hold on recorded answers.
Maintenance margin is half of the initial margin at the coin's highest leverage, one tier a coin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from aml100.domain.market import Instrument
from aml100.domain.units import ZERO, Coin
from aml100.sim.accounts import Account, Holding, Leverage


@dataclass(frozen=True, slots=True)
class HoldingView:
    """One position as clearinghouseState shows it. `raw_usd` is None under cross margin."""

    coin: Coin
    size: Decimal
    entry: Decimal
    leverage: Leverage
    raw_usd: Decimal | None
    value: Decimal
    unrealised: Decimal
    return_on_equity: Decimal
    liquidation_px: Decimal | None
    margin_used: Decimal
    max_leverage: int
    funding_all_time: Decimal
    funding_since_open: Decimal
    funding_since_change: Decimal


@dataclass(frozen=True, slots=True)
class MarginView:
    """The numbers of clearinghouseState, in USD; `cross_` counts positions under cross margin only."""

    account_value: Decimal
    notional: Decimal
    raw_usd: Decimal
    margin_used: Decimal
    cross_value: Decimal
    cross_notional: Decimal
    cross_margin_used: Decimal
    cross_maintenance: Decimal
    withdrawable: Decimal
    holdings: tuple[HoldingView, ...]


def maintenance_margin(size: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Half of the initial margin at the coin's highest leverage, in USD."""
    return abs(size) * price / (2 * instrument.max_leverage)


def margin_view(account: Account, prices: Mapping[Coin, Decimal], instruments: Mapping[Coin, Instrument]) -> MarginView:
    """What the venue would answer about this account at these prices."""
    account_value = cross_value = account.balance
    notional = margin_used = cross_notional = cross_margin_used = cross_maintenance = net = ZERO
    for coin, held in account.holdings.items():
        mark = prices[coin]
        value = abs(held.size) * mark
        unrealised = held.size * (mark - held.entry)
        account_value += unrealised
        notional += value
        net += held.size * mark
        leverage = account.leverage_of(instruments[coin])
        if leverage.is_cross:
            cross_value += unrealised
            cross_notional += value
            cross_margin_used += value / leverage.value
            cross_maintenance += maintenance_margin(held.size, mark, instruments[coin])
        else:
            cross_value -= held.isolated_margin
            margin_used += held.isolated_margin + unrealised
    views = tuple(
        _holding_view(account, coin, held, prices[coin], instruments[coin], cross_value - cross_maintenance)
        for coin, held in account.holdings.items()
    )
    return MarginView(
        account_value=account_value,
        notional=notional,
        raw_usd=account_value - net,
        margin_used=margin_used + cross_margin_used,
        cross_value=cross_value,
        cross_notional=cross_notional,
        cross_margin_used=cross_margin_used,
        cross_maintenance=cross_maintenance,
        withdrawable=max(ZERO, cross_value - cross_margin_used),
        holdings=views,
    )


def _holding_view(
    account: Account, coin: Coin, held: Holding, mark: Decimal, instrument: Instrument, cross_available: Decimal
) -> HoldingView:
    leverage = account.leverage_of(instrument)
    value = abs(held.size) * mark
    unrealised = held.size * (mark - held.entry)
    if leverage.is_cross:
        margin_used, raw_usd, available = value / leverage.value, None, cross_available
    else:
        margin_used = held.isolated_margin + unrealised
        raw_usd = margin_used - held.size * mark
        available = margin_used - maintenance_margin(held.size, mark, instrument)
    entry_margin = abs(held.size) * held.entry / leverage.value
    return HoldingView(
        coin=coin,
        size=held.size,
        entry=held.entry,
        leverage=leverage,
        raw_usd=raw_usd,
        value=value,
        unrealised=unrealised,
        return_on_equity=unrealised / entry_margin,
        liquidation_px=liquidation_price(held.size, mark, available, instrument),
        margin_used=margin_used,
        max_leverage=instrument.max_leverage,
        funding_all_time=account.funding_all_time.get(coin, ZERO),
        funding_since_open=held.funding_since_open,
        funding_since_change=held.funding_since_change,
    )


def liquidation_price(size: Decimal, mark: Decimal, available: Decimal, instrument: Instrument) -> Decimal | None:
    """Where the position's equity meets its maintenance margin; None where no positive price does.

    `available` is what stands between the account (or the isolated margin) and maintenance now, in USD.
    """
    side = 1 if size > 0 else -1
    rate = Decimal(1) / (2 * instrument.max_leverage)
    price = mark - side * available / abs(size) / (1 - rate * side)
    return price if price > 0 else None


def free_margin(account: Account, prices: Mapping[Coin, Decimal], instruments: Mapping[Coin, Instrument]) -> Decimal:
    """Cross equity that no position uses as initial margin, in USD."""
    free = account.balance
    for coin, held in account.holdings.items():
        leverage = account.leverage_of(instruments[coin])
        if leverage.is_cross:
            mark = prices[coin]
            free += held.size * (mark - held.entry) - abs(held.size) * mark / leverage.value
        else:
            free -= held.isolated_margin
    return free
