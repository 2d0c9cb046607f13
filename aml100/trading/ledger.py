"""Positions, fees, funding and equity by folding fills: exact money.

The balance is the plain sum of what was posted (deposits + realised - fees + funding), so that identity is exact by
construction. Equity is the balance plus what the open positions would bring at their marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from aml100.domain.events import FundingPaid, LedgerPosted, TradeClosed
from aml100.domain.orders import Fill, Position, Side, fill_time_ms
from aml100.domain.units import ZERO, Coin, ledger_usd

REMEMBERED_FILLS = 256
"""Fill ids kept against duplicates. Whatever is as old as the newest id that was dropped counts as known: at every
connection the venue tells its fills again, up to 2000 of them, and each may be folded only once (GUARANTEES D16)."""


def apply_fill(position: Position, fill: Fill) -> tuple[Position, Decimal]:
    """Fold one fill into a position; return it with the profit it realised, in USD.

    Average cost: adding moves the entry, reducing realises against it, and a fill larger than the position closes it
    and opens the other side at the fill price. Fees are the ledger's.

    >>> from aml100.domain.units import Coin
    >>> sold = Fill(Coin("BTC"), Side.SELL, Decimal("110"), Decimal("3"), ZERO, 0, 1, 1, None, True)
    >>> apply_fill(Position(Decimal("2"), Decimal("100")), sold)
    (Position(size=Decimal('-1'), entry=Decimal('110')), Decimal('20'))
    """
    signed = fill.signed_size
    size = position.size + signed
    if position.size == 0 or (position.size > 0) == (signed > 0):
        entry = (position.size * position.entry + signed * fill.price) / size
        return Position(size, entry), ZERO
    closed = min(abs(signed), abs(position.size))
    realised = ledger_usd(closed * (fill.price - position.entry) * (1 if position.size > 0 else -1))
    if size == 0:
        return Position(), realised
    if (size > 0) == (position.size > 0):
        return Position(size, position.entry), realised
    return Position(size, fill.price), realised


@dataclass(slots=True)
class OpenTrade:
    """The round trip under way in one coin, from flat to flat."""

    side: Side
    opened_ms: int
    entered_size: Decimal = ZERO
    entered_notional: Decimal = ZERO
    exited_size: Decimal = ZERO
    exited_notional: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO


@dataclass(slots=True)
class Book:
    """All of the ledger's state; plain data, so that it can be saved with the journal."""

    balance: Decimal = ZERO
    deposits: Decimal = ZERO
    positions: dict[Coin, Position] = field(default_factory=dict)
    marks: dict[Coin, Decimal] = field(default_factory=dict)
    trades: dict[Coin, OpenTrade] = field(default_factory=dict)
    recent_fills: list[str] = field(default_factory=list)
    forgotten_fills_ms: int = -1
    last_fill_ms: int = 0
    last_funding_ms: dict[Coin, int] = field(default_factory=dict)
    since_ms: int = 0
    """When this ledger began: what the account did before is not its business."""
    last_money_ms: int = 0


@dataclass(frozen=True, slots=True)
class Folded:
    """What one fill did."""

    posted: tuple[LedgerPosted, ...]
    realised: Decimal
    position: Position
    trade: TradeClosed | None


