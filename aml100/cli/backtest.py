"""`backtest`: a policy over past bars, held against simple rules and chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aml100.cli.bars import Market, funding_facts, load_market
from aml100.cli.options import BacktestOptions, BarsOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.loading import Settings
from aml100.domain.errors import UsageError
from aml100.domain.units import Coin
from aml100.evaluation.artefacts import check_place, write_artefacts
from aml100.evaluation.backtest import Backtest
from aml100.evaluation.baselines import (
    COMPARED,
    LUCK_RUNS,
    Luck,
    luck_of,
    matched_chance,
    random_signals,
    signal_of,
    signal_record,
)
from aml100.evaluation.breakdown import breakdown, breakdown_json, costs_json
from aml100.evaluation.course import Course, is_compiled, signal_rules
from aml100.evaluation.evidence import evidence_sentence
from aml100.evaluation.ground import Ground
from aml100.evaluation.intervals import figure_intervals, intervals_json
from aml100.evaluation.metrics import Floats, Json, Metrics, RunRecord, compute_metrics, daily_returns, turnover_of
from aml100.evaluation.objectives import Trials
from aml100.evaluation.oracle import hindsight_policy
from aml100.evaluation.report import ReportInput
from aml100.evaluation.seen import Seen, sample_facts
from aml100.evaluation.statistics import minimum_track_record, moments_of
from aml100.sim.staging import exchange_rules, hourly_rate, instruments_of, warmup_for
from aml100.storage.stores import has_state
from aml100.wiring.backtests import (
    PolicyChoice,
    build_backtest,
    choose_baseline,
    choose_bundle,
    feature_schema,
    model_folder,
    simulated_rules,
)

if TYPE_CHECKING:
    from aml100.storage.entries import Trial
    from aml100.trading.policies import Policy

SHOWN_CURVES = ("buy-and-hold", "random")
"""Baselines whose equity the report draws."""


@dataclass(slots=True)
class HeldAgainst:
    """What a policy is compared with. No `luck` where the run is not on the compiled path."""

    metrics: dict[str, Metrics] = field(default_factory=dict)
    curves: dict[str, Floats] = field(default_factory=dict)
    luck: Luck | None = None


def backtest(options: BacktestOptions) -> int:
    """A policy over past bars: figures on stdout, artefacts in --out."""
    settings = options.load_settings()
    market = load_market(options)
    warmup_bars = warmup_for(market.rows, options.warmup_bars)
    policy = choose_policy(options, settings, market, warmup_bars)
    if options.out is not None:
        check_place(options.out)
    with Progress("back-test", market.rows) as progress:
        run = build_backtest(
            settings, market.series, market.funding, policy, warmup_bars=warmup_bars, on_progress=progress.update
        )
        run.run()
    record = run.record(policy.name, policy.model, market.origin, market.sha256)
    record = record if policy.place is None else with_trials(record, options, policy.place.parent)
    against = hold_against(settings, market, record, warmup_bars, options.seed)
    document = full_document(record, run, against, policy.seen) | funding_facts(market, settings.params)
    if options.out is not None:
        page = ReportInput(record, document, market.series, against.curves)
        write_artefacts(options.out, run.result, page)
    if options.json:
        write_json(document)
        return 0
    figures = [(k, _shown(v)) for k, v in document.items() if not isinstance(v, dict) and k != "evidence"]
    write_table(("figure", "value"), figures)
    write_line(str(document["evidence"]))
    if options.out is not None:
        write_line(f"written to {options.out}")
    return 0


def choose_policy(options: BacktestOptions, settings: Settings, market: Market, warmup_bars: int) -> PolicyChoice:
    """Who decides; UsageError where it is a model that is not there, BundleError where it is of other features."""
    if options.model is not None and options.policy != "model":
        raise UsageError(f"--model: not beside --policy {options.policy}, which has none; allowed: one of the two")
    if options.policy == "oracle":
        return _oracle(settings, market, warmup_bars)
    if options.policy != "model":
        return choose_baseline(options.policy, options.seed)
    from aml100.learning.bundle import load_bundle

    model = options.model or _champion(options)
    if model is None:
        raise UsageError("--policy model: no champion here; allowed: --model ID_OR_PATH, or another --policy")
    place, schema = model_folder(options.folder, model), feature_schema(settings.params, market.series[0].interval_ms)
    return replace(choose_bundle(load_bundle(place, schema=schema)), place=place.resolve())


def _champion(options: BacktestOptions) -> str | None:
    """The folder of the model that decides on this state file; None where there is none."""
    from aml100.storage.reader import StateReader

    if not has_state(options.state):
        return None
    with StateReader.read(options.state) as reader:
        version = reader.champion()
    return None if version is None else version.path


def _oracle(settings: Settings, market: Market, warmup_bars: int) -> PolicyChoice:
    """The best of hindsight, coin by coin."""
    policies: dict[Coin, Policy] = {}
    instruments = instruments_of([one.coin for one in market.series])
    rules = simulated_rules(settings.params, choose_baseline("flat", 0), market.series[0].interval_ms, warmup_bars)
    for coin, course in _courses(settings, market, warmup_bars).items():
        costs = exchange_rules(settings.params)
        policies[coin] = hindsight_policy(course, signal_rules(rules, costs, instruments[coin]))
    return PolicyChoice("oracle", lambda coin: policies[coin])


def _courses(settings: Settings, market: Market, warmup_bars: int) -> dict[Coin, Course]:
    params = settings.params
    rules = simulated_rules(params, choose_baseline("flat", 0), market.series[0].interval_ms, warmup_bars)
    rate = float(hourly_rate(params) or 0)
    return {one.coin: Course.lay(one, market.funding.get(one.coin), rate, rules, warmup_bars) for one in market.series}


# --- held against -------------------------------------------------------------------------------------------------


def hold_against(
    settings: Settings,
    market: Market,
    record: RunRecord,
    warmup_bars: int,
    seed: int,
    runs: int = LUCK_RUNS,
    shown: Callable[[RunRecord], RunRecord] = lambda whole: whole,
) -> HeldAgainst:
    """Every baseline over the same bars: compiled where that makes the core's trades, else through the core.

    Args:
        shown: what of a baseline's run is compared, where that is not the whole.
    """
    params = settings.params
    instruments = instruments_of([one.coin for one in market.series])
    rules = simulated_rules(params, choose_baseline("flat", 0), market.series[0].interval_ms, warmup_bars)
    found = HeldAgainst()
    if params.risk.status_sizing or not is_compiled(rules, list(instruments.values())):
        for name in COMPARED:
            if name != record.policy:
                found_run = build_backtest(
                    settings, market.series, market.funding, choose_baseline(name, seed), warmup_bars=warmup_bars
                )
                found_run.run()
                _note(found, shown(found_run.record(name, None, market.origin, market.sha256)))
        return found
    costs, deposit = exchange_rules(params), record.initial_equity
    ground = Ground.lay(market.series, market.funding, float(hourly_rate(params) or 0), rules, warmup_bars)
    kernels = [signal_rules(rules, costs, instruments[one.coin]) for one in market.series]
    free = [signal_rules(rules.without_exits_and_risk(), costs, instruments[one.coin]) for one in market.series]
    chance = matched_chance(ground, kernels, len(record.trades), turnover_of(record), seed, deposit)
    for name in COMPARED:
        if name == record.policy:
            continue
        is_chance, used = name == "random", free if name == "buy-and-hold" else kernels
        signals = (
            random_signals(ground, chance.share, seed)
            if is_chance
            else [signal_of(name, course) for course in ground.courses]
        )
        size = chance.size if is_chance else 1.0
        _note(found, shown(signal_record(ground, used, signals, deposit, name, market.origin, market.sha256, size)))
    if record.trades:
        with Progress("chance, run", runs) as progress:
            found.luck = luck_of(
                ground, kernels, chance, float(record.equity[-1]), deposit, runs, on_run=progress.update
            )
    return found


def _note(found: HeldAgainst, record: RunRecord) -> None:
    found.metrics[record.policy] = compute_metrics(record)
    if record.policy in SHOWN_CURVES:
        found.curves[record.policy] = record.equity


def with_trials(record: RunRecord, options: BarsOptions, *models: Path) -> RunRecord:
    """A model's run with every trial that the state file and its models know of (GUARANTEES B17, E7).

    Args:
        models: more folders of models whose trials count.
    """
    from aml100.learning.trials import TrialRegistry, deflation_of
    from aml100.storage.reader import StateReader

    places = (options.folder / "models", *models)
    written = [TrialRegistry.beside(place).read() for place in places]
    kept: tuple[Trial, ...] = ()
    if has_state(options.state):
        with StateReader.read(options.state) as reader:
            kept = reader.trials()
    known = deflation_of(kept, *written)
    return replace(record, trials=known.count, trial_sharpe_variance=known.sharpe_variance, overfitting=known.pbo)


# --- metrics.json -------------------------------------------------------------------------------------------------


def full_document(record: RunRecord, run: Backtest, against: HeldAgainst, seen: Seen | None) -> dict[str, Json]:
    """metrics.json: every figure, then what it rests on.

    Args:
        seen: what the model was made from; None where nobody says, or there is none.
    """
    document = compute_metrics(record, against.metrics).to_json()
    document |= sample_facts(record, run.result.begins_ms, seen)
    moments = moments_of(daily_returns(record)) if document["sharpe"] is not None else None
    document["pbo_note"] = Trials(record.trials, pbo=record.overfitting).pbo_note
    document["min_track_record_days"] = None if moments is None else minimum_track_record(moments)
    document["intervals"] = intervals_json(figure_intervals(record))
    document["breakdown"] = breakdown_json(breakdown(run.result.trades, run.result.decisions))
    document["costs"] = costs_json(record)
    luck = against.luck
    document["luck"] = None
    if luck is not None:
        document["luck"] = {
            "runs": luck.runs,
            "better_share": luck.better,
            "median_return_pct": luck.median_return * 100.0,
            "median_trades": luck.trades,
            "median_turnover": luck.turnover,
            "acting_share": luck.chance.share,
            "size_multiplier": luck.chance.size,
            "seed": luck.chance.seed,
        }
    document["evidence"] = evidence_sentence(document)
    return document


def _shown(value: Json) -> str:
    if value is None:
        return "n/a"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
