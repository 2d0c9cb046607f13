"""raptorbt: a fixed signal over a year of minutes, long only, fees, slippage, stop and target; equity and trades."""

import sys
from pathlib import Path

import numpy as np
import raptorbt
from serve import per_second, serve

folder = Path(sys.argv[1])
columns = np.load(folder / "bars.npy").T.copy()
open_ms, opening, high, low, close, volume = (np.ascontiguousarray(column) for column in columns)
actions = np.load(folder / "actions.npy")
buys, sells = np.ascontiguousarray(actions == 1), np.ascontiguousarray(actions == 2)
stamps = (open_ms * 1_000_000).astype(np.int64)
config = raptorbt.BacktestConfig(
    initial_capital=10_000.0, fees=0.00045, slippage=0.0001, fill_timing="next_bar_open", session_minutes=1440.0
)
config.set_fixed_stop(0.006)
config.set_fixed_target(0.018)


def work():
    result = raptorbt.run_single_backtest(stamps, opening, high, low, close, volume, buys, sells, 1, 0.4, "BTC", config)
    equity, trades = result.equity_curve(), result.trades()
    assert len(trades) > 100
    assert len(equity) == len(close)


work()
serve(lambda: per_second(len(close), work))
