"""The books of the simulated venue: accounts and orders by id, and the few ways in which they change.

Everything that happens to an order goes through `record`, `change` and `close`, which append what they did to the
caller's list of events. Fills are above (`executions`), and above them who decides about an order: the market's path
(`playing`) and the clients (`exchange`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aml100.domain.market import Instrument
from aml100.domain.orders import Order, OrderStatus, Side, TimeInForce
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.sim.accounts import PLAIN, Account, OrderEvent, OrderRecord, OrderTags, Transfer, VenueEvent
from aml100.sim.ladder import Ladder, touch
from aml100.sim.margin import MarginView, free_margin, margin_view

ORDERS_KEPT: Final = 4000
"""Of the orders of an account that are done; the venue shows the latest 2000."""
FIRST_OID: Final = 100_000_001


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """Costs as fractions of the notional. `check_margin`: orders that the account cannot carry are refused.

    Without `has_depth` a market order fills whole at the price worsened by the slippage, exactly as a back-test
    reckons; with it the order walks the book and meets the orders of other accounts.
    """

    taker_fee_frac: Decimal
    maker_fee_frac: Decimal
    slippage_frac: Decimal
    check_margin: bool = True
    has_depth: bool = False


class Books:
    """Accounts, orders and prices of one venue.

    Attributes to read: `now_ms`, `prices` (last price a coin), `instruments`, `accounts`, `orders` (all ever, by oid).
    Addresses are lower case. Unknown addresses are KeyErrors: who may act is decided by the caller.
    """

    def __init__(self, instruments: Sequence[Instrument], rules: ExchangeRules) -> None:
        self.instruments: dict[Coin, Instrument] = {one.coin: one for one in instruments}
        self.rules = rules
        self.ladder = Ladder(rules.slippage_frac)
        self.now_ms = 0
        self.prices: dict[Coin, Decimal] = {}
        self.accounts: dict[str, Account] = {}
        self.orders: dict[int, OrderRecord] = {}
        self.next_oid = FIRST_OID
        self.next_trade = 1
        self.active: dict[str, Account] = {}  # accounts with a position, an open order or a scheduled cancel

    # --- accounts ---------------------------------------------------------------------------------------------

    def add_account(self, address: str, deposit: Decimal) -> None:
        """Open an account; ValueError where it exists already."""
        address = address.lower()
        if address in self.accounts:
            raise ValueError(f"account {address} exists already")
        self.accounts[address] = Account(address, ZERO, ZERO)
        self.deposit(address, deposit)

    def deposit(self, address: str, amount: Decimal) -> Transfer:
        """Money from outside, for an account that exists."""
        account = self.accounts[address]
        account.balance += amount
        account.deposits += amount
        account.transfers.append(Transfer(self.now_ms, "deposit", amount))
        return account.transfers[-1]

    def order(self, address: str, ref: int | str) -> OrderRecord | None:
        """An order of this account, open or done, by oid or cloid."""
        account = self.accounts.get(address)
        if account is None:
            return None
        oid = ref if isinstance(ref, int) else account.cloids.get(Cloid(ref))
        record = None if oid is None else self.orders.get(oid)
        return record if record is not None and record.address == address else None

    def open_orders(self, address: str) -> list[OrderRecord]:
        """Open orders, oldest first; children that wait for their parent's fill are among them."""
        return [self.orders[oid] for oid in self.accounts[address].open_oids]

    def margin(self, address: str) -> MarginView:
        """The margin numbers of clearinghouseState at the present prices."""
        return margin_view(self.accounts[address], self.prices, self.instruments)

    def position_size(self, address: str, coin: Coin) -> Decimal:
        held = self.accounts[address].holdings.get(coin)
        return ZERO if held is None else held.size

    def note_activity(self, account: Account) -> None:
        """Keep the list of accounts that time can change."""
        if account.open_oids or account.holdings or account.cancel_at_ms is not None:
            self.active[account.address] = account
        else:
            self.active.pop(account.address, None)

    # --- prices -----------------------------------------------------------------------------------------------

    def touch(self, coin: Coin, price: Decimal | None = None) -> tuple[Decimal, Decimal]:
        """Best bid and ask around the present price, or another one."""
        return touch(price or self.prices[coin], self.rules.slippage_frac, self.instruments[coin])

    def worsened(self, price: Decimal, side: Side) -> Decimal:
        slip = self.rules.slippage_frac
        return price * (1 + slip) if side is Side.BUY else price * (1 - slip)

    def best_offer(self, coin: Coin, side: Side) -> Decimal:
        """The price at which a market order of this side begins to execute."""
        if not self.rules.has_depth:
            return self.worsened(self.prices[coin], side)
        bid, ask = self.touch(coin)
        prices = [one.order.price for one in self.makers(coin, side.opposite)]
        return min([ask, *prices]) if side is Side.BUY else max([bid, *prices])

    def is_marketable(self, order: Order) -> bool:
        """The limit allows an execution now; post-only never does."""
        if order.tif is TimeInForce.ALO:
            return False
        price = self.best_offer(order.coin, order.side)
        return order.price >= price if order.side is Side.BUY else order.price <= price

    def makers(self, coin: Coin, side: Side) -> list[OrderRecord]:
        """Orders of accounts that rest in the book on one side, oldest first."""
        return [
            record
            for account in self.active.values()
            for oid in account.open_oids
            if (record := self.orders[oid]).is_live_limit and record.order.coin == coin and record.order.side is side
        ]

    # --- orders -----------------------------------------------------------------------------------------------

    def take_oid(self) -> int:
        oid = self.next_oid
        self.next_oid += 1
        return oid

    def record(
        self, account: Account, order: Order, oid: int, status: OrderStatus, word: str, tags: OrderTags = PLAIN
    ) -> OrderRecord:
        """Write an order into the books; its client id points to it unless a living order has that already."""
        now = self.now_ms
        record = OrderRecord(oid, account.address, order, order.size, status, word, now, now, tags=tags)
        self.orders[oid] = record
        account.all_oids.append(oid)
        account.open_oids.append(oid)
        if order.cloid:
            known = account.cloids.get(order.cloid)
            if known is None or self.orders[known].status is OrderStatus.REJECTED:
                account.cloids[order.cloid] = oid
        return record

    def change(
        self, record: OrderRecord, status: OrderStatus, word: str, events: list[VenueEvent], reason: str = ""
    ) -> None:
        """Give an order another state, and say so."""
        record.status, record.word, record.changed_ms = status, word, self.now_ms
        order = record.order
        events.append(
            OrderEvent(
                record.address,
                order,
                status,
                word,
                record.oid,
                order.cloid or None,
                reason,
                record.remaining,
                record.placed_ms,
                self.now_ms,
            )
        )

    def close(
        self, record: OrderRecord, status: OrderStatus, word: str, events: list[VenueEvent], reason: str = ""
    ) -> None:
        """End an order and, unless it filled, the children that still wait for it."""
        account = self.accounts[record.address]
        account.open_oids.remove(record.oid)
        if len(account.all_oids) > 2 * ORDERS_KEPT:
            self._forget_old(account)
        self.change(record, status, word, events, reason or word)
        if status is OrderStatus.FILLED:
            return
        for oid in record.children:
            child = self.orders[oid]
            if child.status is OrderStatus.WAITING:
                self.close(child, status, word, events, reason)

    def _forget_old(self, account: Account) -> None:
        """Let go of the oldest orders that are done and have nothing to do with an open one."""
        needed = set(account.all_oids[-ORDERS_KEPT:]) | set(account.open_oids)
        for oid in account.open_oids:
            record = self.orders[oid]
            family = record if record.parent is None else self.orders[record.parent]
            needed.add(family.oid)
        for oid in list(needed):
            needed.update(self.orders[oid].children)
        for oid in account.all_oids:
            if oid not in needed:
                cloid = self.orders.pop(oid).order.cloid
                if account.cloids.get(cloid) == oid:
                    del account.cloids[cloid]
        account.all_oids = [oid for oid in account.all_oids if oid in needed]

    def capped(self, account: Account, order: Order, size: Decimal) -> Decimal:
        """The size that may execute: a reduce-only order never exceeds the position; 0 where it would add."""
        if not order.reduce_only:
            return size
        held = account.holdings.get(order.coin)
        if held is None or (held.size > 0) == (order.side is Side.BUY):
            return ZERO
        return min(size, abs(held.size))

    def size_of(self, record: OrderRecord) -> Decimal:
        """What an order asks for now: a trigger on the whole position follows it while it is open."""
        if not record.tags.whole or record.status is not OrderStatus.RESTING:
            return record.remaining
        return abs(self.position_size(record.address, record.order.coin)) or record.remaining

    def affords(self, account: Account, order: Order, price: Decimal) -> bool:
        """Only what the order adds to the position needs margin; what it closes gives some back."""
        held = account.holdings.get(order.coin)
        before = ZERO if held is None else held.size
        after = before + order.size * order.side.sign
        more = abs(after) - abs(before)
        if more <= 0:
            return True
        needed = more * price / account.leverage_of(self.instruments[order.coin]).value
        return needed <= free_margin(account, self.prices, self.instruments)
