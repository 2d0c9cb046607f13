"""Which rows may be used for what: split, embargo, gaps, and a scaler that knows training rows only."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from aml100.domain.errors import UsageError
from aml100.learning.dataset import Dataset, build_dataset, fewest_bars, look_back_bars
from aml100.learning.jobs import TrainingJob
from aml100.learning.memory import StretchMemory
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import lay_out
from aml100.market.features import warmup_bars
from aml100.market.series import BarSeries
from tests.unit.learning.planted import START_MS, coin_data, mean_reverting, series_of, tiny_settings

MINUTE = 60_000
WARM = warmup_bars(MINUTE)


def build(*series: BarSeries, embargo: int = 50, shortest: int = 40) -> Dataset:
    return build_dataset(
        [coin_data(one) for one in series],
        validation_fraction=0.2,
        embargo_bars=embargo,
        warm_bars=30,
        shortest=shortest,
    )


def test_training_ends_an_embargo_before_validation_begins() -> None:
    coin = build(mean_reverting(2000, 1), embargo=100).coins[0]
    (train,), (validate,) = coin.train, coin.validate
    assert validate == (1600, 2000)
    assert train[1] == 1500
    assert coin.warm_from == (1570,)  # inside the embargo
    assert train[0] <= WARM


def test_default_embargo_is_the_longest_look_back_and_the_reach_of_targets() -> None:
    assert look_back_bars(MINUTE, 3) == WARM + 3


def test_nothing_straddles_a_gap() -> None:
    series = series_of(mean_reverting(2400, 1).close, gap_at=1000)
    coin = build(series).coins[0]
    assert [stop for _, stop in coin.train] == [1000, coin.train[1][1]]
    assert coin.train[1][0] >= 1000 + 60  # the second stretch warms up by itself
    settings = tiny_settings()
    memory = StretchMemory(build(series), settings, np.random.default_rng(0))
    assert all(start + memory.span <= 1000 or start >= 1000 for _, a, b in memory._ranges for start in range(a, b))


def hash_of_training(dataset: Dataset) -> str:
    digest = hashlib.sha256(dataset.scaler.mean.tobytes() + dataset.scaler.inverse_sd.tobytes())
    digest.update(np.float64([dataset.reward_unit, dataset.usual_volatility]).tobytes())
    for coin in dataset.coins:
        for start, stop in coin.train:
            digest.update(coin.scaled[start:stop].tobytes() + coin.market.bars[start:stop].tobytes())
    return digest.hexdigest()


def test_training_never_reads_a_row_of_the_embargo_or_of_validation() -> None:
    """B5: the hold-out may hold anything at all without changing what training reads."""
    series = mean_reverting(2000, 1)
    changed = series.close.copy()
    changed[1551:] *= np.exp(np.cumsum(np.random.default_rng(5).standard_normal(449) * 0.02))
    other = series_of(changed)
    assert hash_of_training(build(series)) == hash_of_training(build(other))
    changed[1000] *= 1.01
    assert hash_of_training(build(series)) != hash_of_training(build(series_of(changed)))


def test_pooled_coins_split_at_one_moment() -> None:
    long = mean_reverting(3000, 1)
    late = replace(mean_reverting(1500, 2), open_ms=long.open_ms[1500:])
    first, second = build(long, late).coins
    at = [coin.market.open_ms[coin.validate[0][0]] for coin in (first, second)]
    assert at[0] == at[1]
    assert (
        max(coin.market.open_ms[stop - 1] for coin in (first, second) for _, stop in coin.train) < at[0] - 50 * MINUTE
    )


def test_fingerprint_follows_bars_and_rules() -> None:
    series = mean_reverting(1200, 1)
    volume = series.volume.copy()
    volume[3] += 1.0
    prints = {build(series).fingerprint, build(replace(series, volume=volume)).fingerprint}
    prints.add(build(mean_reverting(1201, 1)).fingerprint)
    assert len(prints) == 3
    assert build(series).fingerprint in prints


def test_too_few_bars_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="too few to train on"):
        build(mean_reverting(260, 1))
    with pytest.raises(UsageError, match="nothing to train on"):
        build_dataset([], validation_fraction=0.2, embargo_bars=1, warm_bars=1, shortest=1)


@pytest.mark.parametrize("interval_ms", [MINUTE, 15 * MINUTE])
@pytest.mark.parametrize("settings", [TrainingSettings(), tiny_settings(), TrainingSettings(embargo_bars=900)])
def test_the_fewest_bars_of_a_training_are_enough_and_not_many_more_than_needed(
    interval_ms: int, settings: TrainingSettings
) -> None:
    """From whatever hour on they begin."""
    fewest = fewest_bars(interval_ms, settings)
    made = mean_reverting(fewest + 60, 1)
    spread_ms = START_MS + np.arange(len(made), dtype=np.int64) * interval_ms
    series = replace(made, open_ms=spread_ms, interval_ms=interval_ms)
    for first in (0, 1, 59):
        laid = lay_out(TrainingJob((coin_data(series.rows(first, first + fewest)),), settings, seed=1))
        assert laid.train_bars > 0
    with pytest.raises(UsageError, match="too few to train on"):
        lay_out(TrainingJob((coin_data(series.rows(1, 1 + fewest - 90)),), settings, seed=1))
