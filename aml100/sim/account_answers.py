"""The simulated venue's accounts and orders in the venue's words: one pure function a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from aml100.domain.events import FundingPaid
from aml100.domain.orders import OrderKind, OrderStatus, TimeInForce
from aml100.domain.units import DAY_MS, ZERO, Coin, decimal_text, iso_utc
from aml100.sim.accounts import DEFAULT_LEVERAGE, Account, FillEvent, Leverage, OrderEvent, OrderRecord, Transfer
from aml100.sim.dexes import MAIN, dex_of
from aml100.sim.exchange import Exchange, ExchangeRules, OrderResult
from aml100.sim.margin import HoldingView, MarginView, free_margin
from aml100.sim.words import ZERO_HASH, Json, Object, rough, side_letter, text

VOLUME_DAYS: Final = 15


def clearinghouse(view: MarginView | None, time_ms: int, dex: str = MAIN) -> Object:
    """clearinghouseState of one exchange; None is an address never seen, which answers like a flat one.

    The account's money lies on the main exchange; what the positions on another one use is shown there, so that the
    account values of all exchanges add up to the account's worth.
    """
    mine = [] if view is None else [one for one in view.holdings if dex_of(one.coin) == dex]
    away = [] if view is None or dex else [one for one in view.holdings if dex_of(one.coin) != MAIN]
    lent = sum((one.margin_used for one in away), ZERO)
    there = sum((one.margin_used for one in mine), ZERO)
    cross = [one for one in mine if one.leverage.is_cross]
    cross_value = sum((one.margin_used for one in cross), ZERO)
    if view is not None and not dex:
        there = view.account_value - lent
        cross_value = view.cross_value - sum((one.margin_used for one in away if one.leverage.is_cross), ZERO)
    maintenance = sum((one.value / (2 * one.max_leverage) for one in cross), ZERO)
    withdrawable = ZERO if view is None or dex else view.withdrawable
    return {
        "marginSummary": _summary(there, mine),
        "crossMarginSummary": _summary(cross_value, cross),
        "crossMaintenanceMarginUsed": rough(maintenance),
        "withdrawable": rough(withdrawable),
        "assetPositions": [{"type": "oneWay", "position": _position(one)} for one in mine],
        "time": time_ms,
    }


def _summary(value: Decimal, holdings: Sequence[HoldingView]) -> Object:
    return {
        "accountValue": rough(value),
        "totalNtlPos": rough(sum((one.value for one in holdings), ZERO)),
        "totalRawUsd": rough(value - sum((one.value.copy_sign(one.size) for one in holdings), ZERO)),
        "totalMarginUsed": rough(sum((one.margin_used for one in holdings), ZERO)),
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


SizeOf = Callable[[OrderRecord], Decimal]
"""What an open order asks for now."""


def open_order(record: OrderRecord, size_of: SizeOf) -> Object:
    """An entry of openOrders."""
    answer: Object = {
        "coin": record.order.coin,
        "side": side_letter(record.order.side),
        "limitPx": text(record.order.price),
        "sz": text(size_of(record)),
        "oid": record.oid,
        "timestamp": record.placed_ms,
        "origSz": text(record.order.size),
    }
    if record.order.cloid:
        answer["cloid"] = record.order.cloid
    if record.order.reduce_only:
        answer["reduceOnly"] = True
    return answer


def front_order(record: OrderRecord, orders: Mapping[int, OrderRecord], size_of: SizeOf) -> Object:
    """The fuller form, with trigger and children; the children that still wait are listed inside their parent."""
    order = record.order
    trigger = order.trigger_price
    condition = "N/A"
    if trigger is not None:
        condition = f"Price {'below' if order.fires_below else 'above'} {decimal_text(trigger)}"
    waiting = [orders[oid] for oid in record.children if orders[oid].status is OrderStatus.WAITING]
    children: list[Json] = [front_order(one, orders, size_of) for one in waiting]
    return {
        "coin": order.coin,
        "side": side_letter(order.side),
        "limitPx": text(order.price),
        "sz": text(size_of(record)),
        "oid": record.oid,
        "timestamp": record.placed_ms,
        "triggerCondition": condition,
        "isTrigger": trigger is not None,
        "triggerPx": text(trigger or ZERO),
        "children": children,
        "isPositionTpsl": record.tags.on_position,
        "reduceOnly": order.reduce_only,
        "orderType": _order_type(record),
        "origSz": text(order.size),
        "tif": _tif(record),
        "cloid": order.cloid or None,
    }


def _tif(record: OrderRecord) -> str | None:
    if record.order.reason == "liquidation":
        return "LiquidationMarket"
    if record.tags.is_front_market:
        return "FrontendMarket"
    return None if record.order.tif is None else record.order.tif.value


def _order_type(record: OrderRecord) -> str:
    order = record.order
    if order.trigger_price is None:
        return "Market" if record.tags.is_front_market or order.reason == "liquidation" else "Limit"
    name = "Stop" if order.kind is OrderKind.STOP_LOSS else "Take Profit"
    return f"{name} {'Limit' if order.tif is TimeInForce.GTC else 'Market'}"


def historical_order(record: OrderRecord, orders: Mapping[int, OrderRecord], size_of: SizeOf) -> Object:
    return {
        "order": front_order(record, orders, size_of),
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
    if event.liquidation is not None:
        note = event.liquidation
        answer["liquidation"] = {"liquidatedUser": event.address, "markPx": text(note.mark), "method": note.method}
    return answer


def liquidation(event: FillEvent) -> Object | None:
    """What userEvents says of a liquidation; None for other fills."""
    if event.liquidation is None:
        return None
    return {
        "lid": event.fill.tid,
        "liquidator": "0x" + 40 * "0",
        "liquidated_user": event.address,
        "liquidated_ntl_pos": rough(event.liquidation.notional),
        "liquidated_account_value": rough(event.liquidation.account_value),
    }


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


def ledger_entry(one: Transfer) -> Object:
    """An entry of userNonFundingLedgerUpdates."""
    delta: Object = {"type": one.kind, "usdc": text(abs(one.amount))}
    if one.destination:
        delta |= {"user": one.user, "destination": one.destination, "fee": "0.0"}
    return {"time": one.time_ms, "hash": ZERO_HASH, "delta": delta}


def order_answer(result: OrderResult) -> Json:
    """A status element of the answer to an order."""
    if result.status is OrderStatus.REJECTED:
        return {"error": result.error}
    if result.status is OrderStatus.WAITING:
        return result.word
    ids: Object = {"oid": result.oid}
    if result.cloid is not None:
        ids["cloid"] = result.cloid
    if result.filled_size:
        return {"filled": {"totalSz": text(result.filled_size), "avgPx": _price(result.average_price), **ids}}
    return {"resting": ids}


def _price(average: Decimal) -> str:
    """An average price; one that came from a division is cut to ten decimals."""
    return text(average) if len(average.as_tuple().digits) < 28 else rough(average)


def joined(first: FillEvent, second: FillEvent) -> FillEvent:
    """Two executions of one order at one moment as one, at their average price."""
    one, two = first.fill, second.fill
    size = one.size + two.size
    price = (one.price * one.size + two.price * two.size) / size
    fill = replace(one, size=size, price=price, fee=one.fee + two.fee)
    return replace(first, fill=fill, closed_pnl=first.closed_pnl + second.closed_pnl)


def _daily_volume(account: Account | None, today_ms: int) -> list[Json]:
    """What an account traded on each of the last days, newest last."""
    days: dict[int, list[Decimal]] = {}
    for event in reversed(account.fills if account else []):
        day = event.fill.time_ms // DAY_MS
        if day < today_ms // DAY_MS - VOLUME_DAYS:
            break
        sums = days.setdefault(day, [ZERO, ZERO])
        sums[0 if event.fill.is_taker else 1] += event.fill.price * event.fill.size
    return [
        {"date": iso_utc(day * DAY_MS)[:10], "userCross": text(cross), "userAdd": text(add), "exchange": "0.0"}
        for day, (cross, add) in sorted(days.items())
    ]


def user_fees(rules: ExchangeRules, account: Account | None, now_ms: int) -> Object:
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
        "dailyUserVlm": _daily_volume(account, now_ms),
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


def rate_limit(account: Account | None, used: int, cap: int) -> Object:
    volume = ZERO if account is None else account.volume
    return {"cumVlm": text(volume), "nRequestsUsed": used, "nRequestsCap": cap, "nRequestsSurplus": 0}


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
