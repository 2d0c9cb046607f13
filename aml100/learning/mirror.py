"""The market upside down: every price path seen as its reciprocal, so that what holds for longs is learned for shorts.

Trends, reversals and costs know no up and down, yet any finite history has a drift, and a learner that sees only that
history takes the drift for an edge. Turning a random half of the stretches over doubles what there is to learn from and
takes that edge away. A mirrored stretch needs no new bars: signed features change sign, the up and down flags change
places, long and short change places, BUY and SELL change places, and rewards stay what they were.

What it takes away as well is an edge that an unsigned feature shows: a volume that announces a rise announces a fall in
the mirror. `direction_teller` looks for one in the training rows, and where it finds one nothing should be mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.learning.dataset import CoinRows, Dataset, Scaler
from aml100.market.compiled import compiled
from aml100.market.features import FEATURES
from aml100.market.position import POSITION_FEATURES

SIGNED: Final = (
    "ret_1", "ret_5", "ret_15", "ret_60", "sma_7_21", "sma_7_50", "mean_5m", "trend_5m", "mean_15m", "trend_15m",
    "mean_1h", "trend_1h", "place_1h", "rsi_14", "macd_hist", "bollinger_z", "scaled_strength", "funding_rate",
    "premium",
)  # fmt: skip
"""Features that change sign with the market, exactly or to the second order in a bar's return."""

SWAPPED: Final = (("regime_up", "regime_down"), ("scaled_up", "scaled_down"))

SIDE: Final = POSITION_FEATURES.index("side")

UNSIGNED: Final = tuple(name for name in FEATURES if name not in SIGNED and not any(name in pair for pair in SWAPPED))
"""Features that are the same in the mirrored market."""

ACTION_ORDER: Final = (0, 2, 1)
"""HOLD stays, BUY and SELL change places."""

TOLD_SIGMAS: Final = 10.0
"""From so many standard errors on, an unsigned feature is taken to tell up from down."""
MEMORIES: Final = (1.0, 8.0, 64.0)
"""Bars over which a feature is averaged, exponentially, before it is held against the next return."""
STRETCHES_OF_TIME: Final = 100
_RETURN_LIMIT: Final = 5.0

Floats32 = npt.NDArray[np.float32]


class Mirror:
    """The map from scaled features to those of the mirrored market, for one scaler."""

    def __init__(self, scaler: Scaler) -> None:
        count = len(FEATURES)
        self._from = np.arange(count)
        sign = np.ones(count)
        for name in SIGNED:
            sign[FEATURES.index(name)] = -1.0
        for pair in SWAPPED:
            first, second = (FEATURES.index(name) for name in pair)
            self._from[first], self._from[second] = second, first
        source_sd = np.where(
            scaler.inverse_sd > 0.0, 1.0 / np.where(scaler.inverse_sd > 0.0, scaler.inverse_sd, 1.0), 0.0
        )
        self._factor = (sign * source_sd[self._from] * scaler.inverse_sd).astype(np.float32)
        self._shift = ((sign * scaler.mean[self._from] - scaler.mean) * scaler.inverse_sd).astype(np.float32)

    def turn(self, market: Floats32, which: npt.NDArray[np.bool_]) -> None:
        """Turn the stretches named by `which` [B] over, in place; `market` float32 [B, T, F], scaled."""
        market[which] = market[which][..., self._from] * self._factor + self._shift


@dataclass(frozen=True, slots=True)
class Teller:
    """An unsigned feature, averaged over `memory` bars, that tells the direction of the next return by `sigmas`."""

    feature: str
    memory: float
    sigmas: float

    def __str__(self) -> str:
        return f"{self.feature} over {self.memory:g} bars ({self.sigmas:+.1f} standard errors)"


def direction_teller(dataset: Dataset) -> Teller | None:
    """The unsigned feature that most surely tells up from down in the training rows; None where none surely does.

    Each feature, plain and averaged, is multiplied by the next bar's return in units of its volatility. The sums of
    STRETCHES_OF_TIME equally long stretches of time, all coins together, are held against their own spread: that
    coins move together and that features last for hours lies inside a stretch, and makes nothing look sure.
    """
    columns = np.array([FEATURES.index(name) for name in UNSIGNED])
    memories = np.array(MEMORIES)
    trained = [(coin, start, stop) for coin in dataset.coins for start, stop in coin.train]
    times = [coin.market.open_ms[start:stop] for coin, start, stop in trained]
    first, last = min(int(part[0]) for part in times), max(int(part[-1]) for part in times)
    length = (last - first) // STRETCHES_OF_TIME + 1
    # [stretch, memory, feature] sums of feature and of feature x return; [stretch] of return and of rows
    alone = np.zeros((STRETCHES_OF_TIME, len(memories), len(columns)))
    product, moved = np.zeros_like(alone), np.zeros((STRETCHES_OF_TIME, 2))
    for (coin, start, stop), open_ms in zip(trained, times, strict=True):
        rows = _scaled_returns(coin, start, stop)
        _sum_up(coin.scaled[start:stop], columns, memories, rows, (open_ms - first) // length, alone, product, moved)
    drift = moved[:, 0].sum() / max(1.0, moved[:, 1].sum())
    sums = product - drift * alone
    error = sums.std(axis=0, ddof=1) * np.sqrt(STRETCHES_OF_TIME)
    sigmas = np.divide(sums.sum(axis=0), error, out=np.zeros_like(error), where=error > 0.0)
    memory, feature = np.unravel_index(int(np.abs(sigmas).argmax()), sigmas.shape)
    best = Teller(UNSIGNED[feature], float(memories[memory]), float(sigmas[memory, feature]))
    return best if abs(best.sigmas) >= TOLD_SIGMAS else None


def _scaled_returns(coin: CoinRows, start: int, stop: int) -> npt.NDArray[np.float64]:
    """Of each row but the last, the next bar's log return in units of the volatility then known, cut."""
    returns = np.diff(np.log(coin.close[start:stop]))
    scaled = returns / np.maximum(coin.volatility[start : stop - 1], 1e-9)
    return np.clip(np.nan_to_num(scaled), -_RETURN_LIMIT, _RETURN_LIMIT)


@compiled()
def _sum_up(
    scaled: Any, columns: Any, memories: Any, returns: Any, stretch: Any, alone: Any, product: Any, moved: Any
) -> None:
    average = np.zeros((memories.shape[0], columns.shape[0]))
    for i in range(returns.shape[0]):
        b = stretch[i]
        moved[b, 0] += returns[i]
        moved[b, 1] += 1.0
        for m in range(memories.shape[0]):
            for f in range(columns.shape[0]):
                average[m, f] += (scaled[i, columns[f]] - average[m, f]) / memories[m]
                alone[b, m, f] += average[m, f]
                product[b, m, f] += average[m, f] * returns[i]
