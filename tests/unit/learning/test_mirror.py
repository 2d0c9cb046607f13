"""The market upside down: a mirrored stretch is what the features of the reciprocal prices are, and pays the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.bench.learning_markets import MARKETS, PLANTED_RULES, random_walk, signalled
from aml100.learning.dataset import CoinData, Scaler
from aml100.learning.jobs import TrainingJob
from aml100.learning.memory import StretchMemory
from aml100.learning.mirror import (
    SIGNED,
    SWAPPED,
    UNSIGNED,
    Mirror,
    Teller,
    direction_teller,
)
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import lay_out
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
    assert set(UNSIGNED) == {
        "vol_20", "vol_60", "atr_14", "volume_ratio", "range_1h", "regime_range", "scaled_range", "funding_known",
        "premium_known", "day_sin", "day_cos", "week_sin", "week_cos",
    }  # fmt: skip


def test_turning_twice_changes_nothing_and_only_the_named_stretches_turn() -> None:
    random = np.random.default_rng(0)
    mirror = Mirror(Scaler.fit([1.0 + random.standard_normal((200, len(FEATURES)))]))
    market = random.standard_normal((3, 4, len(FEATURES))).astype(np.float32)
    before, which = market.copy(), np.array([True, False, True])
    mirror.turn(market, which)
    np.testing.assert_array_equal(market[1], before[1])
    turned = (np.abs(market - before) > 0.01)[[0, 2]].any(axis=(0, 1))
    assert {name for name, is_turned in zip(FEATURES, turned, strict=True) if not is_turned} == set(UNSIGNED)
    mirror.turn(market, which)
    np.testing.assert_allclose(market, before, rtol=1e-4, atol=1e-4)


def teller_of(*series: BarSeries) -> Teller | None:
    data = tuple(CoinData(one, PLANTED_RULES) for one in series)
    return direction_teller(lay_out(TrainingJob(data, TrainingSettings(), seed=0)))


def test_a_volume_that_announces_the_next_return_is_named() -> None:
    found = teller_of(signalled(60_000, 1))
    assert found is not None
    assert (found.feature, found.sigmas > 10.0) == ("volume_ratio", True)
    assert str(found).startswith("volume_ratio over ")


@pytest.mark.parametrize("name", ["mean-reverting", "trending"])
def test_an_edge_that_signed_features_show_leaves_the_mirror_on(name: str) -> None:
    assert teller_of(MARKETS[name](60_000, 1, 1.0)) is None


def test_coins_that_move_as_one_and_drift_are_no_proof() -> None:
    """Eight copies of one walk are as sure as one, and a rise all along is not told by anything."""
    walk = random_walk(60_000, 2)
    risen = np.exp(np.arange(len(walk)) * 2e-4)
    up = replace(
        walk, open=walk.open * risen, high=walk.high * risen * 1.001, low=walk.low * risen, close=walk.close * risen
    )
    assert teller_of(*([up] * 8)) is None


def test_auto_mirrors_unless_somebody_tells_and_true_and_false_are_obeyed() -> None:
    blind, told = (
        lay_out(TrainingJob((CoinData(series, PLANTED_RULES),), TrainingSettings(), seed=0))
        for series in (random_walk(30_000, 1), signalled(30_000, 1))
    )
    mirrored = {
        (name, mirror): StretchMemory(dataset, TrainingSettings(mirror=mirror), np.random.default_rng(0)).mirrored
        for name, dataset in (("blind", blind), ("told", told))
        for mirror in (True, False, "auto")
    }
    assert mirrored == {
        ("blind", True): True, ("blind", False): False, ("blind", "auto"): True,
        ("told", True): True, ("told", False): False, ("told", "auto"): False,
    }  # fmt: skip
