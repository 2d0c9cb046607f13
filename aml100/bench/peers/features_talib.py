"""TA-Lib: `batch` makes a year's columns from its indicators; `live` asks talib.stream for the last bar's at every bar.

`batch` puts the columns of our feature set together with numpy and leaves them as columns; those of funding are left
out. `live` stops at the indicators.
"""

import sys
import time
from pathlib import Path

import numpy as np
import talib
from features_set import INDICATORS, LOOK_BACK
from serve import serve
from talib import stream

folder, mode = Path(sys.argv[1]), sys.argv[2]
open_ms, _, high, low, close, volume = (np.ascontiguousarray(column) for column in np.load(folder / "bars.npy").T)
inputs = {"h": high, "l": low, "c": close, "v": volume}
LIVE = 5_000


MINUTES = (open_ms // 60_000).astype(np.int64)


def circle(points):
    angle = np.arange(points) * (2 * np.pi / points)
    return np.sin(angle), np.cos(angle)


DAY, WEEK = circle(1440), circle(10_080)


def batch():
    started = time.process_time()
    sma = {n: talib.SMA(close, n) for n in (7, 15, 20, 21, 40, 45, 50, 120, 180)}
    columns = [talib.ROCP(close, n) for n in (1, 5, 15, 60, 180)]
    vol_60 = talib.STDDEV(columns[0], 60)
    atr = talib.ATR(high, low, close, 14)
    columns += [talib.STDDEV(columns[0], 20), vol_60, atr / close, volume / talib.SMA(volume, 20)]
    columns += [sma[7] / sma[21] - 1, sma[7] / sma[50] - 1]
    columns += [close / sma[40] - 1, sma[15] / sma[40] - 1, close / sma[120] - 1, sma[45] / sma[120] - 1]
    columns.append(close / sma[180] - 1)
    top, bottom = talib.MAX(high, 180), talib.MIN(low, 180)
    columns.append((talib.MAX(high, 60) - talib.MIN(low, 60)) / close)
    columns.append((2 * close - top - bottom) / (top - bottom))
    columns.append((talib.RSI(close, 14) - 50) / 50)
    columns.append(talib.MACD(close, 12, 26, 9)[2] / atr)
    columns.append((close - sma[20]) / talib.STDDEV(close, 20))
    spread = sma[20] / sma[50] - 1
    up, down = spread > 0.01, spread < -0.01
    columns += [up.astype(float), down.astype(float), (~up & ~down).astype(float)]
    strength = spread / vol_60
    up, down = strength > 2.0, strength < -2.0
    columns += [up.astype(float), down.astype(float), (~up & ~down).astype(float), strength]
    of_day, of_week = MINUTES % 1440, (MINUTES + 4320) % 10_080
    columns += [DAY[0][of_day], DAY[1][of_day], WEEK[0][of_week], WEEK[1][of_week]]
    taken = time.process_time() - started
    assert len(columns) == 32
    return len(close) / taken


def live():
    calls = [(getattr(stream, name), columns, parameters) for name, columns, parameters in INDICATORS]
    started = time.process_time()
    for row in range(LOOK_BACK, LOOK_BACK + LIVE):
        part = {column: values[row - LOOK_BACK : row] for column, values in inputs.items()}
        for function, columns, parameters in calls:
            function(*(part[column] for column in columns), **parameters)
    return {"live": LIVE / (time.process_time() - started)}


measure = batch if mode == "batch" else live
measure()
serve(measure)
