"""Real bars, walked forward: trained on the first part of the time, judged on the next, which no training has seen.

A set is all files of one venue, kind and interval in a folder. Its coins are pooled into one model; a portfolio holds
one unit of notional a coin. `taker` entries pay the taker's fee and slippage, `maker` ones rest at the close for one
bar, are filled only where the market trades through them (else there is no trade), and pay the maker's fee; exits are
the taker's in both. Stop, target and time exit are off, so that the learned exits are seen. Funding is what was settled
where it is known, else 0.01 % per 8 hours. Seconds are processor seconds of one thread, a seed and fold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from aml100.bench.learning_measure import RECIPE, CpuClock, warm_up
from aml100.domain.units import Coin
from aml100.evaluation.kernel import KernelRules, Market, flat_positions
from aml100.evaluation.statistics import moments_of, sharpe_interval
from aml100.evaluation.transition import STEP_DTYPE, advance
from aml100.learning.acting import Walk, greedy_walk
from aml100.learning.dataset import CoinData
from aml100.learning.inference import CompiledWeights
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.network import QNetwork
from aml100.learning.scores import daily_returns
from aml100.learning.settings import TrainingSettings
from aml100.learning.trainer import WARM_BARS, train
from aml100.learning.validation import encode_chunked, load_weights
from aml100.market.compiled import compiled
from aml100.market.features import FEATURE_COUNT, FEATURES, FeatureFrame, compute_features
from aml100.market.series import Floats
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars

HEADER: Final = ("bars", "entries", "coins", "test days", "policy", "net, mean a coin", "Sharpe (95 %)", "trades")
ENTRIES: Final = {
    "taker": KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0),
    "maker": KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0, entry_style="maker"),
}
Edges = tuple[tuple[float, float], ...]
FOLDS: Final[Edges] = ((0.5, 0.75), (0.75, 1.0))
"""Where each training ends and its test ends, in shares of all bars by time."""
EARLIER: Final[Edges] = ((0.25, 0.5),)
"""The quarter before: less to learn from, and nothing was chosen by what is earned there."""
CONSTANT_RATE: Final = 0.0001 / 8
RULES_OF_THUMB: Final = ("buy and hold", "momentum", "reversion")
SETTINGS: Final = replace(
    RECIPE, lstm_hidden=48, head_hidden=48, input_noise=0.3, weight_decay=1e-2, cosine_t_0=20, updates_per_epoch_max=60
)
_FILE: Final = re.compile(r"(?P<set>[a-z]+_(?:perp|spot))_(?P<coin>[A-Z]+)_(?P<bar>\d+[mh])\.parquet")


@dataclass(frozen=True)
class TestedCoin:
    """One coin of a fold: its series, the rows before `train_stop` to learn from, [first, last) to be judged on."""

    data: CoinData
    train_stop: int
    first: int
    last: int

    @cached_property
    def frame(self) -> FeatureFrame:
        """Features of the whole series; none looks ahead."""
        return compute_features(self.data.series, self.data.funding)

    @cached_property
    def market(self) -> Market:
        """The whole series as the kernel reads it."""
        return Market.from_series(self.data.series, self.data.funding, self.data.constant_funding_rate)

    @property
    def seen(self) -> CoinData:
        """What training may read."""
        return replace(self.data, series=self.data.series.rows(0, self.train_stop))

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Contiguous rows of the test with complete features."""
        found = []
        for start, stop in self.data.series.segments():
            first, until = max(start, self.first), min(stop, self.last)
            rows = np.flatnonzero(self.frame.valid[first : max(first, until)]) + first
            if len(rows) > 1:
                found.append((int(rows[0]), until))
        return tuple(found)

    def warm_from(self, start: int) -> int:
        """From where the memory of a span is warmed up: complete rows before it, as many as training allows itself."""
        before = max(0, start - WARM_BARS)
        gaps = np.flatnonzero(~self.frame.valid[before:start])
        return before + int(gaps[-1]) + 1 if len(gaps) else before


Fold = tuple[TestedCoin, ...]


