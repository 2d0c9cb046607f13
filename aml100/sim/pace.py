"""Who moves market time: in step with the engine, or by the clock.

`LockStep` is the embedded venue's: it closes a bar, says so to the one client that subscribed to `simStep`, and goes
on when that client has answered; while no such client is there the market stands still. Every marker the client is
sent is preceded by all frames it must have seen. `FreeRunning` walks each bar open -> extremes -> close by wall time
and waits for nobody.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from decimal import Decimal
from typing import Final

from aml100.domain.clock import Clock
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.sim.accounts import VenueEvent
from aml100.sim.answers import Json
from aml100.sim.feed import Connection, Feed, encoded
from aml100.sim.scenario import TapeStep

PIECES: Final = 12


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
            if replay.opened is None:
                self.open_next()
            await self._settle(0)
            await self._wait()
            await self._settle(0)
            while self.feed.stepper is not self._follower:  # gone meanwhile: it may want to decide this bar again
                if replay.row >= replay.first_row:
                    await self._settle(await self._marker("closed"))
                else:
                    await self._newcomer()
            self._play()
        self.ended = True
        while True:
            connection = await self._newcomer()
            self._send(connection, "end")
            await connection.gone.wait()

    def _play(self) -> None:
        step = self.replay.opened
        assert step is not None
        events = self.replay.play()
        self._played_s = self.clock.monotonic_s()
        self.feed.publish_events(events)
        for bar in step.bars:
            self.feed.publish_trades(bar)
            self.feed.publish_candle(bar)
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
                        self.feed.publish_candle(bar)
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


class FreeRunning:
    """Market time runs by wall time x speed, through gaps too; at the tape's end it stands still."""

    def __init__(self, feed: Feed, clock: Clock, speed: float) -> None:
        self.feed, self.replay, self.clock, self.speed = feed, feed.replay, clock, speed
        self.ended = False
        self._from_ms = self._until_ms = self.replay.exchange.now_ms
        self._since_s = clock.monotonic_s()

    def market_ms(self) -> int:
        run = int((self.clock.monotonic_s() - self._since_s) * 1000 * self.speed)
        return min(self._from_ms + run, self._until_ms)

    def note_request(self) -> None:
        """Nothing waits for anybody here."""

    def may_open(self) -> bool:
        return False

    def open_next(self) -> None:
        raise AssertionError("only the clock opens bars here")

    async def run(self) -> None:
        """Move the market to the tape's end; cancel to stop."""
        replay = self.replay
        self._since_s = self.clock.monotonic_s()
        while (step := replay.tape.step(replay.row + 1)) is not None:
            await self._advance(step.open_ms)
            replay.opened = step
            paths = [_pieces(bar) for bar in step.bars]
            for number in range(PIECES):
                pieces = [path[number] for path in paths]
                self._show(replay.exchange.open_bars(pieces, step.funding), step)
                await self._advance(pieces[0].end_ms)
                events = replay.exchange.play_bars()
                for bar, path in zip(step.bars, paths, strict=True):
                    replay.forming[bar.coin] = _formed(bar, path[: number + 1])
                if number < PIECES - 1:
                    self._show(events, step)
            closing = events
            replay.close_opened()
            for bar in step.bars:
                self.feed.publish_trades(bar)
            self._show(closing, step)
            for bar in step.bars:
                self.feed.publish_candle(bar)
        self.ended = True

    def _show(self, events: list[VenueEvent], step: TapeStep) -> None:
        coins: list[Coin] = [bar.coin for bar in step.bars]
        self.feed.publish_events(events)
        self.feed.publish_market(coins)
        for coin in coins:
            forming = self.replay.forming.get(coin)
            if forming is not None:
                self.feed.publish_candle(forming)

    async def _advance(self, until_ms: int) -> None:
        """Let market time run to a moment, by the wall clock and without drift."""
        self._until_ms = until_ms
        due_s = self._since_s + (until_ms - self._from_ms) / 1000 / self.speed
        await asyncio.sleep(max(0.0, due_s - self.clock.monotonic_s()))


def _pieces(bar: Bar) -> list[Bar]:
    """A bar as a path of smaller ones: open, the nearer extreme, the other one, close."""
    turns = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
    corners = (bar.open, *turns, bar.close)
    legs = PIECES // 3
    path = [bar.open]
    for start, end in itertools.pairwise(corners):
        path.extend(start + (end - start) * Decimal(row) / legs for row in range(1, legs))
        path.append(end)
    span = bar.interval_ms // PIECES
    return [
        replace(
            bar,
            interval_ms=span,
            open_ms=bar.open_ms + number * span,
            open=first,
            high=max(first, second),
            low=min(first, second),
            close=second,
            volume=bar.volume / PIECES,
        )
        for number, (first, second) in enumerate(itertools.pairwise(path))
    ]


def _formed(bar: Bar, pieces: list[Bar]) -> Bar:
    """What the bar looks like after these pieces of it."""
    return replace(
        bar,
        high=max(one.high for one in pieces),
        low=min(one.low for one in pieces),
        close=pieces[-1].close,
        volume=sum((one.volume for one in pieces), Decimal(0)),
    )
