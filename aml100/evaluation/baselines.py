"""What a policy is held against: simple rules and chance, on the same bars, at the same costs.

They run on the compiled path (evaluation/course.py); where a setting is in force that it does not know, the caller runs
them through the core instead. Chance trades as often as the policy:
its share of acting bars is searched until it closes as many trades, then many such runs say how often luck alone ends
with more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from aml100.evaluation.course import Actions, Course, fills_of, trades_of
from aml100.evaluation.kernel import KernelRules
from aml100.evaluation.metrics import FileSpan, RunRecord
from aml100.evaluation.transition import BUY, SELL, TAKE_PROFIT, Records

COMPARED: Final = ("flat", "buy-and-hold", "momentum", "mean-reversion", "random")
LUCK_RUNS: Final = 200
_SEARCH_STEPS: Final = 12


def signal_of(name: str, course: Course) -> Actions:
    """The actions of a baseline that looks at features only, int8 [T]; HOLD where nothing is decided."""
    actions = np.zeros(len(course.series), np.int8)
    if name == "buy-and-hold":
        actions[:] = BUY
    elif name == "momentum":
        move, sd = course.column("ret_60"), course.column("vol_60") * 60**0.5
        actions[move > 2 * sd] = BUY
        actions[move < -2 * sd] = SELL
    elif name == "mean-reversion":
        z = course.column("bollinger_z")
        actions[z < -2] = BUY
        actions[z > 2] = SELL
    elif name != "flat":
        raise ValueError(f"no signal {name!r}; allowed: flat, buy-and-hold, momentum, mean-reversion")
    actions[~course.decides] = 0
    return actions


def random_signal(course: Course, share: float, seed: int) -> Actions:
    """Buys and sells at random on a share of the deciding bars, int8 [T]."""
    generator = np.random.default_rng(seed)
    acts = generator.random(len(course.series)) < share
    sides = generator.integers(BUY, SELL + 1, len(course.series), dtype=np.int8)
    return np.where(acts & course.decides, sides, np.int8(0))


def share_for_trades(course: Course, rules: KernelRules, trades: int, seed: int, deposit: float) -> float:
    """The share of acting bars at which chance closes about `trades` trades; 0 for none."""
    if trades == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_SEARCH_STEPS):
        middle = (low * high) ** 0.5 if low > 0.0 else high / 8.0
        made = len(course.play(rules, random_signal(course, middle, seed), deposit).trades)
        if made == trades:
            return middle
        low, high = (middle, high) if made < trades else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class Luck:
    """How chance did that trades as often: `better` is the share of runs that ended with more equity."""

    runs: int
    better: float
    median_return: float
    share: float
    seed: int


def luck_of(
    course: Course,
    rules: KernelRules,
    share: float,
    final_equity: float,
    seed: int,
    deposit: float,
    runs: int,
    on_run: Callable[[int], None] | None = None,
) -> Luck:
    """Many runs of chance against the equity that a policy ended with; `on_run` is told how many are done."""
    finals = np.empty(runs)
    for number in range(runs):
        signal = random_signal(course, share, seed + 1 + number)
        finals[number] = course.play(rules, signal, deposit).equity[-1]
        if on_run is not None:
            on_run(number + 1)
    return Luck(runs, float(np.mean(finals > final_equity)), float(np.median(finals)) / deposit - 1.0, share, seed)


def _slippage_usd(trades: Records, slippage: float) -> float:
    """What market fills cost against the price before slippage, USD; a resting entry and a target have none."""
    size, side = trades["size"], trades["side"]
    entries = size * trades["entry_price"] * slippage / (1.0 + side * slippage)
    exits = size * trades["exit_price"] * slippage / (1.0 - side * slippage)
    return float(entries[trades["is_maker"] == 0].sum() + exits[trades["exit_reason"] != TAKE_PROFIT].sum())


def signal_record(
    course: Course, rules: KernelRules, actions: Actions, deposit: float, policy: str, origin: str, sha256: str | None
) -> RunRecord:
    """Play a signal and keep what the figures need."""
    series = course.series
    result = course.play(rules, actions, deposit)
    decided = actions[course.decides]
    trades = result.trades
    return RunRecord(
        open_ms=series.open_ms,
        equity=result.equity,
        exposed=result.position != 0.0,
        interval_ms=series.interval_ms,
        initial_equity=deposit,
        trades=trades_of(result, series, rules.slippage),
        fills=fills_of(result, series, rules.slippage),
        actions=(int(np.sum(decided == 0)), int(np.sum(decided == BUY)), int(np.sum(decided == SELL))),
        funding_usd=float(trades["funding"].sum()),
        slippage_usd=_slippage_usd(trades, rules.slippage),
        policy=policy,
        model=None,
        data_origin=origin,
        data_sha256=sha256,
        file=FileSpan(int(series.open_ms[0]), int(series.open_ms[-1]) + series.interval_ms, len(series)),
    )
