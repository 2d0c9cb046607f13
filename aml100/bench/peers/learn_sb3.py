"""stable-baselines3 and sb3-contrib: how fast they train on windows through an LSTM, and what they learn.

`speed-dqn`, `speed-ppo`: DQN with an LSTM of 64 over windows of 60 x 36 (batch 64, one gradient step every 4 steps), or
RecurrentPPO with an LSTM of 64; environment steps and trained transitions a second of processor time.
`planted-dqn`, `planted-ppo` SECONDS...: trained on the planted market for so many seconds of processor time each;
shares of the best policy's profit on fresh bars. DQN gets an MLP over one row of the summary features, which are its
memory.
"""

import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from serve import serve
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

WINDOW, EPISODE, FEE = 60, 2_000, 0.00045
ROWS_OF_PPO = 60_000


class Market(gymnasium.Env):
    """HOLD, BUY, SELL on a precomputed market: the rules of the planted market, reward in one-bar deviations."""

    def __init__(self, features, returns, window):
        self.features, self.window = features, window
        self.unit = returns.std()
        self.gains = np.append(returns[1:], 0.0)
        self.action_space = gymnasium.spaces.Discrete(3)
        width = window * features.shape[1] + 1
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (width,), np.float32)

    def observation(self):
        seen = self.features[self.row - self.window + 1 : self.row + 1].reshape(-1)
        return np.append(seen, np.float32(self.side))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = int(self.np_random.integers(self.window, len(self.features) - EPISODE - 2))
        self.until, self.side = self.row + EPISODE, 0
        return self.observation(), {}

    def step(self, action):
        side = after(self.side, int(action))
        reward = (side * self.gains[self.row] - FEE * (side != self.side)) / self.unit
        self.side = side
        self.row += 1
        return self.observation(), float(reward), False, self.row >= self.until, {}


def after(side, action):
    """The side held after an action: the opposite signal closes."""
    wanted = (0, 1, -1)[action]
    if wanted == 0:
        return side
    return wanted if side in (0, wanted) else 0


class Encoder(BaseFeaturesExtractor):
    """An LSTM of 64 over the window, the side held beside its last output."""

    def __init__(self, space, columns):
        super().__init__(space, 65)
        self.columns = columns
        self.lstm = torch.nn.LSTM(columns, 64, batch_first=True)

    def forward(self, seen):
        read, _ = self.lstm(seen[:, :-1].reshape(len(seen), -1, self.columns))
        return torch.cat([read[:, -1], seen[:, -1:]], dim=1)


class UntilSpent(BaseCallback):
    """Ends `learn` at a point of processor time."""

    def __init__(self):
        super().__init__()
        self.until_s = 0.0

    def _on_step(self):
        return time.process_time() < self.until_s


def silenced(model):
    """With a logger that has no folder; the one that `learn` would make leaves one behind at each call."""
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def load(folder, part):
    return np.load(folder / f"{part}_features.npy"), np.load(folder / f"{part}_returns.npy")


def speed(kind, folder):
    env = Market(*load(folder, "train"), WINDOW)
    if kind == "speed-dqn":
        extractor = {
            "features_extractor_class": Encoder,
            "features_extractor_kwargs": {"columns": env.features.shape[1]},
        }
        sizes = {"batch_size": 64, "buffer_size": 5_000, "learning_starts": 200}
        model = DQN("MlpPolicy", env, policy_kwargs=extractor, device="cpu", **sizes)
        count, trained = 800, 64 / 4
    else:
        shape = {"lstm_hidden_size": 64, "n_lstm_layers": 1}
        env = Market(*load(folder, "train"), 1)
        model = RecurrentPPO("MlpLstmPolicy", env, batch_size=64, n_steps=512, policy_kwargs=shape, device="cpu")
        count, trained = 1_024, 10.0
    silenced(model).learn(600)

    def measure():
        began = time.process_time()
        model.learn(count, reset_num_timesteps=False)
        rate = count / (time.process_time() - began)
        return {"steps": rate, "trained": rate * trained}

    serve(measure)


def walk_dqn(model, features, gains):
    """Greedy over all rows: Q of each row for each side at once, then the walk."""
    tables = []
    with torch.no_grad():
        for side in (0.0, 1.0, -1.0):
            seen = np.concatenate([features, np.full((len(features), 1), side, np.float32)], axis=1)
            tables.append(model.q_net(torch.from_numpy(seen)).argmax(dim=1).numpy())
    side, net = 0, 0.0
    for row in range(len(features)):
        now = after(side, int(tables[{0: 0, 1: 1, -1: 2}[side]][row]))
        net += now * gains[row] - FEE * (now != side)
        side = now
    return net - FEE * (side != 0)


def walk_ppo(model, features, gains):
    side, net, memory, begins = 0, 0.0, None, np.ones(1, bool)
    for row in range(len(features)):
        seen = np.append(features[row], np.float32(side))[None]
        action, memory = model.predict(seen, memory, begins, deterministic=True)
        now = after(side, int(action[0]))
        net += now * gains[row] - FEE * (now != side)
        side, begins = now, np.zeros(1, bool)
    return net - FEE * (side != 0)


def planted(kind, folder, seconds):
    features, returns = load(folder, "fresh")
    gains = np.append(np.expm1(returns[1:]), 0.0)
    best = float(np.load(folder / "reference.npy")[0])
    if kind == "planted-ppo":
        best = float(np.load(folder / "reference.npy")[1])
        features, gains = features[:ROWS_OF_PPO], gains[:ROWS_OF_PPO]
    seeds = iter(range(1_000))

    def measure():
        seed = next(seeds)
        env = Market(*load(folder, "train"), 1)
        if kind == "planted-dqn":
            net = {"net_arch": [64, 64]}
            model = DQN(
                "MlpPolicy",
                env,
                learning_rate=5e-4,
                batch_size=256,
                buffer_size=200_000,
                learning_starts=2_000,
                target_update_interval=500,
                exploration_fraction=0.01,
                gamma=0.99,
                policy_kwargs=net,
                seed=seed,
            )
        else:
            shape = {"lstm_hidden_size": 64, "n_lstm_layers": 1}
            model = RecurrentPPO(
                "MlpLstmPolicy", env, n_steps=1_024, batch_size=256, gamma=0.99, policy_kwargs=shape, seed=seed
            )
        silenced(model)
        stop, found, spent = UntilSpent(), {}, 0.0
        for mark in seconds:
            stop.until_s = time.process_time() + mark - spent
            model.learn(10_000_000, callback=stop, reset_num_timesteps=False)
            spent = mark
            walk = walk_dqn if kind == "planted-dqn" else walk_ppo
            found[f"share_{mark:g}"] = max(1e-6, walk(model, features, gains) / best)
        return found

    serve(measure)


torch.set_num_threads(1)
folder, kind = Path(sys.argv[1]), sys.argv[2]
if kind.startswith("speed"):
    speed(kind, folder)
else:
    planted(kind, folder, [float(text) for text in sys.argv[3:]])
