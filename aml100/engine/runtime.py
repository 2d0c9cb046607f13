"""The engine: one inbox, one consumer, one owner of state.

Streams, timers, operators and answers put events in the inbox; the consumer takes them in order, folds each through
the decision core and hands what it says to the outbox, which journals it in one transaction and only then lets the
executor act. Everything that may block (requests, training, disk) runs beside it. What depends on the kind of venue
lies with a keeper: `StepKeeper` where the venue waits for us, `LiveKeeper` where nobody does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeAlias, TypeVar

from aml100.domain.clock import Clock, wall_ms
from aml100.domain.errors import AmlError, VenueError
from aml100.domain.events import (
    BarsClosed,
    Command,
    CommandName,
    ConcernChanged,
    CoreEvent,
    Effect,
    FeedChanged,
    FillReceived,
    Record,
    SeriesEnd,
    SettledFunding,
    Tick,
    TradingState,
)
from aml100.domain.market import AssetContext, Bar, BookTop
from aml100.domain.units import DAY_MS, ZERO, Coin, decimal_text
from aml100.engine.archive import Archive
from aml100.engine.autonomy import Autonomy
from aml100.engine.barfeed import BarFeed
from aml100.engine.cycle import CycleKeeper
from aml100.engine.desk import TrainingDesk
from aml100.engine.execution import AccountVenue, Executor
from aml100.engine.feeds import FeedBoard
from aml100.engine.funding import FundingWatch
from aml100.engine.inbox import Inbox, Overload
from aml100.engine.instep import StepKeeper
from aml100.engine.listener import Listeners
from aml100.engine.live import LiveKeeper
from aml100.engine.outbox import Outbox
from aml100.engine.telemetry import Telemetry
from aml100.engine.watch import Watch
from aml100.storage.database import Database, JournalFailed
from aml100.storage.entries import Run, RunStopped
from aml100.trading.core import TradingCore
from aml100.trading.standing import READ_AGAIN
from aml100.venue.clock import VenueClock
from aml100.venue.news import (
    CandleUpdate,
    DepthSeen,
    FillsSeen,
    ForeignOrderSeen,
    FundingsSeen,
    MidsSeen,
    SimStep,
    TradesSeen,
)
from aml100.venue.rest import VenueRest
from aml100.venue.session import FrameRefused, StreamUp, VenueComplaint
from aml100.venue.stream import StreamDown, StreamEvent, VenueStream

log = logging.getLogger(__name__)

TICK_S = 0.25
READ_AHEAD = 16
"""Frames read before the consumer gets its turn."""
POLLED_BELOW = 1_000
"""Items that wait, beyond which trainer and back-test are not asked as well."""
LAGS_TOLD = 8
"""Ticks before the lag is told: the first ones pay for compiling and loading, not for trading."""
HOUSE_EVERY_S = 3_600.0
ARCHIVE_EVERY_S = 300.0
JOURNAL_PATIENCE_S = 20.0
"""For so long an engine that ends waits for a journal that cannot be written just now."""
T = TypeVar("T")


class MarketFollower(Protocol):
    """Whoever fills orders from the live market itself (paper trading), and tells through the queue."""

    def listen(self, post: Callable[[CoreEvent], None]) -> None: ...

    def on_news(self, item: object, now_ms: int) -> None: ...


class Publisher(Protocol):
    """Whatever listens on the operator socket while the engine runs."""

    async def __aenter__(self) -> Publisher: ...

    async def __aexit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How this engine was asked to run.

    `in_step`: the venue waits for us and sets the clock. `order_life_s`: wall seconds after which it refuses an order.
    """

    run_id: str
    venue: str
    execution: str
    mode: str
    coins: tuple[Coin, ...]
    account: str
    origin: str
    speed: float
    policy: str
    in_step: bool
    order_life_s: float = 15.0
    duration_s: float | None = None
    max_cycles: int | None = None
    on_exit: str = "keep"
    retain_days: int = 14
    close_cost_frac: Decimal = ZERO
    """Of the notional, what closing at the market takes in fees and assumed slippage."""


