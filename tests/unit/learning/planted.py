"""Generated markets for tests of learning: one with a planted edge, one without."""

from __future__ import annotations

import numpy as np

from aml100.domain.units import MINUTE_MS, Coin
from aml100.evaluation.kernel import KernelRules
from aml100.learning.dataset import CoinData
from aml100.learning.settings import TrainingSettings
from aml100.market.series import BarSeries

START_MS = 1_700_006_400_000  # a full hour

FREE_HANDED = KernelRules(take_profit=0.0, stop_loss=0.0, slippage=0.0, max_hold=0)
"""Taker fee 0.045 %, nothing else: the rules of the planted market in BUDGETS P5."""


def series_of(close: np.ndarray, coin: str = "TEST", origin: str = "synthetic:test", gap_at: int = 0) -> BarSeries:
    """One-minute bars whose opens are the closes before; from row `gap_at` on an hour later."""
    n = len(close)
    opened = np.concatenate([close[:1], close[:-1]])
    open_ms = START_MS + np.arange(n, dtype=np.int64) * MINUTE_MS
    if gap_at:
        open_ms[gap_at:] += 60 * MINUTE_MS
    high, low = np.maximum(opened, close) * 1.0001, np.minimum(opened, close) * 0.9999
    return BarSeries(Coin(coin), MINUTE_MS, origin, open_ms, opened, high, low, close, np.ones(n))


def mean_reverting(n: int, seed: int) -> BarSeries:
    """BUDGETS P5: half-life 30 bars, standard deviation 0.4 %, around a random walk of 0.05 % a bar."""
    random = np.random.default_rng(seed)
    keep = 0.5 ** (1 / 30)
    shocks = random.standard_normal(n) * 0.004 * np.sqrt(1.0 - keep**2)
    pulled = np.empty(n)
    value = random.standard_normal() * 0.004
    for i in range(n):
        value = keep * value + shocks[i]
        pulled[i] = value
    return series_of(100.0 * np.exp(pulled + np.cumsum(random.standard_normal(n) * 0.0005)))


def random_walk(n: int, seed: int) -> BarSeries:
    """No edge at all: independent returns of 0.1 % a bar."""
    random = np.random.default_rng(seed)
    return series_of(100.0 * np.exp(np.cumsum(random.standard_normal(n) * 0.001)))


def tiny_settings(**changes: object) -> TrainingSettings:
    """A learner that trains in a second."""
    small: dict[str, object] = {
        "lstm_layers": 1, "lstm_hidden": 8, "head_hidden": 8, "epochs": 4, "batch_stretches": 4, "stretch_bars": 24,
        "burn_in_bars": 8, "learning_rate": 3e-3, "capacity": 24 * 12, "updates_per_epoch_max": 3,
    }  # fmt: skip
    return TrainingSettings(**(small | changes))  # type: ignore[arg-type]


def coin_data(series: BarSeries) -> CoinData:
    """The series under the planted market's rules."""
    return CoinData(series, FREE_HANDED)
