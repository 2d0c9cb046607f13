"""ElegantRL: its vectorised stock environment, 256 environments of one stock with 24 technical columns, one thread."""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from serve import serve

COLUMNS, BATCH, STEPS = 24, 256, 2_000

torch.set_num_threads(1)
# The module alone: the package's own imports want every algorithm's libraries.
home = Path(importlib.util.find_spec("elegantrl").submodule_search_locations[0])
spec = importlib.util.spec_from_file_location("stock_trading_env", home / "envs" / "StockTradingEnv.py")
stock_trading_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stock_trading_env)
bars = np.load(Path(sys.argv[1]) / "bars.npy")[: STEPS + 2]


class Env(stock_trading_env.StockTradingVecEnv):
    """Over our bars; the package ships none."""

    def load_data_from_disk(self, tech_id_list=None):
        return bars[:, 4:5], np.random.default_rng(0).normal(size=(len(bars), COLUMNS))


env = Env(beg_idx=0, end_idx=len(bars), num_envs=BATCH, gpu_id=-1)
actions = torch.rand((64, BATCH, 1)) * 2 - 1


def measure():
    with torch.no_grad():
        env.reset()
        started = time.process_time()
        for step in range(STEPS):
            env.step(actions[step % 64])
        return BATCH * STEPS / (time.process_time() - started)


measure()
serve(measure)
