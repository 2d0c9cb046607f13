"""What an account may do with its money and its leverage besides trading; the venue's text where it refuses."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from aml100.domain.units import USD_STEP, ZERO, Coin
from aml100.sim.accounts import Account, Leverage, Transfer
from aml100.sim.books import Books
from aml100.sim.margin import free_margin
from aml100.sim.words import address_of

_AMOUNT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,20})?")
LEAST_KEPT_FRAC: Final = Decimal("0.1")
"""Of the notional, what isolated margin is never reduced below."""


def set_leverage(books: Books, address: str, coin: Coin, value: int, *, is_cross: bool = True) -> str | None:
    """Set a coin's leverage for later orders. With a position the mode stays, and lowering needs the margin for it."""
    account, instrument = books.accounts[address], books.instruments[coin]
    if not 1 <= value <= instrument.max_leverage:
        return "Invalid leverage value"
    present, held = account.leverage_of(instrument), account.holdings.get(coin)
    if held is not None:
        if present.is_cross != is_cross:
            return "Cannot switch leverage type with open position."
        notional = abs(held.size) * books.prices[coin]
        if value < present.value and is_cross:
            more = notional * (Decimal(1) / value - Decimal(1) / present.value)
            if more > free_margin(account, books.prices, books.instruments):
                return (
                    "Cross position does not have sufficient margin available to decrease leverage. "
                    "To decrease leverage, deposit more collateral."
                )
        if value < present.value and not is_cross:
            there = held.isolated_margin + held.size * (books.prices[coin] - held.entry)
            if notional / value > there:
                return (
                    "Isolated position does not have sufficient margin available to decrease leverage. "
                    "To decrease leverage, add margin to the position."
                )
    account.leverage[coin] = Leverage(value, is_cross)
    return None


def move_margin(books: Books, address: str, coin: Coin, amount: Decimal) -> str | None:
    """Add USD to the margin of an isolated position (negative: take some out)."""
    account, instrument = books.accounts[address], books.instruments[coin]
    held = account.holdings.get(coin)
    if amount == 0:
        return "Update to isolated margin cannot be zero."
    if held is None:
        return "Cannot update margin for empty position."
    leverage = account.leverage_of(instrument)
    if leverage.is_cross:
        return "Position does not use isolated margin."
    if amount > free_margin(account, books.prices, books.instruments):
        return "Account does not have sufficient margin available for increase."
    notional = abs(held.size) * books.prices[coin]
    there = held.isolated_margin + held.size * (books.prices[coin] - held.entry)
    if amount < 0 and there + amount < notional * max(Decimal(1) / leverage.value, LEAST_KEPT_FRAC):
        return "Position does not have sufficient margin for reduction."
    held.isolated_margin += amount
    return None


def send_usd(books: Books, address: str, destination: str, amount: str) -> str | None:
    """Move money that no position needs to another account, which is opened where it does not exist."""
    usd = Decimal(amount) if _AMOUNT.fullmatch(amount) else ZERO
    if usd <= 0 or usd != usd.quantize(USD_STEP):
        return "Invalid amount"
    if address_of(destination) is None or destination == address:
        return "Invalid destination"
    sender = books.accounts[address]
    view = books.margin(address)
    if usd > view.cross_value - max(view.cross_margin_used, LEAST_KEPT_FRAC * view.cross_notional):
        return "Insufficient balance for transfer."
    receiver = books.accounts.setdefault(destination, Account(destination, ZERO, ZERO))
    for account, signed in ((sender, -usd), (receiver, usd)):
        account.balance += signed
        account.deposits += signed
        account.transfers.append(Transfer(books.now_ms, "internalTransfer", signed, address, destination))
    return None
