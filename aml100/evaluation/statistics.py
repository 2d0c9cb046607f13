"""How much a Sharpe ratio is worth: its error, luck's share in it, and what resampling says.

Everything here is per observation, never annualised: a daily Sharpe of 0.05 is about 0.96 a year. Skewness is the
third and kurtosis the fourth standardised moment (3 for a normal), both with divisor n; the standard deviation in a
Sharpe ratio has divisor n - 1. What cannot be known from the data is None.

Sources: Lo (2002) and Mertens (2002) for the standard error, Bailey and Lopez de Prado (2012, 2014) for the
probabilistic and the deflated Sharpe ratio and the minimum track record, Politis and Romano (1994) for the stationary
bootstrap, Bailey, Borwein, Lopez de Prado and Zhu (2015) for the probability of overfitting.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

_NORMAL: Final = NormalDist()
_EULER: Final = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Moments:
    """What the error of a Sharpe ratio depends on. `count` observations, `sharpe` per observation."""

    count: int
    sharpe: float
    skewness: float
    kurtosis: float

    @property
    def spread(self) -> float:
        """Variance of the estimated Sharpe ratio times the number of observations; never negative."""
        return max(1.0 - self.skewness * self.sharpe + (self.kurtosis - 1.0) / 4.0 * self.sharpe**2, 0.0)


def moments_of(returns: Floats) -> Moments | None:
    """Moments of a stream of returns; None where there are fewer than two or they never differ."""
    count = len(returns)
    if count < 2:
        return None
    centred = returns - returns.mean()
    variance = float(np.mean(centred**2))
    deviation = math.sqrt(variance * count / (count - 1))
    if deviation <= 1e-15:
        return None
    return Moments(
        count=count,
        sharpe=float(returns.mean()) / deviation,
        skewness=float(np.mean(centred**3)) / variance**1.5,
        kurtosis=float(np.mean(centred**4)) / variance**2,
    )


def sharpe_stderr(moments: Moments) -> float:
    """Standard error of the Sharpe ratio, with divisor n - 1.

    >>> track = Moments(count=24, sharpe=0.036 / 0.079, skewness=-2.448, kurtosis=10.164)
    >>> round(sharpe_stderr(track), 3)
    0.336
    """
    return math.sqrt(moments.spread / (moments.count - 1))


def sharpe_lower_bound(moments: Moments, confidence: float = 0.95) -> float:
    """One-sided lower bound of the true Sharpe ratio."""
    return moments.sharpe - _NORMAL.inv_cdf(confidence) * sharpe_stderr(moments)


def probabilistic_sharpe(moments: Moments, benchmark: float = 0.0) -> float | None:
    """Probability that the true Sharpe ratio exceeds `benchmark`; None where its error vanishes."""
    error = sharpe_stderr(moments)
    return _NORMAL.cdf((moments.sharpe - benchmark) / error) if error > 0.0 else None


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio that the best of `trials` worthless strategies is expected to show.

    Args:
        variance: of the Sharpe ratios over the trials.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, not {trials}")
    if trials == 1:
        return 0.0
    best = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    better = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * ((1.0 - _EULER) * best + _EULER * better)


def deflated_sharpe(moments: Moments, trials: int, variance: float | None = None) -> float | None:
    """Probability that the true Sharpe ratio is positive although this was the best of `trials` (GUARANTEES E7).

    Args:
        variance: of the Sharpe ratios over the trials; None: what chance alone gives, 1 / (n - 1).
    """
    if variance is None:
        variance = 1.0 / (moments.count - 1)
    return probabilistic_sharpe(moments, expected_max_sharpe(trials, variance))


def minimum_track_record(moments: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """Observations needed to say with `confidence` that the true Sharpe ratio exceeds `benchmark`.

    None where no number would do: the Sharpe ratio seen does not exceed it.
    """
    excess = moments.sharpe - benchmark
    if excess <= 0.0:
        return None
    return 1.0 + moments.spread * (_NORMAL.inv_cdf(confidence) / excess) ** 2


def stationary_rows(count: int, length: int, resamples: int, mean_block: float, generator: np.random.Generator) -> Ints:
    """Row numbers of stationary bootstrap resamples of a series, shape [resamples, length].

    Blocks of geometric length with mean `mean_block` begin anywhere and wrap around the end.
    """
    if count < 1 or mean_block < 1.0:
        raise ValueError(f"a bootstrap needs rows and blocks of at least 1, not {count} rows, blocks of {mean_block}")
    fresh = generator.random((resamples, length)) < 1.0 / mean_block
    fresh[:, 0] = True
    places = np.broadcast_to(np.arange(length), (resamples, length))
    began = np.maximum.accumulate(np.where(fresh, places, 0), axis=1)
    starts = generator.integers(0, count, (resamples, length))
    return (np.take_along_axis(starts, began, axis=1) + places - began) % count


@functools.lru_cache(maxsize=64)
def _rows_of_seed(count: int, length: int, resamples: int, mean_block: float, seed: int) -> Ints:
    """The same draws as `stationary_rows` from a fresh generator; many records of one length are judged by them."""
    rows = stationary_rows(count, length, resamples, mean_block, np.random.default_rng(seed))
    rows.flags.writeable = False
    return rows


@dataclass(frozen=True, slots=True)
class Interval:
    """Two-sided percentile interval of a bootstrap, with what is needed to draw it again."""

    low: float
    high: float
    confidence: float
    resamples: int
    mean_block: float
    seed: int


def sharpe_interval(
    returns: Floats, *, seed: int, confidence: float = 0.95, resamples: int = 2000, mean_block: float = 5.0
) -> Interval | None:
    """Stationary block bootstrap of the Sharpe ratio; None where there is none."""
    if moments_of(returns) is None:
        return None
    rows = stationary_rows(len(returns), len(returns), resamples, mean_block, np.random.default_rng(seed))
    drawn = returns[rows]
    deviation = drawn.std(axis=1, ddof=1)
    ratios = drawn.mean(axis=1)[deviation > 1e-15] / deviation[deviation > 1e-15]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Interval(float(low), float(high), confidence, resamples, mean_block, seed)


def drawdown_probability(
    returns: Floats, limit_frac: float, *, seed: int, days: int = 30, resamples: int = 1000, mean_block: float = 5.0
) -> float | None:
    """Probability that `days` daily returns like these draw down by more than `limit_frac`; None without returns.

    Equity is seen once a day here, so falls inside a day that recover by midnight are not counted.
    """
    if len(returns) == 0:
        return None
    rows = _rows_of_seed(len(returns), days, resamples, mean_block, seed)
    equity = np.cumprod(1.0 + returns[rows], axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return float(np.mean((1.0 - equity / peak).max(axis=1) > limit_frac))


def overfitting_probability(returns: Floats, blocks: int = 16) -> float | None:
    """Probability of back-test overfitting by combinatorially symmetric cross-validation (GUARANTEES E8).

    Time is cut into blocks; every half of them is the in-sample part once. The best trial in sample is overfitted
    where it ranks in the lower half out of sample. The figure compared is the Sharpe ratio.

    Args:
        returns: [T, N], one column a trial. None where N < 2 or T < 2 * blocks.
        blocks: even.
    """
    rows, trials = returns.shape
    if blocks < 2 or blocks % 2:
        raise ValueError(f"blocks must be even and at least 2, not {blocks}")
    if trials < 2 or rows < 2 * blocks:
        return None
    cut = returns[: rows - rows % blocks].reshape(blocks, -1, trials)
    sums, squares, size = cut.sum(axis=1), (cut**2).sum(axis=1), cut.shape[1] * blocks // 2
    halves = np.array(list(itertools.combinations(range(blocks), blocks // 2)))
    chosen = np.zeros((len(halves), blocks))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    inside = _sharpe_of_sums(chosen @ sums, chosen @ squares, size)
    outside = _sharpe_of_sums((1.0 - chosen) @ sums, (1.0 - chosen) @ squares, size)
    best = inside.argmax(axis=1)[:, None]
    theirs = np.take_along_axis(outside, best, axis=1)
    rank = (outside < theirs).sum(axis=1) + ((outside == theirs).sum(axis=1) + 1) / 2.0
    return float(np.mean(rank / (trials + 1) <= 0.5))


def overfitting_of(returns: Sequence[Sequence[float]]) -> float | None:
    """`overfitting_probability` of trials given one by one, in as many blocks, up to 16, as leave each two days.

    Days that not all of them have at the end are left out. None with fewer than two trials or eight days.
    """
    rows = min((len(one) for one in returns), default=0)
    blocks = min(16, rows // 2 // 2 * 2)
    if blocks < 4 or len(returns) < 2:
        return None
    return overfitting_probability(np.array([one[:rows] for one in returns]).T, blocks)


def _sharpe_of_sums(sums: Floats, squares: Floats, size: int) -> Floats:
    """Sharpe ratios from sums of returns and of their squares over `size` rows; 0 where nothing moves."""
    variance = np.maximum(squares - sums**2 / size, 0.0) / (size - 1)
    deviation = np.sqrt(variance)
    return np.divide(sums / size, deviation, out=np.zeros_like(sums), where=deviation > 1e-15)
