"""FreqAI (of freqtrade): its five-action environment over the same bars, 24 feature columns, window 60, fees."""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from freqtrade.freqai.RL.Base5ActionRLEnv import Base5ActionRLEnv
from serve import serve

COLUMNS, WINDOW, STEPS = 24, 60, 5_000


class Env(Base5ActionRLEnv):
    """Paid by its unrealised profit; FreqAI leaves the reward to its users."""

    def calculate_reward(self, action):
        return self.get_unrealized_profit()


folder, key = Path(sys.argv[1]), sys.argv[2]
bars = np.load(folder / "bars.npy")
prices = pd.DataFrame(bars[:, 1:5], columns=["open", "high", "low", "close"])
drawn = np.random.default_rng(0).normal(size=(len(bars), COLUMNS)).astype(np.float32)
features = pd.DataFrame(drawn, columns=[f"f{i}" for i in range(COLUMNS)])
# Ours says buy and sell; here a buy opens long or leaves short, a sell opens short or leaves long, in turns.
enter_and_leave = {0: (0, 0), 1: (1, 4), 2: (3, 2)}
actions = [enter_and_leave[int(a)][i % 2] for i, a in enumerate(np.load(folder / "actions.npy")[:STEPS])]
env = Env(
    df=features,
    prices=prices,
    df_raw=features,
    window_size=WINDOW,
    reward_kwargs={"rr": 1, "profit_aim": 0.025},
    config={"freqai": {"rl_config": {"max_training_drawdown_pct": 1.0}}, "stake_amount": "unlimited"},
    fee=0.00045,
    can_short=True,
)


def measure():
    env.reset()
    started = time.process_time()
    for action in actions:
        env.step(action)
    return {key: len(actions) / (time.process_time() - started)}


measure()
serve(measure)
