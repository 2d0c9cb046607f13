"""How our books stand against the venue's: positions, orders, money, and what is in doubt.

Positions come from fills. A position at the venue that no fill of ours explains is taken over where its coin is traded
here and ours is flat (so that it gets a stop, GUARANTEES D5); any other difference is a *concern*: while there is one,
exits and stops go and entries do not (D19, D20). An account's worth that cannot be one is a concern as well, and never
a reason to close (B12).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from aml100.domain.events import (
    AskOrders,
    BooksOpened,
    CancelForeign,
    ConcernChanged,
    Effect,
    EquitySeen,
    InstrumentsLearnt,
    MoneyReceived,
    OrderChanged,
    Reconciled,
    RestingOrder,
    RiskChanged,
    TradingState,
)
from aml100.domain.orders import Fill, OrderStatus, Side
from aml100.domain.units import ZERO, Coin, decimal_text

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore

JUMP: Final = 2
"""An equity more than so many times another, with nothing booked in between, is not believed."""
_AGREES: Final = Decimal("0.2")
READ_AGAIN: Final = frozenset({"reconcile", "equity", "equity_mark"})
"""Concerns that a restart cannot end by itself: the account has to be read first, the equity marked."""


class Standing:
    """The part of the core that answers for agreement with the venue."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core
        self._doubted: Decimal | None = None
        self._believed: Decimal | None = None
        self._booked = 0
        self._foreign_orders = 0
        self._found: frozenset[int] | None = None
        """Orders that rested when the account was first read; None before."""
        self._is_shared = False

    @property
    def concerns(self) -> dict[str, str]:
        """What is in doubt, by name, with the reason."""
        return self._core.state.concerns

    def on_concern(self, change: ConcernChanged) -> list[Effect]:
        """A concern came, changed its reason, or ended."""
        core, concerns = self._core, self.concerns
        known = concerns.get(change.name, "")
        if known == change.reason:
            return []
        now_ms = core.state.now_ms
        if change.reason:
            concerns[change.name] = change.reason
            effects: list[Effect] = [RiskChanged(change.name, "tripped", change.reason, now_ms)]
            if not known:
                effects += core.entries.cancel_all()
        else:
            del concerns[change.name]
            effects = [RiskChanged(change.name, "ok", f"over: {known}", now_ms)]
        return effects + self.settle(now_ms)

    def settle(self, now_ms: int) -> list[Effect]:
        """Let the trading state follow the concerns; a halt or a pause stays what it is."""
        core = self._core
        reason = "; ".join(self.concerns.values())
        if self.concerns and core.state.trading in (TradingState.TRADING, TradingState.MANAGE_ONLY):
            if core.state.trading is TradingState.MANAGE_ONLY and core.state.reason == reason:
                return []
            return [core.set_state(TradingState.MANAGE_ONLY, reason, now_ms)]
        if not self.concerns and core.state.trading is TradingState.MANAGE_ONLY:
            return [core.set_state(TradingState.TRADING, "", now_ms)]
        return []

    # --- positions and orders ---------------------------------------------------------------------------------

    def on_reconciled(self, seen: Reconciled) -> list[Effect]:
        """Hold our books against the venue's."""
        core = self._core
        theirs = dict(seen.positions)
        effects: list[Effect] = []
        for coin, mark in seen.marks:
            if coin in core.state.coins:
                core.ledger.mark(coin, mark)
        if core.rules.adopts_positions:
            effects += self._adopt(theirs, dict(seen.entries))
        coins = {*theirs, *core.ledger.open_coins()}
        words = []
        for coin in sorted(coins):
            their_size, our_size = theirs.get(coin, ZERO), core.ledger.position(coin).size
            if their_size != our_size:
                unmanaged = " (unmanaged: not traded here)" if coin not in core.state.coins else ""
                words.append(f"{coin} venue {decimal_text(their_size)} ours {decimal_text(our_size)}{unmanaged}")
        reason = f"positions differ: {', '.join(words)}" if words else ""
        effects += self.on_concern(ConcernChanged("reconcile", reason))
        return effects + self._reconcile_orders(seen)

    def _adopt(self, theirs: dict[Coin, Decimal], entries: dict[Coin, Decimal]) -> list[Effect]:
        """Take positions over that nobody here opened, as if filled at their entry; the stop goes by today's mark."""
        core = self._core
        effects: list[Effect] = []
        for coin in sorted(theirs):
            size, entry = theirs[coin], entries.get(coin)
            busy = any(t.is_in_flight and not t.order.is_trigger for t in core.blotter.live(coin))
            if coin not in core.state.coins or core.ledger.position(coin).size or entry is None or not size or busy:
                continue
            now_ms = core.state.now_ms
            side = Side.BUY if size > 0 else Side.SELL
            core.coin(coin).anchor = core.ledger.book.marks.get(coin, entry)
            words = f"{coin}: a position of {decimal_text(size)} at {decimal_text(entry)} was there; taken over"
            effects.append(RiskChanged("adopted", "info", words, now_ms))
            effects += core.on_fill(Fill(coin, side, entry, abs(size), ZERO, now_ms, 0, 0, None, True))
        return effects

    def _reconcile_orders(self, seen: Reconciled) -> list[Effect]:
        core = self._core
        effects: list[Effect] = []
        resting = {order.cloid: order for order in seen.orders if order.cloid is not None}
        gone = tuple(c for c in core.blotter.unsettled() if c not in resting)
        if gone:
            effects.append(AskOrders(gone))
        for cloid, order in resting.items():
            tracked = core.blotter.get(cloid)
            waits = tracked is not None and tracked.status is OrderStatus.WAITING
            if not waits or core.ledger.position(order.coin).size:
                effects += core.on_order(OrderChanged(cloid, OrderStatus.RESTING, order.oid))
        orphans = [(o.coin, o.oid) for o in seen.orders if o.cloid is None or core.blotter.get(o.cloid) is None]
        if len(orphans) != self._foreign_orders:
            self._foreign_orders = len(orphans)
            words = f"{len(orphans)} orders at the venue are not ours" if orphans else "no foreign orders left"
            effects.append(RiskChanged("foreign_orders", "info", words, core.state.now_ms))
        effects += self._look_for_others(seen.orders)
        flat = {coin for coin, _ in orphans if core.ledger.position(coin).size == 0}
        strays = tuple((coin, oid) for coin, oid in orphans if coin in flat and coin in core.state.coins)
        if strays and core.state.trading is TradingState.HALTED:
            effects.append(CancelForeign(strays))
        return effects

    def _look_for_others(self, orders: tuple[RestingOrder, ...]) -> list[Effect]:
        """Told once: a client id that this journal never gave, on an order that came while we run, is a program's.

        What rested at the start may be of ours, of a state that was lost; a person's orders carry no client id.
        """
        core = self._core
        if self._found is None:
            self._found = frozenset(order.oid for order in orders)
        strange = (o for o in orders if o.cloid is not None and core.blotter.get(o.cloid) is None)
        theirs = next((o for o in strange if o.oid not in self._found), None)
        if theirs is None or self._is_shared:
            return []
        self._is_shared = True
        words = f"{theirs.coin}: order {theirs.oid} has a client id that was not given here ({theirs.cloid})"
        return [RiskChanged("shared_account", "tripped", words, core.state.now_ms)]

    def on_instruments(self, learnt: InstrumentsLearnt) -> list[Effect]:
        """The venue may change the rules of a coin."""
        core = self._core
        effects: list[Effect] = []
        for instrument in learnt.instruments:
            known = core.instruments.get(instrument.coin)
            if known is None or known == instrument:
                continue
            core.instruments[instrument.coin] = instrument
            words = f"{instrument.coin}: size {instrument.sz_decimals} decimals, leverage {instrument.max_leverage}"
            effects.append(RiskChanged("listing", "info", f"the venue's rules changed: {words}", core.state.now_ms))
        return effects

    # --- money ------------------------------------------------------------------------------------------------

    def on_books(self, opened: BooksOpened) -> list[Effect]:
        """Nothing that the account did before is ours."""
        core = self._core
        core.ledger.begin(opened.time_ms)
        core.state.now_ms = max(core.state.now_ms, opened.time_ms)
        return [core.ledger.deposit(opened.amount, opened.time_ms, "initial")]

    def on_money(self, money: MoneyReceived) -> list[Effect]:
        """Money from outside moves the balance and the peak, never a return (GUARANTEES E5)."""
        core = self._core
        if money.time_ms <= core.state.book.last_money_ms:
            return []
        core.state.book.last_money_ms = money.time_ms
        core.risk.state.peak += money.amount
        core.risk.state.day_start_equity += money.amount
        return [core.ledger.deposit(money.amount, money.time_ms, money.ref)]

    def on_equity(self, seen: EquitySeen) -> list[Effect]:
        """What the venue says the account is worth, against what our books say."""
        ours = self._core.ledger.equity()
        if seen.equity is None or not seen.equity.is_finite() or seen.equity <= 0:
            return self._unknown("the venue names no worth that can be one")
        if ours > 0 and not ours / JUMP <= seen.equity <= ours * JUMP:
            words = f"the venue says {decimal_text(round(seen.equity, 2))}, our books {decimal_text(round(ours, 2))}"
            return self._unknown(words)
        return self.on_concern(ConcernChanged("equity", ""))

    def believes(self, equity: Decimal) -> tuple[bool, list[Effect]]:
        """Whether our own marked equity may be acted on: a jump with nothing booked must be seen twice."""
        core = self._core
        before, booked = self._believed, core.bookings
        bounded = before is not None and before > 0 and booked == self._booked
        sound = equity.is_finite() and equity > 0
        if sound and bounded and before is not None and not before / JUMP <= equity <= before * JUMP:
            again = self._doubted is not None and abs(equity - self._doubted) <= _AGREES * abs(self._doubted)
            sound, self._doubted = again, equity
        if not sound:
            return False, self._unknown(f"marked {decimal_text(round(equity, 2)) if equity.is_finite() else equity}")
        self._believed, self._booked, self._doubted = equity, booked, None
        return True, self.on_concern(ConcernChanged("equity_mark", ""))

    def _unknown(self, because: str) -> list[Effect]:
        name = "equity_mark" if because.startswith("marked") else "equity"
        return self.on_concern(ConcernChanged(name, f"equity unknown: {because}"))
