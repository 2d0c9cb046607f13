"""Candles of every interval of the venue, put together from the bars of the tape.

The grid of an interval starts at the epoch, that of weeks on Mondays, that of months on the first; a candle begins
with the first bar in it. Intervals that the tape's own does not divide cannot be served and are empty.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from aml100.domain.market import Bar
from aml100.domain.units import DAY_MS, INTERVALS, decimal_from_float
from aml100.market.series import BarSeries, Ints

MONTH: Final = 0
"""Stands for the interval `1M`, which has no fixed length."""

EVERY_INTERVAL: Final[dict[str, int]] = INTERVALS | {"3d": 3 * DAY_MS, "1w": 7 * DAY_MS, "1M": MONTH}
_MONDAY_MS: Final = 4 * DAY_MS  # 1970-01-05


def opens_of(open_ms: Ints, interval_ms: int) -> Ints:
    """The open times of the candles that bars of these open times fall into; shape [n]."""
    if interval_ms == MONTH:
        months = open_ms.astype("datetime64[ms]").astype("datetime64[M]")
        return months.astype("datetime64[ms]").astype(np.int64)
    shift = _MONDAY_MS if interval_ms == 7 * DAY_MS else 0
    return np.asarray((open_ms - shift) // interval_ms * interval_ms + shift, dtype=np.int64)


def end_of(open_ms: int, interval_ms: int) -> int:
    """The open of the candle after the one that opens here."""
    if interval_ms != MONTH:
        return open_ms + interval_ms
    month = np.datetime64(open_ms, "ms").astype("datetime64[M]") + np.timedelta64(1, "M")
    return int(month.astype("datetime64[ms]").astype(np.int64))


def is_served(interval_ms: int, tape_ms: int) -> bool:
    """The tape's bars divide the interval."""
    return (interval_ms or DAY_MS) % tape_ms == 0


def merged(series: BarSeries, interval_ms: int, prints: int) -> list[Bar]:
    """Candles of an interval from smaller bars of `prints` trades each; a month's candle has its own length."""
    if len(series) == 0:
        return []
    opens = opens_of(series.open_ms, interval_ms)
    first = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    last = np.append(first[1:], len(series)) - 1
    high = np.maximum.reduceat(series.high, first)
    low = np.minimum.reduceat(series.low, first)
    volume = np.add.reduceat(series.volume, first)
    rows = []
    for at, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        open_ms = int(opens[start])
        rows.append(
            Bar(
                coin=series.coin,
                interval_ms=end_of(open_ms, interval_ms) - open_ms,
                open_ms=open_ms,
                open=decimal_from_float(series.open[start]),
                high=decimal_from_float(high[at]),
                low=decimal_from_float(low[at]),
                close=decimal_from_float(series.close[stop]),
                volume=decimal_from_float(round(float(volume[at]), 9)),
                trades=prints * (stop - start + 1),
                origin=series.origin,
            )
        )
    return rows


def with_bar(series: BarSeries, bar: Bar) -> BarSeries:
    """The series with one more bar behind it."""
    return BarSeries(
        series.coin,
        series.interval_ms,
        series.origin,
        np.append(series.open_ms, np.int64(bar.open_ms)),
        np.append(series.open, float(bar.open)),
        np.append(series.high, float(bar.high)),
        np.append(series.low, float(bar.low)),
        np.append(series.close, float(bar.close)),
        np.append(series.volume, float(bar.volume)),
    )


def candles_between(
    seen: BarSeries, forming: Bar | None, interval_ms: int, start_ms: int, end_ms: int, most: int | None, prints: int
) -> list[Bar]:
    """Candles that overlap [start, end], the forming one too, at most the latest `most` of all there are.

    `prints` are the trades of a bar of the tape.
    """
    tape_ms = seen.interval_ms
    if not is_served(interval_ms, tape_ms):
        return []
    if interval_ms == tape_ms:
        last = int(seen.open_ms.searchsorted(end_ms, side="right"))
        first = int(seen.open_ms.searchsorted(start_ms - tape_ms, side="right"))
        first = first if most is None else max(first, len(seen) - most)
        bars = [replace(seen.bar(row), trades=prints) for row in range(first, last)]
        if forming is not None and start_ms - tape_ms < forming.open_ms <= end_ms:
            bars.append(forming)
    else:
        length = interval_ms or 31 * DAY_MS
        from_ms = max(0, min(start_ms, 2**60) - 2 * length)
        if most is not None and len(seen):
            from_ms = max(from_ms, int(seen.open_ms[-1]) - (most + 2) * length)
        seen = seen.rows(int(seen.open_ms.searchsorted(opens_of(np.array([from_ms]), interval_ms)[0])), len(seen))
        whole = seen if forming is None else with_bar(seen, forming)
        made = merged(whole, interval_ms, prints)
        if forming is not None:
            made[-1] = replace(made[-1], trades=made[-1].trades - prints + forming.trades)
        made = made if most is None else made[-most:]
        bars = [one for one in made if one.end_ms > start_ms and one.open_ms <= end_ms]
    return bars if most is None else bars[-most:]
