"""stable-baselines3 DQN and sb3-contrib RecurrentPPO on our own Gymnasium environment and real bars.

Same folds, rules, features and processor seconds as in learning_real.py. At each reset a coin of the fold is drawn; an
observation is one row of features, which are summaries of the past, and the position; RecurrentPPO has an LSTM besides.
Neither chooses a checkpoint by validation: what is judged is the last policy. Both libraries are development
dependencies and are imported when a model is made; ModuleNotFoundError where they are absent.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np

from aml100.bench.learning_real import (
    ENTRIES,
    FOLDS,
    Edges,
    Fold,
    TestedCoin,
    figures,
    folds_of,
    joined,
    median_and_worst,
    sets_in,
    walk_of,
)
from aml100.learning.acting import Walk
from aml100.learning.env import PerpEnv
from aml100.learning.reward import RewardConfig, Shaping
from aml100.market.series import BarSeries

EPISODE_BARS: Final = 1_000
KINDS: Final = ("SB3 DQN", "RecurrentPPO")


class Pooled(gymnasium.Env[Any, int]):
    """Environments of several coins as one: each episode is of a coin drawn anew."""

    def __init__(self, parts: Sequence[PerpEnv]) -> None:
        self._parts = parts
        self._now = parts[0]
        self.observation_space = parts[0].observation_space
        self.action_space = parts[0].action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._now = self._parts[int(self.np_random.integers(len(self._parts)))]
        return self._now.reset(seed=int(self.np_random.integers(2**31)), options=options)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._now.step(int(action))


def peer_rows(
    folder: Path, seeds: int, budget_s: float, only: str = "", edges: Edges = FOLDS
) -> Iterator[tuple[str, ...]]:
    """Rows under `learning_real.HEADER`, taker entries, for every set whose name begins with `only`."""
    for title, files in sets_in(folder).items():
        if not title.startswith(only):
            continue
        folds = folds_of(files, ENTRIES["taker"], edges)
        for kind in KINDS:
            singles = [
                [walk for fold in folds for walk in walk_coins(learn(kind, fold, seed, budget_s), fold)]
                for seed in range(seeds)
            ]
            for name, walks in median_and_worst(kind, singles):
                yield (title, "taker", str(max(len(fold) for fold in folds)), *figures(name, walks))


def training_environment(fold: Fold) -> Pooled:
    """The coins of a fold up to where their training ends."""
    return Pooled([_environment(coin, coin.data.series.rows(0, coin.train_stop), EPISODE_BARS) for coin in fold])


def _environment(coin: TestedCoin, bars: BarSeries, episode_bars: int) -> PerpEnv:
    pure = RewardConfig(shaping=Shaping.PURE)
    return PerpEnv(
        bars,
        window=1,
        episode_bars=episode_bars,
        rules=coin.data.rules,
        reward=pure,
        funding=coin.data.funding,
        constant_rate=coin.data.constant_funding_rate,
        fit_rows=coin.train_stop,
    )


def learn(kind: str, fold: Fold, seed: int, budget_s: float) -> Any:
    """A model of one of KINDS, trained on the fold's training parts for so many processor seconds."""
    base, contrib = importlib.import_module("stable_baselines3"), importlib.import_module("sb3_contrib")
    env = training_environment(fold)
    if kind == "SB3 DQN":
        model = base.DQN(
            "MultiInputPolicy", env, learning_rate=5e-4, batch_size=256, buffer_size=100_000, learning_starts=1_000,
            target_update_interval=500, exploration_fraction=0.01, gamma=0.99, seed=seed,
        )  # fmt: skip
    else:
        shape = {"lstm_hidden_size": 48, "n_lstm_layers": 1}
        model = contrib.RecurrentPPO(
            "MultiInputLstmPolicy", env, n_steps=512, batch_size=256, gamma=0.99, policy_kwargs=shape, seed=seed
        )
    silent = importlib.import_module("stable_baselines3.common.logger").Logger(folder=None, output_formats=[])
    model.set_logger(silent)  # the one it would make itself leaves a folder behind
    until_s = time.process_time() + budget_s
    model.learn(10_000_000, callback=lambda *_: time.process_time() < until_s)
    return model


def walk_coins(model: Any, fold: Fold) -> list[Walk]:
    """The greedy policy over all coins' tests, all their spans side by side: one walk a coin, its spans in a row.

    Each span begins flat, and what is held at its last close is closed there, as in the learner's own walks. `model`
    has the `predict` of stable-baselines3.
    """
    lanes: list[_Lane] = []
    for coin in fold:
        environment = _environment(coin, coin.data.series.rows(0, coin.last), 0)
        lanes += [_Lane(coin, start, stop, copy(environment)) for start, stop in coin.spans]
    memory, begins = None, np.ones(len(lanes), bool)
    while not all(lane.over for lane in lanes):
        rows = {key: np.stack([lane.seen[key] for lane in lanes]) for key in ("market", "position")}
        actions, memory = model.predict(rows, state=memory, episode_start=begins, deterministic=True)
        begins = np.zeros(len(lanes), bool)
        for lane, action in zip(lanes, actions, strict=True):
            if not lane.over:
                lane.step(int(action))
    return [joined([lane.walk() for lane in lanes if lane.coin is coin]) for coin in fold if coin.spans]


class _Lane:
    """One span of one coin's test, walked in an environment of its own."""

    def __init__(self, coin: TestedCoin, start: int, stop: int, environment: PerpEnv) -> None:
        self.coin, self.start, self.stop = coin, start, stop
        self._environment = environment
        self.seen = environment.reset(options={"row": start})[0]
        self.over = False
        self._net: list[float] = []
        self._closed: list[float] = []

    def step(self, action: int) -> None:
        self.seen, _, terminated, truncated, _ = self._environment.step(action)
        step = self._environment.last_step[0]
        self._net.append(float(step["net"]))
        if step["exit_reason"]:
            self._closed.append(float(step["closed_net"]))
        self.over = terminated or truncated or self.start + len(self._net) >= self.stop

    def walk(self) -> Walk:
        """What it brought, as far as it was walked."""
        return walk_of(np.array(self._net), np.array(self._closed), self.coin.market, self.start)
