"""The market upside down: a mirrored stretch is what the features of the reciprocal prices are, and pays the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aml100.learning.dataset import Scaler
from aml100.learning.mirror import ACTION_ORDER, SIDE, SIGNED, SWAPPED, Mirror, turn_actions, turn_sides
from aml100.market.features import FEATURES, compute_features
from aml100.market.series import BarSeries
from tests.unit.learning.planted import mean_reverting


def upside_down(series: BarSeries) -> BarSeries:
    """Reciprocal prices: a bar's high is where its low was."""
    return replace(
        series, open=1e4 / series.open, close=1e4 / series.close, high=1e4 / series.low, low=1e4 / series.high
    )


def test_turned_features_are_those_of_the_reciprocal_prices() -> None:
    series = mean_reverting(1500, 4)
    frame, mirrored = compute_features(series), compute_features(upside_down(series))
    rows = frame.valid
    scaler = Scaler.fit([frame.values[rows]])
    market = scaler.apply(frame.values[rows])[None]
    Mirror(scaler).turn(market, np.array([True]))
    expected = scaler.apply(mirrored.values[rows])
    inside = np.abs(expected) < 7.9  # beyond, the scaler cuts
    difference = np.where(inside, np.abs(market[0] - expected), 0.0)
    assert difference.mean(axis=0).max() < 0.05, dict(zip(FEATURES, difference.mean(axis=0), strict=True))


def test_every_feature_is_known_to_be_signed_swapped_or_even() -> None:
    swapped = {name for pair in SWAPPED for name in pair}
    assert set(SIGNED) | swapped < set(FEATURES)
    assert not set(SIGNED) & swapped
    even = set(FEATURES) - set(SIGNED) - swapped
    assert even == {
        "vol_20", "vol_60", "atr_14", "volume_ratio", "range_1h", "regime_range", "scaled_range", "funding_known",
        "premium_known", "day_sin", "day_cos", "week_sin", "week_cos",
    }  # fmt: skip


def test_turning_twice_changes_nothing_and_only_the_named_stretches_turn() -> None:
    random = np.random.default_rng(0)
    which = np.array([True, False, True])
    position = random.standard_normal((3, 4, 2, 8)).astype(np.float32)
    reward = random.standard_normal((3, 4, 2, 3)).astype(np.float32)
    before = position.copy(), reward.copy()
    turn_sides(position, which)
    turn_actions(reward, which, -1)
    np.testing.assert_array_equal(position[1], before[0][1])
    np.testing.assert_array_equal(position[0, ..., SIDE], -before[0][0, ..., SIDE])
    np.testing.assert_array_equal(reward[0], before[1][0][..., list(ACTION_ORDER)])
    turn_sides(position, which)
    turn_actions(reward, which, -1)
    np.testing.assert_array_equal(position, before[0])
    np.testing.assert_array_equal(reward, before[1])
