"""From the venue's words to ours.

Text becomes exact and finite numbers, or a `ProtocolViolation` that names the path of what is wrong; markets that are
no perpetuals (spot pairs of the same account) are passed over. Bytes of any kind give an answer or a
`ProtocolViolation`, nothing else. The way out is `placing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final, TypeVar, assert_never

import msgspec

from aml100.domain.errors import ProtocolViolation
from aml100.domain.events import FundingPaid, OrderChanged, RestingOrder, SeriesEnd
from aml100.domain.market import AssetContext, Bar, BookTop, FundingRate, Instrument, Trade
from aml100.domain.orders import Fill, OrderStatus
from aml100.domain.units import HOUR_MS, INTERVALS, Cloid, Coin
from aml100.venue import wire
from aml100.venue.news import (
    AccountState,
    CandleUpdate,
    DepthSeen,
    FillsSeen,
    ForeignOrderSeen,
    FundingsSeen,
    MidsSeen,
    MoneyMoved,
    SimStep,
    TradesSeen,
    VenueEvent,
    VenuePosition,
)
from aml100.venue.words import (
    cloid_from,
    is_perpetual,
    number,
    number_or_none,
    order_status,
    positive,
    side_from,
    status_reason,
)

T = TypeVar("T")

# --- bytes to structs -------------------------------------------------------------------------------------------

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_frame(data: bytes | str) -> wire.AnyKnownFrame | None:
    """A websocket frame; None for one that says nothing to us (a greeting, a channel nobody asked for).

    Raises:
        ProtocolViolation: it is no JSON, or not of its channel's shape.
    """
    try:
        frame: wire.AnyKnownFrame = wire.frame_decoder.decode(data)
        return frame
    except _UNREADABLE as problem:
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        if raw.strip() == wire.GREETING:
            return None
        try:
            channel = wire.channel_decoder.decode(data).channel
        except _UNREADABLE:
            raise ProtocolViolation(f"frame: {problem}") from None
        if channel not in wire.CHANNELS:
            return None
        raise ProtocolViolation(f"frame {channel}: {problem}") from None


def decode_answer(data: bytes, kind: type[T], what: str) -> T:
    """The answer to a request, as `kind`; ProtocolViolation that starts with `what` otherwise."""
    try:
        return msgspec.json.decode(data, type=kind)
    except _UNREADABLE as problem:
        raise ProtocolViolation(f"{what}: {problem}") from None


# --- structs to domain ------------------------------------------------------------------------------------------


def instruments_from(meta: wire.Meta, first_id: int = 0) -> dict[Coin, Instrument]:
    """Rules of every listed perpetual; the index in the universe, counted with the delisted ones, is its asset id."""
    found: dict[Coin, Instrument] = {}
    for index, entry in enumerate(meta.universe):
        if entry.isDelisted:
            continue
        px_decimals = 6 - entry.szDecimals if entry.pxDecimals is msgspec.UNSET else entry.pxDecimals
        coin = Coin(entry.name)
        isolated = entry.onlyIsolated or entry.marginMode in ("strictIsolated", "noCross")
        found[coin] = Instrument(coin, first_id + index, entry.szDecimals, entry.maxLeverage, px_decimals, isolated)
    return found


def context_from(coin: Coin, ctx: wire.ContextWire) -> AssetContext | None:
    """None for an asset that has no mark price, as some delisted ones."""
    if ctx.markPx is None:
        return None
    return AssetContext(
        coin=coin,
        mark=positive(ctx.markPx, f"{coin}.markPx"),
        oracle=positive(ctx.oraclePx, f"{coin}.oraclePx"),
        funding_rate=number(ctx.funding, f"{coin}.funding"),
        premium=number_or_none(ctx.premium, f"{coin}.premium"),
    )


def bar_from(row: wire.CandleWire, origin: str) -> Bar:
    """A candle as a bar; ProtocolViolation where its prices contradict each other."""
    interval_ms = INTERVALS.get(row.i)
    if interval_ms is None:
        raise ProtocolViolation(f"candle.i: unknown interval {row.i[:20]!r}")
    open_, high, low, close = (
        positive(row.o, "candle.o"),
        positive(row.h, "candle.h"),
        positive(row.l, "candle.l"),
        positive(row.c, "candle.c"),
    )
    volume = number(row.v, "candle.v")
    if not low <= min(open_, close) <= max(open_, close) <= high or volume < 0 or row.n < 0 or row.t % interval_ms:
        raise ProtocolViolation(f"candle of {row.s} at {row.t}: prices, volume or time contradict each other")
    return Bar(Coin(row.s), interval_ms, row.t, open_, high, low, close, volume, row.n, origin)


def trade_from(row: wire.TradeWire) -> Trade:
    """A public print; `side` is the taker's."""
    return Trade(
        coin=Coin(row.coin),
        side=side_from(row.side, "trades.side"),
        price=positive(row.px, "trades.px"),
        size=positive(row.sz, "trades.sz"),
        time_ms=row.time,
        tid=row.tid,
    )


