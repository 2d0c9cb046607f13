"""Regime labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aml100.market.regime import (
    CHANCE_SPREAD,
    Regime,
    RegimeThresholds,
    label_regime,
    label_scaled,
    regime_of_sign,
    trend_strength,
)


@pytest.mark.parametrize(
    ("fast", "label"),
    [
        (101.01, Regime.TREND_UP),
        (101.0, Regime.RANGE),
        (99.0, Regime.RANGE),
        (98.99, Regime.TREND_DOWN),
    ],
)
def test_a_trend_needs_more_than_one_percent_between_the_means(fast: float, label: Regime) -> None:
    assert label_regime(fast, 100.0) is label


def test_thresholds_are_parameters() -> None:
    tight = RegimeThresholds(up_frac=0.001, down_frac=0.002)
    assert label_regime(100.2, 100.0, tight) is Regime.TREND_UP
    assert label_regime(99.85, 100.0, tight) is Regime.RANGE
    assert label_regime(99.75, 100.0, tight) is Regime.TREND_DOWN


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_threshold_that_is_no_distance_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="up_frac"):
        RegimeThresholds(up_frac=bad)


def test_scaled_label_sees_a_trend_that_one_percent_does_not() -> None:
    assert label_regime(100.5, 100.0) is Regime.RANGE
    assert label_scaled(100.5, 100.0, 0.0005) is Regime.TREND_UP
    assert label_scaled(100.5, 100.0, 0.01) is Regime.RANGE
    assert label_scaled(99.5, 100.0, 0.0005) is Regime.TREND_DOWN


def test_market_that_does_not_move_has_no_strength() -> None:
    assert trend_strength(100.0, 100.0, 0.0) == 0.0


def test_chance_spread_is_what_a_random_walk_shows() -> None:
    walk = np.cumsum(np.random.default_rng(5).standard_normal((20_000, 50)), axis=1)
    spread = walk[:, -20:].mean(axis=1) - walk.mean(axis=1)
    assert float(spread.std()) == pytest.approx(CHANCE_SPREAD, rel=0.02)


def test_words_of_signs() -> None:
    assert [regime_of_sign(s) for s in (1, 0, -1)] == [Regime.TREND_UP, Regime.RANGE, Regime.TREND_DOWN]
