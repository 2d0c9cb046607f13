"""`walkforward`: train and test, window by window. Finished folds are kept: it can be stopped and gone on with."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

from aml100.cli.backtest import full_document, hold_against, with_trials
from aml100.cli.bars import Market, funding_facts, load_market
from aml100.cli.options import WalkforwardOptions
from aml100.cli.output import INTERRUPTED, write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.loading import Settings
from aml100.domain.clock import SystemClock
from aml100.domain.errors import UsageError
from aml100.domain.units import DAY_MS, iso_utc
from aml100.evaluation.artefacts import check_place, write_artefacts
from aml100.evaluation.baselines import LUCK_RUNS
from aml100.evaluation.breakdown import costs_json
from aml100.evaluation.evidence import evidence_sentence
from aml100.evaluation.intervals import figure_intervals, intervals_json
from aml100.evaluation.metrics import Json, RunRecord, compute_metrics
from aml100.evaluation.objectives import Trials
from aml100.evaluation.report import ReportInput
from aml100.evaluation.seen import Seen
from aml100.learning.bundle import BundleError, load_bundle
from aml100.learning.checkpoint_files import has_checkpoint
from aml100.learning.dataset import fingerprint_of
from aml100.learning.jobs import TrainingJob, TrainingProgress, TrainingResult
from aml100.learning.trainer import key_of, train
from aml100.learning.trials import TrialRegistry
from aml100.research.walkforward import Fold, Span, common_span, cut, default_embargo, joined, plan_folds, trimmed
from aml100.sim.staging import DEFAULT_WARMUP_BARS
from aml100.storage.files import replace_file
from aml100.wiring.backtests import build_backtest, choose_bundle, feature_schema, training_data, training_settings

FOLDS_WANTED = 5


@dataclass(slots=True)
class Walk:
    """What all folds share."""

    options: WalkforwardOptions
    settings: Settings
    market: Market
    embargo_bars: int
    home: Path
    stopping: list[int]

    @property
    def interval_ms(self) -> int:
        return self.market.series[0].interval_ms

    @property
    def models(self) -> Path:
        """Beside them lies what was tried for them."""
        return self.home / "models"


def walkforward(options: WalkforwardOptions) -> int:
    """Trains and tests on rolling windows; the joined curve holds only what was never trained on."""
    settings, market = options.load_settings(), load_market(options)
    with ExitStack() as stack:
        home = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aml100-walkforward-")))
        stopping = stack.enter_context(_interrupts())
        walk = Walk(options, settings, market, _embargo(options, settings, market), home, stopping)
        folds = _plan(walk)
        for fold in folds if options.out is not None else ():
            check_place(home / fold.name)
        models: list[Path] = []
        for fold in folds:
            model = _model_of(walk, fold, len(folds))
            if model is None:
                return _stopped(walk, fold, len(folds))
            models.append(model)
        done: list[tuple[Fold, RunRecord, dict[str, Json]]] = []
        for fold, model in zip(folds, models, strict=True):  # when all are trained: every trial deflates every fold
            if stopping:
                return _stopped(walk, fold, len(folds))
            done.append((fold, *_test(walk, fold, model)))
        whole = with_trials(joined([record for _, record, _ in done]), options, walk.models)
        answer = _answer(done, whole, walk)
        if options.out is not None:
            (home / "walkforward.json").write_text(json.dumps(answer, indent=2, allow_nan=False) + "\n")
    if options.json:
        write_json(answer)
    else:
        _show(answer)
    return 0


def _stopped(walk: Walk, fold: Fold, folds: int) -> int:
    kept = f"; go on with the same command and --out {walk.home}" if walk.options.out is not None else ""
    sys.stderr.write(f"stopped in fold {fold.number} of {folds}{kept}\n")
    return INTERRUPTED


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted, not raised, so that a training can leave its checkpoint."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _embargo(options: WalkforwardOptions, settings: Settings, market: Market) -> int:
    if options.embargo_bars is not None:
        return options.embargo_bars
    params = settings.params
    return default_embargo(market.series[0].interval_ms, params.model.window_bars, params.trading.max_hold_bars)


def _plan(walk: Walk) -> tuple[Fold, ...]:
    """The folds asked for; without lengths, half of the bars to train on and five tests over the rest."""
    span, options = common_span(walk.market.series), walk.options
    whole = span.to_ms - span.from_ms - walk.embargo_bars * walk.interval_ms
    train_ms = round(options.train_days * DAY_MS) if options.train_days else whole // 2
    test_ms = round(options.test_days * DAY_MS) if options.test_days else max(whole - train_ms, 0) // FOLDS_WANTED
    step = walk.interval_ms
    train_ms, test_ms = train_ms // step * step, test_ms // step * step
    if train_ms <= 0 or test_ms <= 0:
        raise UsageError(
            f"--train-days, --test-days: nothing is left after an embargo of {walk.embargo_bars} bars; "
            "allowed: more bars, a shorter --embargo-bars, or windows of at least a bar"
        )
    return plan_folds(span, step, train_ms, test_ms, walk.embargo_bars)


# --- one fold -----------------------------------------------------------------------------------------------------


def _model_of(walk: Walk, fold: Fold, folds: int) -> Path | None:
    """The folder of this fold's model, trained from nothing unless an earlier call has; None where interrupted."""
    job = _job(walk, fold)
    schema = feature_schema(walk.settings.params, walk.interval_ms)
    key, note = key_of(job, fingerprint_of(job.data), schema)[:32], walk.home / "training" / f"{fold.name}.json"
    kept = _noted(note, key)
    if kept and _is_whole(walk.models / kept):
        return walk.models / kept
    work = walk.home / "training" / f"{fold.name}-{key[:8]}"
    job = replace(job, folder=work, resume=has_checkpoint(work))
    with Progress(f"fold {fold.number} of {folds}, training, epoch", job.settings.epochs) as progress:
        for event in train(job, SystemClock(), lambda: bool(walk.stopping)):
            if isinstance(event, TrainingProgress):
                progress.update(event.epoch, f"kept score {event.best_score:+.4f}")
    assert isinstance(event, TrainingResult)
    if event.ended == "stopped":
        return None
    path = event.save(job, walk.models)
    line = json.dumps({"key": key, "model": path.name}) + "\n"
    replace_file(note, lambda file: file.write(line.encode()))
    return path


