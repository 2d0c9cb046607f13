"""Our account at a venue that nobody waits for: read at the start, set up once, and read again and again.

Positions, orders, then fills: where no fill is newer than the positions that were read, the two must agree. A stop
that is believed to rest is asked for by client id every few seconds while there is a position, so that one which
nobody told us is gone is found (GUARANTEES B1, D15). What cannot be read is a concern, never the end of the run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml100.domain.errors import VenueError
from aml100.domain.events import (
    AskOrders,
    BooksOpened,
    ConcernChanged,
    EquitySeen,
    FillReceived,
    MoneyReceived,
    OrderChanged,
    Reconciled,
)
from aml100.domain.orders import OrderStatus
from aml100.domain.units import HOUR_MS, ZERO, Coin
from aml100.venue.clock import VenueClock
from aml100.venue.news import AccountState, Agent
from aml100.venue.placing import MarginMode

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine


@dataclass(frozen=True, slots=True)
class Paces:
    """Wall seconds between two looks. A position in the house makes the account watch quicker."""

    clock_s: float = 10.0
    quick_s: float = 2.5
    full_s: float = 15.0
    idle_s: float = 30.0
    listing_s: float = 3600.0
    money_s: float = 60.0
    bars_s: float = 0.25
    retry_s: float = 3.0


class AccountWatch:
    """Keeps one engine's books in agreement with its account.

    Args:
        engine: whose queue everything goes through.
        clock: the engine's.
        signer: address of the key that signs; None in paper trading.
    """

    def __init__(self, engine: Engine, clock: VenueClock, signer: str | None, paces: Paces) -> None:
        self._engine = engine
        self._clock = clock
        self._signer = signer
        self.paces = paces
        self._full_s = 0.0
        self._money_s = 0.0
        self._unset = list(engine.options.coins)
        self.was_cut = False
        """The stream was lost since the account was last read whole."""
        self.agent: Agent | None = None
        """The key that signs, as the venue lists it; None for an unnamed one, and before it was asked."""

    async def stand(self) -> None:
        """Where the account stands, read for the first time; what fails leaves exits and stops working (D19)."""
        engine = self._engine
        try:
            await self._open_books()
            unsettled = engine.core.blotter.unsettled()
            if unsettled:
                engine.executor.start([AskOrders(unsettled)])
            await self._reconcile(patient=True)
            await self._set_up()
            await self.read_access()
        except VenueError as error:
            reason = f"not reconciled with the venue: {error}"
            await engine.on_consumer(lambda: engine.apply(ConcernChanged("reconcile", reason)))

    async def _open_books(self) -> None:
        """The first money of a new ledger is what the account is worth, less what its positions have gained so far."""
        engine = self._engine
        if engine.core.ledger.is_opened:
            return
        if engine.deposit:
            await engine.on_consumer(lambda: engine.apply(BooksOpened(engine.deposit, self._now_ms())))
            return
        state = await engine.account_venue.account(engine.options.account)
        if state.equity is None:
            await engine.on_consumer(lambda: engine.apply(EquitySeen(None, self._now_ms())))
            return
        deposit = state.equity - sum((held.unrealised for held in state.positions), ZERO)
        await engine.on_consumer(lambda: engine.apply(BooksOpened(deposit, self._now_ms())))

    def _now_ms(self) -> int:
        return self._clock.now_ms()

    async def _set_up(self) -> None:
        """Leverage and margin mode of every coin that has not got them yet."""
        while self._unset:
            await self._set_leverage(self._unset[0])
            del self._unset[0]

    async def _set_leverage(self, coin: Coin) -> None:
        """Set once, and read back (GUARANTEES D18)."""
        engine = self._engine
        instrument = engine.core.instruments[coin]
        wanted = min(engine.core.rules.leverage, instrument.max_leverage)
        mode = MarginMode.ISOLATED if instrument.only_isolated else MarginMode.CROSS
        venue, account = engine.account_venue, engine.options.account
        present = await venue.leverage_of(account, coin)
        refusal: str | None = None
        if (present.value, present.is_cross) != (wanted, mode is MarginMode.CROSS):
            refusal = await venue.update_leverage(coin, wanted, mode)
            present = await venue.leverage_of(account, coin)
        is_right = (present.value, present.is_cross) == (wanted, mode is MarginMode.CROSS)
        words = f"{coin}: leverage is {present.value} {'cross' if present.is_cross else 'isolated'}, wanted {wanted} "
        reason = "" if is_right else f"{words}{mode.value}: {refusal or 'the venue did not take it over'}"
        await engine.on_consumer(lambda: engine.apply(ConcernChanged(f"leverage {coin}", reason)))

    async def read_access(self) -> None:
        """Until when the signing key may act, and what the venue counts of our requests."""
        engine = self._engine
        if self._signer is None:
            return
        await engine.rest.user_rate_limit(engine.options.account)
        agents = await engine.rest.extra_agents(engine.options.account)
        self.agent = next((one for one in agents if one.address == self._signer), None)

    def pause_s(self) -> float:
        """Until the next look."""
        return self.paces.quick_s if self._engine.core.ledger.open_coins() else self.paces.idle_s / 6

    async def watch(self) -> None:
        """Positions and stops every few seconds while there is a position; orders, fills and money less often."""
        engine = self._engine
        held = bool(engine.core.ledger.open_coins())
        since_s = self._clock.monotonic_s() - self._full_s
        if not engine.core.ledger.is_opened:
            await self._open_books()
        if self._unset and "reconcile" not in engine.core.state.concerns:
            await self._set_up()
        if self.was_cut and engine.feeds.connected:
            self.was_cut = False
            await self._reconcile(patient=True)
        elif since_s >= (self.paces.full_s if held else self.paces.idle_s) or engine.core.state.concerns:
            await self._reconcile()
        elif held:
            await self._check_stops()
            state = await engine.account_venue.account(engine.options.account)
            if self._differs(state):
                await self._reconcile()

    def _differs(self, state: AccountState) -> bool:
        theirs = {held.coin: held.size for held in state.positions}
        ledger = self._engine.core.ledger
        return theirs != {coin: ledger.position(coin).size for coin in ledger.open_coins()}

    async def _check_stops(self) -> None:
        """Each stop that is believed to rest is asked for by client id: a stop nobody told us is gone is found here."""
        engine, core = self._engine, self._engine.core
        for coin in core.ledger.open_coins():
            stop = core.blotter.get(core.coin(coin).stop_cloid)
            if stop is None or stop.is_done:
                continue
            cloid = stop.order.cloid
            found = await engine.account_venue.order_status(engine.options.account, cloid)
            if found is None and stop.status is OrderStatus.RESTING:
                found = OrderChanged(cloid, OrderStatus.CANCELED, None, "the venue does not know it any more")
            if found is not None:
                engine.post(found)

    async def _reconcile(self, *, patient: bool = False) -> None:
        """Positions, orders, then fills: where no fill is newer than the positions, the two must agree.

        `patient` tries again at once where something happened meanwhile, so that a start does not go on undecided.
        """
        for _ in range(8 if patient else 2):
            if await self._reconcile_once():
                self._full_s = self._clock.monotonic_s()
                return
            await asyncio.sleep(0.25)

    async def read_whole(self) -> None:
        """Positions, orders and fills now, whatever was read before."""
        await self._reconcile()

    async def _reconcile_once(self) -> bool:
        engine, venue, account = self._engine, self._engine.account_venue, self._engine.options.account
        core = engine.core
        before, was_idle = core.bookings, engine.executor.is_idle
        state = await venue.account(account)
        orders = await venue.resting_orders(account)
        fills = await venue.fills_since(account, core.ledger.fills_from_ms())
        book = core.ledger.book
        since_ms = min(book.last_funding_ms.values(), default=book.since_ms)
        an_hour_began = self._clock.now_ms() // HOUR_MS > since_ms // HOUR_MS
        paid = await venue.funding_since(account, since_ms) if an_hour_began and core.ledger.open_coins() else []
        money = []
        if self._clock.monotonic_s() - self._money_s >= self.paces.money_s:
            self._money_s = self._clock.monotonic_s()
            money = await venue.money_moved_since(account, book.last_money_ms + 1)

        def fold() -> bool:
            for fill in fills:
                engine.apply(FillReceived(fill))
            for payment in paid:
                engine.apply(payment)
            if not core.ledger.is_opened:
                return True
            for moved in money:
                engine.apply(MoneyReceived(moved.amount, moved.time_ms, moved.ref))
            if core.bookings != before or not (was_idle and engine.executor.is_idle):
                return False
            sizes = tuple((held.coin, held.size) for held in state.positions)
            entries = tuple((held.coin, held.entry) for held in state.positions)
            # Without a stream the breaker would watch, and an exit be priced by, what the market was when it went.
            silent = not engine.feeds.connected
            marks = tuple((held.coin, held.mark) for held in state.positions if silent and held.mark > 0)
            engine.apply(Reconciled(sizes, orders, entries, marks))
            engine.apply(EquitySeen(state.equity, self._clock.now_ms()))
            return True

        return await engine.on_consumer(fold)
