"""The archive of a real market: what the venue still serves goes into the history store, and what it does not is told.

The venue keeps the latest 5000 candles of an interval and all of its funding rates. So an archive that is looked after
every few days has no gap; one that was left alone for longer keeps the gap, as a fact (GUARANTEES B13). Used by
`download`, and by the live engine for the bars it closed itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aml100.domain.errors import DataFileError, ProtocolViolation, SafetyRefusal, VenueError
from aml100.domain.market import Bar, FundingRate
from aml100.domain.units import HOUR_MS, Coin, iso_utc
from aml100.market.series import BarSeries
from aml100.storage.history import HistoryStore
from aml100.venue.queries import Queries

log = logging.getLogger(__name__)

NETWORKS: Final = ("mainnet", "testnet")
"""Whose bars are kept."""
SERVED_BARS: Final = 5_000
"""The venue serves only so many of the latest candles of an interval, the one in the making among them."""
_CANDLES_AT_ONCE: Final = 2_500
_FUNDING_AT_ONCE_MS: Final = 500 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Filled:
    """What one look at the venue brought for one coin. `reach_ms`: the oldest bar the venue can still have."""

    coin: Coin
    interval_ms: int
    from_ms: int
    to_ms: int
    reach_ms: int
    added: int
    funding_added: int
    gaps: tuple[tuple[int, int], ...]


async def require_real_market(venue: Queries, url: str, network: str) -> int:
    """The venue's time; SafetyRefusal where it is a simulated one, whose bars never enter the store."""
    status = await venue.exchange_status()
    if status.is_simulated:
        raise SafetyRefusal(f"{url} is a simulated venue, not {network}: its bars never enter the history store")
    return status.time_ms


def series_of_bars(bars: Sequence[Bar], origin: str) -> BarSeries:
    """Closed bars of one coin and interval as columns, ascending, each time once.

    Raises:
        ProtocolViolation: a bar off its grid, or one that no market can have.
    """
    by_time = {bar.open_ms: bar for bar in bars}
    ordered = [by_time[open_ms] for open_ms in sorted(by_time)]
    for bar in ordered:
        inside = bar.low <= bar.open <= bar.high and bar.low <= bar.close <= bar.high and bar.low > 0
        if not inside or bar.volume < 0 or bar.open_ms % bar.interval_ms:
            raise ProtocolViolation(f"candle of {bar.coin} at {iso_utc(bar.open_ms)} is none: {bar}")
    columns = [
        np.array([float(getattr(bar, name)) for bar in ordered]) for name in ("open", "high", "low", "close", "volume")
    ]
    times = np.array([bar.open_ms for bar in ordered], np.int64)
    return BarSeries(ordered[0].coin, ordered[0].interval_ms, origin, times, *columns)


class Archive:
    """One network's store, and the venue it is filled from.

    Args:
        store: of the same network as the venue.
        venue: asked for candles and funding rates.
        interval_ms: of the bars.
        on_progress: told how many bars and hours of how many have been looked at.
    """

    def __init__(
        self,
        store: HistoryStore,
        venue: Queries,
        interval_ms: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.store = store
        self.origin = f"hyperliquid:{store.network}"
        self._venue = venue
        self._interval_ms = interval_ms
        self._on_progress = on_progress or (lambda done, total: None)

    async def fill(self, coin: Coin, from_ms: int, now_ms: int) -> Filled:
        """Fetch what is missing of the bars that close and the rates that settle in [from_ms, now_ms).

        Whatever came is in the store before the next piece is asked for, so an interrupted fill is taken up where it
        was left.

        Raises:
            VenueError: the venue does not answer, or not as documented.
            DataFileError: the store cannot be written, or holds bars of another origin.
        """
        interval_ms = self._interval_ms
        closed_ms = now_ms // interval_ms * interval_ms
        reach_ms = max(from_ms // interval_ms * interval_ms, closed_ms - (SERVED_BARS - 1) * interval_ms)
        settled_ms = now_ms // HOUR_MS * HOUR_MS + 1
        store, aside = self.store, asyncio.to_thread
        missing = await aside(store.missing, coin, interval_ms, reach_ms, closed_ms)
        pieces = _pieces(missing, _CANDLES_AT_ONCE * interval_ms)
        hours = _pieces(await aside(store.missing_funding, coin, from_ms, settled_ms), _FUNDING_AT_ONCE_MS)
        total, done = len(pieces) + len(hours), 0
        added = funding_added = 0
        for start_ms, stop_ms in pieces:
            bars = await self._venue.candles(coin, interval_ms, start_ms, stop_ms, closed_by_ms=now_ms)
            added += await aside(self.keep, bars)
            done += 1
            self._on_progress(done, total)
        for start_ms, stop_ms in hours:
            rates = await self._venue.funding_history(coin, start_ms, min(stop_ms, now_ms))
            funding_added += await aside(self.keep_funding, rates)
            done += 1
            self._on_progress(done, total)
        gaps = await aside(store.missing, coin, interval_ms, from_ms, closed_ms)
        return Filled(coin, interval_ms, from_ms, closed_ms, reach_ms, added, funding_added, gaps)

    async def catch_up(self, coins: Sequence[Coin], now_ms: int) -> None:
        """Whatever the venue still serves and the store lacks; a live engine calls it now and then.

        A venue that does not answer, or a disk that is full, is tried again the next time: nothing depends on it.
        """
        for coin in coins:
            try:
                filled = await self.fill(coin, now_ms - SERVED_BARS * self._interval_ms, now_ms)
            except (VenueError, DataFileError, SafetyRefusal) as error:
                log.warning("the archive of %s stands still: %s", coin, error)
                continue
            if filled.gaps:
                log.info("the archive of %s lacks %d stretches that the venue does not have", coin, len(filled.gaps))

    def keep(self, bars: Sequence[Bar]) -> int:
        """Put closed bars of one coin into the store; how many are new. Errors as `fill`."""
        return self.store.append(series_of_bars(bars, self.origin)) if bars else 0

    def keep_funding(self, rates: Sequence[FundingRate]) -> int:
        """Put settled hourly rates of one coin into the store; how many are new."""
        if not rates:
            return 0
        return self.store.append_funding(
            rates[0].coin,
            np.array([one.time_ms for one in rates], np.int64),
            np.array([float(one.rate) for one in rates]),
            self.origin,
            np.array([np.nan if one.premium is None else float(one.premium) for one in rates]),
            np.ones(len(rates), np.int64),
        )


def _pieces(stretches: Sequence[tuple[int, int]], longest_ms: int) -> list[tuple[int, int]]:
    """The stretches cut so that each is one or few requests."""
    return [
        (start_ms, min(start_ms + longest_ms, to_ms))
        for from_ms, to_ms in stretches
        for start_ms in range(from_ms, to_ms, longest_ms)
    ]
