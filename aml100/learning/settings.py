"""What a training is told: the learner's settings under the names of `params.json`, and their ranges.

Free of torch, so that the process that orders a training can build and send them. Defaults are the plan's; the
sections they come from are named beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from aml100.domain.errors import ConfigError
from aml100.domain.units import decimal_from_float
from aml100.learning.reward import RewardConfig
from aml100.market.regime import RegimeThresholds

SEARCH_AFTER: Final = 3
"""Epochs without a checkpoint that beats not trading, after which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """One flat record of `model`, `training`, `replay` and the few keys of `reward` and `trading` that learning needs.

    An epoch is as many updates as cover the training bars once: ceil(bars / (batch_stretches x stretch_bars)), at most
    `updates_per_epoch_max`. Schedules (epsilon, learning rate, beta) and early stopping count epochs.

    `reward.discount` is replaced by `gamma`, and a `reward.reference_volatility` of 0 by the median of the training
    rows. `input_noise` is added to scaled features while learning, in standard deviations; `mirror` turns a random half
    of the stretches upside down; "auto" does so unless an unsigned feature tells up from down
    (`mirror.direction_teller`). What is validated and kept is the running average of the weights over about the last
    fifth of the steps, 1 / `average_update` of them at most. A checkpoint's score is its net return less
    `selection_sigmas` standard errors. Errors of Q up to `huber_delta`, in standard deviations of one bar, are squared:
    noise within it averages out, beyond it Q leans from the mean towards the median.
    Until a checkpoint scores more than not trading (0), the learning rate stays the schedule's first, from SEARCH_AFTER
    epochs on `search_rate` times that; the schedule begins where one does. 1 is the schedule from the first epoch on.
    `members` seeds from the given one on are trained into one model. `tensorboard` writes event files beside the
    checkpoint; no model depends on it.
    """

    # model
    lstm_layers: int = 2
    lstm_hidden: int = 128
    head_hidden: int = 64
    regime_trend_pct: float = 1.0
    regime_trend_sigmas: float = 1.0
    # training
    epochs: int = 500
    early_stop_patience: int = 150
    learning_rate: float = 8e-5
    search_rate: float = 1.0
    gradient_clip_norm: float = 1.0
    weight_decay: float = 1e-5
    huber_delta: float = 10.0
    cosine_t_0: int = 50
    cosine_t_mult: int = 2
    cosine_eta_min: float = 1e-6
    epsilon_start: float = 1.0
    epsilon_end: float = 0.03
    epsilon_decay: float = 0.985
    validation_fraction: float = 0.2
    embargo_bars: int = 0
    bias_threshold: float = 0.7
    bias_weight: float = 0.1
    gamma: float = 0.998
    n_step: int = 3
    target_update: float = 0.005
    batch_stretches: int = 32
    burn_in_bars: int = 32
    stretch_bars: int = 192
    threads: int = 1
    updates_per_epoch_max: int = 200
    acted_per_update: int = 4
    input_noise: float = 0.0
    mirror: bool | Literal["auto"] = False
    average_update: float = 1.0
    members: int = 1
    tensorboard: bool = False
    selection_sigmas: float = 2.0
    # replay
    capacity: int = 50_000
    alpha: float = 0.6
    beta: float = 0.4
    beta_end: float = 1.0
    # reward, trading
    reward: RewardConfig = field(default_factory=RewardConfig)
    min_q_gap: float = 0.0

    def __post_init__(self) -> None:
        counts = ("lstm_layers", "lstm_hidden", "head_hidden", "epochs", "batch_stretches", "stretch_bars", "threads")
        more = ("n_step", "capacity", "updates_per_epoch_max", "members", "huber_delta")
        for name in (*counts, *more, "learning_rate", "search_rate", "gradient_clip_norm", "average_update"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        shares = ("gamma", "validation_fraction", "bias_threshold", "alpha", "beta", "target_update", "average_update")
        for name in shares:
            self._check(name, 0.0 <= getattr(self, name) <= 1.0, "between 0 and 1")
        for name in ("embargo_bars", "burn_in_bars", "min_q_gap", "weight_decay", "bias_weight", "input_noise"):
            self._check(name, math.isfinite(getattr(self, name)) and getattr(self, name) >= 0, "0 or more")
        self._check("validation_fraction", 0.0 < self.validation_fraction < 1.0, "more than 0 and less than 1")
        self._check("gamma", self.gamma < 1.0, "less than 1")

    @property
    def regimes(self) -> RegimeThresholds:
        """Where a trend begins, as the features have it."""
        share = float(decimal_from_float(self.regime_trend_pct) / 100)
        return RegimeThresholds(share, share, self.regime_trend_sigmas)

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"training setting {name}: {getattr(self, name)!r} is not allowed, it must be {allowed}")

    def epsilon_at(self, epoch: int) -> float:
        """Share of random actions in the given epoch, counted from 0."""
        return max(self.epsilon_end, self.epsilon_start * self.epsilon_decay**epoch)

    def beta_at(self, epoch: int) -> float:
        """Exponent of the importance weights in the given epoch: linear from `beta` to `beta_end`."""
        share = min(1.0, epoch / max(1, self.epochs - 1))
        return self.beta + (self.beta_end - self.beta) * share

    def learning_rate_at(self, epoch: int, found: int | None = None) -> float:
        """Cosine annealing with warm restarts, by epoch; `found` is the epoch of the first score above 0, if any.

        >>> settings = TrainingSettings(learning_rate=1.0, cosine_eta_min=0.0)
        >>> [round(settings.learning_rate_at(epoch), 3) for epoch in (0, 25, 49, 50, 100, 150)]
        [1.0, 0.5, 0.001, 1.0, 0.5, 1.0]
        >>> settings = TrainingSettings(learning_rate=1.0, cosine_eta_min=0.0, search_rate=3.0)
        >>> asked = ((2, None), (3, None), (40, None), (40, 40), (65, 40))
        >>> [round(settings.learning_rate_at(epoch, found), 3) for epoch, found in asked]
        [1.0, 3.0, 3.0, 1.0, 0.5]
        """
        period, since = self.cosine_t_0, epoch
        if self.search_rate != 1.0:
            if found is None:
                return self.learning_rate * (self.search_rate if epoch >= SEARCH_AFTER else 1.0)
            since = epoch - found
        while since >= period:
            since -= period
            period *= self.cosine_t_mult
        swing = 0.5 * (1.0 + math.cos(math.pi * since / period))
        low = min(self.cosine_eta_min, self.learning_rate)
        return low + (self.learning_rate - low) * swing

    def updates_per_epoch(self, bars: int) -> int:
        """Updates that cover `bars` training bars once."""
        return max(1, min(self.updates_per_epoch_max, math.ceil(bars / (self.batch_stretches * self.stretch_bars))))
