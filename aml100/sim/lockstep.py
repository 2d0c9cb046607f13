"""Market time in step with the engine: the embedded venue's.

It closes a bar, says so to the one client that subscribed to `simStep`, and goes on when that client has answered;
while no such client is there the market stands still. Every marker the client is sent is preceded by all frames it
must have seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from aml100.domain.clock import Clock
from aml100.sim.connection import Connection
from aml100.sim.feed import Feed, encoded
from aml100.sim.prints import corners
from aml100.sim.store import StoreFailed
from aml100.sim.words import Json

log = logging.getLogger(__name__)

STEP_PRINTS: Final = 4
"""Trades of a bar."""
AGAIN_S: Final = 0.5


class LockStep:
    """One marker at a time: `closed` after a bar's range, `settle` while something still happens, `end` at last."""

    def __init__(self, feed: Feed, clock: Clock, speed: float) -> None:
        """`speed` is an upper bound in market seconds a wall second; 0 sets none."""
        self.feed, self.replay, self.clock = feed, feed.replay, clock
        self.speed = speed
        self.ended = False
        self._interval_s = feed.replay.tape.interval_ms / 1000
        self._step = 0
        self._busy = False
        self._follower: Connection | None = None
        self._played_s = clock.monotonic_s()

    def market_ms(self) -> int:
        return self.replay.exchange.now_ms

    def catch_up(self) -> None:
        """Nothing is ever late here."""

    def note_request(self) -> None:
        """Something was asked of the exchange: the client gets a round to look at what came of it."""
        self._busy = True

    def may_open(self) -> bool:
        """An order may open the next bar: the engine is there, a bar of ours is closed and none is open."""
        replay = self.replay
        ready = self.feed.stepper is not None and replay.row >= replay.first_row
        return ready and replay.opened is None and replay.has_next

    def open_next(self) -> None:
        """Open the next bar and show it."""
        events = self.replay.open_next()
        step = self.replay.opened
        assert step is not None
        self._busy |= bool(events)
        self.feed.publish_events(events)
        self.feed.publish_market([bar.coin for bar in step.bars])

    async def run(self) -> None:
        """Move the market to the tape's end; cancel to stop."""
        replay = self.replay
        if replay.row < replay.first_row:
            await self._newcomer()
        while True:
            if replay.row >= replay.first_row:
                await self._settle(await self._marker("closed"))
            if not replay.has_next:
                break
            await self._written(self._open_unless_opened)
            await self._settle(0)
            await self._wait()
            await self._settle(0)
            while self.feed.stepper is not self._follower:  # gone meanwhile: it may want to decide this bar again
                if replay.row >= replay.first_row:
                    await self._settle(await self._marker("closed"))
                else:
                    await self._newcomer()
            await self._written(self._play)
        self.ended = True
        while True:
            connection = await self._newcomer()
            self._send(connection, "end")
            await connection.gone.wait()

    async def _written(self, move: Callable[[], None]) -> None:
        """A market whose memory cannot be written stands still until it can."""
        stands = False
        while True:
            try:
                return move()
            except StoreFailed as error:
                if not stands:
                    log.error("the simulated market stands still: %s", error)
                stands = True
                await asyncio.sleep(AGAIN_S)

    def _open_unless_opened(self) -> None:
        if self.replay.opened is None:
            self.open_next()

    def _play(self) -> None:
        step = self.replay.opened
        assert step is not None
        events = self.replay.play()
        self._played_s = self.clock.monotonic_s()
        self.feed.publish_events(events)
        for bar in step.bars:
            instrument, sizes = self.replay.exchange.instruments[bar.coin], [bar.volume / STEP_PRINTS] * STEP_PRINTS
            made = self.feed.prints.make(bar, instrument, corners(bar), sizes, 0, STEP_PRINTS)
            self.feed.publish_trades(bar.coin, made)
            self.feed.publish_candle(replace(bar, trades=STEP_PRINTS))
        self.feed.publish_market([bar.coin for bar in step.bars])

    async def _wait(self) -> None:
        """Not faster than the speed allows."""
        if self.speed <= 0:
            return
        delay = self._played_s + self._interval_s / self.speed - self.clock.monotonic_s()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _settle(self, sent: int) -> None:
        """Rounds until the client has nothing more to say about what it saw."""
        while sent or self._busy:
            self._busy = False
            sent = await self._marker("settle")

    async def _newcomer(self) -> Connection:
        """The stepping client, waited for; what it has missed of the closed bar is shown again."""
        await self.feed.stepper_came.wait()
        connection = self.feed.stepper
        assert connection is not None
        if connection is not self._follower:
            self._follower = connection
        return connection

    async def _marker(self, stage: str) -> int:
        """Send a marker and wait for its answer: how many requests the client has sent since its last one.

        A client that comes back after a break gets `closed` of the same bar, whatever it was being sent.
        """
        while True:
            follower = self._follower
            connection = await self._newcomer()
            if connection is not follower and self.replay.row >= self.replay.first_row:
                stage = "closed"
                if self.replay.closed is not None:
                    for bar in self.replay.closed.bars:
                        self.feed.publish_candle(replace(bar, trades=STEP_PRINTS))
            self._send(connection, stage)
            sent = await self._answer(connection)
            if sent is not None:
                return sent

    def _send(self, connection: Connection, stage: str) -> None:
        self._step += 1
        data: dict[str, Json] = {"step": self._step, "stage": stage, "time": self.replay.exchange.now_ms}
        closed = self.replay.closed
        data["ending"] = {coin: why.value for coin, why in self.replay.ending().items()} if stage == "closed" else {}
        if stage == "closed" and closed is not None:
            data["time"] = closed.end_ms
        connection.send(encoded("simStep", data))

    async def _answer(self, connection: Connection) -> int | None:
        """The client's answer to the marker sent last; None where it went away."""
        gone = asyncio.ensure_future(connection.gone.wait())
        try:
            while True:
                answer = asyncio.ensure_future(connection.acks.get())
                done, _ = await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
                if answer not in done:
                    answer.cancel()
                    return None
                step, sent = answer.result()
                if step == self._step:
                    return sent
        finally:
            gone.cancel()
