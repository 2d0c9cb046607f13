"""The market upside down: every price path seen as its reciprocal, so that what holds for longs is learned for shorts.

Trends, reversals and costs know no up and down, yet any finite history has a drift, and a learner that sees only that
history takes the drift for an edge. Turning a random half of the stretches over doubles what there is to learn from and
takes that edge away. A mirrored stretch needs no new bars: signed features change sign, the up and down flags change
places, long and short change places, BUY and SELL change places, and rewards stay what they were.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aml100.learning.dataset import Scaler
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

ACTION_ORDER: Final = (0, 2, 1)
"""HOLD stays, BUY and SELL change places."""

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


def turn_sides(position: Floats32, which: npt.NDArray[np.bool_]) -> None:
    """Long to short and back in rows of position features [B, ..., P], in place."""
    position[which, ..., SIDE] *= np.float32(-1.0)


def turn_actions(values: npt.NDArray[np.float32], which: npt.NDArray[np.bool_], axis: int) -> None:
    """BUY to SELL and back along an axis of size 3 of `values` [B, ...], in place; the axis is counted from the end."""
    values[which] = np.take(values[which], ACTION_ORDER, axis=axis)
