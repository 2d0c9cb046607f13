"""How the simulated venue puts its state into the venue's words: one pure function a message.

Decimals leave as text with a point in it, ids and times as integers, addresses in lower case. Amounts that come from
a division (average entry, return on equity, liquidation price) are cut to ten decimals; prices and sizes of fills
never are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

import numpy as np

from aml100.domain.events import FundingPaid
from aml100.domain.market import Bar, Instrument
from aml100.domain.orders import OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import DAY_MS, ZERO, Coin, decimal_from_float, decimal_text, interval_name
from aml100.market.series import BarSeries
from aml100.sim.accounts import (
    DEFAULT_LEVERAGE,
    Account,
    FillEvent,
    HoldingView,
    Leverage,
    MarginView,
    OrderEvent,
    OrderRecord,
    free_margin,
)
from aml100.sim.exchange import Exchange, ExchangeRules, OrderResult

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Object: TypeAlias = dict[str, Json]

ZERO_HASH: Final = "0x" + 64 * "0"
_TENTH: Final = Decimal("1e-10")


def text(value: Decimal) -> str:
    """A decimal as the venue writes it.

    >>> text(Decimal("65000")), text(Decimal("0.50"))
    ('65000.0', '0.5')
    """
    plain = decimal_text(value)
    return plain if "." in plain else plain + ".0"


def rough(value: Decimal) -> str:
    """A derived amount, cut to ten decimals."""
    return text(value.quantize(_TENTH))


def side_letter(side: Side) -> str:
    return "B" if side is Side.BUY else "A"


# --- the market ---------------------------------------------------------------------------------------------------


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
    }
    return {"tokens": [usdc], "universe": []}


def context(exchange: Exchange, coin: Coin, seen: BarSeries, rate: Decimal | None) -> Object:
    """An asset's context; `seen` are its closed bars, `rate` the hour's funding. Mark and oracle are the price.

    A coin that has not traded yet has no price: zeros and nulls, as the venue writes it for assets without a book.
    """
    price = exchange.prices.get(coin)
    day = seen.rows(max(0, len(seen) - DAY_MS // seen.interval_ms), len(seen))
    base, quote = float(day.volume.sum()), float(np.dot(day.volume, day.close))
    before = decimal_from_float(day.open[0]) if len(day) else price or ZERO
    mark = text(price or ZERO)
    return {
        "funding": text(rate or ZERO),
        "openInterest": "1000000.0",
        "prevDayPx": text(before),
        "dayNtlVlm": text(decimal_from_float(round(quote, 6))),
        "premium": None if price is None else "0.0",
        "oraclePx": mark,
        "markPx": mark,
        "midPx": None if price is None else mark,
        "impactPxs": None if price is None else [text(one) for one in exchange.touch(coin)],
        "dayBaseVlm": text(decimal_from_float(round(base, 8))),
    }


def levels(exchange: Exchange, coin: Coin, depth: int = 5) -> list[list[Object]]:
    """Bids and asks around the price, one level a tick: a picture for readers, orders execute by the rules."""
    if coin not in exchange.prices:
        return [[], []]
    instrument = exchange.instruments[coin]
    sides: list[list[Object]] = []
    for best, sign in zip(exchange.touch(coin), (-1, 1), strict=True):
        tick = Decimal(1).scaleb(best.as_tuple().exponent)  # type: ignore[arg-type]
        rows: list[Object] = []
        for row in range(depth):
            price = best + sign * row * tick
            if price <= 0:
                break
            size = instrument.round_size(Decimal(20_000 * (row + 1)) / price)
            rows.append({"px": text(price), "sz": text(max(size, _lot(instrument))), "n": row + 1})
        sides.append(rows)
    return sides


def _lot(instrument: Instrument) -> Decimal:
    return Decimal(1).scaleb(-instrument.sz_decimals)


def candle(bar: Bar) -> Object:
    """One bar as candleSnapshot and the candle stream show it."""
    return {
        "t": bar.open_ms,
        "T": bar.end_ms - 1,
        "s": bar.coin,
        "i": interval_name(bar.interval_ms),
        "o": text(bar.open),
        "c": text(bar.close),
        "h": text(bar.high),
        "l": text(bar.low),
        "v": text(bar.volume),
        "n": bar.trades,
    }


def merged(series: BarSeries, interval_ms: int) -> BarSeries:
    """Bars of a larger interval, a multiple of the series' own, from the bars there are."""
    group = series.open_ms // interval_ms
    first = np.flatnonzero(np.diff(group, prepend=group[0] - 1)) if len(series) else np.zeros(0, np.int64)
    last = np.append(first[1:], len(series)) - 1 if len(series) else first
    if len(series) == 0:
        return series
    return BarSeries(
        series.coin,
        interval_ms,
        series.origin,
        group[first] * interval_ms,
        series.open[first],
        np.maximum.reduceat(series.high, first),
        np.minimum.reduceat(series.low, first),
        series.close[last],
        np.add.reduceat(series.volume, first),
    )


