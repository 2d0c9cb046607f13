"""gym-anytrading: its environment over the same bars, 24 signal columns, window 60 (views)."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from gym_anytrading.envs import StocksEnv
from serve import serve

COLUMNS, WINDOW = 24, 60


class Env(StocksEnv):
    """The stock environment, its two signal columns made 24."""

    def _process_data(self):
        prices, _ = super()._process_data()
        features = np.random.default_rng(0).normal(size=(len(prices), COLUMNS)).astype(np.float32)
        return prices, features


folder, key = Path(sys.argv[1]), sys.argv[2]
bars = np.load(folder / "bars.npy")
actions = (np.load(folder / "actions.npy") == 1).astype(int).tolist()
env = Env(pd.DataFrame({"Close": bars[:, 4]}), window_size=WINDOW, frame_bound=(WINDOW, len(bars)))


def measure():
    env.reset(seed=1)
    started = time.process_time()
    for action in actions:
        env.step(action)
    return {key: len(actions) / (time.process_time() - started)}


measure()
serve(measure)
