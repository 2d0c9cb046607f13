"""Nothing of the future gets in (DESIGN section 6, D25, B5): an edge is gone where its cause is taken away.

The market's edge is strong, so that a few seconds of training find it; each test takes one thing away and looks at
what is earned on bars that no part of the training has seen. Everything is repeatable bit for bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from aml100.bench.learning_markets import PLANTED_RULES, signalled
from aml100.bench.learning_measure import RECIPE, Fresh
from aml100.domain.clock import ManualClock
from aml100.evaluation.kernel import Market
from aml100.learning.dataset import CoinData, Dataset
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.memory import weights_of
from aml100.learning.trainer import Training, deterministic, lay_out
from aml100.market.series import BarSeries

BARS = 24_000
SETTINGS = replace(
    RECIPE, lstm_hidden=16, head_hidden=16, epochs=8, updates_per_epoch_max=60, learning_rate=4e-3, average_update=0.02
)
SERIES = signalled(BARS, 1, 3.0)
FRESH = Fresh.of("signalled", 3.0, bars=20_000)
JOB = TrainingJob((CoinData(SERIES, PLANTED_RULES),), SETTINGS, seed=0)


@deterministic(1)
def run(dataset: Dataset, job: TrainingJob = JOB) -> TrainingResult:
    *_, last = Training(job, ManualClock(wall_s=0.0), lambda: False, dataset).run()
    assert isinstance(last, TrainingResult)
    return last


def with_features(dataset: Dataset, shift: int) -> Dataset:
    """Features come `shift` bars later than they were known; negative: earlier, out of the future."""
    (coin,) = dataset.coins
    return replace(dataset, coins=(replace(coin, scaled=np.roll(coin.scaled, shift, axis=0)),))


@pytest.fixture(scope="module")
def honest() -> TrainingResult:
    return run(lay_out(JOB))


def test_the_edge_is_found_where_it_is(honest: TrainingResult) -> None:
    assert honest.validation.score > 0.5


def test_shuffled_labels_lose_the_edge(honest: TrainingResult) -> None:
    """Features of one market beside the prices of another: whatever is found in training pays nothing afterwards."""
    dataset = lay_out(JOB)
    (coin,) = dataset.coins
    strange = signalled(BARS, 2, 3.0)
    prices = replace(coin, market=Market.from_series(strange), close=strange.close)
    shuffled = run(replace(dataset, coins=(prices,)))
    earned = {
        name: float(FRESH.walk(result.members, result.dataset.scaler, SETTINGS).net.sum()) / FRESH.reference
        for name, result in (("honest", honest), ("shuffled", shuffled))
    }
    assert earned["honest"] > 0.3
    assert earned["shuffled"] < 0.05


def test_late_features_do_not_gain_and_features_of_the_future_would_show(honest: TrainingResult) -> None:
    """One bar late costs a little; one bar early is worth so much that a leak of it could not hide."""
    dataset = lay_out(JOB)
    late, early = (run(with_features(dataset, shift)).validation.net_return for shift in (1, -1))
    assert late < 1.05 * honest.validation.net_return
    assert early > 1.3 * honest.validation.net_return


@deterministic(1)
def test_training_is_the_same_whatever_the_hold_out_holds() -> None:
    """B5: other prices from the moment of the split on, the same weights bit for bit; the rows read are hashed."""
    changed = SERIES.close.copy()
    split = int(BARS * (1.0 - SETTINGS.validation_fraction))
    changed[split:] *= np.exp(np.cumsum(np.random.default_rng(5).standard_normal(BARS - split) * 0.01))
    other = BarSeries(
        SERIES.coin, SERIES.interval_ms, SERIES.origin, SERIES.open_ms,
        np.concatenate([SERIES.open[:split], changed[split - 1 : -1]]),
        np.concatenate([SERIES.high[:split], changed[split:] * 1.2]),
        np.concatenate([SERIES.low[:split], changed[split:] * 0.8]),
        changed, SERIES.volume,
    )  # fmt: skip
    found = []
    short = replace(SETTINGS, epochs=1)
    for series in (SERIES, other):
        job = replace(JOB, data=(CoinData(series, PLANTED_RULES),), settings=short)
        training = Training(job, ManualClock(wall_s=0.0), lambda: False)
        read = hashlib.sha256()
        price, market = training.memory.sample, training.dataset.coins[0].market
        for _ in range(3):
            training.memory.act(training.learner.online, 4, 1.0, training.device)
        slots, batch = price(4, 0.5, training.device)
        for drawn in (batch.market.cpu().numpy(), batch.reward.cpu().numpy(), slots):
            read.update(drawn.tobytes())
        assert training.dataset.coins[0].train[-1][1] <= split - training.dataset.embargo_bars
        list(training.run())
        weights = b"".join(array.tobytes() for array in weights_of(training.learner.online).values())
        found.append((read.hexdigest(), hashlib.sha256(weights).hexdigest(), len(market)))
    assert found[0] == found[1]
