"""Commands that look back: backtest, train, models."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict

import msgspec

from aml100.cli.bars import Market, load_market
from aml100.cli.options import BacktestOptions, ModelsOptions, TrainOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.loading import Settings
from aml100.domain.errors import UsageError
from aml100.evaluation.backtest import Backtest
from aml100.evaluation.metrics import Metrics, compute_metrics
from aml100.evaluation.report import evidence_sentence, write_artefacts
from aml100.wiring import (
    PolicyChoice,
    build_backtest,
    choose_baseline,
    choose_bundle,
    hourly_rate,
    instruments_of,
    kernel_rules,
    model_folder,
    training_settings,
    warmup_for,
)

COMPARED = ("flat", "buy-and-hold")
"""Baselines that every back-test is held against."""


def backtest(options: BacktestOptions) -> int:
    """A policy over past bars: figures on stdout, artefacts in --out."""
    settings = options.load_settings()
    market = load_market(options)
    warmup_bars = warmup_for(market.rows, options.warmup_bars)
    policy = _policy(options)
    with Progress("back-test", market.rows) as progress:
        run = _run(settings, market, policy, warmup_bars, progress.update)
    baselines = {
        name: _metrics(_run(settings, market, choose_baseline(name, options.seed), warmup_bars), market, name, None)
        for name in COMPARED
        if name != policy.name
    }
    metrics = _metrics(run, market, policy.name, policy.model, baselines).to_json()
    if options.out is not None:
        write_artefacts(options.out, run.result, metrics)
    if options.json:
        write_json(metrics)
        return 0
    shown = [
        (name, "n/a" if value is None else value) for name, value in metrics.items() if not isinstance(value, dict)
    ]
    write_table(("figure", "value"), shown)
    write_line(evidence_sentence(metrics))
    if options.out is not None:
        write_line(f"written to {options.out}")
    return 0


def train(options: TrainOptions) -> int:
    """A model version from bars, in --out/models (default: beside the state file); Ctrl-C leaves a checkpoint."""
    from aml100.domain.clock import SystemClock
    from aml100.learning.dataset import CoinData
    from aml100.learning.trainer import TrainingJob, TrainingProgress, TrainingResult
    from aml100.learning.trainer import train as run_training
    from aml100.learning.trials import TrialRegistry

    settings = options.load_settings()
    params, market = settings.params, load_market(options)
    instruments = instruments_of([one.coin for one in market.series])
    rate = float(hourly_rate(params) or 0)
    home = options.out or options.folder
    job = TrainingJob(
        data=tuple(
            CoinData(one, kernel_rules(params, instruments[one.coin]), market.funding.get(one.coin), rate)
            for one in market.series
        ),
        settings=training_settings(params, options.epochs),
        seed=options.seed,
        folder=home / "training",
        budget_s=options.budget_s,
        resume=options.resume,
        registry=TrialRegistry.beside(home / "models"),
    )
    stopping: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: stopping.append(number))
    try:
        with Progress("training, epoch", job.settings.epochs) as progress:
            for event in run_training(job, SystemClock(), lambda: bool(stopping)):
                if isinstance(event, TrainingProgress):
                    progress.update(event.epoch, _training_note(event.loss, event.best_score))
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(event, TrainingResult)
    if event.ended == "stopped":
        write_line(f"stopped after {event.epochs} epochs; go on with --resume --out {home}")
        return 130
    path = event.save(job, home / "models")
    document = {
        "model": path.name,
        "path": str(path),
        "seed": job.seed,
        "epochs": event.epochs,
        "seconds": event.seconds,
        "transitions": event.transitions,
        "updates": event.updates,
        "best_epoch": event.best_epoch,
        "validation": asdict(event.validation),
        "health": [asdict(finding) for finding in event.health],
        "device": event.device,
    }
    if options.json:
        write_json(document)
        return 0
    found = event.validation
    write_line(f"model {path.name} in {path}: best epoch {event.best_epoch} of {event.epochs}, {event.ended}")
    write_line(f"validation: net {found.net_return:+.2%} of one notional in {found.trades} trades")
    for finding in event.health:
        write_line(f"  {'ok ' if finding.healthy else 'BAD'} {finding.name}: {finding.detail}")
    return 0


def _training_note(loss: float | None, score: float) -> str:
    return f"loss {'n/a' if loss is None else f'{loss:.4f}'} best score {score:+.4f}"


def models(options: ModelsOptions) -> int:
    """The model versions beside the state file: `list`, and `show ID`."""
    from aml100.learning.bundle import load_record

    folder = options.folder / "models"
    if options.action == "show":
        if options.model is None:
            raise UsageError("models show: no model; allowed: an id of models list")
        record = load_record(model_folder(options.folder, options.model))
        write_json(msgspec.to_builtins(record))
        return 0
    if options.action != "list":
        raise UsageError(f"models {options.action} is not built yet")
    records = [load_record(path.parent) for path in sorted(folder.glob("*/bundle.json"))]
    if options.json:
        write_json([msgspec.to_builtins(record) for record in records])
        return 0
    write_table(
        ("model", "seed", "interval ms", "best epoch", "validation net", "trades", "healthy"),
        [
            (
                r.id,
                r.seed,
                r.interval_ms,
                f"{r.best_epoch}/{r.epochs}",
                f"{r.validation.net_return:+.2%}",
                r.validation.trades,
                "yes" if r.healthy else "no",
            )
            for r in records
        ],
    )
    return 0


def _policy(options: BacktestOptions) -> PolicyChoice:
    if options.policy == "model":
        from aml100.learning.bundle import load_bundle

        model = options.model or _champion(options)
        if model is None:
            raise UsageError("--policy model: no champion here; allowed: --model ID_OR_PATH, or another --policy")
        return choose_bundle(load_bundle(model_folder(options.folder, model)))
    if options.policy == "oracle":
        raise UsageError("--policy oracle is not built yet")
    return choose_baseline(options.policy, options.seed)


def _champion(options: BacktestOptions) -> str | None:
    """The folder of the model that decides on this state file; None where there is none."""
    from aml100.storage.reader import StateReader

    if not options.state.is_file():
        return None
    with StateReader.read(options.state) as reader:
        version = reader.champion()
    return None if version is None else version.path


def _run(
    settings: Settings,
    market: Market,
    policy: PolicyChoice,
    warmup_bars: int,
    on_progress: Callable[[int], None] | None = None,
) -> Backtest:
    run = build_backtest(
        settings, market.series, market.funding, policy, warmup_bars=warmup_bars, on_progress=on_progress
    )
    run.run()
    return run


def _metrics(
    run: Backtest, market: Market, policy: str, model: str | None, baselines: dict[str, Metrics] | None = None
) -> Metrics:
    return compute_metrics(run.record(policy, model, market.origin, market.sha256), baselines)