@dataclass(frozen=True, slots=True)
class _Call:
    """Work for the consumer: runs between two events, so it sees and changes state safely."""

    run: Callable[[], None]


QueueItem: TypeAlias = CoreEvent | StreamEvent | _Call


class Engine:
    """Built by `wiring`; `run` is its whole life.

    Attributes to read: `options`, `core`, `executor`, `feeds`, `telemetry`, `desk`, `cycles`, `loop_lag_ms`.
    """

    def __init__(
        self,
        options: EngineOptions,
        core: TradingCore,
        rest: VenueRest,
        stream: VenueStream,
        database: Database,
        clock: Clock,
        feeds: FeedBoard,
        telemetry: Telemetry,
        listeners: Listeners,
        desk: TrainingDesk | None,
        cycles: CycleKeeper,
        watch: Watch,
        account_venue: AccountVenue | None = None,
        paper: MarketFollower | None = None,
    ) -> None:
        """`account_venue` holds the account where `rest` does not; `paper` fills orders from what the streams say."""
        self.options = options
        self.core = core
        self.rest = rest
        self.database = database
        self.clock = clock
        self.feeds = feeds
        self.telemetry = telemetry
        self.listeners = listeners
        self.desk = desk
        self.cycles = cycles
        self.autonomy = Autonomy(core, cycles, watch, desk)
        self.account_venue: AccountVenue = account_venue or rest
        self.paper = paper
        if paper is not None:
            paper.listen(self.post)
        self.executor = Executor(
            self.account_venue,
            options.account,
            self.post,
            clock,
            lambda error: self.outbox.on_failure(error),
            options.order_life_s,
        )
        self.outbox = Outbox(
            core,
            database,
            self.executor,
            self.account_venue,
            listeners,
            self.post,
            clock,
            in_step=options.in_step,
        )
        self.steps = StepKeeper(self, stream) if options.in_step else None
        self.live: LiveKeeper | None = None
        self.loop_lag_ms = 0.0
        self.is_consuming = False
        self.stop_reason = ""
        self.exit_code = 0
        self._stream = stream
        self.inbox: Inbox[QueueItem] = Inbox()
        self.overload = Overload()
        self._stop = asyncio.Event()
        self.bars = BarFeed(
            options.coins, core.rules.interval_ms, options.origin, lambda coin: self.core.coin(coin).last_end_ms
        )
        self.started_s = clock.monotonic_s()
        self.deposit = ZERO
        self.run_entry: Run | None = None
        self.socket = ""
        self.model_id: str | None = None
        self.archive: Archive | None = None
        """Of a real market's bars; None on a simulated one."""
        self.funding: FundingWatch | None = None
        """What has been settled of funding, for the features; None where nobody tells."""

    # --- from outside ---------------------------------------------------------------------------------------

    def post(self, event: CoreEvent) -> None:
        """Queue an event for the core."""
        self.inbox.put(event)

    def request_stop(self, reason: str, exit_code: int = 0) -> None:
        """End the run cleanly; the first reason counts."""
        if not self._stop.is_set():
            self.stop_reason, self.exit_code = reason, exit_code
            self._stop.set()

    async def on_consumer(self, work: Callable[[], T]) -> T:
        """Run something between two events of the consumer and hand back its result."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def call() -> None:
            if not future.cancelled():
                future.set_result(work())

        self.inbox.put(_Call(call))
        return await future

    # --- the life of a run ----------------------------------------------------------------------------------

    async def run(self, publisher: Publisher) -> int:
        """Reconcile, trade until told to stop, leave in order; answers the exit code."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(publisher)
            self._announce()
            self._restore_standing()
            if self.steps is not None:
                await self.steps.prepare()
            await stack.enter_async_context(self._stream)
            tasks = [
                asyncio.create_task(self._read_stream(), name="stream"),
                asyncio.create_task(self._consume(), name="consumer"),
                asyncio.create_task(self._tick(), name="ticker"),
                asyncio.create_task(self._watch_duration(), name="duration"),
                asyncio.create_task(self._keep_house(), name="house"),
            ]
            if self.live is not None:
                tasks.append(asyncio.create_task(self.live.run(), name="venue watch"))
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            try:
                done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping}:
                    task.result()  # raises what ended it
                await stopping
                await self._leave(tasks)
            finally:
                await _end((stopping, *tasks))
                await self.autonomy.close()
                await self.executor.close()
        return self.exit_code

    def _announce(self) -> None:
        """The run is known to the journal and to whoever listens."""
        options = self.options
        if self.run_entry is not None:
            self.database.start_run(self.run_entry)
        self.listeners.on_event(
            "started",
            {
                "run_id": options.run_id,
                "venue": options.venue,
                "execution": options.execution,
                "coins": list(options.coins),
                "phase": self.cycles.phase,
                "model": self.model_id,
                "pid": os.getpid(),
                "socket": self.socket,
            },
        )

    def take_history(self, bars: Sequence[Bar], settled: list[SettledFunding]) -> None:
        """Bars without decisions, the rates that they may know taken off `settled` before them."""
        for bar in bars:
            while settled and settled[0].time_ms <= bar.open_ms:
                self.know_funding(settled.pop(0))
            self.core.warm_up(bar)
        self.telemetry.on_bars(bars)
        if self.desk is not None:
            self.desk.on_history(bars)

    async def settled_before(self, coin: Coin, bars: Sequence[Bar]) -> list[SettledFunding]:
        """The rates that these bars may know, oldest first."""
        if self.funding is None or not bars:
            return []
        try:
            return await self.funding.history(coin, bars[0].open_ms, bars[-1].end_ms)
        except VenueError as error:
            log.warning("funding history of %s is not known: %s", coin, error)
            return []

    def _restore_standing(self) -> None:
        """Which of the last run's doubts still stand, and whether somebody resumed since.

        Before anything that waits in the inbox: a halt of this run has no latch on disk yet, and none may be lifted.
        """
        core = self.core
        for name in set(core.state.concerns) - READ_AGAIN:  # of that process, its venue list and leverage: told anew
            self.apply(ConcernChanged(name, ""))
        if core.state.trading is TradingState.HALTED and not self.database.has_halt_latch():
            self.apply(Command(CommandName.RESUME, "offline resume", self.clock.now_ms()))

    def obey_latch(self) -> None:
        """A halt that the journal keeps and the core's state does not know: that of another book."""
        if self.core.state.trading is not TradingState.HALTED and self.database.has_halt_latch():
            self.apply(Command(CommandName.HALT, "latch", self.clock.now_ms()))

    def know_funding(self, settled: SettledFunding) -> None:
        """A feature of the bars that follow, and of the next training."""
        self.apply(settled)
        if self.paper is not None:
            self.paper.on_news(settled, self.clock.now_ms())
        if self.desk is not None:
            self.desk.on_funding(settled)

    async def _leave(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """The end of a run: positions as configured, what is under way ends, and all that entered is on disk."""
        told = self.stop_reason != "end of data"
        if told:
            self.post(Command(CommandName.STOP, "engine", self.clock.now_ms()))
        if told and self.options.on_exit == "flatten":
            self.post(Command(CommandName.FLATTEN, "engine: on_exit", self.clock.now_ms()))
            await self.on_consumer(lambda: None)  # before it is taken in, nothing is to go
            deadline = self.clock.monotonic_s() + 10
            while self.clock.monotonic_s() < deadline:
                await asyncio.sleep(0.05)
                if self.core.exits.all_gone() and self.executor.is_idle:
                    break
        await self.autonomy.close()
        await self.executor.close()
        await self.on_consumer(lambda: None)
        await _end(tasks)
        equity = self.core.ledger.equity()
        self.database.stop_run(RunStopped(self.options.run_id, wall_ms(), self.stop_reason, self.exit_code, equity))
        await self._write_out()
        self.listeners.on_event(
            "stopped", {"reason": self.stop_reason, "exit_code": self.exit_code, "equity": decimal_text(equity)}
        )

    async def _write_out(self) -> None:
        """Everything is on disk, or it is said that it is not: a disk or a server that is away may come back."""
        try:
            await asyncio.to_thread(self.database.flush)
        except JournalFailed as error:
            log.error("the engine ends and %s; trying for %.0f s more", error, JOURNAL_PATIENCE_S)
        until_s = self.clock.monotonic_s() + JOURNAL_PATIENCE_S
        while self.database.backlog and self.clock.monotonic_s() < until_s:  # noqa: ASYNC110 -- a thread's
            await asyncio.sleep(0.1)
        if self.database.backlog:  # whoever closes the journal says what is lost
            self.stop_reason, self.exit_code = f"{self.stop_reason}; the journal could not be written", 1

    # --- tasks ----------------------------------------------------------------------------------------------

    async def _read_stream(self) -> None:
        """One read of the socket may bring hundreds of frames: the consumer gets its turn in between."""
        async for received in self._stream:
            self.inbox.put(received.event)
            if len(self.inbox) >= READ_AHEAD:
                await asyncio.sleep(0)

    async def _consume(self) -> None:
        self.is_consuming = True
        while True:
            await self.handle(await self.inbox.get())

    async def _tick(self) -> None:
        """Deadlines, freshness and the lag of the loop, a few times a second."""
        lags: list[float] = []
        while True:
            before = self.clock.monotonic_s()
            await asyncio.sleep(TICK_S)
            now_s = self.clock.monotonic_s()
            lags = [*lags[-19:], (now_s - before - TICK_S) * 1000]
            if len(lags) >= LAGS_TOLD:
                self.loop_lag_ms = sorted(lags)[len(lags) // 2]
            for change in self.feeds.check(now_s):
                self.inbox.put(change)
            offset_ms = self.clock.offset_ms or 0 if isinstance(self.clock, VenueClock) else 0
            self.inbox.put(Tick(self.clock.now_ms(), now_s, self.loop_lag_ms, offset_ms))
            overload = self.overload.check(self.inbox.left_out, now_s)
            if overload is not None:
                log.warning("%d messages left out: %s", self.inbox.left_out, overload.reason or "no more")
                self.inbox.put(overload)
            if len(self.inbox) < POLLED_BELOW:
                self.inbox.put(_Call(self._poll_autonomy))

    async def _watch_duration(self) -> None:
        """`--duration` counts wall time from `started`."""
        if self.options.duration_s is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.options.duration_s)
            self.request_stop("duration over")

    async def _keep_house(self) -> None:
        """Recorded inputs grow old and go into files; the archive of a real market follows the venue."""
        waited_s = HOUSE_EVERY_S
        while True:
            if waited_s >= HOUSE_EVERY_S:
                waited_s = 0.0
                before_ms = wall_ms() - self.options.retain_days * DAY_MS
                try:
                    await asyncio.to_thread(self.database.archive_inputs, before_ms)
                except AmlError as error:
                    log.warning("recorded inputs stay in the state file: %s", error)
            if self.archive is not None:
                await self.archive.catch_up(self.options.coins, self.clock.now_ms())
            await asyncio.sleep(ARCHIVE_EVERY_S)
            waited_s += ARCHIVE_EVERY_S

    def _poll_autonomy(self) -> None:
        """Take in what trainer and back-test brought, between two events."""
        self.outbox.look_at_journal()
        self.autonomy.poll(self.clock.now_ms())
        if self.options.max_cycles and self.cycles.completed >= self.options.max_cycles:
            self.request_stop("cycles done")

    # --- one item -------------------------------------------------------------------------------------------

    async def handle(self, item: QueueItem) -> None:
        """One item of the inbox, to its end; the consumer's alone."""
        now_s = self.clock.monotonic_s()
        if self.paper is not None and not isinstance(item, _Call):
            self.paper.on_news(item, self.clock.now_ms())
        match item:
            case _Call():
                item.run()
            case SimStep():
                if self.steps is not None:
                    await self.steps.on_step(item)
            case CandleUpdate(bar):
                self._saw(bar.coin, "candle", now_s, bar.open_ms)
                if self.bars.on_candle(bar, checks=self.live is not None):
                    log.warning("%s: bars are missing before %d, asking for them", bar.coin, bar.open_ms)
            case BookTop():
                self._saw(item.coin, "bbo", now_s, item.time_ms)
                self.apply(item)
            case AssetContext():
                self._saw(item.coin, "activeAssetCtx", now_s)
                self.apply(item)
            case TradesSeen():
                for coin in {trade.coin for trade in item.trades}:
                    newest_ms = max(trade.time_ms for trade in item.trades if trade.coin == coin)
                    self._saw(coin, "trades", now_s, newest_ms)
            case FillsSeen():
                for fill in item.fills:
                    self.apply(FillReceived(fill))
            case FundingsSeen():
                for paid in item.payments:
                    self.apply(paid)
            case MidsSeen() | ForeignOrderSeen() | DepthSeen():
                pass
            case FrameRefused() | VenueComplaint():
                log.warning("stream: %s", item)
            case StreamUp():
                await self._connection(up=True, now_s=now_s)
            case StreamDown():
                log.warning("stream down: %s", item.reason)
                await self._connection(up=False, now_s=now_s)
            case FeedChanged():
                self.apply(item)
                self.listeners.on_event("feed", _feed_fields(item))
            case _:
                self.apply(item)
        if self.live is not None:
            self.live.close_ready()

    def _saw(self, coin: Coin, channel: str, now_s: float, time_ms: int = 0) -> None:
        change = self.feeds.saw(coin, channel, now_s, time_ms)
        if change is not None:
            self.apply(change)
            self.listeners.on_event("feed", _feed_fields(change))

    async def _connection(self, *, up: bool, now_s: float) -> None:
        if self.live is not None:
            self.live.on_stream(up=up)
        for change in self.feeds.set_connected(up, now_s):
            self.apply(change)
            self.listeners.on_event("feed", _feed_fields(change))
        if self.steps is not None:
            await self.steps.on_stream(up=up)

    def apply(self, event: CoreEvent) -> None:
        """Fold one event and do what follows from it."""
        effects = self.core.process(event)
        self.outbox.send(effects, self.autonomy.on_bars(event.bars) if isinstance(event, BarsClosed) else ())

    def record(self, record: Record) -> None:
        """Journal a fact that is not the core's."""
        self.outbox.send([record])

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Journal and do what the core asked for outside `apply`."""
        self.outbox.send(effects)

    # --- bars -----------------------------------------------------------------------------------------------

    def close_bars(
        self, end_ms: int, bars: tuple[Bar, ...], ending: Mapping[Coin, SeriesEnd], *, is_late: bool = False
    ) -> None:
        """The bars of one end time go to the core; between two events."""
        for bar in bars:
            missing = (bar.open_ms - self.core.coin(bar.coin).last_end_ms) // bar.interval_ms
            if missing > 0 and self.core.coin(bar.coin).last_end_ms:
                self.feeds.gap(bar.coin, missing)
            self.listeners.on_event("bar", {"bar": bar})
        self.telemetry.on_bars(bars)
        self.apply(BarsClosed(end_ms, bars, tuple(ending.items()), is_late))
        for told in self.autonomy.after_bars(end_ms):
            self.apply(told)
        if self.options.max_cycles and self.cycles.completed >= self.options.max_cycles:
            self.request_stop("cycles done")


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _feed_fields(change: FeedChanged) -> dict[str, object]:
    return {
        "coin": change.coin,
        "channel": change.channel,
        "state": change.state,
        "age_ms": change.age_ms,
        "gap_bars": change.gap_bars,
    }
