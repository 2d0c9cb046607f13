"""Real bars: trained on the first part of the time, looked at on the last, which no part of a training has seen.

The coins of a set are pooled into one model; a portfolio holds one unit of notional a coin. Entries and exits pay the
fee and slippage named; `maker` fills at the next open at the maker's fee without slippage, which is optimistic, since
whoever rests an order is filled first where the price goes against it. Stop, target and time exit are off, so that the
learned exits are seen. Funding is what was settled where it is known, else 0.01 % per 8 hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numba import njit

from aml100.bench.learning_measure import RECIPE, CpuClock
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
from aml100.learning.trainer import train
from aml100.learning.validation import encode_chunked, load_weights
from aml100.market.features import FEATURE_COUNT, FEATURES, compute_features
from aml100.market.series import BarSeries, Floats
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars

TAKER: Final = KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0)
MAKER: Final = replace(TAKER, taker_fee=0.00015, slippage=0.0)
TEST_SHARE: Final = 0.3
BUDGET_S: Final = 15.0
CONSTANT_RATE: Final = 0.0001 / 8
SETS: Final = (
    ("hyperliquid 15m", "hyperliquid_perp", "15m", ("BTC", "ETH", "SOL", "XRP", "DOGE", "HYPE")),
    ("hyperliquid 1h", "hyperliquid_perp", "1h", ("BTC", "ETH", "SOL", "XRP", "DOGE", "HYPE")),
    ("binance spot 1h", "binance_spot", "1h", ("BTC", "ETH", "SOL", "XRP", "DOGE")),
)
SETTINGS: Final = replace(
    RECIPE, lstm_hidden=48, head_hidden=48, input_noise=0.3, weight_decay=1e-2, cosine_t_0=20, updates_per_epoch_max=60
)


@dataclass(frozen=True, slots=True, eq=False)
class RealTable:
    """One test: what was earned, in units of one notional a coin, and its daily Sharpe ratio, annualised."""

    HEADER: ClassVar = (
        "bars", "entries", "test days", "policy", "net, mean a coin", "Sharpe (95 % interval)", "trades", "load",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Coin:
    series: BarSeries
    data: CoinData
    first: int


def real_rows(folder: Path, seeds: int) -> Iterator[tuple[str, ...]]:
    """Rows of RealTable, without the load, for all sets that `folder` holds."""
    for title, venue, interval, coins in SETS:
        paths = [(coin, folder / f"{venue}_{coin}_{interval}.parquet") for coin in coins]
        present = [(coin, path) for coin, path in paths if path.exists()]
        if not present:
            continue
        for entries, rules in (("taker", TAKER), ("maker", MAKER)):
            loaded = [_load(folder, venue, coin, path, rules) for coin, path in present]
            for row in _one_set(loaded, rules, seeds):
                yield (title, entries, *row)


def _load(folder: Path, venue: str, coin: str, path: Path, rules: KernelRules) -> CoinData:
    series = read_bars(path, Coin(coin))
    settled = folder / f"hyperliquid_funding_{coin}.parquet"
    known = venue.startswith("hyperliquid") and settled.exists()
    funding = read_funding(settled, Coin(coin)) if known else None
    return CoinData(series, rules, funding, CONSTANT_RATE)


def _one_set(loaded: list[CoinData], rules: KernelRules, seeds: int) -> Iterator[tuple[str, ...]]:
    times = np.sort(np.concatenate([coin.series.open_ms for coin in loaded]))
    split_ms = int(times[int(len(times) * (1.0 - TEST_SHARE))])
    coins = [_Coin(one.series, one, int(np.searchsorted(one.series.open_ms, split_ms))) for one in loaded]
    seen = tuple(replace(one.data, series=one.series.rows(0, one.first)) for one in coins)
    rules_of = {
        name: [_rule_walk(one, rules, name) for one in coins] for name in ("buy and hold", "momentum", "reversion")
    }
    for name, walks in rules_of.items():
        yield _row(name, walks)
    results: list[TrainingResult] = []
    for seed in range(seeds):
        *_, last = train(TrainingJob(seen, SETTINGS, seed=seed, budget_s=BUDGET_S), CpuClock())
        assert isinstance(last, TrainingResult)
        results.append(last)
    single = [[_model_walk(one, rules, [result]) for one in coins] for result in results]
    ordered = sorted(single, key=lambda walks: sum(float(walk.net.sum()) for walk in walks))
    yield _row(f"learned, median of {seeds} seeds", ordered[len(ordered) // 2])
    yield _row(f"learned, worst of {seeds} seeds", ordered[0])
    yield _row(f"learned, mean Q of {seeds} seeds", [_model_walk(one, rules, results) for one in coins])


def _row(name: str, walks: list[Walk]) -> tuple[str, ...]:
    daily = daily_returns(walks) / len(walks)
    net = sum(float(walk.net.sum()) for walk in walks) / len(walks)
    moments, interval = moments_of(daily), sharpe_interval(daily, seed=1)
    year = math.sqrt(365.0)
    shown = "n/a"
    if moments is not None and interval is not None:
        shown = f"{moments.sharpe * year:.2f} ({interval.low * year:.1f} to {interval.high * year:.1f})"
    trades = sum(len(walk.trade_nets) for walk in walks)
    return str(len(daily)), name, f"{net:+.2%}", shown, str(trades)


def _spans(coin: _Coin, valid: Any) -> list[tuple[int, int]]:
    """Contiguous rows of the test part with complete features."""
    spans = []
    for start, stop in coin.series.segments():
        first = max(start, coin.first)
        rows = np.flatnonzero(valid[first:stop]) + first
        if len(rows) > 1:
            spans.append((int(rows[0]), stop))
    return spans


def _model_walk(coin: _Coin, rules: KernelRules, results: list[TrainingResult]) -> Walk:
    frame = compute_features(coin.series, coin.data.funding)
    market = Market.from_series(coin.series, coin.data.funding, coin.data.constant_funding_rate)
    network = QNetwork(FEATURE_COUNT, SETTINGS.lstm_hidden, SETTINGS.lstm_layers, SETTINGS.head_hidden, seed=0)
    parts = []
    for start, stop in _spans(coin, frame.valid):
        before = max(0, start - 512)
        warm = (
            start - int(np.argmin(frame.valid[before:start][::-1])) if not frame.valid[before:start].all() else before
        )
        shares = []
        for result in results:
            load_weights(network, result.weights)
            scaled = result.dataset.scaler.apply(frame.values[warm:stop])
            shares.append(encode_chunked(network, scaled, torch.device("cpu"))[start - warm :])
        heads = [CompiledWeights.from_arrays(result.weights) for result in results]
        parts.append(greedy_walk(market, rules.as_record(), start, np.stack(shares), heads, 0.0))
    return _joined(parts)


@njit(cache=True, nogil=True)
def _walk_signal(bars: Any, rules: Any, start: int, signal: Any, state: Any, net: Any, closed: Any) -> None:
    rule, s = rules[0], state[0]
    step = np.zeros(1, STEP_DTYPE)[0]
    for i in range(signal.shape[0]):
        last = i == signal.shape[0] - 1
        if last and s.side == 0:
            continue
        t = start + i
        advance(bars[: t + 1] if last else bars, rule, t, signal[i], s, step)
        net[i] = step.net
        if step.exit_reason != 0:
            closed[i] = step.closed_net


def _rule_walk(coin: _Coin, rules: KernelRules, name: str) -> Walk:
    """A simple rule: long for good; or with, or against, the distance of the 7-bar from the 50-bar mean."""
    frame = compute_features(coin.series, coin.data.funding)
    market = Market.from_series(coin.series, coin.data.funding, coin.data.constant_funding_rate)
    lean = np.nan_to_num(frame.values[:, FEATURES.index("sma_7_50")])
    sign = {"buy and hold": np.ones_like(lean), "momentum": lean, "reversion": -lean}[name]
    actions = np.where(sign > 0.0, 1, np.where(sign < 0.0, 2, 0)).astype(np.int8)
    parts = []
    for start, stop in _spans(coin, frame.valid):
        net, closed = np.zeros(stop - start), np.full(stop - start, np.nan)
        _walk_signal(market.bars, rules.as_record(), start, actions[start:stop], flat_positions(1), net, closed)
        parts.append(_walk_of(net, closed[np.isfinite(closed)], market, start))
    return _joined(parts)


def _walk_of(net: Floats, closed: Floats, market: Market, start: int) -> Walk:
    n = len(net)
    close_ms = market.open_ms[start : start + n] + 2 * market.interval_ms
    return Walk(net, np.zeros(n, np.int8), np.zeros((n, 3)), closed, net, close_ms, np.zeros(n, np.int8))


def _joined(parts: list[Walk]) -> Walk:
    names = ("net", "actions", "q", "trade_nets", "reward", "close_ms", "sides")
    return Walk(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
