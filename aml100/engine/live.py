"""What an engine does beside its queue on a venue that nobody waits for: testnet, mainnet, a simulated one at a URL.

Start and reconnect are one path: what the account holds is read and protected first, history comes second, and
decisions begin when the series is contiguous (GUARANTEES D11, D16, D19). From then on four watches run: the venue's
clock, the account (positions, stops, orders, fills, money), the listing of the coins, and bars that are owed. A watch
that fails is a concern or a warning, never the end of the run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aml100.domain.errors import VenueError
from aml100.domain.events import (
    AskOrders,
    BooksOpened,
    Command,
    CommandName,
    ConcernChanged,
    EquitySeen,
    FillReceived,
    InstrumentsLearnt,
    MoneyReceived,
    OrderChanged,
    Reconciled,
    SeriesEnd,
    SeriesEnded,
    TradingState,
)
from aml100.domain.market import Bar
from aml100.domain.orders import OrderStatus
from aml100.domain.units import HOUR_MS, ZERO, Coin
from aml100.venue.clock import VenueClock
from aml100.venue.news import AccountState, Agent
from aml100.venue.placing import MarginMode

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

log = logging.getLogger(__name__)

STREAM_WAIT_S: Final = 10.0
HISTORY_BARS: Final = 5_000
"""The venue serves no more."""
_CHUNK: Final = 250
_END_WAIT_S: Final = 10.0


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


class LiveKeeper:
    """Keeps one engine in agreement with its venue; `run` ends with the run.

    Args:
        engine: whose queue everything goes through.
        clock: the engine's, set right here.
        bar_grace_s: wall seconds that a bar's last update may be late.
        agent: address of the key that signs, where it is not the account's own; None in paper trading.
    """

    def __init__(
        self, engine: Engine, clock: VenueClock, *, bar_grace_s: float, agent: str | None, paces: Paces | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self.paces = paces or Paces()
        self._bar_grace_s = bar_grace_s
        self._agent = agent
        self._stream_up = asyncio.Event()
        self._recovering = asyncio.Lock()
        self._is_warm = False
        self._full_s = 0.0
        self._money_s = 0.0
        self._asked_bars_s: dict[Coin, float] = {}
        self._was_down = False
        self.agent: Agent | None = None
        """The key that signs, as the venue lists it; None for an unnamed one, and before it was asked."""

    @property
    def _grace_ms(self) -> float:
        return self._bar_grace_s * 1000 * self._clock.speed

    # --- what the engine tells --------------------------------------------------------------------------------

    def on_stream(self, *, up: bool) -> None:
        """The socket came or went; what it told of bars in the making is not trusted any more."""
        if up:
            self._stream_up.set()
        else:
            self._stream_up.clear()
            self._was_down = True
            self._engine.bars.suspend()

    def close_ready(self) -> None:
        """Hand the core what is complete; between two events."""
        if not self._is_warm:
            return
        engine, now_ms = self._engine, self._clock.now_ms()
        for end_ms, bars in engine.bars.ready(now_ms, 2 * self._grace_ms):
            late_ms = max(engine.core.rules.interval_ms / 2, 3 * self._grace_ms)
            engine.close_bars(end_ms, bars, {}, is_late=now_ms - end_ms > late_ms)

    # --- the life of it ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, then watch until cancelled."""
        self._engine.bars.suspend()
        await self._begin()
        await asyncio.gather(
            self._every(lambda: self.paces.clock_s / max(1.0, self._clock.speed / 10), self._watch_clock),
            self._every(self._account_pause_s, self._watch_account),
            self._every(lambda: self.paces.listing_s, self._watch_listing),
            self._every(lambda: self.paces.bars_s, self._watch_bars),
        )

    async def _every(self, pause_s: Callable[[], float], look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s())
            try:
                await look()
            except VenueError as error:
                log.warning("%s: %s", getattr(look, "__name__", "watch").strip("_"), error)
                await asyncio.sleep(self.paces.retry_s)

    async def _begin(self) -> None:
        engine = self._engine
        await engine.on_consumer(self._restore_latch)
        now_s = self._clock.monotonic_s()
        for coin in engine.options.coins:
            engine.feeds.expect(coin, now_s)
        await self._stand()
        try:
            async with asyncio.timeout(STREAM_WAIT_S):
                await self._stream_up.wait()
        except TimeoutError:
            log.warning("no stream after %.0f s, beginning without", STREAM_WAIT_S)
        for coin in engine.options.coins:
            await self._patiently(lambda coin=coin: self._warm_up(coin))  # type: ignore[misc]
        self._is_warm = True
        await engine.on_consumer(lambda: engine.carry_out(engine.core.begin(self._clock.now_ms())))

    def _restore_latch(self) -> None:
        engine = self._engine
        if engine.database.has_halt_latch():
            if engine.core.state.trading is not TradingState.HALTED:
                engine.apply(Command(CommandName.HALT, "latch", self._clock.now_ms()))
        elif engine.core.state.trading is TradingState.HALTED:
            engine.apply(Command(CommandName.RESUME, "offline resume", self._clock.now_ms()))

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again until the venue plays along."""
        while True:
            try:
                await work()
                return
            except VenueError as error:
                log.warning("not yet: %s", error)
                await asyncio.sleep(self.paces.retry_s)

    # --- the account ------------------------------------------------------------------------------------------

    async def _stand(self) -> None:
        """Where the account stands, read for the first time; what fails leaves exits and stops working (D19)."""
        engine = self._engine
        try:
            await self._open_books()
            unsettled = engine.core.blotter.unsettled()
            if unsettled:
                engine.executor.start([AskOrders(unsettled)])
            await self._reconcile(patient=True)
            for coin in engine.options.coins:
                await self._set_leverage(coin)
            await self._read_access()
        except VenueError as error:
            reason = f"not reconciled with the venue: {error}"
            await engine.on_consumer(lambda: engine.apply(ConcernChanged("reconcile", reason)))

    async def _open_books(self) -> None:
        """The first money of a new ledger is what the account is worth, less what its positions have gained so far."""
        engine = self._engine
        if engine.core.ledger.book.deposits:
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

    async def _read_access(self) -> None:
        """Until when the signing key may act, and what the venue counts of our requests."""
        engine = self._engine
        if self._agent is None:
            return
        await engine.rest.user_rate_limit(engine.options.account)
        agents = await engine.rest.extra_agents(engine.options.account)
        self.agent = next((one for one in agents if one.address == self._agent), None)

    def _account_pause_s(self) -> float:
        return self.paces.quick_s if self._engine.core.ledger.open_coins() else self.paces.idle_s / 6

    async def _watch_account(self) -> None:
        """Positions and stops every few seconds while there is a position; orders, fills and money less often."""
        engine = self._engine
        held = bool(engine.core.ledger.open_coins())
        since_s = self._clock.monotonic_s() - self._full_s
        if not engine.core.ledger.book.deposits:
            await self._open_books()
        if self._was_down and self._stream_up.is_set():
            self._was_down = False
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
            if not book.deposits:
                return True
            for moved in money:
                engine.apply(MoneyReceived(moved.amount, moved.time_ms, moved.ref))
            if core.bookings != before or not (was_idle and engine.executor.is_idle):
                return False
            sizes = tuple((held.coin, held.size) for held in state.positions)
            entries = tuple((held.coin, held.entry) for held in state.positions)
            engine.apply(Reconciled(sizes, orders, entries))
            engine.apply(EquitySeen(state.equity, self._clock.now_ms()))
            return True

        return await engine.on_consumer(fold)

    # --- bars -------------------------------------------------------------------------------------------------

    async def _warm_up(self, coin: Coin) -> None:
        """History through features and policy: all there is at first, what was missed after a restart."""
        engine, core = self._engine, self._engine.core
        interval_ms = core.rules.interval_ms
        now_ms = self._clock.now_ms()
        since_ms = core.coin(coin).last_end_ms or now_ms - HISTORY_BARS * interval_ms
        bars = await engine.rest.candles(coin, interval_ms, since_ms, now_ms + interval_ms)
        closed = [bar for bar in bars if bar.end_ms <= now_ms and bar.open_ms >= core.coin(coin).last_end_ms]

        settled = await engine.settled_before(coin, closed)

        def fold(chunk: list[Bar]) -> Callable[[], None]:
            return lambda: engine.take_history(chunk, settled)

        for start in range(0, len(closed), _CHUNK):
            await engine.on_consumer(fold(closed[start : start + _CHUNK]))
        await engine.on_consumer(lambda: engine.bars.confirm(coin, bars, now_ms))
        log.info("%s: %d bars of history", coin, len(closed))

    async def _watch_bars(self) -> None:
        """Coins that owe bars, or whose bars do not follow on one another, are asked for by REST, then handed on."""
        engine = self._engine
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        owing = {*engine.bars.suspended(), *engine.bars.overdue(now_ms, self._grace_ms)}
        for coin in engine.options.coins:
            pause_s = max(self.paces.retry_s / 3, self._bar_grace_s)
            if coin in owing and now_s - self._asked_bars_s.get(coin, -pause_s) >= pause_s:
                self._asked_bars_s[coin] = now_s
                await self._fill_in(coin)
        await engine.on_consumer(self.close_ready)
        await self._ask_funding(now_ms, now_s)

    async def _ask_funding(self, now_ms: int, now_s: float) -> None:
        """The rate of the hour that has begun, asked for until the venue has it."""
        engine, funding = self._engine, self._engine.funding
        for coin in engine.options.coins:
            if funding is None or not funding.is_due(coin, now_ms, now_s):
                continue
            for settled in await funding.news(coin, now_ms):
                await engine.on_consumer(lambda one=settled: engine.know_funding(one))  # type: ignore[misc]

    async def _fill_in(self, coin: Coin) -> None:
        engine = self._engine
        interval_ms = engine.core.rules.interval_ms
        asked_ms = self._clock.now_ms()
        since_ms = engine.core.coin(coin).last_end_ms or asked_ms - interval_ms
        bars = await engine.rest.candles(coin, interval_ms, since_ms, asked_ms + interval_ms)
        closed_by_ms = int(asked_ms - self._grace_ms) if self._clock.is_simulated is False else asked_ms
        await engine.on_consumer(lambda: engine.bars.confirm(coin, bars, closed_by_ms))

    # --- the other watches ------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        """The venue's time; the end of a simulated market ends the run."""
        asked_s = self._clock.monotonic_s()
        status = await self._engine.rest.exchange_status()
        self._clock.sync(status, asked_s, self._clock.monotonic_s())
        if self._clock.has_ended and self._is_warm:
            await self._end_of_data()

    async def _end_of_data(self) -> None:
        """The last bars are decided, positions are closed at the last price, and the run is over."""
        engine = self._engine
        for coin in engine.options.coins:
            await self._fill_in(coin)
        ending = dict.fromkeys(engine.options.coins, SeriesEnd.END)

        def fold() -> None:
            for end_ms in engine.bars.ends():
                engine.close_bars(end_ms, engine.bars.take(end_ms), ending)
            engine.apply(SeriesEnded(self._clock.now_ms()))

        await engine.on_consumer(fold)
        deadline_s = self._clock.monotonic_s() + _END_WAIT_S
        while self._clock.monotonic_s() < deadline_s and (  # noqa: ASYNC110 -- the ledger is no event
            engine.core.ledger.open_coins() or not engine.executor.is_idle
        ):
            await asyncio.sleep(0.1)
        engine.request_stop("end of data")

    async def _watch_listing(self) -> None:
        """Rules of the coins may change, and coins may go."""
        engine = self._engine
        listed = await engine.rest.instruments()
        gone = [coin for coin in engine.options.coins if coin not in listed]

        def fold() -> None:
            ours = tuple(listed[coin] for coin in engine.options.coins if coin in listed)
            engine.apply(InstrumentsLearnt(ours))
            reason = f"no longer listed: {', '.join(gone)}" if gone else ""
            engine.apply(ConcernChanged("listing", reason))

        await engine.on_consumer(fold)
        await self._read_access()