def sets_in(folder: Path) -> dict[str, list[tuple[str, Path]]]:
    """(coin, file) of all bar files by set, as `hyperliquid_perp 15m`."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if named := _FILE.fullmatch(path.name):
            found.setdefault(f"{named['set']} {named['bar']}", []).append((named["coin"], path))
    return found


def folds_of(files: Sequence[tuple[str, Path]], rules: KernelRules, edges: Edges = FOLDS) -> list[Fold]:
    """The folds of one set; a coin without bars in both parts of a fold sits it out."""
    coins = [read_coin(coin, path, rules) for coin, path in files]
    times = np.sort(np.concatenate([coin.series.open_ms for coin in coins]))
    folds = []
    for learned, tested_to in edges:
        split_ms, end_ms = (int(times[min(len(times) - 1, int(len(times) * at))]) for at in (learned, tested_to))
        end_ms += tested_to == 1.0
        tested = []
        for coin in coins:
            split, end = (int(row) for row in np.searchsorted(coin.series.open_ms, [split_ms, end_ms]))
            tested.append(TestedCoin(coin, split, split, end))
        folds.append(tuple(one for one in tested if one.train_stop > 1_000 and one.last - one.first > 100))
    return folds


def read_coin(coin: str, path: Path, rules: KernelRules) -> CoinData:
    """All bars of one file and the funding that was settled, where a file beside it knows."""
    venue = path.name.split("_")[0]
    settled = path.parent / f"{venue}_funding_{coin}.parquet"
    known = "_perp_" in path.name and settled.exists()
    funding = read_funding(settled, Coin(coin)) if known else None
    return CoinData(read_bars(path, Coin(coin)), rules, funding, CONSTANT_RATE)


def real_rows(
    folder: Path,
    seeds: int,
    budget_s: float,
    only: str = "",
    entries: Sequence[str] = tuple(ENTRIES),
    edges: Edges = FOLDS,
) -> Iterator[tuple[str, ...]]:
    """Rows under HEADER for every set whose name begins with `only`."""
    warm_up(SETTINGS)
    for title, files in sets_in(folder).items():
        if not title.startswith(only):
            continue
        for style in entries:
            folds = folds_of(files, ENTRIES[style], edges)
            for name, walks in _policies(folds, seeds, budget_s):
                yield (title, style, str(max(len(fold) for fold in folds)), *figures(name, walks))


def _policies(folds: Sequence[Fold], seeds: int, budget_s: float) -> Iterator[tuple[str, list[Walk]]]:
    for name in RULES_OF_THUMB:
        yield name, [walk_rule(coin, name) for fold in folds for coin in fold]
    singles: list[list[Walk]] = [[] for _ in range(seeds)]
    passed: list[list[Walk]] = [[] for _ in range(seeds)]
    together: list[Walk] = []
    promoted: list[Walk] = []
    for fold in folds:
        results = [learn(fold, seed, budget_s) for seed in range(seeds)]
        healthy = [all(finding.healthy for finding in result.health) for result in results]
        for seed, result in enumerate(results):
            walks = [walk_models(coin, [result]) for coin in fold]
            singles[seed] += walks
            passed[seed] += walks if healthy[seed] else [stay_out(coin) for coin in fold]
        together += [walk_models(coin, results) for coin in fold]
        kept = [result for result, sound in zip(results, healthy, strict=True) if sound]
        promoted += [walk_models(coin, kept) if kept else stay_out(coin) for coin in fold]
    yield from median_and_worst("learned", singles)
    yield f"learned, Q averaged over {seeds} seeds", together
    yield from median_and_worst("learned, refused models stay out", passed)
    yield "learned, Q averaged over those not refused", promoted


def median_and_worst(name: str, singles: Sequence[list[Walk]]) -> Iterator[tuple[str, list[Walk]]]:
    """The seeds' walks in the middle and at the end, by what they earned."""
    ordered = sorted(singles, key=lambda walks: sum(float(walk.net.sum()) for walk in walks))
    yield f"{name}, median of {len(ordered)} seeds", ordered[len(ordered) // 2]
    yield f"{name}, worst of {len(ordered)} seeds", ordered[0]


def learn(fold: Fold, seed: int, budget_s: float, settings: TrainingSettings = SETTINGS) -> TrainingResult:
    """One model on what a fold's training may read."""
    job = TrainingJob(tuple(coin.seen for coin in fold), settings, seed=seed, budget_s=budget_s)
    *_, last = train(job, CpuClock())
    assert isinstance(last, TrainingResult)
    return last


def figures(name: str, walks: Sequence[Walk]) -> tuple[str, ...]:
    """(test days, policy, net, Sharpe with interval, trades) of walks of the same coins one after the other."""
    days = np.unique(np.concatenate([walk.close_ms // 86_400_000 for walk in walks]))
    coins = max(1, round(sum(len(walk.net) for walk in walks) / max(len(walk.net) for walk in walks)))
    daily = daily_returns(walks)
    moments, interval = moments_of(daily), sharpe_interval(daily, seed=1)
    year, shown = math.sqrt(365.0), "n/a"
    if moments is not None and interval is not None:
        shown = f"{moments.sharpe * year:.2f} ({interval.low * year:.1f} to {interval.high * year:.1f})"
    net = sum(float(walk.net.sum()) for walk in walks) / coins
    return str(len(days)), name, f"{net:+.2%}", shown, str(sum(len(walk.trade_nets) for walk in walks))


def walk_models(coin: TestedCoin, results: Sequence[TrainingResult], min_q_gap: float = 0.0) -> Walk:
    """The greedy policy of the models' mean Q values over a coin's test."""
    network = QNetwork(FEATURE_COUNT, SETTINGS.lstm_hidden, SETTINGS.lstm_layers, SETTINGS.head_hidden, seed=0)
    heads = [CompiledWeights.from_arrays(result.weights) for result in results]
    parts = []
    for start, stop in coin.spans:
        warm, shares = coin.warm_from(start), []
        for result in results:
            load_weights(network, result.weights)
            scaled = result.dataset.scaler.apply(coin.frame.values[warm:stop])
            shares.append(encode_chunked(network, scaled, torch.device("cpu"))[start - warm :])
        rules = coin.data.rules.as_record()
        parts.append(greedy_walk(coin.market, rules, start, np.stack(shares), heads, min_q_gap))
    return joined(parts)


@compiled()
def _walk_signal(bars: Any, rules: Any, start: int, signal: Any, state: Any, net: Any, closed: Any) -> None:
    rule, s = rules[0], state[0]
    steps = np.zeros(1, STEP_DTYPE)
    for i in range(signal.shape[0]):
        last = i == signal.shape[0] - 1
        if last and s.side == 0:
            continue
        t, step = start + i, steps[0]
        advance(bars[: t + 1] if last else bars, rule, t, signal[i], s, step)
        net[i] = step.net
        if step.exit_reason != 0:
            closed[i] = step.closed_net


def walk_rule(coin: TestedCoin, name: str) -> Walk:
    """A simple rule: long for good; or with, or against, the distance of the 7-bar from the 50-bar mean."""
    lean = np.nan_to_num(coin.frame.values[:, FEATURES.index("sma_7_50")])
    sign = {"buy and hold": np.ones_like(lean), "momentum": lean, "reversion": -lean}[name]
    actions = np.where(sign > 0.0, 1, np.where(sign < 0.0, 2, 0)).astype(np.int8)
    parts = []
    for start, stop in coin.spans:
        net, closed = np.zeros(stop - start), np.full(stop - start, np.nan)
        rules = coin.data.rules.as_record()
        state = flat_positions(1)
        _walk_signal(coin.market.bars, rules, start, actions[start:stop], state, net, closed)
        parts.append(walk_of(net, closed[np.isfinite(closed)], coin.market, start))
    return joined(parts)


def walk_of(net: Floats, closed: Floats, market: Market, start: int) -> Walk:
    """A walk of which only the money is known."""
    n = len(net)
    close_ms = market.open_ms[start : start + n] + 2 * market.interval_ms
    return Walk(net, np.zeros(n, np.int8), np.zeros((n, 3)), closed, net, close_ms, np.zeros(n, np.int8))


def stay_out(coin: TestedCoin) -> Walk:
    """No position in a coin's whole test: what an engine does with a model that its health refuses."""
    return joined([walk_of(np.zeros(stop - start), np.zeros(0), coin.market, start) for start, stop in coin.spans])


def joined(parts: Sequence[Walk]) -> Walk:
    """Walks of one coin, one after the other."""
    names = ("net", "actions", "q", "trade_nets", "reward", "close_ms", "sides")
    return Walk(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
