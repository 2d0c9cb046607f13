"""What is trained, how far it has come, and what came of it: the words between a training and whoever ordered it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aml100.learning.bundle import FORMAT, BundleRecord, digest_settings, model_id, save_bundle
from aml100.learning.checkpoint_files import CHECKPOINT_S
from aml100.learning.dataset import CoinData, Dataset, feature_names
from aml100.learning.mirror import Teller
from aml100.learning.scores import HealthFinding, Validation
from aml100.learning.settings import TrainingSettings
from aml100.learning.trials import TrialRegistry
from aml100.market.position import POSITION_FEATURES

Weights = dict[str, npt.NDArray[np.float32]]
Ended = Literal["finished", "early", "budget", "stopped"]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingJob:
    """What to train on and how.

    Attributes:
        data: coins pooled into one model.
        folder: where checkpoints go, and `models/` arise with `save`; None keeps nothing on disk.
        budget_s: wall seconds after which training ends with what it has, those before a resumption included; None:
            no limit.
        resume: go on from the checkpoint in `folder`.
        checkpoint_s: wall seconds between two checkpoints, what a kill costs at most.
        registry: where the trial is written down before it begins (`learning.trials`); None keeps none.
        source: who tries, for the registry.
    """

    data: tuple[CoinData, ...]
    settings: TrainingSettings
    seed: int
    folder: Path | None = None
    budget_s: float | None = None
    resume: bool = False
    git_revision: str | None = None
    registry: TrialRegistry | None = None
    source: str = "train"
    checkpoint_s: float = CHECKPOINT_S


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training stands. `loss` is the mean of the epoch so far; `validation` of the last whole epoch.

    `largest_q` and `gradient_norm` are of the last update; `member` counts from 0 where an ensemble is trained.
    """

    epoch: int
    epochs: int
    updates: int
    transitions: int
    loss: float | None
    validation: Validation | None
    best_epoch: int
    best_score: float
    learning_rate: float
    epsilon: float
    elapsed_s: float
    eta_s: float | None
    largest_q: float | None = None
    gradient_norm: float | None = None
    device: str = "cpu"
    member: int = 0
    members: int = 1

    def scalars(self) -> dict[str, float | None]:
        """What is drawn over epochs."""
        figures: dict[str, float | None] = {
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "epsilon": self.epsilon,
            "largest_q": self.largest_q,
            "gradient_norm": self.gradient_norm,
            "best_score": self.best_score,
        }
        seen = self.validation
        if seen is not None:
            names = ("score", "net_return", "trades", "reward", "reward_correlation", "entropy", "q_spread")
            shares = ("hold_share", "buy_share", "sell_share", "flips_per_hour")
            figures |= {f"validation/{name}": getattr(seen, name) for name in (*names, *shares)}
        return figures


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """How it ended: `finished` all epochs, `early` patience ran out, `budget` the wall budget, `stopped` on request.

    `members` are the weights of the checkpoint that was kept, of `best_epoch`; of an ensemble one a member, and figures
    are of all of them together; after `stopped` a checkpoint to resume from lies in the job's folder, and
    `health` is not known.
    """

    ended: Ended
    members: tuple[Weights, ...]
    dataset: Dataset
    validation: Validation
    health: tuple[HealthFinding, ...]
    best_epoch: int
    epochs: int
    updates: int
    transitions: int
    seconds: float
    curve: tuple[float, ...]
    device: str
    teller: Teller | None = None
    """Why nothing was mirrored though `mirror` is "auto"."""

    @property
    def weights(self) -> Weights:
        """The first member's."""
        return self.members[0]

    def save(self, job: TrainingJob, models: Path) -> Path:
        """Write the model version under `models`; returns its folder, whose name is the id."""
        digest = digest_settings(job.settings)
        record = BundleRecord(
            id=model_id(self.members, self.dataset.fingerprint, self.dataset.schema, digest),
            format=FORMAT,
            features=feature_names(),
            position_features=POSITION_FEATURES,
            schema=self.dataset.schema,
            interval_ms=self.dataset.interval_ms,
            coins=tuple(str(coin.series.coin) for coin in job.data),
            scaler_mean=tuple(self.dataset.scaler.mean.tolist()),
            scaler_inverse_sd=tuple(self.dataset.scaler.inverse_sd.tolist()),
            reward_unit=self.dataset.reward_unit,
            members=len(self.members),
            settings=job.settings,
            data_sha256=self.dataset.fingerprint,
            data_origin=", ".join(sorted({coin.series.origin for coin in job.data})),
            seed=job.seed,
            git_revision=job.git_revision,
            best_epoch=self.best_epoch,
            epochs=self.epochs,
            updates=self.updates,
            transitions=self.transitions,
            device=self.device,
            validation_curve=self.curve,
            validation=self.validation,
            health=self.health,
            data_from_ms=min(int(coin.series.open_ms[0]) for coin in job.data),
            data_to_ms=max(int(coin.series.open_ms[-1]) for coin in job.data) + self.dataset.interval_ms,
            not_mirrored_for="" if self.teller is None else str(self.teller),
            files={},
            settings_digest=digest,
        )
        return save_bundle(models, record, self.members)
