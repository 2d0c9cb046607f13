"""What kind of market this is: trending up, trending down, or neither.

One rule in two scales. The plain one compares the 20-bar mean with the 50-bar mean and asks for a distance of 1 %; on
one-minute bars that is rare, so a second one measures the same distance in units of what a random walk of the present
volatility would show by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aml100.market.compiled import compiled


class Regime(StrEnum):
    TREND_UP = "trend_up"
    TREND_DOWN = "trend_down"
    RANGE = "range"


_BY_SIGN: Final = (Regime.RANGE, Regime.TREND_UP, Regime.TREND_DOWN)  # the last is at -1


@dataclass(frozen=True, slots=True)
class RegimeThresholds:
    """Where a trend begins: `up_frac` and `down_frac` of the slow mean; `scaled` in standard deviations."""

    up_frac: float = 0.01
    down_frac: float = 0.01
    scaled: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("up_frac", self.up_frac), ("down_frac", self.down_frac), ("scaled", self.scaled)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"regime threshold {name} must be finite and not negative, not {value}")


DEFAULT_THRESHOLDS: Final = RegimeThresholds()

FAST_BARS: Final = 20
SLOW_BARS: Final = 50


def _chance_spread() -> float:
    """Standard deviation of (fast mean - slow mean) / price on a random walk whose bars have a deviation of 1.

    The n-bar mean lies below the last price by the sum of the returns r_j, j bars ago, each weighed (n - 1 - j) / n.
    """

    def weight(n: int, j: int) -> float:
        return max(n - 1 - j, 0) / n

    return math.sqrt(sum((weight(SLOW_BARS, j) - weight(FAST_BARS, j)) ** 2 for j in range(SLOW_BARS)))


CHANCE_SPREAD: Final = _chance_spread()


@compiled()
def trend_sign(fast: float, slow: float, up_frac: float, down_frac: float) -> int:
    """+1 where the fast mean stands more than `up_frac` above the slow one, -1 below by `down_frac`, else 0."""
    if fast > slow * (1.0 + up_frac):
        return 1
    if fast < slow * (1.0 - down_frac):
        return -1
    return 0


@compiled()
def trend_strength(fast: float, slow: float, volatility: float) -> float:
    """Distance of the means in standard deviations of chance; 0 where the market does not move at all.

    Args:
        volatility: standard deviation of one bar's log return.
    """
    if volatility <= 1e-9:
        return 0.0
    return (fast / slow - 1.0) / (volatility * CHANCE_SPREAD)


def regime_of_sign(sign: int) -> Regime:
    """+1, 0, -1 as a word."""
    return _BY_SIGN[sign]
