"""`optimize`: a search on walk-forward validation; what it finds is proposed, never written into the configuration."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aml100.cli.bars import Market, funding_facts, load_market
from aml100.cli.options import OptimizeOptions
from aml100.cli.output import INTERRUPTED, write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.loading import Settings, flatten
from aml100.config.models import Params
from aml100.domain.clock import SystemClock, wall_ms
from aml100.domain.errors import AmlError, UsageError
from aml100.domain.units import DAY_MS, Coin
from aml100.evaluation.artefacts import need_folder
from aml100.evaluation.metrics import SHARPE_MIN_RETURNS
from aml100.learning.bundle import load_bundle
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from aml100.learning.trials import TrialRegistry
from aml100.market.series import BarSeries, FundingSeries
from aml100.research.search import (
    Found,
    LocalRunner,
    Outcome,
    Study,
    Task,
    TrialFile,
    Value,
    annual_sharpe,
    is_pruned,
    study_key,
)
from aml100.research.walkforward import Fold, common_span, cut, default_embargo, plan_folds
from aml100.sim.staging import hourly_rate, instruments_of
from aml100.storage.importing import sha256_of
from aml100.storage.stores import has_state
from aml100.training.shadow import WalkRules, walk_series
from aml100.wiring.backtests import kernel_rules, training_data, training_settings

FOLDS_WANTED = 3
DEFAULT_EPOCHS = 12
WARMUP_BARS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What all trials share; travels to a cluster once."""

    params: Params
    series: tuple[BarSeries, ...]
    funding: Mapping[Coin, FundingSeries]
    folds: tuple[Fold, ...]
    seed: int
    epochs: int
    budget_s: float | None
    scratch: str


def optimize(options: OptimizeOptions) -> int:
    """Trials of the search; Ctrl-C stops it, the same command goes on."""
    settings, market = options.load_settings(), load_market(options)
    folds = _plan(options, settings, market)
    home = options.out or options.folder / "optimize"
    need_folder(home)
    epochs = options.epochs or DEFAULT_EPOCHS
    base = settings.params
    key = study_key(
        {
            "bars": market.sha256,
            "params": base.model_dump(mode="json"),
            "folds": [[*fold.train.to_json(), *fold.test.to_json()] for fold in folds],
            "seed": options.seed,
            "epochs": epochs,
            "budget": options.budget_s,
            **({"funding": [sha256_of(path) for path in options.funding]} if options.funding else {}),
        }
    )
    study = Study(home, key, options.seed, TrialRegistry.beside(options.folder / "models"))
    context = Context(
        base,
        tuple(market.series),
        market.funding,
        folds,
        options.seed,
        epochs,
        options.budget_s,
        str(home.resolve() / "scratch"),
    )
    with _interrupts() as stopping, Progress("optimize, trial", options.trials) as progress:
        progress.update(study.judged)

        def judged(trial: TrialFile) -> None:
            progress.update(study.judged, _note(trial, study))

        finished = _search(options, context, study, lambda: bool(stopping), judged)
    found = study.best()
    if not finished:
        words = f"stopped after {study.judged} of {options.trials} trials; the same command goes on from there"
        sys.stderr.write(f"{words}\n")
        return INTERRUPTED
    if found is None:
        raise AmlError(f"none of {options.trials} trials was complete; see {home / 'trials'}")
    version = _propose(options, settings, study, found)
    _tell(options, settings, market, study, found, version)
    return 0


def _search(
    options: OptimizeOptions,
    context: Context,
    study: Study,
    stop: Callable[[], bool],
    judged: Callable[[TrialFile], None],
) -> bool:
    if options.engine == "local":
        if options.address is not None:
            raise UsageError("--address: is Ray's; allowed: with --engine ray")
        return study.run(options.trials, LocalRunner(lambda task: evaluate(context, task, stop), stop), judged)
    from aml100.research.cluster import RayRunner

    with RayRunner(evaluate, context, stop, address=options.address, workers=options.workers) as runner:
        return study.run(options.trials, runner, judged)


def _plan(options: OptimizeOptions, settings: Settings, market: Market) -> tuple[Fold, ...]:
    """Rolling windows; without lengths half of the bars to train on and three tests over the rest."""
    params, interval_ms = settings.params, market.series[0].interval_ms
    embargo = options.embargo_bars
    if embargo is None:
        embargo = default_embargo(interval_ms, params.model.window_bars, params.trading.max_hold_bars)
    span = common_span(market.series)
    whole = span.to_ms - span.from_ms - embargo * interval_ms
    train_ms = round(options.train_days * DAY_MS) if options.train_days else whole // 2
    test_ms = round(options.test_days * DAY_MS) if options.test_days else max(whole - train_ms, 0) // FOLDS_WANTED
    train_ms, test_ms = train_ms // interval_ms * interval_ms, test_ms // interval_ms * interval_ms
    if train_ms <= 0 or test_ms <= 0:
        raise UsageError(
            f"--train-days, --test-days: nothing is left after an embargo of {embargo} bars; "
            "allowed: more bars, a shorter --embargo-bars, or windows of at least a bar"
        )
    return plan_folds(span, interval_ms, train_ms, test_ms, embargo)


# --- one trial ----------------------------------------------------------------------------------------------------


