"""An engine for the benchmarks: the real one with its journal, core and guards, on a stream and a venue of our choice.

Only the two tasks that carry news run, one that reads the stream and one that consumes; the rest of a run, which asks
the venue about the past and serves consoles, does not belong to what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aml100.bench.inputs import ORIGIN
from aml100.config.loading import load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.units import MINUTE_MS, Coin
from aml100.engine.collector import start_spared
from aml100.engine.cycle import CycleKeeper
from aml100.engine.feeds import FeedBoard
from aml100.engine.listener import Listeners
from aml100.engine.live import LiveKeeper
from aml100.engine.runtime import Engine, EngineOptions
from aml100.engine.telemetry import Telemetry
from aml100.engine.watch import Watch
from aml100.market.series import BarSeries
from aml100.sim.staging import instruments_of
from aml100.storage.database import Database
from aml100.storage.store import Synchronous
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy
from aml100.trading.rules import TradingRules
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.clock import VenueClock
from aml100.venue.rest import VenueRest
from aml100.venue.session import Subscription, market_subscriptions
from aml100.venue.signing import Signer
from aml100.venue.stream import Received, VenueStream
from aml100.wiring.backtests import SIMULATED_BAND


@dataclass(frozen=True, slots=True)
class Venue:
    """Where to connect, and as whom."""

    rest_url: str
    ws_url: str
    account: str
    agent_key: str


@dataclass(frozen=True, slots=True)
class Rig:
    """`clock` is market time, to be set by whoever plays the market."""

    engine: Engine
    rest: VenueRest
    stream: VenueStream
    clock: ManualClock

    @asynccontextmanager
    async def carrying(self) -> AsyncIterator[None]:
        """The engine reads its stream and takes what is posted while the block runs."""
        async with self.stream:
            tasks = [asyncio.create_task(self.engine._read_stream()), asyncio.create_task(self.engine._consume())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task


class _Keeper(LiveKeeper):
    """Closes bars as soon as they are complete; what a live run asks of its venue is left out."""

    def close_ready(self) -> None:
        engine = self._engine
        for end_ms, bars in engine.bars.ready(engine.clock.now_ms(), 0.0):
            engine.close_bars(end_ms, bars, {})


class _Tapped(VenueStream):
    """A stream that is listened in on."""

    def __init__(
        self, ws_url: str, wanted: Sequence[Subscription], clock: ManualClock, on_news: Callable[[Received], None]
    ) -> None:
        super().__init__(ws_url, wanted, clock, origin=ORIGIN)
        self._on_news = on_news

    async def __aiter__(self) -> AsyncIterator[Received]:
        async for received in super().__aiter__():
            self._on_news(received)
            yield received


@asynccontextmanager
async def rig(
    folder: Path,
    venue: Venue,
    history: Sequence[BarSeries],
    policy: Callable[[Coin], Policy],
    *,
    synchronous: Synchronous = "NORMAL",
    on_news: Callable[[Received], None] = lambda received: None,
) -> AsyncIterator[Rig]:
    """Warm after the given bars, one series a coin, and trading; the venue is asked nothing before an order leaves.

    `on_news` is told what the stream brings, before the engine is.
    """
    coins = [series.coin for series in history]
    settings = load_settings(None, {})
    params = settings.params
    rules = TradingRules.from_params(
        params, interval_ms=MINUTE_MS, warmup_bars=0, live_guards=True, order_band=SIMULATED_BAND
    )
    core = TradingCore(instruments_of(coins), rules, policy, salt="bench")
    clock = ManualClock()
    rest = VenueRest(
        venue.rest_url,
        "other",
        Signer(venue.agent_key, "other"),
        venue.account,
        clock,
        origin=ORIGIN,
        ip_budget=IpBudget(10**9, 0),
        action_budget=ActionBudget(10**9),
    )
    streams = [subscription for coin in coins for subscription in market_subscriptions(coin, MINUTE_MS)]
    stream = _Tapped(venue.ws_url, streams, clock, on_news)
    options = EngineOptions(
        run_id="bench",
        venue="sim",
        execution="venue",
        mode="SIM",
        coins=tuple(coins),
        account=venue.account,
        origin=ORIGIN,
        speed=1.0,
        policy="bench",
        in_step=False,
    )
    listeners, telemetry = Listeners(), Telemetry()
    listeners.add(telemetry)
    async with AsyncExitStack() as stack:
        state = folder / f"state-{synchronous}.db"
        database = stack.enter_context(Database.open(state, synchronous, "sim", venue.account, "venue"))
        await stack.enter_async_context(rest)
        cycles = CycleKeeper(settings.objectives, database, listeners, MINUTE_MS, "sim")
        listeners.add(cycles)
        feeds = FeedBoard(params.risk.stale_seconds)
        watch = Watch(settings.objectives, params, database, listeners, MINUTE_MS)
        listeners.add(watch)
        engine = Engine(options, core, rest, stream, database, clock, feeds, telemetry, listeners, None, cycles, watch)
        engine.live = _Keeper(engine, VenueClock(), bar_grace_s=0.0, signer=None)
        deposit = core.ledger.deposit(params.backtest.initial_equity, 0, "initial")
        engine.record(deposit)
        for series in history:
            feeds.expect(series.coin, clock.monotonic_s())
            for row in range(len(series)):
                core.warm_up(series.bar(row))
            clock.set(int(series.open_ms[-1]) + MINUTE_MS)
        for effect in core.begin(clock.now_ms()):
            engine.record(effect)  # type: ignore[arg-type]  # a change of state, which is a record
        stack.enter_context(start_spared())
        yield Rig(engine, rest, stream, clock)
