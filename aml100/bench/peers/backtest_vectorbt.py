"""vectorbt: a fixed signal over a year of minutes, fees, slippage, stop and target; equity and trades read out."""

import sys
from pathlib import Path

import numpy as np
import vectorbt as vbt
from serve import per_second, serve

folder = Path(sys.argv[1])
_, opening, high, low, close, _ = np.load(folder / "bars.npy").T.copy()
actions = np.load(folder / "actions.npy")
# Decided at a close, filled at the next open.
buys, sells = np.zeros(len(actions), bool), np.zeros(len(actions), bool)
buys[1:], sells[1:] = actions[:-1] == 1, actions[:-1] == 2


def work():
    portfolio = vbt.Portfolio.from_signals(
        close,
        entries=buys,
        short_entries=sells,
        price=opening,
        open=opening,
        high=high,
        low=low,
        size=0.4,
        size_type="percent",
        fees=0.00045,
        slippage=0.0001,
        sl_stop=0.006,
        tp_stop=0.018,
        upon_opposite_entry="close",
        init_cash=10_000.0,
        freq="1min",
    )
    equity, trades = portfolio.value(), portfolio.trades.records
    assert len(trades) > 100
    assert len(equity) == len(close)


work()
serve(lambda: per_second(len(close), work))
