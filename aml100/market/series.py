"""Columns of bars and of funding: what files, stores, features, training and back-tests hand to each other.

Prices are float64 here; `BarSeries.bar` turns one row into exact money again (the shortest decimal that reads back as
the same float, so nothing is gained or lost on the way).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar
from aml100.domain.units import HOUR_MS, Coin

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
        return self.rows(row, row + 1).bars()[0]

    def bars(self) -> list[Bar]:
        """All rows as exact money."""
        columns = [_exact(column) for column in (self.open, self.high, self.low, self.close, self.volume)]
        coin, interval_ms, origin = self.coin, self.interval_ms, self.origin
        return [
            Bar(coin, interval_ms, time_ms, first, high, low, last, volume, 0, origin)
            for time_ms, first, high, low, last, volume in zip(self.open_ms.tolist(), *columns, strict=True)
        ]


def _exact(column: Floats) -> list[Decimal]:
    """Each value as `decimal_from_float` gives it; ValueError where one is not finite.

    JSON's shortest text of a float is what `repr` writes, and comes without a Python call a number.
    """
    if not np.isfinite(column).all():
        raise ValueError("a bar holds a number that is not finite")
    return _as_decimals.decode(_as_text.encode(column.astype(np.float64).tolist()))


_as_text: Final = msgspec.json.Encoder()
_as_decimals: Final = msgspec.json.Decoder(list[Decimal])


def hours_covered(time_ms: Ints) -> Ints:
    """For how many hours each settled rate is: the step to the row before (the first: to the second), 1 to 8; [n]."""
    steps = np.diff(np.asarray(time_ms, dtype=np.int64) // HOUR_MS)
    first = steps[:1] if len(steps) else np.ones(min(len(time_ms), 1), np.int64)
    covered: Ints = np.clip(np.concatenate([first, steps]), 1, 8)
    return covered


@dataclass(frozen=True, slots=True, eq=False)
class FundingSeries:
    """Hourly funding as it is charged: one rate a full hour. `time_ms` int64 [n] ascending, `rate` float64 [n].

    Positive: longs pay shorts. Hours that are not listed were not known. `known_ms` int64 [n], ascending: when each
    row was settled and so became known, None where that is its own hour; a rate settled every 8 hours is charged in
    hours before. `premium` float64 [n], NaN where unknown, None where nothing is.
    """

    coin: Coin
    time_ms: Ints
    rate: Floats
    known_ms: Ints | None = None
    premium: Floats | None = None

    @staticmethod
    def from_settlements(
        coin: Coin, time_ms: Ints, rate: Floats, premium: Floats | None = None, hours: Ints | None = None
    ) -> FundingSeries:
        """Spread settlement rates over the hours they cover (SPEC section 2, `--funding`).

        A rate stamped H covers n hours, n the step to the previous row (for the first row, to the second), at least 1
        and at most 8: it is charged as rate / n at each full hour in (H - n h, H], and known from H on. `hours` gives
        the n where they are known.
        """
        hour = np.asarray(time_ms, dtype=np.int64) // HOUR_MS
        if len(hour) == 0:
            return FundingSeries(coin, np.zeros(0, np.int64), np.zeros(0))
        span = hours_covered(time_ms) if hours is None else hours
        last = np.cumsum(span)
        charged = np.repeat(hour, span) - (np.repeat(last, span) - 1 - np.arange(last[-1]))
        rates = np.repeat(np.asarray(rate, dtype=np.float64) / span, span)
        premiums = None if premium is None else np.repeat(np.asarray(premium, dtype=np.float64), span)
        return FundingSeries(coin, charged * HOUR_MS, rates, np.repeat(hour, span) * HOUR_MS, premiums)

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def became_known_ms(self) -> Ints:
        """When each row became known, shape [n]."""
        return self.time_ms if self.known_ms is None else self.known_ms

    def rate_at(self, time_ms: int) -> float | None:
        """The rate charged at this full hour, None where it is not known."""
        row = int(np.searchsorted(self.time_ms, time_ms))
        if row < len(self.time_ms) and self.time_ms[row] == time_ms:
            return float(self.rate[row])
        return None

    def until(self, to_ms: int) -> FundingSeries:
        """What was charged before a moment."""
        stop = int(np.searchsorted(self.time_ms, to_ms))
        known = None if self.known_ms is None else self.known_ms[:stop]
        premium = None if self.premium is None else self.premium[:stop]
        return FundingSeries(self.coin, self.time_ms[:stop], self.rate[:stop], known, premium)

    def settlements(self) -> tuple[SettledFunding, ...]:
        """What became known, and when: one for each settlement, oldest first."""
        known = self.became_known_ms
        if len(known) == 0:
            return ()
        rows = np.flatnonzero(np.append(known[1:] != known[:-1], True))
        hours = np.diff(rows, prepend=-1)
        premium = np.full(len(self), np.nan) if self.premium is None else self.premium
        return tuple(
            SettledFunding(
                self.coin,
                int(known[row]),
                float(self.rate[row]),
                None if np.isnan(premium[row]) else float(premium[row]),
                int(n),
            )
            for row, n in zip(rows, hours, strict=True)
        )

    def shifted(self, by_ms: int) -> FundingSeries:
        """The same rates at other times."""
        known = None if self.known_ms is None else self.known_ms + by_ms
        return FundingSeries(self.coin, self.time_ms + by_ms, self.rate, known, self.premium)