# --- accounts -----------------------------------------------------------------------------------------------------


def clearinghouse(view: MarginView | None, time_ms: int) -> Object:
    """clearinghouseState; None is an address never seen, which answers like a flat one."""
    if view is None:
        empty = {"accountValue": "0.0", "totalNtlPos": "0.0", "totalRawUsd": "0.0", "totalMarginUsed": "0.0"}
        total, cross, maintenance, withdrawable = empty, dict(empty), "0.0", "0.0"
        holdings: list[Json] = []
    else:
        total = {
            "accountValue": rough(view.account_value),
            "totalNtlPos": rough(view.notional),
            "totalRawUsd": rough(view.raw_usd),
            "totalMarginUsed": rough(view.margin_used),
        }
        cross = {
            "accountValue": rough(view.cross_value),
            "totalNtlPos": rough(view.cross_notional),
            "totalRawUsd": rough(view.cross_raw_usd),
            "totalMarginUsed": rough(view.cross_margin_used),
        }
        maintenance, withdrawable = rough(view.cross_maintenance), rough(view.withdrawable)
        holdings = [{"type": "oneWay", "position": _position(one)} for one in view.holdings]
    return {
        "marginSummary": total,
        "crossMarginSummary": cross,
        "crossMaintenanceMarginUsed": maintenance,
        "withdrawable": withdrawable,
        "assetPositions": holdings,
        "time": time_ms,
    }


def _position(one: HoldingView) -> Object:
    leverage: Object = {"type": "cross", "value": one.leverage.value}
    if one.raw_usd is not None:
        leverage = {"type": "isolated", "value": one.leverage.value, "rawUsd": rough(one.raw_usd)}
    return {
        "coin": one.coin,
        "szi": text(one.size),
        "leverage": leverage,
        "entryPx": rough(one.entry),
        "positionValue": rough(one.value),
        "unrealizedPnl": rough(one.unrealised),
        "returnOnEquity": rough(one.return_on_equity),
        "liquidationPx": None if one.liquidation_px is None else rough(one.liquidation_px),
        "marginUsed": rough(one.margin_used),
        "maxLeverage": one.max_leverage,
        "cumFunding": {
            "allTime": text(one.funding_all_time),
            "sinceOpen": text(one.funding_since_open),
            "sinceChange": text(one.funding_since_change),
        },
    }


def open_order(record: OrderRecord) -> Object:
    """An entry of openOrders."""
    answer: Object = {
        "coin": record.order.coin,
        "side": side_letter(record.order.side),
        "limitPx": text(record.order.price),
        "sz": text(record.remaining),
        "oid": record.oid,
        "timestamp": record.placed_ms,
        "origSz": text(record.order.size),
    }
    if record.order.cloid:
        answer["cloid"] = record.order.cloid
    if record.order.reduce_only:
        answer["reduceOnly"] = True
    return answer


def front_order(record: OrderRecord, orders: Mapping[int, OrderRecord]) -> Object:
    """The fuller form, with trigger and children; the children that still wait are listed inside their parent."""
    order = record.order
    trigger = order.trigger_price
    condition = "N/A"
    if trigger is not None:
        falls = (order.side is Side.SELL) == (order.kind is OrderKind.STOP_LOSS)
        condition = f"Price {'below' if falls else 'above'} {decimal_text(trigger)}"
    children: list[Json] = [
        front_order(orders[oid], orders) for oid in record.children if orders[oid].status is OrderStatus.WAITING
    ]
    return {
        "coin": order.coin,
        "side": side_letter(order.side),
        "limitPx": text(order.price),
        "sz": text(record.remaining),
        "oid": record.oid,
        "timestamp": record.placed_ms,
        "triggerCondition": condition,
        "isTrigger": trigger is not None,
        "triggerPx": text(trigger or ZERO),
        "children": children,
        "isPositionTpsl": False,
        "reduceOnly": order.reduce_only,
        "orderType": _order_type(record),
        "origSz": text(order.size),
        "tif": order.tif.value if order.tif is not None else None,
        "cloid": order.cloid or None,
    }


def _order_type(record: OrderRecord) -> str:
    order = record.order
    if order.trigger_price is None:
        return "Limit"
    name = "Stop" if order.kind is OrderKind.STOP_LOSS else "Take Profit"
    return f"{name} {'Limit' if order.tif is TimeInForce.GTC else 'Market'}"


def historical_order(record: OrderRecord, orders: Mapping[int, OrderRecord]) -> Object:
    return {
        "order": front_order(record, orders),
        "status": record.word,
        "statusTimestamp": record.changed_ms,
    }


def order_update(event: OrderEvent) -> Object:
    """An element of the orderUpdates stream."""
    order: Object = {
        "coin": event.order.coin,
        "side": side_letter(event.order.side),
        "limitPx": text(event.order.price),
        "sz": text(event.remaining),
        "oid": event.oid,
        "timestamp": event.placed_ms,
        "origSz": text(event.order.size),
    }
    if event.cloid is not None:
        order["cloid"] = event.cloid
    return {"order": order, "status": event.word, "statusTimestamp": event.time_ms}


