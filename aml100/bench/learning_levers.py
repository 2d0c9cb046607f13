"""What each lever does on real bars: one change at a time to the settings of learning_real.py, all on the same folds.

A lever is a change of the learner's settings, of the rules that positions follow, of the features it sees, or of the
seconds it has. Each is trained with the same seeds; its seeds' Q values are averaged too, and the margin on the Q gap
(`trading.min_q_gap`, in standard deviations of one bar) is tried on the very same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from aml100.bench.learning_measure import CpuClock, warm_up
from aml100.bench.learning_real import (
    ENTRIES,
    RULES_OF_THUMB,
    SETTINGS,
    Fold,
    figures,
    folds_of,
    read_coin,
    sets_in,
    walk_models,
    walk_rule,
)
from aml100.domain.units import MINUTE_MS
from aml100.evaluation.kernel import KernelRules
from aml100.learning.acting import Walk
from aml100.learning.dataset import CoinData, Dataset
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.reward import RewardConfig
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import Training, lay_out
from aml100.market.features import FEATURES

HEADER: Final = (
    "bars",
    "lever",
    "Q margin",
    "net: seeds",
    "net: together",
    "Sharpe: seeds",
    "Sharpe: together",
    "trades",
)
MARGINS: Final = (0.0, 0.05, 0.2)
CALENDAR: Final = ("day_sin", "day_cos", "week_sin", "week_cos")


@dataclass(frozen=True)
class Lever:
    """A change. `decide_ms`: how far apart decisions are; None at every bar. `blind` features are always 0.

    `alone`: each coin has a model of its own, for its share of the seconds. `along`: venues whose bars of the same
    length, from before the test, are learned from besides. `seconds` is a factor on the budget.
    """

    settings: TrainingSettings = SETTINGS
    rules: KernelRules = field(default_factory=lambda: ENTRIES["taker"])
    decide_ms: int | None = None
    blind: tuple[str, ...] = ()
    alone: bool = False
    along: tuple[str, ...] = ()
    seconds: float = 1.0


LEVERS: Final = {
    "none": Lever(),
    "maker entries": Lever(rules=ENTRIES["maker"]),
    "decisions 15 minutes apart": Lever(decide_ms=15 * MINUTE_MS),
    "decisions an hour apart": Lever(decide_ms=60 * MINUTE_MS),
    "decisions 4 hours apart": Lever(decide_ms=240 * MINUTE_MS),
    "maker, an hour apart": Lever(rules=ENTRIES["maker"], decide_ms=60 * MINUTE_MS),
    "maker, 4 hours apart": Lever(rules=ENTRIES["maker"], decide_ms=240 * MINUTE_MS),
    "not mirrored": Lever(replace(SETTINGS, mirror=False)),
    "input noise 0.1": Lever(replace(SETTINGS, input_noise=0.1)),
    "input noise 1": Lever(replace(SETTINGS, input_noise=1.0)),
    "no calendar": Lever(blind=CALENDAR),
    "shaped reward": Lever(replace(SETTINGS, reward=RewardConfig())),
    "a model a coin": Lever(alone=True),
    "Binance's bars besides": Lever(along=("binance_perp", "binance_spot")),
    "four times the seconds": Lever(seconds=4.0),
    "Binance's bars and four times the seconds": Lever(along=("binance_perp", "binance_spot"), seconds=4.0),
    "no sigmas to be chosen": Lever(replace(SETTINGS, selection_sigmas=0.0)),
    "errors squared up to 1 alone": Lever(replace(SETTINGS, huber_delta=1.0)),
}


def lever_rows(
    folder: Path, seeds: int, budget_s: float, only: str, names: Sequence[str] = tuple(LEVERS)
) -> Iterator[tuple[str, ...]]:
    """Rows under HEADER for every set whose name begins with `only`: simple rules first, then each lever."""
    warm_up(SETTINGS)
    sets = sets_in(folder)
    for title, files in sets.items():
        if not title.startswith(only):
            continue
        plain = folds_of(files, ENTRIES["taker"])
        for rule in RULES_OF_THUMB:
            _, _, net, sharpe, trades = figures(rule, [walk_rule(coin, rule) for fold in plain for coin in fold])
            yield (title, rule, "", net, "", sharpe, "", trades)
        for name in names:
            lever = LEVERS[name]
            rules = rules_of(lever, plain)
            if rules is None:
                continue
            folds = folds_of(files, rules)
            trained = []
            for fold in folds:
                more = before(fold, [sets.get(f"{venue} {title.split()[1]}", []) for venue in lever.along])
                budget = budget_s * lever.seconds
                trained.append([_learn(fold, more, lever, seed, budget) for seed in range(seeds)])
            for margin in MARGINS:
                yield (title, name, f"{margin:g}", *_summary(folds, trained, lever, margin))


def rules_of(lever: Lever, folds: Sequence[Fold]) -> KernelRules | None:
    """The lever's rules on these bars; None where its decisions would be no farther apart than the bars are."""
    if lever.decide_ms is None:
        return lever.rules
    bars = lever.decide_ms // folds[0][0].data.series.interval_ms
    return replace(lever.rules, decision_bars=bars) if bars > 1 else None