def _job(walk: Walk, fold: Fold) -> TrainingJob:
    """The training of a fold: what is known at its training's end, and nothing else."""
    params = walk.settings.params
    series = [cut(one, fold.train) for one in walk.market.series]
    funding = {coin: rates.until(fold.train.to_ms) for coin, rates in walk.market.funding.items()}
    return TrainingJob(
        data=training_data(params, series, funding),
        settings=training_settings(params, walk.options.epochs),
        seed=walk.options.seed,
        budget_s=walk.options.budget_s,
        registry=TrialRegistry.beside(walk.models),
        source="walkforward",
    )


def _noted(note: Path, key: str) -> str:
    """The model that an earlier call has trained on the same: name of its folder, empty where there is none."""
    try:
        kept = json.loads(note.read_text())
    except (OSError, ValueError):
        return ""
    return str(kept["model"]) if isinstance(kept, dict) and kept.get("key") == key and "model" in kept else ""


def _is_whole(path: Path) -> bool:
    try:
        load_bundle(path)
    except BundleError:
        return False
    return True


def _test(walk: Walk, fold: Fold, model: Path) -> tuple[RunRecord, dict[str, Json]]:
    """The fold's model over its test, from a fresh account; its artefacts hold the test alone."""
    series = [cut(one, fold.test, DEFAULT_WARMUP_BARS) for one in walk.market.series]
    times = sorted({int(t) for one in series for t in one.open_ms})
    before = sum(time < fold.test.from_ms for time in times)
    if before == len(times):
        raise UsageError(f"{fold.name}: no bar in {_words(fold.test)}; allowed: bars without such a gap")
    policy = choose_bundle(load_bundle(model))
    with Progress(f"fold {fold.number}, test", len(times)) as progress:
        run = build_backtest(
            walk.settings, series, walk.market.funding, policy, warmup_bars=before, on_progress=progress.update
        )
        run.run()
    run.result.equity = [row for row in run.result.equity if row.time_ms >= fold.test.from_ms]
    found = run.record("model", policy.model, walk.market.origin, walk.market.sha256)
    record = with_trials(trimmed(found, fold.test), walk.options, walk.models)
    tested = Market(tuple(series), walk.market.funding, walk.market.origin, walk.market.sha256)
    against = hold_against(
        walk.settings,
        tested,
        record,
        before,
        walk.options.seed,
        LUCK_RUNS // 4,
        lambda whole: trimmed(whole, fold.test),
    )
    seen = policy.seen or Seen(fold.train.from_ms, fold.train.to_ms, walk.market.origin)
    document = full_document(record, run, against, seen) | funding_facts(tested, walk.settings.params)
    if walk.options.out is not None:
        shown = [cut(one, fold.test) for one in series]
        write_artefacts(walk.home / fold.name, run.result, ReportInput(record, document, shown, against.curves))
    return record, document


def _words(span: Span) -> str:
    return f"{iso_utc(span.from_ms)} to {iso_utc(span.to_ms)}"


# --- the answer ---------------------------------------------------------------------------------------------------


def _answer(done: list[tuple[Fold, RunRecord, dict[str, Json]]], whole: RunRecord, walk: Walk) -> dict[str, Any]:
    document = compute_metrics(whole).to_json()
    document["intervals"] = intervals_json(figure_intervals(whole))
    document["costs"] = costs_json(whole)
    document["pbo_note"] = Trials(whole.trials, pbo=whole.overfitting).pbo_note
    document["in_sample_share"] = max(cast("float", metrics["in_sample_share"]) for _, _, metrics in done)
    document["evidence"] = evidence_sentence(document)
    document |= funding_facts(walk.market, walk.settings.params)
    folds = [
        {
            "fold": fold.name,
            "train": fold.train.to_json(),
            "test": fold.test.to_json(),
            "model": record.model,
            "metrics": metrics,
        }
        for fold, record, metrics in done
    ]
    return {"folds": folds, "joined": document, "embargo_bars": walk.embargo_bars, "seed": walk.options.seed}


def _show(answer: dict[str, Any]) -> None:
    rows = [
        (one["fold"], _words(Span(*one["test"])), one["model"], *_figures(one["metrics"])) for one in answer["folds"]
    ]
    rows.append(("joined", "", "", *_figures(answer["joined"])))
    write_table(("fold", "test", "model", "return %", "sharpe", "max drawdown %", "trades"), rows)
    write_line(str(answer["joined"]["evidence"]))
    write_line(f"funding: {answer['joined']['funding_note']}")
    pbo = answer["joined"]["pbo"]
    write_line(f"probability of overfitting: {answer['joined']['pbo_note'] if pbo is None else f'{pbo:.0%}'}")


def _figures(metrics: dict[str, Any]) -> tuple[str, str, str, str]:
    sharpe, trades = metrics["sharpe"], metrics["trades"]
    return (
        f"{metrics['total_return_pct']:+.2f}",
        "n/a" if sharpe is None else f"{sharpe:.2f}",
        f"{metrics['max_drawdown_pct']:.2f}",
        str(trades),
    )
