"""pandas: the indicators of the last bar, recomputed over the rows that they need at every bar."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from features_set import LOOK_BACK
from serve import serve

folder, key = Path(sys.argv[1]), sys.argv[2]
bars = pd.DataFrame(np.load(folder / "bars.npy")[:, 1:], columns=["open", "high", "low", "close", "volume"])
LIVE = 100


def last_row(frame):
    high, low, close, volume = frame["high"], frame["low"], frame["close"], frame["volume"]
    found = [close.pct_change(n).iloc[-1] for n in (1, 5, 15, 60)]
    returns = close.pct_change()
    found += [returns.rolling(n).std().iloc[-1] for n in (20, 60)]
    found += [close.rolling(n).mean().iloc[-1] for n in (7, 20, 21, 50, 15, 40, 45, 120, 180)]
    found += [volume.rolling(20).mean().iloc[-1], close.rolling(20).std().iloc[-1]]
    found += [high.rolling(n).max().iloc[-1] for n in (60, 180)] + [low.rolling(n).min().iloc[-1] for n in (60, 180)]
    before = close.shift()
    true_range = np.maximum(high - low, np.maximum((high - before).abs(), (low - before).abs()))
    found.append(true_range.ewm(alpha=1 / 14).mean().iloc[-1])
    change = close.diff()
    found += [change.clip(lower=0).ewm(alpha=1 / 14).mean().iloc[-1]]
    found += [(-change.clip(upper=0)).ewm(alpha=1 / 14).mean().iloc[-1]]
    macd = close.ewm(span=12).mean() - close.ewm(span=26).mean()
    found.append((macd - macd.ewm(span=9).mean()).iloc[-1])
    return found


def measure():
    started = time.process_time()
    for row in range(LOOK_BACK, LOOK_BACK + LIVE):
        last_row(bars.iloc[row - LOOK_BACK : row])
    return {key: LIVE / (time.process_time() - started)}


measure()
serve(measure)
