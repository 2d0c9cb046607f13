"""The search for parameters: Optuna proposes, walk-forward folds judge, and every trial is written down.

A study runs in generations of four trials. All of a generation are proposed before any is judged, each from a sampler
seeded by study and number, knowing the generations before it and nothing of its own. So it does not matter in which
order, where, or after how many interruptions the trials of a generation are evaluated: the same seed and bars give the
same study, on one core or on a cluster. What pruning compares with (the median of earlier generations after as many
folds) is fixed with the generation, too.

A trial is a file: written when it is proposed, replaced when it is judged. What has no outcome is evaluated again,
what has one is not; so nothing is lost or counted twice.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend

from aml100.domain.errors import StateError, UsageError
from aml100.evaluation.metrics import SHARPE_MIN_RETURNS, YEAR_DAYS
from aml100.evaluation.statistics import deflated_sharpe, moments_of, overfitting_of
from aml100.learning.trials import TrialRegistry
from aml100.market.series import Floats

GENERATION: Final = 4
STARTUP_TRIALS: Final = 8
FEWEST_TO_PRUNE: Final = 4
STUDY_FILE: Final = "study.log"
TRIALS_FOLDER: Final = "trials"

Value: TypeAlias = float | int | str | bool

SPACE: Final[Mapping[str, optuna.distributions.BaseDistribution]] = {
    "training.learning_rate": optuna.distributions.FloatDistribution(1e-4, 5e-3, log=True),
    "training.gamma": optuna.distributions.CategoricalDistribution((0.99, 0.995, 0.998, 0.999)),
    "training.n_step": optuna.distributions.IntDistribution(1, 10),
    "training.weight_decay": optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True),
    "training.target_update": optuna.distributions.FloatDistribution(2e-3, 2e-2, log=True),
    "training.bias_weight": optuna.distributions.FloatDistribution(0.0, 0.3),
    "replay.alpha": optuna.distributions.FloatDistribution(0.0, 0.8),
    "reward.shaping": optuna.distributions.CategoricalDistribution(("on", "pure")),
    "trading.min_q_gap": optuna.distributions.FloatDistribution(0.0, 0.2),
    "model.lstm_hidden": optuna.distributions.CategoricalDistribution((16, 32, 64)),
}
"""What is searched, by keys of params.json. Rules of the account (size, stops, risk) are the operator's alone."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a trial: `values` is the running figure after each fold, `returns` the daily ones of its folds."""

    state: Literal["complete", "pruned", "failed"]
    values: tuple[float, ...] = ()
    returns: tuple[float, ...] = ()
    seconds: float = 0.0
    reason: str = ""

    @property
    def value(self) -> float | None:
        return self.values[-1] if self.state == "complete" and self.values else None