def evaluate(context: Context, task: Task, stop: Callable[[], bool] = lambda: False) -> Outcome | None:
    """Train and walk fold by fold; None where it was told to stop. Without a budget a pure function."""
    began = time.monotonic()
    values: list[float] = []
    returns: list[float] = []
    try:
        params = changed(context.params, task.changes)
        for number, fold in enumerate(context.folds):
            found = _fold_returns(context, params, fold, task.number, stop)
            if found is None:
                return None
            returns += found
            values.append(annual_sharpe(_array(returns)))
            if is_pruned(values[-1], number, task.floors):
                return Outcome("pruned", tuple(values), tuple(returns), time.monotonic() - began)
    except AmlError as error:
        return Outcome("failed", tuple(values), tuple(returns), time.monotonic() - began, str(error))
    return Outcome("complete", tuple(values), tuple(returns), time.monotonic() - began)


def _fold_returns(
    context: Context, params: Params, fold: Fold, trial: int, stop: Callable[[], bool]
) -> list[float] | None:
    """Daily returns of one fold's test, on one unit of notional a coin, of a model trained on its training span."""
    known = {coin: rates.until(fold.train.to_ms) for coin, rates in context.funding.items()}
    data = training_data(params, [cut(one, fold.train) for one in context.series], known)
    job = TrainingJob(data, training_settings(params, context.epochs), context.seed, budget_s=context.budget_s)
    result: TrainingResult | None = None
    for event in train(job, SystemClock(), stop):
        if isinstance(event, TrainingResult):
            result = event
    assert result is not None
    if result.ended == "stopped":
        return None
    bundle = load_bundle(result.save(job, Path(context.scratch) / f"{trial:05d}"))
    instruments, rate = instruments_of([one.coin for one in context.series]), float(hourly_rate(params) or 0)
    walk = {
        coin: WalkRules(kernel_rules(params, instrument), params.trading.min_q_gap, rate)
        for coin, instrument in instruments.items()
    }
    tested = {one.coin: cut(one, fold.test, WARMUP_BARS) for one in context.series}
    walked = walk_series(bundle, tested, walk, fold.test.from_ms, context.funding)
    return [float(one) for one in walked.daily_returns()]


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)


def changed(params: Params, changes: Mapping[str, Value]) -> Params:
    """The parameters with some keys replaced, validated as a file's would be."""
    tree = params.model_dump()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        tree[section][name] = value
    return Params.model_validate(tree)


# --- what came of it ----------------------------------------------------------------------------------------------


def _propose(options: OptimizeOptions, settings: Settings, study: Study, found: Found) -> str | None:
    """A version in state.db, waiting to be promoted; None without a state file to keep it in or evidence for it."""
    if found.value is None or not has_state(options.state):
        return None
    from aml100.engine.seating import open_to_write
    from aml100.storage.entries import ParameterVersion

    version = f"p-{study.key[:8]}-{found.number}"
    diff = difference(settings, found.changes)
    facts = {"study": study.key, "trial": found.number, "sharpe": found.value, "dsr": found.dsr, "pbo": found.pbo}
    now_ms = wall_ms()
    with open_to_write(options.state) as database:
        database.journal(
            (ParameterVersion(version, now_ms, now_ms, "proposed", f"optimize {json.dumps(facts)}", json.dumps(diff)),)
        ).result()
    return version


def difference(settings: Settings, changes: Mapping[str, Value]) -> dict[str, tuple[object, object]]:
    """Key: (what is in force, what was found), where they differ."""
    now = {line.key: line.value for line in flatten(settings)}
    return {key: (now[key], value) for key, value in changes.items() if now[key] != value}


def _tell(
    options: OptimizeOptions, settings: Settings, market: Market, study: Study, found: Found, version: str | None
) -> None:
    diff = difference(settings, found.changes)
    states = [trial.outcome.state for trial in study.trials if trial.outcome is not None]
    document = {
        "study": study.key,
        "trials": len(states),
        "complete": states.count("complete"),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "tried_ever": found.tried,
        "best": {"trial": found.number, "sharpe": found.value, "days": found.days, "dsr": found.dsr, "pbo": found.pbo},
        "changes": {key: list(pair) for key, pair in diff.items()},
        "version": version,
        **funding_facts(market, settings.params),
    }
    if options.json:
        write_json(document)
        return
    lost = f"{states.count('pruned')} pruned, {states.count('failed')} failed"
    write_line(f"{len(states)} trials ({lost}); the best is number {found.number}")
    known = f"{found.dsr:.0%}" if found.dsr is not None else "n/a"
    luck = f"{found.pbo:.0%}" if found.pbo is not None else "n/a"
    if found.value is None:
        write_line(
            f"Sharpe n/a: {found.days} days of walk-forward tests, in which it may not have traded; "
            f"{SHARPE_MIN_RETURNS} daily returns that move are needed, so nothing is proposed"
        )
    else:
        write_line(
            f"Sharpe {found.value:+.2f} over {found.days} days of walk-forward tests; after {found.tried} trials the "
            f"chance that it is above zero is {known} (deflated), the probability of overfitting {luck}"
        )
    write_line(f"funding: {document['funding_note']}")
    write_table(("key", "in force", "found"), [(key, was, now) for key, (was, now) in diff.items()])
    if found.value is None:
        return
    if version is None:
        write_line(f"{options.state}: no state file, so this is kept in the study only; nothing was changed")
        return
    write_line("nothing was changed; to put it in force, and back:")
    write_line(f"  models promote {version}")
    write_line(f"  models rollback {version}")


def _note(trial: TrialFile, study: Study) -> str:
    best = study.best()
    seen = trial.outcome.state if trial.outcome is not None else ""
    if best is None or best.value is None:
        return f"last {seen}"
    return f"last {seen}, best {best.value:+.2f} (trial {best.number})"


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The first Ctrl-C ends the search cleanly, the second at once."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)
        sys.stderr.write("\nstopping after the update under way; again to stop at once\n")

    before = [signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield noted
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