def fill(event: FillEvent) -> Object:
    """A fill as userFills shows it; the hash is zeros, as for many of the venue's own."""
    one = event.fill
    answer: Object = {
        "coin": one.coin,
        "px": text(one.price),
        "sz": text(one.size),
        "side": side_letter(one.side),
        "time": one.time_ms,
        "startPosition": text(event.start_position),
        "dir": event.dir,
        "closedPnl": rough(event.closed_pnl),
        "hash": ZERO_HASH,
        "oid": one.oid,
        "crossed": one.is_taker,
        "fee": text(one.fee),
        "tid": one.tid,
        "feeToken": "USDC",
        "twapId": None,
    }
    if one.cloid is not None:
        answer["cloid"] = one.cloid
    if one.is_liquidation:
        answer["liquidation"] = {"liquidatedUser": event.address, "markPx": text(one.price), "method": "market"}
    return answer


def funding_delta(paid: FundingPaid) -> Object:
    """The flat form of the streams; /info wraps it as a ledger entry."""
    return {
        "coin": paid.coin,
        "usdc": text(paid.amount),
        "szi": text(paid.size),
        "fundingRate": text(paid.rate),
        "nSamples": None,
    }


def funding_entry(paid: FundingPaid) -> Object:
    return {"time": paid.time_ms, "hash": ZERO_HASH, "delta": {"type": "funding", **funding_delta(paid)}}


def order_answer(result: OrderResult) -> Json:
    """A status element of the answer to an order."""
    if result.status is OrderStatus.REJECTED:
        return {"error": result.error}
    if result.status is OrderStatus.WAITING:
        return result.word
    ids: Object = {"oid": result.oid}
    if result.cloid is not None:
        ids["cloid"] = result.cloid
    if result.status is OrderStatus.FILLED:
        return {"filled": {"totalSz": text(result.filled_size), "avgPx": text(result.average_price), **ids}}
    return {"resting": ids}


def user_fees(rules: ExchangeRules) -> Object:
    taker, maker = decimal_text(rules.taker_fee_frac), decimal_text(rules.maker_fee_frac)
    schedule: Object = {
        "cross": taker,
        "add": maker,
        "spotCross": "0.0007",
        "spotAdd": "0.0004",
        "tiers": {"vip": [], "mm": []},
        "referralDiscount": "0.04",
        "stakingDiscountTiers": [],
    }
    return {
        "dailyUserVlm": [],
        "feeSchedule": schedule,
        "userCrossRate": taker,
        "userAddRate": maker,
        "userSpotCrossRate": "0.0007",
        "userSpotAddRate": "0.0004",
        "activeReferralDiscount": "0.0",
        "trial": None,
        "feeTrialEscrow": "0.0",
        "nextTrialAvailableTimestamp": None,
        "stakingLink": None,
        "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
    }


def rate_limit(account: Account | None, used: int) -> Object:
    volume = ZERO if account is None else account.volume
    return {"cumVlm": text(volume), "nRequestsUsed": used, "nRequestsCap": 10_000 + int(volume), "nRequestsSurplus": 0}


def active_asset(exchange: Exchange, user: str, coin: Coin) -> Object:
    """activeAssetData: leverage, and what could be bought and sold with the margin there is."""
    instrument, mark = exchange.instruments[coin], exchange.prices.get(coin, ZERO)
    account = exchange.accounts.get(user)
    leverage = Leverage(min(DEFAULT_LEVERAGE, instrument.max_leverage))
    free = held = ZERO
    if account is not None:
        leverage = account.leverage_of(instrument)
        free = max(ZERO, free_margin(account, exchange.prices, exchange.instruments))
        held = exchange.position_size(user, coin)
    freed = 2 * abs(held) * mark / leverage.value
    available = [free + (freed if held < 0 else ZERO), free + (freed if held > 0 else ZERO)]
    sizes = [instrument.round_size(one * leverage.value / mark) if mark else ZERO for one in available]
    return {
        "user": user,
        "coin": coin,
        "leverage": {"type": "cross" if leverage.is_cross else "isolated", "value": leverage.value},
        "maxTradeSzs": [text(one) for one in sizes],
        "availableToTrade": [rough(one) for one in available],
        "markPx": text(mark),
    }


def with_bar(series: BarSeries, bar: Bar) -> BarSeries:
    """The series with one more bar behind it."""
    return BarSeries(
        series.coin,
        series.interval_ms,
        series.origin,
        np.append(series.open_ms, np.int64(bar.open_ms)),
        np.append(series.open, float(bar.open)),
        np.append(series.high, float(bar.high)),
        np.append(series.low, float(bar.low)),
        np.append(series.close, float(bar.close)),
        np.append(series.volume, float(bar.volume)),
    )
