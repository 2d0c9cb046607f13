"""The simulated venue's market in the venue's words: one pure function a message."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import numpy as np

from aml100.domain.market import Bar, Instrument
from aml100.domain.orders import Side
from aml100.domain.units import DAY_MS, ZERO, Coin, decimal_from_float
from aml100.market.series import BarSeries
from aml100.sim.exchange import Exchange
from aml100.sim.words import Json, Object, text

OPEN_INTEREST: Final = "1000000.0"


def meta(instruments: Sequence[Instrument]) -> Object:
    """The perpetuals by asset id. A coin nobody knows says so with `pxDecimals: null`, a key of this venue only."""
    universe: list[Json] = []
    for one in instruments:
        entry: Object = {
            "szDecimals": one.sz_decimals,
            "name": one.coin,
            "maxLeverage": one.max_leverage,
            "marginTableId": one.max_leverage,
        }
        if one.px_decimals is None:
            entry["pxDecimals"] = None
        universe.append(entry)
    return {"universe": universe, "marginTables": [], "collateralToken": 0}


def margin_table(max_leverage: int) -> Object:
    """A table of one tier, as ids below 50 mean."""
    tier: Object = {"lowerBound": "0.0", "maxLeverage": max_leverage}
    return {"description": "", "marginTiers": [tier]}


def perp_dex(name: str, coins: Sequence[Coin]) -> Json:
    """An entry of perpDexs; None stands for the main exchange."""
    if not name:
        return None
    return {
        "name": name,
        "fullName": name,
        "deployer": "0x" + 40 * "0",
        "oracleUpdater": None,
        "feeRecipient": None,
        "assetToStreamingOiCap": [[coin, OPEN_INTEREST] for coin in coins],
        "subDeployers": [],
        "deployerFeeScale": "1.0",
        "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
        "assetToFundingMultiplier": [],
    }


def spot_meta() -> Object:
    """No spot market: the collateral and nothing to trade it against."""
    usdc: Object = {
        "name": "USDC",
        "szDecimals": 8,
        "weiDecimals": 8,
        "index": 0,
        "tokenId": "0x6d1e7cde53ba9467b783cb7c530ce054",
        "isCanonical": True,
        "evmContract": None,
        "fullName": None,
        "deployerTradingFeeShare": "0.0",
    }
    return {"tokens": [usdc], "universe": []}


def context(
    exchange: Exchange, coin: Coin, seen: BarSeries, rate: Decimal | None, price: Decimal | None = None
) -> Object:
    """An asset's context; `seen` are its closed bars, `rate` the hour's funding. Mark and oracle are the price.

    A coin that has not traded yet has no price: zeros and nulls, as the venue writes it for assets without a book.
    """
    price = exchange.prices.get(coin) if price is None else price
    day = seen.rows(max(0, len(seen) - DAY_MS // seen.interval_ms), len(seen))
    base, quote = float(day.volume.sum()), float(np.dot(day.volume, day.close))
    before = decimal_from_float(day.open[0]) if len(day) else price or ZERO
    mark = text(price or ZERO)
    return {
        "funding": text(rate or ZERO),
        "openInterest": OPEN_INTEREST,
        "prevDayPx": text(before),
        "dayNtlVlm": text(decimal_from_float(round(quote, 6))),
        "premium": None if price is None else "0.0",
        "oraclePx": mark,
        "markPx": mark,
        "midPx": None if price is None else mark,
        "impactPxs": None if price is None else [text(one) for one in exchange.touch(coin, price)],
        "dayBaseVlm": text(decimal_from_float(round(base, 8))),
    }


def levels(exchange: Exchange, coin: Coin, depth: int, price: Decimal | None = None) -> list[list[Object]]:
    """Bids and asks around the price (the present one unless given), best first.

    Where the book has depth, the resting orders of accounts stand among them; else it is a picture for readers, and
    orders execute by the rules.
    """
    price = exchange.prices.get(coin) if price is None else price
    if price is None:
        return [[], []]
    return [
        [{"px": text(at), "sz": text(size), "n": count} for at, size, count in rows[:depth]]
        for rows in (_side(exchange, coin, side, price) for side in (Side.BUY, Side.SELL))
    ]


def aggregated(
    exchange: Exchange, coin: Coin, depth: int, price: Decimal | None, figures: int, mantissa: int | None
) -> list[list[Object]]:
    """The same with prices of `figures` significant figures (and of 5 in steps of the mantissa), bids down, asks up."""
    price = exchange.prices.get(coin) if price is None else price
    if price is None:
        return [[], []]
    sides: list[list[Object]] = []
    for side, rounding in ((Side.BUY, ROUND_FLOOR), (Side.SELL, ROUND_CEILING)):
        grouped: dict[Decimal, tuple[Decimal, int]] = {}
        for at, size, count in _side(exchange, coin, side, price):
            step = Decimal(1).scaleb(at.adjusted() - figures + 1) * (mantissa or 1)
            group = (at / step).to_integral_value(rounding) * step
            before = grouped.get(group, (ZERO, 0))
            grouped[group] = before[0] + size, before[1] + count
        rows = sorted(grouped.items(), reverse=side is Side.BUY)[:depth]
        sides.append([{"px": text(at), "sz": text(size), "n": count} for at, (size, count) in rows])
    return sides


def _side(exchange: Exchange, coin: Coin, side: Side, price: Decimal) -> list[tuple[Decimal, Decimal, int]]:
    """Price, size and number of orders of every level of one side, best first."""
    ladder = exchange.ladder.levels(price, exchange.instruments[coin], side)
    rows = {one.price: (one.size, one.orders) for one in ladder}
    if exchange.rules.has_depth:
        for record in exchange.makers(coin, side):
            size, count = rows.get(record.order.price, (ZERO, 0))
            rows[record.order.price] = size + record.remaining, count + 1
    return [(at, *rows[at]) for at in sorted(rows, reverse=side is Side.BUY)]


def candle(bar: Bar, interval: str) -> Object:
    """One bar as candleSnapshot and the candle stream show it."""
    return {
        "t": bar.open_ms,
        "T": bar.end_ms - 1,
        "s": bar.coin,
        "i": interval,
        "o": text(bar.open),
        "c": text(bar.close),
        "h": text(bar.high),
        "l": text(bar.low),
        "v": text(bar.volume),
        "n": bar.trades,
    }
