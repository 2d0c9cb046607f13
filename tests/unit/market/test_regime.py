"""Regime labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aml100.market.regime import (
    CHANCE_SPREAD,
    DEFAULT_THRESHOLDS,
    Regime,
    RegimeThresholds,
    regime_of_sign,
    trend_sign,
    trend_strength,
)


@pytest.mark.parametrize(("fast", "sign"), [(101.01, 1), (101.0, 0), (99.0, 0), (98.99, -1)])
def test_a_trend_needs_more_than_one_percent_between_the_means(fast: float, sign: int) -> None:
    assert trend_sign(fast, 100.0, DEFAULT_THRESHOLDS.up_frac, DEFAULT_THRESHOLDS.down_frac) == sign


def test_thresholds_are_parameters() -> None:
    assert [trend_sign(fast, 100.0, 0.001, 0.002) for fast in (100.2, 99.85, 99.75)] == [1, 0, -1]


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_threshold_that_is_no_distance_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="up_frac"):
        RegimeThresholds(up_frac=bad)


def test_the_scaled_distance_sees_a_trend_that_one_percent_does_not() -> None:
    assert trend_sign(100.5, 100.0, DEFAULT_THRESHOLDS.up_frac, DEFAULT_THRESHOLDS.down_frac) == 0
    assert trend_strength(100.5, 100.0, 0.0005) > DEFAULT_THRESHOLDS.scaled
    assert abs(trend_strength(100.5, 100.0, 0.01)) < DEFAULT_THRESHOLDS.scaled
    assert trend_strength(99.5, 100.0, 0.0005) < -DEFAULT_THRESHOLDS.scaled


def test_market_that_does_not_move_has_no_strength() -> None:
    assert trend_strength(100.0, 100.0, 0.0) == 0.0


def test_chance_spread_is_what_a_random_walk_shows() -> None:
    walk = np.cumsum(np.random.default_rng(5).standard_normal((20_000, 50)), axis=1)
    spread = walk[:, -20:].mean(axis=1) - walk.mean(axis=1)
    assert float(spread.std()) == pytest.approx(CHANCE_SPREAD, rel=0.02)


def test_words_of_signs() -> None:
    assert [regime_of_sign(s) for s in (1, 0, -1)] == [Regime.TREND_UP, Regime.RANGE, Regime.TREND_DOWN]
