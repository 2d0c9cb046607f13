"""polars: a year's columns of our feature set as one lazy query, one thread; those of funding are left out."""

import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from serve import serve

bars = np.load(Path(sys.argv[1]) / "bars.npy")
frame = pl.DataFrame(bars[:, 1:], schema=["open", "high", "low", "close", "volume"])
frame = frame.with_columns(minutes=pl.Series(bars[:, 0] // 60_000).cast(pl.Int64))
high, low, close, volume = (pl.col(name) for name in ("high", "low", "close", "volume"))
before, change = close.shift(1), close.diff()
true_range = pl.max_horizontal(high - low, (high - before).abs(), (low - before).abs())
atr = true_range.ewm_mean(alpha=1 / 14, adjust=False)
gain = change.clip(lower_bound=0).ewm_mean(alpha=1 / 14, adjust=False)
loss = change.clip(upper_bound=0).ewm_mean(alpha=1 / 14, adjust=False)
macd = close.ewm_mean(span=12, adjust=False) - close.ewm_mean(span=26, adjust=False)
sma = {n: close.rolling_mean(n) for n in (7, 15, 20, 21, 40, 45, 50, 120, 180)}
vol_60 = close.pct_change().rolling_std(60)
top, bottom = high.rolling_max(180), low.rolling_min(180)
spread = sma[20] / sma[50] - 1
strength = spread / vol_60
minute_of_week = (pl.col("minutes") + 4320) % 10_080
COLUMNS = [
    *(close.pct_change(n) for n in (1, 5, 15, 60, 180)),
    *(close.pct_change().rolling_std(20), vol_60, atr / close, volume / volume.rolling_mean(20)),
    *(sma[7] / sma[21] - 1, sma[7] / sma[50] - 1),
    *(close / sma[40] - 1, sma[15] / sma[40] - 1, close / sma[120] - 1, sma[45] / sma[120] - 1, close / sma[180] - 1),
    *((high.rolling_max(60) - low.rolling_min(60)) / close, (2 * close - top - bottom) / (top - bottom)),
    *((gain - loss) / (gain + loss), (macd - macd.ewm_mean(span=9, adjust=False)) / atr),
    (close - sma[20]) / close.rolling_std(20),
    *((sign * spread > 0.01).cast(pl.Float64) for sign in (1, -1)),
    (spread.abs() <= 0.01).cast(pl.Float64),
    *((sign * strength > 2.0).cast(pl.Float64) for sign in (1, -1)),
    *((strength.abs() <= 2.0).cast(pl.Float64), strength),
    *(((pl.col("minutes") % 1440) * (2 * np.pi / 1440)).sin(), ((pl.col("minutes") % 1440) * (2 * np.pi / 1440)).cos()),
    *((minute_of_week * (2 * np.pi / 10_080)).sin(), (minute_of_week * (2 * np.pi / 10_080)).cos()),
]
WANTED = [column.alias(str(number)) for number, column in enumerate(COLUMNS)]


def measure():
    started = time.process_time()
    assert frame.lazy().select(WANTED).collect().width == 32
    return len(frame) / (time.process_time() - started)


measure()
serve(measure)
