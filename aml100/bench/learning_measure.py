"""How well a training learns a planted edge: what its policy earns on bars that no part of it has seen.

A market's yardstick is the best policy that sees only what a learner can see (learning_reference.py), walked over the
same fresh bars by the same compiled rules. Time is CPU seconds of this process without compiling, so that a machine
which others use measures the same; where members train side by side, seconds are CPU seconds over the cores in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from aml100.bench.learning_markets import MARKETS, PLANTED_RULES, Generator, random_walk
from aml100.bench.learning_reference import BELIEFS, luck_of, walk_reference
from aml100.config.loading import QUICK
from aml100.config.models import Params
from aml100.evaluation.kernel import Market
from aml100.learning.acting import Walk, greedy_walk
from aml100.learning.dataset import CoinData, Scaler
from aml100.learning.inference import CompiledWeights, Floats32
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.memory import weights_of
from aml100.learning.network import QNetwork
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import Training, deterministic, lay_out, train
from aml100.learning.validation import encode_chunked, load_weights
from aml100.market.features import FEATURE_COUNT, FeatureFrame, compute_features
from aml100.market.series import Floats
from aml100.wiring.backtests import training_settings

TRAINING_BARS: Final = 2_000_000
FRESH_BARS: Final = 400_000
FRESH_SEED: Final = 1_000_000

RECIPE: Final = replace(
    training_settings(Params.model_validate(QUICK)),
    epochs=100_000,
    early_stop_patience=100_000,
    updates_per_epoch_max=300,
    acted_per_update=2,
)
"""What learns the planted markets: `config init --quick`, trained until its budget is spent."""

LONG_RECIPE: Final = replace(RECIPE, validation_fraction=0.1)
"""The same for TRAINING_BARS, a tenth of which is plenty to validate on."""


class CpuClock:
    """CPU seconds of this process over `cores`, as a clock for a training's budget."""

    def __init__(self, cores: int = 1) -> None:
        self._cores = cores

    def now_ms(self) -> int:
        """Not asked by a training."""
        return 0

    def monotonic_s(self) -> float:
        """Never runs backwards."""
        return time.process_time() / self._cores


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """Bars that no training has seen, their features, and what the best policy earns on them (NaN: nothing to earn).

    What is earned is counted without the `luck` of each bar (see `learning_reference.luck_of`), all zeros where no
    belief is known, and on one notional at every bar: a position that is held while the price grows tenfold, as it may
    where trends are strong, is not ten times as good.
    """

    market: Market
    frame: FeatureFrame
    first: int
    reference: float
    reference_trades: int
    reference_net: Floats
    luck: Floats

    @staticmethod
    def of(name: str, strength: float = 1.0, bars: int = FRESH_BARS, seed: int = FRESH_SEED) -> Fresh:
        """A planted market by name, or `random-walk`."""
        series = generator_of(name)(bars, seed, strength)
        frame = compute_features(series)
        first = int(np.flatnonzero(frame.valid)[0])
        total, trades, net, luck = float("nan"), 0, np.zeros(0), np.zeros(len(series) - first)
        if name in BELIEFS:
            belief = BELIEFS[name](series, strength)
            best, luck = walk_reference(series, belief, first), luck_of(series, belief, first)
            trades, net = best.trades, _paid(best.held, series.close[first:], luck)
            total = float(net.sum())
        return Fresh(Market.from_series(series), frame, first, total, trades, net, luck)

    def reference_of_first(self, bars: int) -> float:
        """What the best policy earns on the first bars."""
        return float(self.reference_net[:bars].sum())

    def known_returns(self) -> Floats:
        """Of each row and the bar before it, the log return without luck, [rows]; what others are paid by."""
        close = self.market.bars["close"][self.first - 1 :]
        return np.append(np.log(close[1] / close[0]), np.log1p(close[2:] / close[1:-1] - 1.0 - self.luck[:-1]))

    def earned(self, walk: Walk) -> float:
        """A walk's net return on these bars without luck."""
        held = np.append(walk.sides[1:], 0)
        return float(_paid(held, self.market.bars["close"][self.first :], self.luck).sum())

    def walk(self, members: Sequence[Mapping[str, Floats32]], scaler: Scaler, settings: TrainingSettings) -> Walk:
        """The greedy policy of the members' mean Q values on these bars."""
        network = QNetwork(FEATURE_COUNT, settings.lstm_hidden, settings.lstm_layers, settings.head_hidden, seed=0)
        scaled, shares = scaler.apply(self.frame.values[self.first :]), []
        for weights in members:
            load_weights(network, weights)
            shares.append(encode_chunked(network, scaled, torch.device("cpu")))
        heads = [CompiledWeights.from_arrays(weights) for weights in members]
        rules = PLANTED_RULES.as_record()
        return greedy_walk(self.market, rules, self.first, np.stack(shares), heads, settings.min_q_gap)


