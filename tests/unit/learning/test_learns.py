"""Learning is shown, not asserted: a planted edge is found and pays on fresh data; where there is none, none is seen.

Everything here is repeatable bit for bit (seed, one thread), so the thresholds are margins, not luck. The yardstick is
the best policy that sees only prices (aml100/bench/learning_reference.py); docs/learning.md has the long tables.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.bench.learning_markets import PLANTED_RULES, mean_reverting, random_walk, signalled, trending
from aml100.bench.learning_measure import RECIPE, Fresh
from aml100.domain.clock import ManualClock
from aml100.learning.dataset import CoinData
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from aml100.market.series import BarSeries

SETTINGS = replace(RECIPE, epochs=10, updates_per_epoch_max=60, average_update=0.01, learning_rate=2e-3, cosine_t_0=10)
BARS = 100_000


def learn(series: BarSeries, seed: int = 0) -> TrainingResult:
    *_, last = train(TrainingJob((CoinData(series, PLANTED_RULES),), SETTINGS, seed), ManualClock(wall_s=0.0))
    assert isinstance(last, TrainingResult)
    return last


def test_a_planted_edge_is_learned_and_pays_on_fresh_data() -> None:
    fresh = Fresh.of("mean-reverting", 2.0, bars=40_000)
    result = learn(mean_reverting(BARS, 1, 2.0))
    walk = fresh.walk(result.members, result.dataset.scaler, SETTINGS)
    assert float(walk.net.sum()) > 0.7 * fresh.reference
    assert all(finding.healthy for finding in result.health), result.health


def test_an_edge_that_only_the_volume_shows_is_learned_as_well() -> None:
    """Mirrored bars would hide it: the recipe leaves them off where an unsigned feature tells up from down."""
    fresh = Fresh.of("signalled", 2.0, bars=40_000)
    result = learn(signalled(BARS, 1, 2.0))
    walk = fresh.walk(result.members, result.dataset.scaler, SETTINGS)
    assert result.teller is not None
    assert fresh.earned(walk) > 0.7 * fresh.reference


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_trend_is_followed_and_left_again_however_long_it_lasts(seed: int) -> None:
    """No position is a trap: where it is larger or older than any before, the policy still sees the trend turn."""
    fresh = Fresh.of("trending", 1.0, bars=100_000)
    result = learn(trending(BARS, seed + 1, 1.0), seed)
    walk = fresh.walk(result.members, result.dataset.scaler, SETTINGS)
    assert fresh.earned(walk) > 0.9 * fresh.reference
    assert all(finding.healthy for finding in result.health), result.health
    assert "a young one on" in next(finding.detail for finding in result.health if finding.name == "never_leaves")
    turns = np.flatnonzero(np.diff(walk.sides))
    assert np.diff(turns).max() < 5_000  # a trend lasts 240 bars on average


def test_on_a_random_walk_it_learns_to_leave_the_market_alone() -> None:
    """No edge is called one: nothing is chosen before doing nothing, and the model is refused by name."""
    fresh = Fresh.of("random-walk", bars=20_000)
    result = learn(random_walk(BARS // 2, 3))
    walk = fresh.walk(result.members, result.dataset.scaler, SETTINGS)
    assert len(walk.trade_nets) <= 20
    assert walk.net.sum() > -0.05
    assert "no_edge" in [finding.name for finding in result.health if not finding.healthy]
