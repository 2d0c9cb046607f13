"""Markets with a planted edge whose size is known, and one without: what learning is measured on.

Every market is minute bars whose opens are the closes before, so that a decision at a close fills there. The edge is
in the price itself (mean-reverting, trending by regime) or in the volume (weak signal); `strength` scales it and leaves
the noise as it is. Same seed, same bars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aml100.domain.units import MINUTE_MS, Coin
from aml100.evaluation.kernel import KernelRules
from aml100.market.compiled import compiled
from aml100.market.series import BarSeries, Floats

START_MS: Final = 1_700_006_400_000
"""A full hour."""

PLANTED_RULES: Final = KernelRules(take_profit=0.0, stop_loss=0.0, slippage=0.0, max_hold=0)
"""Taker fee 0.045 % and nothing else (BUDGETS P5)."""


@dataclass(frozen=True, slots=True)
class MeanReverting:
    """Log price = a pulled part (AR(1)) + a random walk; BUDGETS P5. Returns and deviations per bar."""

    half_life: float = 30.0
    pulled_sd: float = 0.004
    walk_sd: float = 0.0005

    @property
    def keep(self) -> float:
        """The share of the pulled part that is left a bar later."""
        return float(0.5 ** (1.0 / self.half_life))

    @property
    def shock_sd(self) -> float:
        """Standard deviation of one bar's shock to the pulled part."""
        return float(self.pulled_sd * np.sqrt(1.0 - self.keep**2))


@dataclass(frozen=True, slots=True)
class Trending:
    """A drift of either sign that turns with a small chance each bar, under noise."""

    drift: float = 0.0003
    turn: float = 1.0 / 240.0
    noise_sd: float = 0.001


@dataclass(frozen=True, slots=True)
class Signalled:
    """The next return leans on an AR(1) signal that shows in one column only: log volume."""

    half_life: float = 20.0
    gain: float = 0.0002
    noise_sd: float = 0.001
    volume_gain: float = 0.5

    @property
    def keep(self) -> float:
        """The share of the signal that is left a bar later."""
        return float(0.5 ** (1.0 / self.half_life))


PULLED: Final = MeanReverting()
TRENDS: Final = Trending()
SIGNALS: Final = Signalled()


@compiled()
def _ar1(keep: float, start: float, shocks: Any) -> Any:
    out = np.empty_like(shocks)
    value = start
    for i in range(shocks.shape[0]):
        value = keep * value + shocks[i]
        out[i] = value
    return out


def series_of(close: Floats, volume: Floats | None = None, origin: str = "synthetic:planted") -> BarSeries:
    """Minute bars with these closes; the range of a bar is its body and 0.01 % beyond."""
    n = len(close)
    opened = np.concatenate([close[:1], close[:-1]])
    open_ms = START_MS + np.arange(n, dtype=np.int64) * MINUTE_MS
    high, low = np.maximum(opened, close) * 1.0001, np.minimum(opened, close) * 0.9999
    return BarSeries(
        Coin("PLANTED"), MINUTE_MS, origin, open_ms, opened, high, low, close, np.ones(n) if volume is None else volume
    )


def mean_reverting(n: int, seed: int, strength: float = 1.0, market: MeanReverting = PULLED) -> BarSeries:
    """`strength` scales the pulled part."""
    random = np.random.default_rng(seed)
    start = random.standard_normal() * market.pulled_sd
    pulled = _ar1(market.keep, start, random.standard_normal(n) * market.shock_sd)
    walk = np.cumsum(random.standard_normal(n) * market.walk_sd)
    return series_of(100.0 * np.exp(strength * pulled + walk), origin="synthetic:mean-reverting")


def trending(n: int, seed: int, strength: float = 1.0, market: Trending = TRENDS) -> BarSeries:
    """`strength` scales the drift."""
    random = np.random.default_rng(seed)
    turns = np.cumsum(random.random(n) < market.turn)
    side = np.where((turns + random.integers(0, 2)) % 2 == 0, 1.0, -1.0)
    steps = strength * market.drift * side + random.standard_normal(n) * market.noise_sd
    return series_of(100.0 * np.exp(np.cumsum(steps)), origin="synthetic:trending")


def signalled(n: int, seed: int, strength: float = 1.0, market: Signalled = SIGNALS) -> BarSeries:
    """`strength` scales how far the next return leans on the signal; the volume shows it all the same."""
    random = np.random.default_rng(seed)
    shocks = random.standard_normal(n) * np.sqrt(1.0 - market.keep**2)
    signal = _ar1(market.keep, random.standard_normal(), shocks)
    steps = random.standard_normal(n) * market.noise_sd
    steps[1:] += strength * market.gain * signal[:-1]
    volume = 100.0 * np.exp(market.volume_gain * signal)
    return series_of(100.0 * np.exp(np.cumsum(steps)), volume, "synthetic:signalled")


def random_walk(n: int, seed: int, strength: float = 1.0) -> BarSeries:
    """Independent returns of `strength` x 0.1 %: nothing to learn."""
    random = np.random.default_rng(seed)
    return series_of(100.0 * np.exp(np.cumsum(random.standard_normal(n) * 0.001 * strength)), None, "synthetic:walk")


Generator = Callable[[int, int, float], BarSeries]

MARKETS: Final[dict[str, Generator]] = {
    "mean-reverting": mean_reverting,
    "trending": trending,
    "signalled": signalled,
}
"""Those with an edge, by name: (bars, seed, strength)."""
