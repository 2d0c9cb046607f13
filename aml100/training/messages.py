"""What a trainer and its parent say to each other: one JSON object a line, tagged by `type`. Free of torch.

The parent writes one `TrainingSpec` and keeps the pipe open; the child answers with any number of `Progress` and then
exactly one of `Done`, `Stopped` or `Failed`. The pipe's end tells the child that nobody is listening any more.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from aml100.evaluation.kernel import KernelRules
from aml100.learning.checkpoint_files import CHECKPOINT_S
from aml100.learning.scores import HealthFinding, Validation
from aml100.learning.settings import TrainingSettings


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One coin's bars: a file that `storage.importing.read_bars` accepts, and the rules of its positions.

    `funding` is a file of funding rates or None; `constant_funding_rate` is charged at each full hour without one of
    its. Bars that open at `until_ms` or later are not trained on.
    """

    path: str
    rules: KernelRules
    coin: str | None = None
    funding: str | None = None
    constant_funding_rate: float = 0.0
    until_ms: int | None = None


class HoldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stretch on which a finished model is judged: bars of the sources that open at `from_ms` or later.

    Between the last bar trained on and `from_ms` lies a purge. The `champion`, a model's folder, is walked over the
    bars from `champion_from_ms` on, which it was not trained on either.
    """

    from_ms: int
    champion: str | None = None
    champion_from_ms: int = 0


class TrainingSpec(msgspec.Struct, frozen=True, tag="train", forbid_unknown_fields=True):
    """What the child is to do. `models` is the folder that holds model versions, `folder` its own for checkpoints.

    The trial is written down in the registry beside `models`, as `source`'s.
    """

    data: tuple[DataSource, ...]
    settings: TrainingSettings
    seed: int
    models: str
    folder: str
    budget_s: float | None = None
    resume: bool = False
    git_revision: str | None = None
    source: str = "engine"
    hold_out: HoldOut | None = None
    checkpoint_s: float = CHECKPOINT_S


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Where it stands. `validation` is the last whole epoch's net return on one unit of notional, `score` that
    of `best_epoch`, whose checkpoint is kept, less its noise; times in wall seconds.

    `actions` are the shares of HOLD, BUY and SELL in that validation, `reward` what the learner's reward summed up to
    on it and `reward_correlation` how it moves with the money (None: nothing moved); `largest_q` and `gradient_norm`
    are the last update's. `member` counts the seeds of an ensemble from 0.
    """

    epoch: int
    epochs: int
    updates: int
    transitions: int
    loss: float | None
    validation: float | None
    best_epoch: int
    score: float
    learning_rate: float
    epsilon: float
    seed: int
    elapsed_s: float
    eta_s: float | None
    actions: tuple[float, float, float] | None = None
    reward: float | None = None
    reward_correlation: float | None = None
    largest_q: float | None = None
    gradient_norm: float | None = None
    device: str = "cpu"
    member: int = 0
    members: int = 1


class HoldOutResult(msgspec.Struct, frozen=True):
    """What a model earned on its hold-out, net of costs, on one unit of notional a coin, summed over coins.

    `common_*` are of the bars that the champion has not been trained on either; None where there is no champion.
    `seeds` are the nets of each seed of the model by itself; empty where it has one.
    """

    from_ms: int
    to_ms: int
    bars: int
    trades: int
    net: float
    stderr: float
    daily_returns: tuple[float, ...]
    common_bars: int = 0
    common_net: float | None = None
    champion: str | None = None
    champion_net: float | None = None
    seeds: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """What the middle one of its seeds earned by itself, of two the lesser; of a single one the net."""
        return sorted(self.seeds)[(len(self.seeds) - 1) // 2] if self.seeds else self.net

    @property
    def seeds_words(self) -> str:
        """For people; empty where there is but one seed."""
        if not self.seeds:
            return ""
        return f"the median of its {len(self.seeds)} seeds {self.median:+.2%}, the worst {min(self.seeds):+.2%}"

    @property
    def score(self) -> float:
        """The net less its own noise; never trading scores 0."""
        return self.net - self.stderr


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A model version lies at `path`; `healthy` when every named check of `health` passed."""

    id: str
    path: str
    ended: Literal["finished", "early", "budget"]
    seed: int
    best_epoch: int
    epochs: int
    updates: int
    transitions: int
    seconds: float
    device: str
    validation: Validation
    health: tuple[HealthFinding, ...]
    healthy: bool
    hold_out: HoldOutResult | None = None


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """It was told to stop; `checkpoint` is the folder from which `resume` goes on after `epoch` epochs."""

    checkpoint: str
    epoch: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not go on; `reason` is one line for the operator.

    `kind`: what it was given was `refused`; its `checkpoint` does not serve, the start would; it `died` (killed, out of
    memory) of something that need not happen again.
    """

    reason: str
    kind: Literal["refused", "checkpoint", "died"] = "refused"


Message: TypeAlias = Progress | Done | Stopped | Failed
Final: TypeAlias = Done | Stopped | Failed

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_spec_decoder = msgspec.json.Decoder(TrainingSpec)


def encode_line(message: Message | TrainingSpec) -> bytes:
    """One line with its end."""
    return msgspec.json.encode(message) + b"\n"


def decode_message(line: bytes) -> Message:
    """A line of the child; raises msgspec.MsgspecError where it is none."""
    return _decoder.decode(line)


def decode_spec(line: bytes) -> TrainingSpec:
    """The parent's line; raises msgspec.MsgspecError naming the field where it is none."""
    return _spec_decoder.decode(line)