Files = Sequence[tuple[str, Path]]
Coins = tuple[CoinData, ...]


def before(fold: Fold, sets: Sequence[Files]) -> Coins:
    """The coins of other sets as far as a fold's training may read them: up to the moment where its test begins."""
    began_ms = min(int(coin.data.series.open_ms[coin.train_stop]) for coin in fold)
    found = []
    for coin, path in (one for files in sets for one in files):
        data = read_coin(coin, path, fold[0].data.rules)
        rows = int(np.searchsorted(data.series.open_ms, began_ms))
        found.append(replace(data, series=data.series.rows(0, rows)))
    return tuple(data for data in found if len(data.series) > 1_000)


def _learn(fold: Fold, more: Coins, lever: Lever, seed: int, budget_s: float) -> list[TrainingResult]:
    """A model for each coin of the fold; the same one for all where they are pooled."""
    seen = tuple(coin.seen for coin in fold)
    if lever.alone:
        return [_train((one,), lever, seed, budget_s / len(seen)) for one in seen]
    return [_train((*seen, *more), lever, seed, budget_s)] * len(fold)


def _train(coins: Coins, lever: Lever, seed: int, budget_s: float) -> TrainingResult:
    job = TrainingJob(coins, lever.settings, seed=seed, budget_s=budget_s)
    *_, last = Training(job, CpuClock(), lambda: False, blinded(lay_out(job), lever.blind)).run()
    assert isinstance(last, TrainingResult)
    return last


def blinded(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same without these features: they scale to 0 everywhere."""
    columns = [FEATURES.index(name) for name in names]
    inverse_sd = dataset.scaler.inverse_sd.copy()
    inverse_sd[columns] = 0.0
    coins = []
    for coin in dataset.coins:
        scaled = coin.scaled.copy()
        scaled[:, columns] = 0.0
        coins.append(replace(coin, scaled=scaled))
    return replace(dataset, coins=tuple(coins), scaler=replace(dataset.scaler, inverse_sd=inverse_sd))


def _summary(
    folds: Sequence[Fold], trained: Sequence[Sequence[list[TrainingResult]]], lever: Lever, margin: float
) -> tuple[str, ...]:
    seeds = range(len(trained[0]))
    singles: list[list[Walk]] = [[] for _ in seeds]
    together: list[Walk] = []
    for fold, of_fold in zip(folds, trained, strict=True):
        for number, coin in enumerate(fold):
            models = [of_fold[seed][number] for seed in seeds]
            for seed in seeds:
                singles[seed].append(walk_models(coin, [models[seed]], margin))
            together.append(walk_models(coin, models, margin))
    shown = [figures("", walks) for walks in singles]
    nets = sorted(float(one[2].rstrip("%")) for one in shown)
    sharpes = sorted(float(one[3].split()[0]) if one[3] != "n/a" else 0.0 for one in shown)
    _, _, net, sharpe, trades = figures("", together)
    spread = [f"{np.median(v):+.2f} ({v[0]:+.2f} to {v[-1]:+.2f})" for v in (nets, sharpes)]
    return f"{spread[0]} %", net, spread[1], sharpe, trades