def _paid(held: npt.NDArray[np.int8], close: Floats, luck: Floats) -> Floats:
    """Of each decision row [n]: what the side then held earns over the next bar less `luck`, and the fee of turning."""
    moves = np.append(close[1:] / close[:-1] - 1.0, 0.0)
    turned = np.abs(np.diff(held, prepend=np.int8(0)))
    return np.asarray(held * (moves - luck) - PLANTED_RULES.taker_fee * turned)


def generator_of(name: str) -> Generator:
    """The market's generator: (bars, seed, strength)."""
    return MARKETS.get(name, random_walk)


def warm_up(settings: TrainingSettings) -> None:
    """A few updates on a short walk: compiled code is built, or loaded from its cache, before a clock is looked at."""
    short = replace(settings, epochs=2, updates_per_epoch_max=2, members=1)
    for _ in train(TrainingJob((CoinData(random_walk(8_000, 1), PLANTED_RULES),), short, seed=0), CpuClock()):
        pass


@dataclass(frozen=True, slots=True)
class Mark:
    """A training after `seconds`: the share of the best policy's profit on fresh bars of the checkpoint that validation
    chose and of the latest weights, and how often the chosen one traded."""

    seconds: float
    chosen: float
    latest: float
    trades: int
    net: float


def follow(
    name: str,
    seed: int,
    marks: Sequence[float],
    *,
    strength: float = 1.0,
    bars: int = TRAINING_BARS,
    settings: TrainingSettings = LONG_RECIPE,
    fresh: Fresh | None = None,
) -> list[Mark]:
    """Train one network on a market of this seed and look at it after each of `marks` CPU seconds."""
    warm_up(settings)
    fresh = fresh or Fresh.of(name, strength)
    data = (CoinData(generator_of(name)(bars, seed + 1, strength), PLANTED_RULES),)
    job = TrainingJob(data, settings, seed=seed, budget_s=marks[-1])
    dataset = lay_out(job)
    clock = PausableClock()
    training = Training(job, clock, lambda: False, dataset, device=torch.device("cpu"))
    found: list[Mark] = []
    with deterministic(1):
        for event in training.run():
            seconds = clock.monotonic_s() - training.began_s
            while len(found) < len(marks) and (seconds >= marks[len(found)] or isinstance(event, TrainingResult)):
                with clock.paused():
                    chosen = fresh.walk([training.kept.weights], dataset.scaler, settings)
                    latest = fresh.walk([weights_of(training.learner.average)], dataset.scaler, settings)
                found.append(_mark(seconds, chosen, latest, fresh))
    return found


def ensemble(
    name: str,
    seed: int,
    budget_s: float,
    *,
    strength: float = 1.0,
    bars: int = TRAINING_BARS,
    settings: TrainingSettings = LONG_RECIPE,
    members: int = 4,
    cores: int = 2,
    fresh: Fresh | None = None,
) -> tuple[Mark, TrainingResult]:
    """Train `members` seeds on `cores` threads within `budget_s` seconds and look at their mean."""
    warm_up(settings)
    fresh = fresh or Fresh.of(name, strength)
    data = (CoinData(generator_of(name)(bars, seed + 1, strength), PLANTED_RULES),)
    several = replace(settings, members=members, threads=cores)
    job = TrainingJob(data, several, seed=100 * seed, budget_s=budget_s)
    clock = CpuClock(cores)
    began = clock.monotonic_s()
    *_, last = train(job, clock)
    assert isinstance(last, TrainingResult)
    seconds = clock.monotonic_s() - began
    walk = fresh.walk(last.members, last.dataset.scaler, settings)
    return _mark(seconds, walk, walk, fresh), last


def _mark(seconds: float, chosen: Walk, latest: Walk, fresh: Fresh) -> Mark:
    whole = fresh.reference
    return Mark(
        seconds=seconds,
        chosen=fresh.earned(chosen) / whole,
        latest=fresh.earned(latest) / whole,
        trades=len(chosen.trade_nets),
        net=fresh.earned(chosen),
    )


class PausableClock:
    """Seconds of `read` that stand still while one looks."""

    def __init__(self, read: Callable[[], float] = time.process_time) -> None:
        self._read = read
        self._lost_s = 0.0

    def now_ms(self) -> int:
        """Not asked by a training."""
        return 0

    def monotonic_s(self) -> float:
        """Never runs backwards."""
        return self._read() - self._lost_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block whose seconds do not count."""
        began_s = self._read()
        yield
        self._lost_s += self._read() - began_s
