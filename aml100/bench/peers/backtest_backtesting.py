"""backtesting.py: a fixed signal over a tenth of a year of minutes, fees, stop and target."""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy
from serve import serve

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
BARS = 52_560
bars = np.load(folder / "bars.npy")[:BARS]
actions = np.load(folder / "actions.npy")[:BARS].tolist()
frame = pd.DataFrame(bars[:, 1:], columns=["Open", "High", "Low", "Close", "Volume"])
frame.index = pd.to_datetime(bars[:, 0], unit="ms")


class Signal(Strategy):
    """Opens with a stop and a target; the opposite side closes."""

    def init(self):
        self.row = 0

    def next(self):
        action = actions[len(self.data) - 1]
        if action == 0:
            return
        close = self.data.Close[-1]
        if self.position:
            if self.position.is_long == (action == 2):
                self.position.close()
        elif action == 1:
            self.buy(size=0.4, sl=close * 0.994, tp=close * 1.018)
        else:
            self.sell(size=0.4, sl=close * 1.006, tp=close * 0.982)


def measure():
    started = time.process_time()
    result = Backtest(frame, Signal, cash=10_000_000, commission=0.00045).run()
    taken = time.process_time() - started
    assert result["# Trades"] > 10
    return len(frame) / taken


serve(measure)
