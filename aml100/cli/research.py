"""Commands that make models: train, models."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from aml100.cli.bars import load_market
from aml100.cli.options import TrainOptions
from aml100.cli.output import write_json, write_line
from aml100.cli.progress import Progress, training_notes
from aml100.sim.staging import hourly_rate, instruments_of
from aml100.wiring.backtests import kernel_rules, training_settings

if TYPE_CHECKING:
    from aml100.learning.jobs import TrainingJob


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
            progress.announce(f"{_in_words(job)}: laying the bars out")
            for event in run_training(job, SystemClock(), lambda: bool(stopping)):
                if isinstance(event, TrainingProgress):
                    progress.show(event.epoch, event.eta_s, training_notes(event))
    finally:
        signal.signal(signal.SIGINT, before)
    assert isinstance(event, TrainingResult)
    if event.ended == "stopped":
        sys.stderr.write(f"stopped after epoch {event.epochs}; the same command with --resume goes on\n")
        return 130
    path = event.save(job, home / "models")
    sick = [finding.name for finding in event.health if not finding.healthy]
    document = {
        "model": path.name,
        "path": str(path),
        "seed": job.seed,
        "epochs": event.epochs,
        "seconds": event.seconds,
        "transitions": event.transitions,
        "updates": event.updates,
        "best_epoch": event.best_epoch,
        "ended": event.ended,
        "validation": asdict(event.validation),
        "health": [asdict(finding) for finding in event.health],
        "healthy": not sick,
        "device": event.device,
    }
    if options.json:
        write_json(document)
        return 0
    found = event.validation
    write_line(f"model {path.name} in {path}: best epoch {event.best_epoch} of {event.epochs}, {event.ended}")
    write_line(f"validation: net {found.net_return:+.2%} of one notional in {found.trades} trades")
    if event.teller is not None:
        write_line(f"nothing was mirrored: {event.teller} tells up from down")
    for finding in event.health:
        write_line(f"  {'ok ' if finding.healthy else 'BAD'} {finding.name}: {finding.detail}")
    if sick:
        write_line(f"an engine would not promote it: {', '.join(sick)}")
    return 0


def _in_words(job: TrainingJob) -> str:
    coins = ", ".join(str(one.series.coin) for one in job.data)
    return f"training on {sum(len(one.series) for one in job.data):,} bars of {coins}, seed {job.seed}"
