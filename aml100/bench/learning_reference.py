"""The best policy that sees only the bars: the yardstick of learning on planted markets.

Each planted market is a hidden Markov process whose belief given prices (and volume) has one number: the Kalman
estimate of the pulled part, the log odds of an upward regime, the signal. The optimal policy is then a function of that
number and of the side held, and value iteration over a grid of it finds it, fees included. It is run through the same
compiled rules on the same bars as the learner, who sees features of them: of the volume, which is the signal, only how
it stands to its mean of 20 bars (docs/learning.md says what that leaves).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.bench.learning_markets import PLANTED_RULES, PULLED, SIGNALS, TRENDS, MeanReverting, Signalled, Trending
from aml100.evaluation.kernel import Market, flat_positions
from aml100.evaluation.transition import BUY, HOLD, SELL, STEP_DTYPE, advance
from aml100.market.compiled import compiled
from aml100.market.series import BarSeries, Floats

_GRID: Final = 401
_DISCOUNT: Final = 0.9998
_SWEEPS: Final = 4000

Table = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is known of the hidden state at each close, float64 [T], and how it moves.

    `grid` [G] ascending values of it; `chance` [G, G] row-stochastic, from a value to the next bar's; `gain` [G] the
    expected simple return of a long over the next bar, `loss` [G] that of a short.
    """

    values: Floats
    grid: Floats
    chance: Floats
    gain: Floats
    loss: Floats


def _gaussian_chance(grid: Floats, keep: float, sd: float) -> Floats:
    centre = keep * grid[:, None]
    weight = np.exp(-0.5 * ((grid[None, :] - centre) / sd) ** 2)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def believe_mean_reverting(series: BarSeries, strength: float, market: MeanReverting = PULLED) -> Belief:
    """Steady-state Kalman estimate of the pulled part: the price is exact, so one error serves both parts."""
    shock, walk, keep = strength * market.shock_sd, market.walk_sd, market.keep
    variance = (strength * market.pulled_sd) ** 2
    for _ in range(2000):
        spread = (keep - 1.0) ** 2 * variance + shock**2 + walk**2
        joint = keep * (keep - 1.0) * variance + shock**2
        variance = keep**2 * variance + shock**2 - joint**2 / spread
    spread = (keep - 1.0) ** 2 * variance + shock**2 + walk**2
    factor = (keep * (keep - 1.0) * variance + shock**2) / spread
    returns = np.diff(np.log(series.close), prepend=np.log(series.close[0]))
    values = _filter_linear(returns, keep, factor)
    grid = np.linspace(-5.0, 5.0, _GRID) * max(1e-12, strength) * market.pulled_sd
    mean = (keep - 1.0) * grid
    chance = _gaussian_chance(grid, keep, factor * np.sqrt(spread))
    return Belief(values, grid, chance, np.expm1(mean + spread / 2.0), -np.expm1(mean + spread / 2.0))


@compiled()
def _filter_linear(returns: Any, keep: float, factor: float) -> Any:
    out = np.empty_like(returns)
    value = 0.0
    for i in range(returns.shape[0]):
        value = keep * value + factor * (returns[i] - (keep - 1.0) * value)
        out[i] = value
    return out


def believe_trending(series: BarSeries, strength: float, market: Trending = TRENDS) -> Belief:
    """Probability of the upward regime after each close, by Bayes."""
    drift, sd = strength * market.drift, market.noise_sd
    returns = np.diff(np.log(series.close), prepend=np.log(series.close[0]))
    values = _filter_regime(returns, drift, sd, market.turn)
    odds = np.linspace(-8.0, 8.0, _GRID)
    grid = 1.0 / (1.0 + np.exp(-odds))
    expected = market.turn + (1.0 - 2.0 * market.turn) * grid  # of the regime that the next return comes from
    draws, weights = np.polynomial.hermite_e.hermegauss(41)
    chance = np.zeros((_GRID, _GRID))
    for sign, share in ((1.0, expected), (-1.0, 1.0 - expected)):
        seen = sign * drift + sd * draws
        after = np.log(expected / (1.0 - expected))[:, None] + 2.0 * drift * seen[None, :] / sd**2
        place = np.clip((after - odds[0]) / (odds[1] - odds[0]), 0.0, _GRID - 1.000001)
        low = place.astype(np.int64)
        part = share[:, None] * weights[None, :] / weights.sum()
        rows = np.broadcast_to(np.arange(_GRID)[:, None], low.shape)
        np.add.at(chance, (rows, low), part * (1.0 - (place - low)))
        np.add.at(chance, (rows, low + 1), part * (place - low))
    mean = drift * (2.0 * expected - 1.0)
    gain = np.expm1(mean + sd**2 / 2.0)
    return Belief(values, grid, chance, gain, -gain)


