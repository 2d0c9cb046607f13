"""What the engine keeps besides the core's records: runs, cycles, phases, model versions, trainings, trials.

Each goes through the same journal as the records of the core and comes back from the queries as the same value.
`metrics`, `options` and `parameters` are JSON text of whoever wrote them; storage never looks inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from aml100.domain.units import Coin


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the engine; the fields with defaults are known when it stops."""

    run_id: str
    started_ms: int
    venue: str
    execution: str
    coins: tuple[Coin, ...]
    origin: str
    policy: str
    seed: int | None
    pid: int
    options: str = "{}"
    stopped_ms: int | None = None
    reason: str = ""
    exit_code: int | None = None
    equity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Cycle:
    """One evaluation window [from_ms, to_ms). `counted`: its PASS (or PROVISIONAL) moved the phase.

    Kept once a book and number; recording it again replaces it.
    """

    number: int
    phase: str
    from_ms: int
    to_ms: int
    source: str
    verdict: str
    counted: bool
    metrics: str = "{}"
    model: str = ""
    network: str = ""
    state: str = ""
    """JSON: where the phase accounting stands after this cycle; a restart goes on from the latest."""


@dataclass(frozen=True, slots=True)
class PhaseStep:
    """The phase moved. `network` says on whose data it was earned (sim unlocks nothing)."""

    time_ms: int
    from_phase: str
    to_phase: str
    reason: str
    provisional: bool
    network: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """`state` is trained, champion, challenger, refused, rolled_back or retired; recording it again replaces it.

    `created_ms` stays what it was at first.
    """

    id: str
    created_ms: int
    updated_ms: int
    state: str
    path: str
    parent: str | None = None
    seed: int | None = None
    metrics: str = "{}"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Training:
    """`state` is running, interrupted, done, failed or cancelled.

    `cause` is bootstrap, schedule, status, bias, drift, operator or reset; `market_ms` the market's time at its start.
    """

    id: str
    started_ms: int
    state: str
    cause: str
    seed: int | None = None
    epoch: int = 0
    epochs: int = 0
    ended_ms: int | None = None
    model: str | None = None
    validation: float | None = None
    reason: str = ""
    market_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """A step in a model's life: trained, shadow, promoted, refused, rolled_back, retired. `detail` is its record.

    `in_sample`, `out_of_sample`: it began, and ended, to trade on bars that it was made from.
    """

    time_ms: int
    model: str
    event: str
    reason: str
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class ShadowSaved:
    """The walk of a model that decides without orders, as of the bars journalled with it; None: there is none."""

    role: str
    model: str
    state: bytes | None


@dataclass(frozen=True, slots=True)
class StatusCheck:
    """An operational check: `status` with the figures, health findings and retraining triggers behind it, as JSON."""

    time_ms: int
    status: str
    reason: str
    figures: str = "{}"
    health: str = "[]"
    triggers: str = "[]"


@dataclass(frozen=True, slots=True)
class ParameterVersion:
    """Tuned parameters. `state` is proposed, active, rolled_back or retired; `changes` is JSON {key: value}."""

    id: str
    created_ms: int
    updated_ms: int
    state: str
    source: str
    changes: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was evaluated, or begun (GUARANTEES B17). Moments are of its daily returns.

    Trials of one `group` were judged by the same days of the same data: their `daily` returns lie side by side. Both
    stand in the registry's file only.
    """

    id: str
    time_ms: int
    source: str
    state: str
    seed: int | None = None
    sharpe: float | None = None
    observations: int | None = None
    skew: float | None = None
    kurtosis: float | None = None
    parameters: str = "{}"
    group: str = ""
    daily: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RunStopped:
    """The end of a run, folded into its row."""

    run_id: str
    stopped_ms: int
    reason: str
    exit_code: int
    equity: Decimal | None


@dataclass(frozen=True, slots=True)
class HaltLatched:
    """The halt that survives restarts: set until a person resumes."""

    by: str
    reason: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class HaltCleared:
    """A person resumed."""

    by: str
    time_ms: int


Entry: TypeAlias = (
    Run
    | RunStopped
    | Cycle
    | PhaseStep
    | ModelVersion
    | ModelEvent
    | ShadowSaved
    | StatusCheck
    | ParameterVersion
    | Training
    | Trial
    | HaltLatched
    | HaltCleared
)
