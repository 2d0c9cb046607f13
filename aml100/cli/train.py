"""Command `train`: a model version from bars."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from aml100.cli.bars import Market, funding_facts, load_market
from aml100.cli.model_page import write_health
from aml100.cli.options import TrainOptions
from aml100.cli.output import INTERRUPTED, write_json, write_line
from aml100.cli.progress import Progress, training_notes
from aml100.config.models import Params
from aml100.evaluation.artefacts import need_folder
from aml100.wiring.backtests import training_data, training_settings

if TYPE_CHECKING:
    from aml100.learning.jobs import TrainingJob, TrainingResult


def train(options: TrainOptions) -> int:
    """A model version in --out/models (default: beside the state file); Ctrl-C leaves a checkpoint."""
    params, market = options.load_settings().params, load_market(options)
    job, funding = _job(options, params, market), funding_facts(market, params)
    result = _run(job)
    if result.ended == "stopped":
        sys.stderr.write(f"stopped after epoch {result.epochs}; the same command with --resume goes on\n")
        return INTERRUPTED
    path = result.save(job, _home(options) / "models")
    if options.json:
        write_json(_document(job, result, path) | funding)
    else:
        _tell(result, path, f"funding: {funding['funding_note']}")
    return 0


def _home(options: TrainOptions) -> Path:
    return options.out or options.folder


def _job(options: TrainOptions, params: Params, market: Market) -> TrainingJob:
    from aml100.learning.jobs import TrainingJob
    from aml100.learning.trials import TrialRegistry

    need_folder(_home(options))
    return TrainingJob(
        data=training_data(params, market.series, market.funding),
        settings=training_settings(params, options.epochs),
        seed=options.seed,
        folder=_home(options) / "training",
        budget_s=options.budget_s,
        resume=options.resume,
        registry=TrialRegistry.beside(_home(options) / "models"),
    )


def _run(job: TrainingJob) -> TrainingResult:
    """To its end or to the first Ctrl-C, with its progress shown."""
    from aml100.domain.clock import SystemClock
    from aml100.learning.jobs import TrainingProgress, TrainingResult
    from aml100.learning.trainer import train as run_training

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
    return event


def _in_words(job: TrainingJob) -> str:
    coins = ", ".join(str(one.series.coin) for one in job.data)
    return f"training on {sum(len(one.series) for one in job.data):,} bars of {coins}, seed {job.seed}"


def _document(job: TrainingJob, result: TrainingResult, path: Path) -> dict[str, object]:
    return {
        "model": path.name,
        "path": str(path),
        "seed": job.seed,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "transitions": result.transitions,
        "updates": result.updates,
        "best_epoch": result.best_epoch,
        "ended": result.ended,
        "validation": asdict(result.validation),
        "health": [asdict(finding) for finding in result.health],
        "healthy": all(finding.healthy for finding in result.health),
        "device": result.device,
    }


def _tell(result: TrainingResult, path: Path, funding: str) -> None:
    found = result.validation
    write_line(f"model {path.name} in {path}: epoch {result.best_epoch} of {result.epochs} kept, {result.ended}")
    write_line(f"trained for {result.seconds:.0f} s on {'a GPU' if result.device == 'cuda' else 'the CPU'}")
    write_line(f"validation: net {found.net_return:+.2%} of one notional in {found.trades} trades")
    write_line(funding)
    if result.teller is not None:
        write_line(f"nothing was mirrored: {result.teller} tells up from down")
    write_health(result.health)