def book_top_from(coin: str, time_ms: int, bid: wire.LevelWire | None, ask: wire.LevelWire | None) -> BookTop:
    """The touch, with its sizes; None for a side that is empty."""
    return BookTop(
        Coin(coin),
        time_ms,
        None if bid is None else positive(bid.px, f"{coin}.bid"),
        None if ask is None else positive(ask.px, f"{coin}.ask"),
        None if bid is None else number(bid.sz, f"{coin}.bid.sz"),
        None if ask is None else number(ask.sz, f"{coin}.ask.sz"),
    )


def book_from(book: wire.BookWire) -> BookTop:
    """The touch of a whole book."""
    bids, asks = book.levels
    return book_top_from(book.coin, book.time, bids[0] if bids else None, asks[0] if asks else None)


def depth_from(book: wire.BookWire) -> DepthSeen:
    """Every visible level of a book."""
    px, sz = f"{book.coin}.px", f"{book.coin}.sz"
    bids, asks = (tuple([(positive(one.px, px), number(one.sz, sz)) for one in side]) for side in book.levels)
    return DepthSeen(Coin(book.coin), book.time, bids, asks)


def funding_rate_from(row: wire.FundingRateWire) -> FundingRate:
    """Rows are stamped some milliseconds past the hour they settle; the stamp here is that hour."""
    premium = None if row.premium is None else number(row.premium, "premium")
    return FundingRate(Coin(row.coin), row.time - row.time % HOUR_MS, number(row.fundingRate, "fundingRate"), premium)


def fill_from(row: wire.FillWire, user: str | None = None) -> Fill:
    """A fill of `user`'s; a liquidation counts as one only where it was the user who was liquidated."""
    liquidated = row.liquidation is not None and (
        user is None or row.liquidation.liquidatedUser is None or row.liquidation.liquidatedUser.lower() == user.lower()
    )
    return Fill(
        coin=Coin(row.coin),
        side=side_from(row.side, "fill.side"),
        price=positive(row.px, "fill.px"),
        size=positive(row.sz, "fill.sz"),
        fee=number(row.fee, "fill.fee"),
        time_ms=row.time,
        tid=row.tid,
        oid=row.oid,
        cloid=cloid_from(row.cloid),
        is_taker=row.crossed,
        is_liquidation=liquidated,
    )


def funding_paid_from(row: wire.FundingWire) -> FundingPaid:
    """A payment in USD, received where positive; `size` is the signed position it was paid on."""
    return FundingPaid(
        coin=Coin(row.coin),
        time_ms=row.time,
        rate=number(row.fundingRate, "funding.fundingRate"),
        amount=number(row.usdc, "funding.usdc"),
        size=number(row.szi, "funding.szi"),
    )


def funding_entry(row: wire.FundingEntry) -> wire.FundingWire:
    """A row of /info in the shape of the stream's."""
    return wire.FundingWire(row.time, row.delta.coin, row.delta.usdc, row.delta.szi, row.delta.fundingRate)


def account_from(state: wire.ClearinghouseState) -> AccountState:
    """What an account is worth and holds; a worth that cannot be one is None (GUARANTEES B12)."""
    positions = []
    for item in state.assetPositions:
        held = item.position
        size = number(held.szi, f"{held.coin}.szi")
        if size == 0:
            continue
        positions.append(
            VenuePosition(
                coin=Coin(held.coin),
                size=size,
                entry=positive(held.entryPx or "", f"{held.coin}.entryPx"),
                leverage=held.leverage.value,
                liquidation_px=number_or_none(held.liquidationPx, f"{held.coin}.liquidationPx"),
                margin_used=number(held.marginUsed, f"{held.coin}.marginUsed"),
                unrealised=number(held.unrealizedPnl, f"{held.coin}.unrealizedPnl"),
                is_cross=held.leverage.type == "cross",
            )
        )
    return AccountState(_equity(state.marginSummary.accountValue), _equity(state.withdrawable), tuple(positions))


def _equity(text: str | None) -> Decimal | None:
    """None for what cannot be an account's worth."""
    try:
        value = number(text or "", "equity")
    except ProtocolViolation:
        return None
    return value if value > 0 else None


def resting_from(row: wire.FrontOrder) -> RestingOrder:
    """An open order; a trigger has its `trigger_price`, and `is_stop` tells a stop from a target."""
    return RestingOrder(
        coin=Coin(row.coin),
        oid=row.oid,
        cloid=cloid_from(row.cloid),
        side=side_from(row.side, "order.side"),
        size=number(row.sz, "order.sz"),
        price=number(row.limitPx, "order.limitPx"),
        trigger_price=positive(row.triggerPx, "order.triggerPx") if row.isTrigger else None,
        reduce_only=row.reduceOnly,
        is_stop=row.isTrigger and row.orderType.startswith("Stop"),
    )


