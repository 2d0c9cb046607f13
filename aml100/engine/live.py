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
from typing import TYPE_CHECKING, Final

from aml100.domain.errors import VenueError
from aml100.domain.events import ConcernChanged, InstrumentsLearnt, SeriesEnd, SeriesEnded
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.account_watch import AccountWatch, Paces
from aml100.venue.clock import VenueClock

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

log = logging.getLogger(__name__)

STREAM_WAIT_S: Final = 10.0
HISTORY_BARS: Final = 5_000
"""The venue serves no more."""
_CHUNK: Final = 250
_END_WAIT_S: Final = 10.0


class LiveKeeper:
    """Keeps one engine in agreement with its venue; `run` ends with the run.

    Args:
        engine: whose queue everything goes through.
        clock: the engine's, set right here.
        bar_grace_s: wall seconds that a bar's last update may be late.
        signer: address of the key that signs; None in paper trading.
    """

    def __init__(
        self, engine: Engine, clock: VenueClock, *, bar_grace_s: float, signer: str | None, paces: Paces | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self.paces = paces or Paces()
        self.account = AccountWatch(engine, clock, signer, self.paces)
        self._bar_grace_s = bar_grace_s
        self._stream_up = asyncio.Event()
        self._is_warm = False
        self._asked_bars_s: dict[Coin, float] = {}

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
            self.account.was_cut = True
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
        """The account first, then all the watches at once; until cancelled."""
        engine = self._engine
        engine.bars.suspend()
        await engine.on_consumer(engine.obey_latch)
        now_s = self._clock.monotonic_s()
        for coin in engine.options.coins:
            engine.feeds.expect(coin, now_s)
        await self.account.stand()
        await asyncio.gather(
            self._every(self.account.pause_s, self.account.watch),
            self._every(lambda: self.paces.clock_s / max(1.0, self._clock.speed / 10), self._watch_clock),
            self._every(lambda: self.paces.listing_s, self._watch_listing),
            self._follow_bars(),
        )

    async def _every(self, pause_s: Callable[[], float], look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause_s())
            try:
                await look()
            except VenueError as error:
                log.warning("%s: %s", getattr(look, "__name__", "watch").strip("_"), error)
                await asyncio.sleep(self.paces.retry_s)

    async def _follow_bars(self) -> None:
        """History, then decisions, then whatever bars are owed."""
        engine = self._engine
        try:
            async with asyncio.timeout(STREAM_WAIT_S):
                await self._stream_up.wait()
        except TimeoutError:
            log.warning("no stream after %.0f s, beginning without", STREAM_WAIT_S)
        for coin in engine.options.coins:
            await self._patiently(lambda coin=coin: self._warm_up(coin))  # type: ignore[misc]
        self._is_warm = True
        await engine.on_consumer(lambda: engine.carry_out(engine.core.begin(self._clock.now_ms())))
        await self._every(lambda: self.paces.bars_s, self._watch_bars)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again until the venue plays along."""
        while True:
            try:
                await work()
                return
            except VenueError as error:
                log.warning("not yet: %s", error)
                await asyncio.sleep(self.paces.retry_s)

    # --- bars -------------------------------------------------------------------------------------------------

    async def _warm_up(self, coin: Coin) -> None:
        """History through features and policy: all there is at first, what was missed after a restart."""
        engine, core = self._engine, self._engine.core
        interval_ms = core.rules.interval_ms
        now_ms = await self._reached_ms()
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
        """Candles by REST; closed is what had ended, a grace ago, when they were asked for (GUARANTEES D17)."""
        engine = self._engine
        interval_ms = engine.core.rules.interval_ms
        asked_ms = await self._reached_ms()
        closed_by_ms = asked_ms if self._clock.is_simulated else int(asked_ms - self._grace_ms)
        since_ms = engine.core.coin(coin).last_end_ms or asked_ms - interval_ms
        bars = await engine.rest.candles(coin, interval_ms, since_ms, asked_ms + interval_ms)
        await engine.on_consumer(lambda: engine.bars.confirm(coin, bars, closed_by_ms))

    async def _reached_ms(self) -> int:
        """A time that the venue's market has reached.

        A simulated market that cannot keep its speed falls behind our idea of it, so it is asked.
        """
        return (await self._engine.rest.exchange_status()).time_ms if self._clock.is_simulated else self._clock.now_ms()

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

        await engine.on_consumer(fold)
        deadline_s = self._clock.monotonic_s() + _END_WAIT_S
        while self._clock.monotonic_s() < deadline_s:
            await engine.on_consumer(lambda: engine.apply(SeriesEnded(self._clock.now_ms())))
            await asyncio.sleep(0.25)
            await self.account.read_whole()  # an entry that was on its way may have filled meanwhile
            if engine.executor.is_idle and not engine.core.ledger.open_coins() and not self._waits_for_an_answer():
                break
        engine.request_stop("end of data")

    def _waits_for_an_answer(self) -> bool:
        return any(one.is_in_flight and not one.order.is_trigger for one in self._engine.core.blotter.live_all())

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
        await self.account.read_access()
