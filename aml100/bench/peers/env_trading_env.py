"""gym-trading-env: its environment over the same bars, 24 feature columns, window 60, fees and borrowing interest."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from gym_trading_env.environments import TradingEnv
from serve import serve

COLUMNS, WINDOW, STEPS = 24, 60, 20_000

folder, key = Path(sys.argv[1]), sys.argv[2]
bars = np.load(folder / "bars.npy")
frame = pd.DataFrame(bars[:, 1:], columns=["open", "high", "low", "close", "volume"])
frame.index = pd.to_datetime(bars[:, 0], unit="ms")
drawn = np.random.default_rng(0).normal(size=(len(bars), COLUMNS)).astype(np.float32)
frame = frame.join(pd.DataFrame(drawn, columns=[f"feature_{i}" for i in range(COLUMNS)], index=frame.index))
actions = np.load(folder / "actions.npy")[:STEPS].tolist()
env = TradingEnv(
    frame,
    positions=[0, 1, -1],
    windows=WINDOW,
    trading_fees=0.00045,
    borrow_interest_rate=0.0000002,
    initial_position=0,
    verbose=0,
)


def measure():
    env.reset(seed=1)
    started = time.process_time()
    for action in actions:
        env.step(action)
    return {key: len(actions) / (time.process_time() - started)}


measure()
serve(measure)