def _order_news(update: wire.OrderUpdate) -> OrderChanged | ForeignOrderSeen:
    status, reason, oid = order_status(update.status), status_reason(update.status), update.order.oid
    cloid = cloid_from(update.order.cloid)
    if cloid is None:
        return ForeignOrderSeen(Coin(update.order.coin), oid, status, reason)
    return OrderChanged(cloid, status, oid, reason)


_INTO: Final = frozenset({"deposit", "rewardsClaim", "vaultWithdraw", "liquidationRefund"})
_OUT_OF: Final = frozenset({"withdraw", "vaultDeposit", "vaultCreate"})
_BETWEEN: Final = frozenset({"internalTransfer", "subAccountTransfer", "send", "spotTransfer"})


def money_moved_from(row: wire.LedgerUpdate, address: str) -> MoneyMoved | None:
    """What a row did to the perpetual side of `address`; None where it did nothing, or is of a kind nobody has met."""
    delta = row.delta
    text = delta.usdc if delta.usdc is not None else delta.amount
    if text is None or delta.token not in (None, "USDC"):
        return None
    amount = abs(number(text, f"{delta.type}.usdc"))
    if delta.type in _INTO:
        signed = amount
    elif delta.type in _OUT_OF:
        signed = -amount
    elif delta.type == "accountClassTransfer":
        signed = amount if delta.toPerp else -amount
    elif delta.type in _BETWEEN and delta.destination is not None:
        signed = amount if delta.destination.lower() == address.lower() else -amount
    else:
        return None
    return MoneyMoved(row.time, signed, f"{delta.type}-{row.time}-{row.hash[:18]}")


def order_changed_from(cloid: Cloid, answer: wire.OrderStatusAnswer) -> OrderChanged | None:
    """What the venue says about one of our orders; None where it has never heard of it."""
    if answer.order is None:
        if answer.status == "unknownOid":
            return None
        raise ProtocolViolation(f"orderStatus: unknown status {answer.status[:40]!r}")
    word = answer.order.status
    return OrderChanged(cloid, order_status(word), answer.order.order.oid, status_reason(word))


def _sim_step(step: wire.SimStepWire) -> SimStep:
    try:
        ending = tuple((Coin(coin), SeriesEnd(why)) for coin, why in sorted(step.ending.items()))
    except ValueError as problem:
        raise ProtocolViolation(f"simStep.ending: {problem}") from None
    return SimStep(step.step, step.stage, step.time, ending)


def events_from(frame: wire.AnyKnownFrame, origin: str) -> tuple[VenueEvent, ...]:
    """What a frame tells, in our words; nothing for frames of the connection itself.

    `origin` is what the bars of this venue carry.
    """
    match frame:
        case wire.TradesFrame():
            trades = tuple(trade_from(row) for row in frame.data if is_perpetual(row.coin))
            return (TradesSeen(trades),) if trades else ()
        case wire.BboFrame():
            return (book_top_from(frame.data.coin, frame.data.time, *frame.data.bbo),)
        case wire.BookFrame():
            return (book_from(frame.data), depth_from(frame.data))
        case wire.CandleFrame():
            return (CandleUpdate(bar_from(frame.data, origin)),)
        case wire.ContextFrame():
            context = context_from(Coin(frame.data.coin), frame.data.ctx)
            return () if context is None else (context,)
        case wire.MidsFrame():
            return (MidsSeen(mids_from(frame.data.mids)),)
        case wire.OrderUpdatesFrame():
            return tuple(_order_news(update) for update in frame.data if is_perpetual(update.order.coin))
        case wire.UserFillsFrame():
            return (_fills(frame.data.fills, frame.data.user, frame.data.isSnapshot is True),)
        case wire.UserFundingsFrame():
            paid = tuple(funding_paid_from(row) for row in frame.data.fundings)
            return (FundingsSeen(paid, frame.data.isSnapshot is True),)
        case wire.UserFrame():
            return _user_events(frame.data)
        case wire.SimStepFrame():
            return (_sim_step(frame.data),)
        case wire.AckFrame() | wire.PongFrame() | wire.ErrorFrame():
            return ()
        case _:
            assert_never(frame)


def _fills(rows: Sequence[wire.FillWire], user: str | None, is_snapshot: bool) -> FillsSeen:
    return FillsSeen(tuple(fill_from(row, user) for row in rows if is_perpetual(row.coin)), is_snapshot)


def _user_events(data: wire.UserEvents) -> tuple[VenueEvent, ...]:
    events: list[VenueEvent] = []
    if data.fills:
        events.append(_fills(data.fills, None, False))
    if data.funding is not None:
        events.append(FundingsSeen((funding_paid_from(data.funding),), False))
    for gone in data.nonUserCancel or ():
        if is_perpetual(gone.coin):
            events.append(ForeignOrderSeen(Coin(gone.coin), gone.oid, OrderStatus.CANCELED, "canceled by the venue"))
    return tuple(events)


def mids_from(mids: dict[str, str]) -> tuple[tuple[Coin, Decimal], ...]:
    return tuple((Coin(coin), positive(text, f"mids.{coin}")) for coin, text in mids.items() if is_perpetual(coin))
