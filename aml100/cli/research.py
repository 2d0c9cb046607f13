"""Commands that look back: backtest, train, models."""

from __future__ import annotations

from collections.abc import Callable

from aml100.cli.bars import Market, load_market
from aml100.cli.options import BacktestOptions
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
    model_folder,
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


def _policy(options: BacktestOptions) -> PolicyChoice:
    if options.policy == "model":
        from aml100.learning.bundle import load_bundle

        if options.model is None:
            raise UsageError("--policy model: no champion here; allowed: --model ID_OR_PATH, or another --policy")
        return choose_bundle(load_bundle(model_folder(options.folder, options.model)))
    if options.policy == "oracle":
        raise UsageError("--policy oracle is not built yet")
    return choose_baseline(options.policy, options.seed)


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