class Ledger:
    """Folds account events into a `Book`."""

    def __init__(self, book: Book | None = None) -> None:
        self.book = book or Book()

    @property
    def balance(self) -> Decimal:
        return self.book.balance

    def position(self, coin: Coin) -> Position:
        return self.book.positions.get(coin, _FLAT)

    def holds(self, coin: Coin) -> bool:
        """There is a position in this coin."""
        return coin in self.book.positions

    def open_coins(self) -> list[Coin]:
        """Coins with a position."""
        return list(self.book.positions)

    def mark(self, coin: Coin, price: Decimal) -> None:
        """The price at which this coin's position counts from now on."""
        self.book.marks[coin] = price

    def unrealised(self, coin: Coin) -> Decimal:
        """At the latest mark; at the entry while there is none."""
        position = self.position(coin)
        if position.size == 0:
            return ZERO
        return position.unrealised(self.book.marks.get(coin, position.entry))

    def equity(self) -> Decimal:
        """Balance plus unrealised profit of every position."""
        book = self.book
        if not book.positions:
            return book.balance
        unrealised = ZERO
        for coin, position in book.positions.items():
            unrealised += position.unrealised(book.marks.get(coin, position.entry))
        return book.balance + unrealised

    def notional(self) -> Decimal:
        """Sum of |size| x mark over all positions, in USD."""
        marks = self.book.marks
        return sum(
            (abs(p.size) * marks.get(coin, p.entry) for coin, p in self.book.positions.items()),
            ZERO,
        )

    def deposit(self, amount: Decimal, time_ms: int, ref: str) -> LedgerPosted:
        """Money from outside; kept apart, so that it never counts as a return (GUARANTEES E5)."""
        self.book.balance += amount
        self.book.deposits += amount
        return LedgerPosted(time_ms, "deposit", None, amount, ref)

    def apply_funding(self, paid: FundingPaid) -> LedgerPosted | None:
        """Post one hour's funding; None where this hour of this coin is already posted."""
        if paid.time_ms <= self.book.last_funding_ms.get(paid.coin, -1):
            return None
        self.book.last_funding_ms[paid.coin] = paid.time_ms
        self.book.balance += paid.amount
        trade = self.book.trades.get(paid.coin)
        if trade is not None:
            trade.funding += paid.amount
        return LedgerPosted(paid.time_ms, "funding", paid.coin, paid.amount, f"{paid.coin}-{paid.time_ms}")

    def knows_fill(self, fill: Fill) -> bool:
        """Whether this fill is already folded, or older than this ledger."""
        return fill.time_ms <= self.book.forgotten_fills_ms or fill.fill_id in self.book.recent_fills

    def fills_from_ms(self) -> int:
        """From when on the venue must be asked for fills, so that none that is not folded yet is missed."""
        return self.book.forgotten_fills_ms + 1

    @property
    def is_opened(self) -> bool:
        """Whether its first money is booked; all that was ever paid in may have been taken out again since."""
        return self.book.since_ms > 0 or self.book.deposits != 0

    def begin(self, now_ms: int) -> None:
        """This ledger starts here: what the account did before is not its business."""
        self.book.since_ms = self.book.last_money_ms = now_ms
        self.book.forgotten_fills_ms = max(self.book.forgotten_fills_ms, now_ms - 1)

    def apply_fill(self, fill: Fill, exit_reason: str, bars_held: int) -> Folded:
        """Fold a new fill: realised profit and fee are posted, the position moves, a round trip may close.

        Args:
            exit_reason: what the trade's exit is called should this fill close it.
            bars_held: closed bars the position was held, should this fill close it.
        """
        book = self.book
        self._remember(fill)
        book.last_fill_ms = max(book.last_fill_ms, fill.time_ms)
        before = self.position(fill.coin)
        after, realised = apply_fill(before, fill)
        posted = []
        if before.size != 0 and (before.size > 0) != (fill.side is Side.BUY):
            posted.append(LedgerPosted(fill.time_ms, "realised", fill.coin, realised, fill.fill_id))
        if fill.fee != 0:
            posted.append(LedgerPosted(fill.time_ms, "fee", fill.coin, -fill.fee, fill.fill_id))
        book.balance += realised - fill.fee
        if after.size == 0:
            book.positions.pop(fill.coin, None)
        else:
            book.positions[fill.coin] = after
        trade = self._follow_trade(before, after, fill, realised, exit_reason, bars_held)
        return Folded(tuple(posted), realised, after, trade)

    def _remember(self, fill: Fill) -> None:
        """Ids go only once the venue's time has moved on: the fills of one instant are told apart to the last."""
        book = self.book
        book.recent_fills.append(fill.fill_id)
        while len(book.recent_fills) > REMEMBERED_FILLS:
            oldest_ms = fill_time_ms(book.recent_fills[0])
            if oldest_ms >= fill.time_ms:
                break
            book.forgotten_fills_ms = max(book.forgotten_fills_ms, oldest_ms)
            del book.recent_fills[0]

    def _follow_trade(
        self, before: Position, after: Position, fill: Fill, realised: Decimal, exit_reason: str, bars_held: int
    ) -> TradeClosed | None:
        """Keep the round trip's sums; a fill through zero closes one and opens the next, its fee shared by size."""
        trades = self.book.trades
        closing = ZERO if before.size == 0 else min(abs(fill.size), abs(before.size))
        if before.size != 0 and (before.size > 0) == (fill.side is Side.BUY):
            closing = ZERO
        opening = fill.size - closing
        closed: TradeClosed | None = None
        fee_closing = fill.fee * closing / fill.size if opening else fill.fee if closing else ZERO
        if closing:
            trade = trades[fill.coin]
            trade.exited_size += closing
            trade.exited_notional += closing * fill.price
            trade.realised += realised
            trade.fees += fee_closing
            if after.size == 0 or opening:
                closed = self._close(fill.coin, trade, fill.time_ms, exit_reason, bars_held)
        if opening:
            trade = trades.setdefault(fill.coin, OpenTrade(fill.side, fill.time_ms))
            trade.entered_size += opening
            trade.entered_notional += opening * fill.price
            trade.fees += fill.fee - fee_closing
        return closed

    def _close(self, coin: Coin, trade: OpenTrade, time_ms: int, reason: str, bars_held: int) -> TradeClosed:
        del self.book.trades[coin]
        return TradeClosed(
            coin=coin,
            side=trade.side,
            entry_ms=trade.opened_ms,
            entry_price=trade.entered_notional / trade.entered_size,
            exit_ms=time_ms,
            exit_price=trade.exited_notional / trade.exited_size,
            size=trade.entered_size,
            pnl=trade.realised - trade.fees + trade.funding,
            fees=trade.fees,
            funding=trade.funding,
            exit_reason=reason,
            bars_held=bars_held,
        )


_FLAT = Position()


def replay(deposit: Decimal, fills: Iterable[Fill], payments: Iterable[FundingPaid]) -> Ledger:
    """Fold a whole journal again, fills in their order, funding by its hours: recovery and `verify` rest on it."""
    ledger = Ledger()
    ledger.deposit(deposit, 0, "initial")
    pending = sorted(payments, key=lambda paid: paid.time_ms)
    for fill in fills:
        while pending and pending[0].time_ms <= fill.time_ms:
            ledger.apply_funding(pending.pop(0))
        ledger.apply_fill(fill, "", 0)
    for paid in pending:
        ledger.apply_funding(paid)
    return ledger
