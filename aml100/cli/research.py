"""Commands that make models: train, models."""

from __future__ import annotations

import signal
from dataclasses import asdict

import msgspec

from aml100.cli.bars import load_market
from aml100.cli.options import ModelsOptions, TrainOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.domain.errors import UsageError
from aml100.wiring import (
    hourly_rate,
    instruments_of,
    kernel_rules,
    model_folder,
    training_settings,
)


def train(options: TrainOptions) -> int:
    """A model version from bars, in --out/models (default: beside the state file); Ctrl-C leaves a checkpoint."""
    from aml100.domain.clock import SystemClock
    from aml100.learning.dataset import CoinData
    from aml100.learning.jobs import TrainingJob, TrainingProgress, TrainingResult
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
