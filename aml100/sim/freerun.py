"""Market time by the clock: the venue that stands alone.

Each bar is walked open -> extremes -> close in pieces of equal length. The price between two borders of pieces is that
of the earlier one, so what a request meets depends on its market time alone, at any speed. Market time runs on through
gaps; at the tape's end it stands still.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from aml100.domain.clock import Clock
from aml100.domain.market import Bar, Instrument
from aml100.domain.units import HOUR_MS, Coin
from aml100.sim.accounts import VenueEvent
from aml100.sim.feed import Feed
from aml100.sim.prints import corners, split
from aml100.sim.scenario import TapeStep
from aml100.sim.words import Json

PIECES: Final = 60
FREE_PRINTS: Final = PIECES + 1
"""Trades of a bar: its open, and one at the end of each piece."""
SHOWN_EVERY_S: Final = 0.1
STATES_EVERY_S: Final = 5.0
AT_ONCE: Final = 50
CATCH_UP_MOST: Final = 5000
"""Pieces that a request waits for; a venue that is further behind cannot keep its speed and lets market time slip."""


class FreeRunning:
    """Market time runs by wall time x speed. `catch_up` plays all that is due; `run` does so as time passes."""

    def __init__(self, feed: Feed, clock: Clock, speed: float) -> None:
        self.feed, self.replay, self.clock, self.speed = feed, feed.replay, clock, speed
        self.ended = False
        self._exchange = feed.replay.exchange
        self._from_ms = self._exchange.now_ms
        self._since_s = clock.monotonic_s()
        self._step: TapeStep | None = None
        self._paths: list[list[Bar]] = []
        self._number = 0
        self._due_ms = 0
        self._trades: dict[Coin, list[Json]] = {}
        self._shown_s = self._states_s = self._since_s
        self._prepare()

    def market_ms(self) -> int:
        if self.ended:
            return self._exchange.now_ms
        return self._from_ms + round((self.clock.monotonic_s() - self._since_s) * 1000 * self.speed)

    def note_request(self) -> None:
        """Nothing waits for anybody here."""

    def may_open(self) -> bool:
        return False

    def open_next(self) -> None:
        raise AssertionError("only the clock opens bars here")

    def catch_up(self) -> None:
        """Play everything that is due, and set the venue's time to now."""
        now_ms = self.market_ms()
        for _ in range(CATCH_UP_MOST):
            if self.ended or self._due_ms > now_ms:
                break
            self._advance()
        else:
            now_ms = self._slip()
        if not self.ended and self._step is not None:
            self._exchange.now_ms = max(self._exchange.now_ms, now_ms)

    async def run(self) -> None:
        """Move the market to the tape's end; cancel to stop."""
        while not self.ended:
            for _ in range(AT_ONCE):
                if self.ended or self._due_ms > self.market_ms():
                    break
                self._advance()
            now_s = self.clock.monotonic_s()
            if now_s - self._states_s >= STATES_EVERY_S:
                self._states_s = now_s
                self.feed.publish_states()
            wait_s = 0.0 if self.ended else (self._due_ms - self.market_ms()) / 1000 / self.speed
            await asyncio.sleep(max(0.0, min(wait_s, STATES_EVERY_S)))

    def _slip(self) -> int:
        """Too much was due: market time goes on from what has been played."""
        self._from_ms, self._since_s = self._due_ms, self.clock.monotonic_s()
        return self._due_ms

    # --- one border of pieces after the other -----------------------------------------------------------------

    def _prepare(self) -> None:
        """Look at the next bars; the market ends where there are none."""
        self._step = self.replay.tape.step(self.replay.row + 1)
        self._number = 0
        if self._step is None:
            self.ended = True
            return
        self._paths = [pieces_of(bar, self._exchange.instruments[bar.coin]) for bar in self._step.bars]
        self._due_ms = self._step.open_ms

    def _advance(self) -> None:
        """Cross the border that is due: the piece before it is played, the one after it opens."""
        step = self._step
        assert step is not None
        events: list[VenueEvent] = []
        if self.replay.opened is not None:
            events += self._play_piece(step)
            if self._number == PIECES:
                self.replay.close_opened()
                self._show(events, step, is_closed=True)
                self._prepare()
                return
        events += self._open_piece(step)
        self._show(events, step, is_closed=False)

    def _open_piece(self, step: TapeStep) -> list[VenueEvent]:
        pieces = [path[self._number] for path in self._paths]
        open_ms = pieces[0].open_ms
        if self._number == 0:
            self.replay.opened = step
            for bar in step.bars:
                self._print(bar, [bar.open], 0)
        rates = {one.coin: self.replay.tape.rate_at(one.coin, open_ms) for one in pieces if open_ms % HOUR_MS == 0}
        events = self._exchange.open_bars(pieces, {coin: rate for coin, rate in rates.items() if rate is not None})
        self._due_ms = pieces[0].end_ms
        return events

    def _play_piece(self, step: TapeStep) -> list[VenueEvent]:
        events = self._exchange.play_bars()
        self._number += 1
        for bar, path in zip(step.bars, self._paths, strict=True):
            done = path[: self._number]
            self.replay.forming[bar.coin] = _formed(bar, done, self._exchange.instruments[bar.coin])
            self._print(bar, [done[-1].close], self._number)
        return events

    def _print(self, bar: Bar, path: Sequence[Decimal], first: int) -> None:
        instrument = self._exchange.instruments[bar.coin]
        sizes = split(bar.volume, FREE_PRINTS, instrument)[first : first + len(path)]
        made = self.feed.prints.make(bar, instrument, path, sizes, first, FREE_PRINTS)
        self._trades.setdefault(bar.coin, []).extend(made)

    def _show(self, events: list[VenueEvent], step: TapeStep, *, is_closed: bool) -> None:
        """Events at once; the market not more often than anybody can read, and at each close."""
        if events:
            self.feed.publish_events(events)
        now_s = self.clock.monotonic_s()
        if not is_closed and now_s - self._shown_s < SHOWN_EVERY_S:
            return
        self._shown_s = now_s
        for coin, trades in self._trades.items():
            if trades:
                self.feed.publish_trades(coin, trades)
        self._trades.clear()
        self.feed.publish_market([bar.coin for bar in step.bars])
        for bar in step.bars:
            shown = replace(bar, trades=FREE_PRINTS) if is_closed else self.replay.forming.get(bar.coin)
            if shown is not None:
                self.feed.publish_candle(shown)


def pieces_of(bar: Bar, instrument: Instrument) -> list[Bar]:
    """A bar as a path of smaller ones: open, the likelier extreme, the other one, close; inner prices on the tick."""
    legs = PIECES // 3
    path = [bar.open]
    for start, end in itertools.pairwise(corners(bar)):
        for row in range(1, legs):
            price = instrument.round_price(start + (end - start) * row / legs)
            path.append(min(max(price, bar.low), bar.high))
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
        )
        for number, (first, second) in enumerate(itertools.pairwise(path))
    ]


def _formed(bar: Bar, pieces: Sequence[Bar], instrument: Instrument) -> Bar:
    """What the bar looks like after these pieces of it: what its trades so far make."""
    count = len(pieces) + 1
    return replace(
        bar,
        high=max(one.high for one in pieces),
        low=min(one.low for one in pieces),
        close=pieces[-1].close,
        volume=sum(split(bar.volume, FREE_PRINTS, instrument)[:count], Decimal(0)),
        trades=count,
    )