class TrialFile(msgspec.Struct, frozen=True):
    """One trial as it is kept; without an outcome it is still to be evaluated."""

    number: int
    optuna_number: int
    changes: dict[str, Value]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A trial to evaluate. `floors` are what it must not fall under after each fold; shorter means no more pruning."""

    number: int
    changes: Mapping[str, Value]
    floors: tuple[float, ...]


class Runner(Protocol):
    """Evaluates tasks, in whatever order and place; each yields one outcome."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """(number, outcome) as they come; stops early where it was told to."""


@dataclass(frozen=True, slots=True)
class Found:
    """The study's choice, deflated by everything that was tried. `dsr` and `pbo` None: cannot be known yet.

    `value` is None where it is no evidence of anything: fewer than 30 days, or a curve that never moved.
    """

    number: int
    changes: Mapping[str, Value]
    value: float | None
    days: int
    dsr: float | None
    pbo: float | None
    tried: int


class LocalRunner:
    """One trial after the other in this process; `stop` is asked between them."""

    def __init__(self, evaluate: Callable[[Task], Outcome | None], stop: Callable[[], bool]) -> None:
        self._evaluate, self._stop = evaluate, stop

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for task in tasks:
            if self._stop():
                return
            outcome = self._evaluate(task)
            if outcome is None:
                return
            yield task.number, outcome


class Study:
    """A resumable search in a folder.

    Args:
        key: of bars, folds, base parameters and seed; a folder of another study is refused.
    """

    def __init__(self, folder: Path, key: str, seed: int, registry: TrialRegistry) -> None:
        self.folder, self.key, self.seed = folder, key, seed
        self._registry = registry
        self._trials: list[TrialFile] = []
        (folder / TRIALS_FOLDER).mkdir(parents=True, exist_ok=True)
        note = folder / "study.json"
        if note.exists() and msgspec.json.decode(note.read_bytes(), type=dict).get("key") != key:
            raise UsageError(
                f"{folder}: a study of other bars, funding, folds, parameters or seed; allowed: another --out"
            )
        _write(note, msgspec.json.encode({"key": key, "seed": seed}))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / STUDY_FILE)))
        self._study = optuna.create_study(
            study_name=key, storage=storage, direction="maximize", load_if_exists=True, sampler=self._sampler(0)
        )
        for path in sorted((folder / TRIALS_FOLDER).glob("*.json")):
            try:
                self._trials.append(msgspec.json.decode(path.read_bytes(), type=TrialFile))
            except msgspec.MsgspecError as error:
                raise StateError(f"{path}: is no trial: {error}") from None
        self._settle()

    @property
    def trials(self) -> tuple[TrialFile, ...]:
        """All that were proposed, in order."""
        return tuple(self._trials)

    @property
    def judged(self) -> int:
        return sum(trial.outcome is not None for trial in self._trials)

    def run(self, total: int, runner: Runner, on_judged: Callable[[TrialFile], None]) -> bool:
        """Go on until `total` trials are judged; False where the runner was told to stop before."""
        while True:
            waiting = [trial for trial in self._trials if trial.outcome is None]
            if not waiting:
                if len(self._trials) >= total:
                    return True
                waiting = self._propose(total)
            floors = self._floors(waiting[0].number // GENERATION * GENERATION)
            by_number = {trial.number: trial for trial in waiting}
            for number, outcome in runner.run([Task(t.number, t.changes, floors) for t in waiting]):
                trial = msgspec.structs.replace(by_number.pop(number), outcome=outcome)
                self._keep(trial)
                self._finish(trial)
                on_judged(trial)
            if by_number:
                return False
            self._settle()

    def _propose(self, total: int) -> list[TrialFile]:
        """The next generation, each trial from its own seed, all knowing the same earlier generations."""
        first = len(self._trials)
        for number in range(first, min(first // GENERATION * GENERATION + GENERATION, total)):
            self._study.sampler = self._sampler(number)
            asked = self._study.ask(dict(SPACE))
            trial = TrialFile(number, asked.number, dict(asked.params))
            name = self._trial_id(number)
            self._registry.begin(
                name, source="optimize", seed=self.seed, parameters=dict(trial.changes), group=self.key
            )
            self._trials.append(trial)
            self._keep(trial)
        return self._trials[first:]

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        digest = hashlib.sha256(f"{self.key}|{self.seed}|{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True)

    def _floors(self, before: int) -> tuple[float, ...]:
        """The median running figure of the complete trials of earlier generations, fold by fold."""
        outcomes = [t.outcome for t in self._trials[:before] if t.outcome is not None and t.outcome.state == "complete"]
        if len(outcomes) < FEWEST_TO_PRUNE:
            return ()
        folds = min(len(outcome.values) for outcome in outcomes)
        return tuple(float(np.median([outcome.values[fold] for outcome in outcomes])) for fold in range(folds))

    def _settle(self) -> None:
        """Tell Optuna what has been judged, generation by generation and in order, once each; close what was torn."""
        told = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        ours = {trial.optuna_number for trial in self._trials}
        for number, frozen in told.items():
            if number not in ours and frozen.state == optuna.trial.TrialState.RUNNING:
                self._study.tell(number, state=optuna.trial.TrialState.FAIL)  # killed between proposal and file
        for start in range(0, len(self._trials), GENERATION):
            generation = self._trials[start : start + GENERATION]
            if any(trial.outcome is None for trial in generation):
                return
            for trial in generation:
                if told[trial.optuna_number].state == optuna.trial.TrialState.RUNNING:
                    self._tell(trial)

    def _tell(self, trial: TrialFile) -> None:
        assert trial.outcome is not None
        states = {
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        self._study.tell(trial.optuna_number, trial.outcome.value, state=states[trial.outcome.state])

    def _keep(self, trial: TrialFile) -> None:
        self._trials[trial.number] = trial
        _write(self.folder / TRIALS_FOLDER / f"{trial.number:05d}.json", msgspec.json.encode(trial))

    def _finish(self, trial: TrialFile) -> None:
        """In the registry a pruned trial counts like any other: it was tried."""
        outcome = trial.outcome
        assert outcome is not None
        state = {"complete": "done", "pruned": "aborted", "failed": "failed"}[outcome.state]
        self._registry.finish(self._trial_id(trial.number), state, np.array(outcome.returns))

    def _trial_id(self, number: int) -> str:
        return f"{self.key[:12]}-{number}"

    def best(self) -> Found | None:
        """The complete trial with the best figure; the first of equals. None while there is none."""
        complete = [t for t in self._trials if t.outcome is not None and t.outcome.value is not None]
        if not complete:
            return None
        chosen = max(complete, key=lambda t: (_known(t).values[-1], -t.number))
        outcome = _known(chosen)
        returns = np.array(outcome.returns)
        moments = moments_of(returns)
        trials = self._registry.deflation()
        is_evidence = moments is not None and len(returns) >= SHARPE_MIN_RETURNS
        dsr = (
            None
            if moments is None or not is_evidence
            else deflated_sharpe(moments, trials.count, trials.sharpe_variance)
        )
        return Found(
            number=chosen.number,
            changes=chosen.changes,
            value=outcome.values[-1] if is_evidence else None,
            days=len(returns),
            dsr=dsr,
            pbo=overfitting_of([_known(t).returns for t in complete]) if is_evidence else None,
            tried=trials.count,
        )


def annual_sharpe(returns: Floats) -> float:
    """The figure that is searched for: of daily returns, x sqrt(365); 0 for one that never moves."""
    moments = moments_of(returns)
    return 0.0 if moments is None else moments.sharpe * math.sqrt(YEAR_DAYS)


def is_pruned(running: float, fold: int, floors: Sequence[float]) -> bool:
    """Whether a trial has fallen under what earlier ones had after as many folds; the last fold is not pruned."""
    return fold < len(floors) - 1 and running < floors[fold]


def _known(trial: TrialFile) -> Outcome:
    assert trial.outcome is not None
    return trial.outcome


def _write(path: Path, contents: bytes) -> None:
    """Whole or not at all, on disk when this returns."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def study_key(parts: Mapping[str, Any]) -> str:
    """16 hex digits of everything a study depends on."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]
