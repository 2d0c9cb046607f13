"""Columns of bars and of funding: what files, stores, features, training and back-tests hand to each other.

Prices are float64 here; `BarSeries.bar` turns one row into exact money again (the shortest decimal that reads back as
the same float, so nothing is gained or lost on the way).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aml100.domain.market import Bar
from aml100.domain.units import HOUR_MS, Coin, decimal_from_float

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BarSeries:
    """Closed bars of one coin and interval, ascending, on the grid, unique; gaps are allowed and visible.

    All columns have shape [n]; `open_ms` int64 UTC milliseconds, the others float64. Treat them as read-only.
    """

    coin: Coin
    interval_ms: int
    origin: str
    open_ms: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.open_ms)

    def segments(self) -> list[tuple[int, int]]:
        """Contiguous stretches as [start, stop) row numbers; nothing may be computed across their borders."""
        if len(self) == 0:
            return []
        cuts = np.flatnonzero(np.diff(self.open_ms) != self.interval_ms) + 1
        edges = [0, *cuts.tolist(), len(self)]
        return list(itertools.pairwise(edges))

    def rows(self, start: int, stop: int) -> BarSeries:
        """The rows [start, stop) as views, no copy."""
        cut = slice(start, stop)
        return BarSeries(
            self.coin,
            self.interval_ms,
            self.origin,
            self.open_ms[cut],
            self.open[cut],
            self.high[cut],
            self.low[cut],
            self.close[cut],
            self.volume[cut],
        )

    def bar(self, row: int) -> Bar:
        """One row as exact money."""
        return Bar(
            coin=self.coin,
            interval_ms=self.interval_ms,
            open_ms=int(self.open_ms[row]),
            open=decimal_from_float(self.open[row]),
            high=decimal_from_float(self.high[row]),
            low=decimal_from_float(self.low[row]),
            close=decimal_from_float(self.close[row]),
            volume=decimal_from_float(self.volume[row]),
            trades=0,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FundingSeries:
    """Hourly funding as it is charged: one rate a full hour. `time_ms` int64 [n] ascending, `rate` float64 [n].

    Positive: longs pay shorts. Hours that are not listed were not known.
    """

    coin: Coin
    time_ms: Ints
    rate: Floats

    @staticmethod
    def from_settlements(coin: Coin, time_ms: Ints, rate: Floats) -> FundingSeries:
        """Spread settlement rates over the hours they cover (SPEC section 2, `--funding`).

        A rate stamped H covers n hours, n the step to the previous row (for the first row, to the second), at least 1
        and at most 8: it is charged as rate / n at each full hour in (H - n h, H].
        """
        hour = np.asarray(time_ms, dtype=np.int64) // HOUR_MS
        if len(hour) == 0:
            return FundingSeries(coin, np.zeros(0, np.int64), np.zeros(0))
        steps = np.diff(hour)
        first = steps[:1] if len(steps) else np.ones(1, np.int64)
        span = np.clip(np.concatenate([first, steps]), 1, 8)
        hours = np.concatenate([np.arange(h - n + 1, h + 1) for h, n in zip(hour, span, strict=True)])
        rates = np.repeat(np.asarray(rate, dtype=np.float64) / span, span)
        return FundingSeries(coin, hours * HOUR_MS, rates)

    def rate_at(self, time_ms: int) -> float | None:
        """The rate charged at this full hour, None where it is not known."""
        row = int(np.searchsorted(self.time_ms, time_ms))
        if row < len(self.time_ms) and self.time_ms[row] == time_ms:
            return float(self.rate[row])
        return None