@compiled()
def _filter_regime(returns: Any, drift: float, sd: float, turn: float) -> Any:
    out = np.empty_like(returns)
    up = 0.5
    for i in range(returns.shape[0]):
        up = turn + (1.0 - 2.0 * turn) * up
        lean = np.exp(2.0 * drift * returns[i] / sd**2)
        up = up * lean / (up * lean + 1.0 - up)
        out[i] = up
    return out


def believe_signalled(series: BarSeries, strength: float, market: Signalled = SIGNALS) -> Belief:
    """The signal itself: the volume shows it whole, to who sees it and not only its ratio."""
    values = np.log(series.volume / 100.0) / market.volume_gain
    grid = np.linspace(-5.0, 5.0, _GRID)
    chance = _gaussian_chance(grid, market.keep, float(np.sqrt(1.0 - market.keep**2)))
    gain = np.expm1(strength * market.gain * grid + market.noise_sd**2 / 2.0)
    return Belief(values, grid, chance, gain, -gain)


def optimal_actions(belief: Belief, fee: float) -> Table:
    """The best action at each grid value for each side held (flat, long, short): int8 [3, G]; ties hold."""
    carry = np.stack([np.zeros_like(belief.gain), belief.gain, belief.loss])  # [3, G], by side
    value = np.zeros((3, len(belief.grid)))
    options = np.empty((3, 3, len(belief.grid)))  # by side held, action

    def priced(value: Floats) -> Floats:
        after = carry + _DISCOUNT * value @ belief.chance.T  # of being on each side from this close on
        options[:, HOLD] = after
        options[0, BUY], options[0, SELL] = after[1] - fee, after[2] - fee
        options[1, BUY], options[1, SELL] = after[1], after[0] - fee
        options[2, BUY], options[2, SELL] = after[0] - fee, after[2]
        return options

    for _ in range(_SWEEPS):
        best = priced(value).max(axis=1)
        moved = float(np.abs(best - value).max())
        value = best
        if moved < 1e-10:
            break
    return np.asarray(priced(value).argmax(axis=1), np.int8)


@compiled()
def _walk_table(bars: Any, rules: Any, first: int, places: Any, table: Any, state: Any, net: Any, held: Any) -> int:
    """Follow the table from row `first` to the last close; returns the number of trades."""
    rule, s = rules[0], state[0]
    steps = np.zeros(1, STEP_DTYPE)
    trades = 0
    for t in range(first, bars.shape[0]):
        row, step = 0 if s.side == 0 else (1 if s.side > 0 else 2), steps[0]
        advance(bars, rule, t, table[row, places[t]], s, step)
        net[t - first] = step.net
        held[t - first] = s.side
        if step.entered != 0:
            trades += 1
    return trades


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Net return per decision row on one unit of notional [n], the side held over the bar after it, and how often it
    traded."""

    net: Floats
    held: npt.NDArray[np.int8]
    trades: int

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self.net.sum())


def walk_reference(series: BarSeries, belief: Belief, first: int) -> Reference:
    """The optimal policy walked from the decision at row `first` on, under the planted market's rules."""
    table = optimal_actions(belief, PLANTED_RULES.taker_fee)
    middles = (belief.grid[1:] + belief.grid[:-1]) / 2.0
    places = np.searchsorted(middles, belief.values)
    market = Market.from_series(series)
    net, held = np.zeros(len(series) - first), np.zeros(len(series) - first, np.int8)
    trades = _walk_table(market.bars, PLANTED_RULES.as_record(), first, places, table, flat_positions(1), net, held)
    return Reference(net, held, trades)


def luck_of(series: BarSeries, belief: Belief, first: int) -> Floats:
    """What each bar after row `first` returned beyond what could be known before it, [len(series) - first].

    No policy that sees only the past earns any of it on average, so a policy's profit less what this gave the sides it
    held is as true a measure of it, and a far steadier one.
    """
    came = np.append(series.close[first + 1 :] / series.close[first:-1] - 1.0, 0.0)
    known = np.interp(belief.values[first:], belief.grid, belief.gain)
    known[-1] = 0.0
    return np.asarray(came - known)


Believer = Callable[[BarSeries, float], Belief]

BELIEFS: Final[dict[str, Believer]] = {
    "mean-reverting": believe_mean_reverting,
    "trending": believe_trending,
    "signalled": believe_signalled,
}
"""By the name of the market in `learning_markets.MARKETS`: (series, strength)."""
