"""What resampling says, against cases worked out by hand or known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from aml100.evaluation.statistics import (
    Moments,
    deflated_sharpe,
    drawdown_probability,
    expected_max_sharpe,
    minimum_track_record,
    moments_of,
    overfitting_probability,
    probabilistic_sharpe,
    sharpe_interval,
    sharpe_lower_bound,
    stationary_rows,
)


def test_moments_agree_with_scipy() -> None:
    returns = np.random.default_rng(1).standard_t(5, 300) * 0.01 + 0.001
    moments = moments_of(returns)
    assert moments is not None
    assert moments.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)
    assert moments.skewness == pytest.approx(stats.skew(returns), rel=1e-9)
    assert moments.kurtosis == pytest.approx(stats.kurtosis(returns, fisher=False), rel=1e-9)


@pytest.mark.parametrize("returns", [[], [0.1], [0.01, 0.01, 0.01]])
def test_no_moments_where_nothing_differs(returns: list[float]) -> None:
    assert moments_of(np.array(returns)) is None


def test_normal_returns_have_lo_standard_error_and_its_bound() -> None:
    track = Moments(count=101, sharpe=0.1, skewness=0.0, kurtosis=3.0)
    error = math.sqrt((1 + 0.1**2 / 2) / 100)
    assert sharpe_lower_bound(track) == pytest.approx(0.1 - 1.6448536269514722 * error, rel=1e-12)
    assert probabilistic_sharpe(track) == pytest.approx(stats.norm.cdf(0.1 / error), rel=1e-12)


def test_one_trial_deflates_nothing_and_more_deflate_more() -> None:
    track = Moments(count=500, sharpe=0.1, skewness=0.0, kurtosis=3.0)
    assert deflated_sharpe(track, 1) == probabilistic_sharpe(track)
    values = [deflated_sharpe(track, n) or 0.0 for n in (1, 2, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    with pytest.raises(ValueError, match="trials"):
        expected_max_sharpe(0, 1.0)


def test_expected_best_of_many_worthless_is_what_a_simulation_shows() -> None:
    best = np.random.default_rng(2).standard_normal((20_000, 50)).max(axis=1).mean()
    assert expected_max_sharpe(50, 1.0) == pytest.approx(best, rel=0.02)


def test_no_track_record_is_long_enough_for_a_ratio_that_is_not_seen() -> None:
    assert minimum_track_record(Moments(100, 0.05, 0.0, 3.0), benchmark=0.05) is None


def test_bootstrap_blocks_run_on_and_restart_as_often_as_their_mean_length_says() -> None:
    rows = stationary_rows(50, 400, 200, 5.0, np.random.default_rng(3))
    assert rows.shape == (200, 400)
    assert rows.min() == 0
    assert rows.max() == 49
    runs_on = (np.diff(rows, axis=1) % 50 == 1).mean()
    assert runs_on == pytest.approx(0.8 + 0.2 / 50, abs=0.01)
    assert np.bincount(rows.ravel(), minlength=50).std() < 0.1 * rows.size / 50


def test_bootstrap_is_drawn_again_from_its_seed_e10() -> None:
    returns = np.random.default_rng(4).standard_normal(250) * 0.01 + 0.0005
    first = sharpe_interval(returns, seed=7)
    assert first == sharpe_interval(returns, seed=7)
    assert first != sharpe_interval(returns, seed=8)
    assert first is not None
    assert first.seed == 7


def test_bootstrap_interval_is_as_wide_as_theory_on_independent_returns() -> None:
    returns = np.random.default_rng(5).standard_normal(1000) * 0.01
    interval = sharpe_interval(returns, seed=1, mean_block=1.0)
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / math.sqrt(1000), rel=0.1)
    assert sharpe_interval(np.full(50, 0.01), seed=1) is None


def test_drawdown_probability_of_sure_cases() -> None:
    assert drawdown_probability(np.full(40, 0.01), 0.05, seed=1) == 0.0
    assert drawdown_probability(np.full(40, -0.01), 0.05, seed=1) == 1.0
    assert drawdown_probability(np.zeros(0), 0.05, seed=1) is None


def test_drawdown_probability_of_a_random_walk_is_what_fresh_walks_show() -> None:
    sd, limit = 0.002, 0.02
    returns = np.random.default_rng(6).standard_normal(20_000) * sd
    direct = np.random.default_rng(7).standard_normal((20_000, 30)) * sd
    equity = np.cumprod(1.0 + direct, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    expected = ((1.0 - equity / peak).max(axis=1) > limit).mean()
    seen = drawdown_probability(returns, limit, seed=1, resamples=20_000, mean_block=1.0)
    assert seen == pytest.approx(expected, abs=0.01)


def test_worthless_trials_are_overfitted_half_the_time_or_more_e8() -> None:
    draws = [np.random.default_rng(s).standard_normal((320, 20)) for s in range(8)]
    chances = [overfitting_probability(d, blocks=8) or 0.0 for d in draws]
    assert np.mean(chances) == pytest.approx(0.5, abs=0.15)


def test_a_trial_that_is_truly_better_is_not_overfitted_e8() -> None:
    returns = np.random.default_rng(9).standard_normal((320, 20))
    returns[:, 3] += 1.0
    assert overfitting_probability(returns, blocks=8) == 0.0


def test_selection_that_turns_against_itself_is_overfitted_e8() -> None:
    """Two trials that win in opposite halves: whichever looks better in sample is the worse one out of sample."""
    noise = np.random.default_rng(10).standard_normal((40, 2)) * 0.01
    side = np.repeat([1.0, -1.0], 20)
    assert overfitting_probability(noise + np.stack([side, -side], axis=1), blocks=2) == 1.0


def test_overfitting_needs_two_trials_and_enough_time() -> None:
    assert overfitting_probability(np.zeros((100, 1))) is None
    assert overfitting_probability(np.zeros((10, 5)), blocks=16) is None
    with pytest.raises(ValueError, match="even"):
        overfitting_probability(np.zeros((100, 5)), blocks=3)
