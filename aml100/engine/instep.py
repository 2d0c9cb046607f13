"""What an engine does on the embedded venue, which waits for it and sets the clock.

A start and a restart are one path: what the venue knows is folded in before anything is decided. From then on each of
its markers is answered when everything that followed from it is settled and on disk, so that the same bars give the
same run at any speed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from aml100.domain.clock import ManualClock
from aml100.domain.errors import AmlError, VenueError, VenueUnavailable
from aml100.domain.events import FillReceived, OrderChanged, Reconciled
from aml100.domain.market import Bar
from aml100.domain.orders import OrderStatus
from aml100.domain.units import Coin
from aml100.venue.news import SimStep
from aml100.venue.signing import Json
from aml100.venue.stream import VenueStream

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

log = logging.getLogger(__name__)

_CHUNK = 500


class StepKeeper:
    """Keeps one engine in step; `stream` carries its answers."""

    def __init__(self, engine: Engine, stream: VenueStream) -> None:
        self._engine = engine
        self._stream = stream
        self._acknowledged = 0
        self._was_cut = False

    # --- a start, a restart, a line that was cut -----------------------------------------------------------------

    async def prepare(self) -> None:
        """Leverage, history, and what became of orders and positions; then the core begins."""
        engine, core = self._engine, self._engine.core
        for coin in engine.options.coins:
            wanted = min(core.rules.leverage, core.instruments[coin].max_leverage)
            refusal = await engine.rest.update_leverage(coin, wanted)
            if refusal is not None:
                raise VenueError(f"leverage {core.rules.leverage} of {coin}: {refusal}")
        if engine.deposit and not core.ledger.is_opened:  # the first money of a new journal
            engine.record(core.ledger.deposit(engine.deposit, engine.clock.now_ms(), "initial"))
        await self._warm_up()
        await self._catch_up()
        engine.obey_latch()
        now_s = engine.clock.monotonic_s()
        for coin in engine.options.coins:
            engine.feeds.expect(coin, now_s)
        engine.carry_out(core.begin(engine.clock.now_ms()))

    async def _warm_up(self) -> None:
        """History through features and policy at first; after a restart none, for that venue stood still meanwhile
        and repeats the bar that we may not have decided."""
        engine = self._engine
        now_ms, interval_ms = engine.clock.now_ms(), engine.core.rules.interval_ms
        for coin in engine.options.coins:
            if engine.core.coin(coin).bars_seen:
                continue
            bars = await engine.rest.candles(coin, interval_ms, 0, now_ms)
            closed = [bar for bar in bars if bar.end_ms <= now_ms]
            settled = await engine.settled_before(coin, closed)
            for start in range(0, len(closed), _CHUNK):
                engine.take_history(closed[start : start + _CHUNK], settled)
                await asyncio.sleep(0)

    async def _catch_up(self) -> None:
        """Fills, funding, orders and positions as the venue has them, so that nothing is double and nothing lost.

        What is asked for by client id are the orders of before: a fill that is folded here may send new ones, and the
        venue not knowing those yet says nothing about them.
        """
        engine, core = self._engine, self._engine.core
        book, account = core.state.book, engine.options.account
        await engine.executor.settle()
        left_over = core.blotter.unsettled()
        for fill in await engine.rest.fills_since(account, core.ledger.fills_from_ms()):
            engine.apply(FillReceived(fill))
        since_ms = min(book.last_funding_ms.values(), default=book.last_fill_ms)
        for paid in await engine.rest.funding_since(account, since_ms):
            engine.apply(paid)
        for cloid in left_over:
            found = await engine.rest.order_status(account, cloid)
            engine.apply(found or OrderChanged(cloid, OrderStatus.REJECTED, None, "never reached the venue"))
        state = await engine.rest.account(account)
        orders = await engine.rest.resting_orders(account)
        engine.apply(Reconciled(tuple((p.coin, p.size) for p in state.positions), orders))
        await self._settle()

    async def on_stream(self, *, up: bool) -> None:
        """The socket came or went; what happened while it was away is asked for."""
        if not up:
            self._was_cut = True
        elif self._was_cut:
            await self._catch_up()
            self._was_cut = False

    # --- one step ------------------------------------------------------------------------------------------------

    async def on_step(self, step: SimStep) -> None:
        """The venue's marker: decide the bars that closed, settle what follows, answer."""
        engine = self._engine
        if isinstance(engine.clock, ManualClock):
            engine.clock.set(step.time_ms)
        if step.stage == "closed":
            await self._collect(step.time_ms)
            for end_ms in engine.bars.ends():
                engine.close_bars(end_ms, engine.bars.take(end_ms), dict(step.ending))
        await self._settle()
        if step.stage == "end":
            engine.request_stop("end of data")
        if engine.outbox.durable is not None:  # the venue goes on only from what a restart would find here too
            with suppress(AmlError):  # a journal that fails is the outbox's to tell
                await asyncio.wrap_future(engine.outbox.durable)
        sent_so_far = engine.executor.requests_sent
        answer: dict[str, Json] = {"method": "simAck", "step": step.step, "sent": sent_so_far - self._acknowledged}
        try:
            await self._stream.send_json(answer)
        except VenueUnavailable as error:  # it says the same again at the next connection
            log.warning("step %d not acknowledged: %s", step.step, error)
        else:
            self._acknowledged = sent_so_far

    async def _collect(self, end_ms: int) -> None:
        """The bars that end here, one a coin, with the rates that were settled before them."""
        engine = self._engine
        opened_ms = end_ms - engine.core.rules.interval_ms
        for coin in engine.options.coins:
            if engine.core.coin(coin).last_end_ms >= end_ms:
                continue
            await self._take_missed(coin, opened_ms)
            for settled in [] if engine.funding is None else await engine.funding.news(coin, opened_ms):
                engine.know_funding(settled)
            engine.bars.close_by_time(coin, end_ms)
            if coin in engine.bars.waits_for(end_ms):
                missed = await self._fetch_bar(coin, end_ms)
                if missed is not None:
                    engine.bars.collect(missed)

    async def _take_missed(self, coin: Coin, until_ms: int) -> None:
        """Bars that the venue has played and the journal lost with the steps it could not write: history now."""
        engine = self._engine
        since_ms, interval_ms = engine.core.coin(coin).last_end_ms, engine.core.rules.interval_ms
        if not since_ms or since_ms >= until_ms:
            return
        bars = await engine.rest.candles(coin, interval_ms, since_ms, until_ms)
        missed = [bar for bar in bars if bar.open_ms >= since_ms and bar.end_ms <= until_ms]
        engine.take_history(missed, await engine.settled_before(coin, missed))

    async def _fetch_bar(self, coin: Coin, end_ms: int) -> Bar | None:
        """The bar that ends here, by REST: after a restart its stream message went to the engine that is gone."""
        interval_ms = self._engine.core.rules.interval_ms
        bars = await self._engine.rest.candles(coin, interval_ms, end_ms - interval_ms, end_ms)
        return next((bar for bar in bars if bar.end_ms == end_ms), None)

    async def _settle(self) -> None:
        """Until nothing is under way and nothing is queued."""
        engine = self._engine
        while True:
            while len(engine.inbox):
                await engine.handle(engine.inbox.get_nowait())
            if engine.executor.is_idle:
                return
            getter = asyncio.ensure_future(engine.inbox.get())
            waiter = asyncio.ensure_future(engine.executor.wait())
            await asyncio.wait({getter, waiter}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            if getter.done():
                await engine.handle(getter.result())
            else:
                getter.cancel()
