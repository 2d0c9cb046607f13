"""Learning is shown, not asserted: a planted edge is found and pays on fresh data; where there is none, none is seen.

Everything here is repeatable bit for bit (seed, one thread), so the thresholds are margins, not luck.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from aml100.domain.clock import SystemClock
from aml100.evaluation.kernel import Market
from aml100.learning.acting import Walk, greedy_walk
from aml100.learning.inference import CompiledWeights
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.network import QNetwork
from aml100.learning.reward import RewardConfig, Shaping
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import train
from aml100.learning.validation import encode_chunked
from aml100.market.features import compute_features
from aml100.market.series import BarSeries
from tests.unit.learning.planted import FREE_HANDED, coin_data, mean_reverting, random_walk

SETTINGS = TrainingSettings(
    lstm_layers=1,
    lstm_hidden=32,
    head_hidden=32,
    epochs=34,
    learning_rate=2e-3,
    cosine_t_0=1000,
    target_update=0.01,
    n_step=6,
    alpha=0.0,
    input_noise=0.2,
    reward=RewardConfig(shaping=Shaping.PURE),
)
BARS = 100_000
FRESH_BARS = 20_000


def learn(series: BarSeries, epochs: int) -> TrainingResult:
    job = TrainingJob((coin_data(series),), replace(SETTINGS, epochs=epochs), seed=0)
    last = list(train(job, SystemClock()))[-1]
    assert isinstance(last, TrainingResult)
    return last


def walk_fresh(result: TrainingResult, series: BarSeries) -> Walk:
    """The chosen weights on bars that no part of the training has seen."""
    network = QNetwork(36, SETTINGS.lstm_hidden, SETTINGS.lstm_layers, SETTINGS.head_hidden, seed=0)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in result.weights.items()})
    frame = compute_features(series)
    first = int(np.flatnonzero(frame.valid)[0])
    share = encode_chunked(network, result.dataset.scaler.apply(frame.values[first:]), torch.device("cpu"))
    market, rules = Market.from_series(series), FREE_HANDED.as_record()
    return greedy_walk(market, rules, first, share, CompiledWeights.from_arrays(result.weights), 0.0)


def test_a_planted_edge_is_learned_and_pays_on_fresh_data() -> None:
    result = learn(mean_reverting(BARS, 1), SETTINGS.epochs)
    walk = walk_fresh(result, mean_reverting(FRESH_BARS, 1000))
    noise = walk.net.std() * np.sqrt(len(walk.net))
    assert walk.net.sum() > 0.2  # the best rule tuned in hindsight on such bars earns about 0.6
    assert walk.net.sum() > 2.0 * noise
    assert all(finding.healthy for finding in result.health), result.health


def test_on_a_random_walk_it_learns_to_leave_the_market_alone() -> None:
    result = learn(random_walk(BARS // 2, 3), 20)
    walk = walk_fresh(result, random_walk(FRESH_BARS, 1003))
    assert len(walk.trade_nets) <= 20
    assert walk.net.sum() > -0.05
