"""What a policy is held against: simple rules and chance, on the same bars, at the same costs.

They run on the compiled path (evaluation/ground.py), of one coin or of several on one account; where a setting is in
force that it does not know, the caller runs them through the core instead. Chance trades as much as the policy: as many
round trips and the same turnover; then many such runs say how often luck alone ends with more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from aml100.domain.events import TradeClosed
from aml100.domain.orders import Fill
from aml100.evaluation.course import Actions, Course, fills_of, trades_of
from aml100.evaluation.ground import Ground
from aml100.evaluation.kernel import KernelRules
from aml100.evaluation.metrics import RunRecord
from aml100.evaluation.transition import BUY, SELL, TAKE_PROFIT, Records

COMPARED: Final = ("flat", "buy-and-hold", "momentum", "mean-reversion", "random")
LUCK_RUNS: Final = 200
_SEARCH_STEPS: Final = 12
_ROUNDS: Final = 5
_CLOSE: Final = 0.005
"""Of the turnover: nearer to it nobody looks."""
_SMALLEST: Final = 0.1
_LARGEST: Final = 1.5
"""Of the usual size; more than confidence could make of it might need margin that is not there."""


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


def random_signals(ground: Ground, share: float, seed: int) -> list[Actions]:
    """Buys and sells at random on a share of the deciding bars, int8 [rows] for each coin."""
    generator = np.random.default_rng(seed)
    signals = []
    for course in ground.courses:
        acts = generator.random(len(course.series)) < share
        sides = generator.integers(BUY, SELL + 1, len(course.series), dtype=np.int8)
        signals.append(np.where(acts & course.decides, sides, np.int8(0)))
    return signals


@dataclass(frozen=True, slots=True)
class Chance:
    """Chance that trades as much as a policy: on a `share` of the deciding bars, `size` times the usual size."""

    share: float
    size: float
    seed: int


def matched_chance(
    ground: Ground, kernels: Sequence[KernelRules], trades: int, turnover: float, seed: int, deposit: float
) -> Chance:
    """Chance with about as many round trips, and the same turnover (notional of all fills / mean equity).

    The share of acting bars is searched by the trades, the size by the turnover: a policy whose confidence sizes its
    entries turns over more or less than the same number of usual ones. Smaller sizes lose less and are paused less by
    the breaker, so the two are searched in turn until both fit.
    """
    chance = Chance(0.0, 1.0, seed)
    if trades == 0:
        return chance
    for _ in range(_ROUNDS):
        chance = replace(chance, share=_share_for(ground, kernels, trades, chance, deposit))
        made = ground.play(kernels, random_signals(ground, chance.share, seed), deposit, chance.size)
        if made.count == 0 or abs(made.turnover - turnover) <= _CLOSE * turnover:
            break
        size = min(max(chance.size * turnover / made.turnover, _SMALLEST), _LARGEST)
        if size == chance.size:
            break
        chance = replace(chance, size=size)
    return chance


def _share_for(ground: Ground, kernels: Sequence[KernelRules], trades: int, chance: Chance, deposit: float) -> float:
    """The share of acting bars at which chance of this size closes nearest to so many trades."""
    low, high, best, least = 0.0, 1.0, 1.0, math.inf
    for _ in range(_SEARCH_STEPS):
        share = (low * high) ** 0.5 if low > 0.0 else high / 8.0
        made = ground.play(kernels, random_signals(ground, share, chance.seed), deposit, chance.size).count
        if abs(made - trades) < least:
            best, least = share, abs(made - trades)
        if made == trades:
            break
        low, high = (share, high) if made < trades else (low, share)
    return best


@dataclass(frozen=True, slots=True)
class Luck:
    """How chance did that trades as much: `better` is the share of runs that ended with more equity.

    `trades` and `turnover` are the medians of those runs.
    """

    runs: int
    better: float
    median_return: float
    chance: Chance
    trades: float
    turnover: float


def luck_of(
    ground: Ground,
    kernels: Sequence[KernelRules],
    chance: Chance,
    final_equity: float,
    deposit: float,
    runs: int,
    on_run: Callable[[int], None] | None = None,
) -> Luck:
    """Many runs of chance against the equity that a policy ended with; `on_run` is told how many are done."""
    found = np.empty((runs, 3))
    for number in range(runs):
        signals = random_signals(ground, chance.share, chance.seed + 1 + number)
        played = ground.play(kernels, signals, deposit, chance.size)
        found[number] = played.equity[-1], played.count, played.turnover
        if on_run is not None:
            on_run(number + 1)
    final, trades, turnover = np.median(found, axis=0).tolist()
    better = float(np.mean(found[:, 0] > final_equity))
    return Luck(runs, better, final / deposit - 1.0, chance, trades, turnover)


def _slippage_usd(trades: Records, slippage: float) -> float:
    """What market fills cost against the price before slippage, USD; a resting entry and a target have none."""
    size, side = trades["size"], trades["side"]
    entries = size * trades["entry_price"] * slippage / (1.0 + side * slippage)
    exits = size * trades["exit_price"] * slippage / (1.0 - side * slippage)
    return float(entries[trades["is_maker"] == 0].sum() + exits[trades["exit_reason"] != TAKE_PROFIT].sum())


def signal_record(
    ground: Ground,
    kernels: Sequence[KernelRules],
    signals: Sequence[Actions],
    deposit: float,
    policy: str,
    origin: str,
    sha256: str | None,
    size: float = 1.0,
) -> RunRecord:
    """Play signals, one a coin, and keep what the figures need."""
    played = ground.play(kernels, signals, deposit, size)
    decided = np.concatenate([one[course.decides] for one, course in zip(signals, ground.courses, strict=True)])
    trades: list[TradeClosed] = []
    fills: list[Fill] = []
    funding = slippage = 0.0
    for course, rules, made in zip(ground.courses, kernels, played.trades, strict=True):
        trades += trades_of(made, course.series, rules.slippage)
        fills += fills_of(made, course.series, rules.slippage)
        funding += float(made["funding"].sum())
        slippage += _slippage_usd(made, rules.slippage)
    return RunRecord(
        open_ms=ground.open_ms,
        equity=played.equity,
        exposed=played.exposed,
        interval_ms=ground.courses[0].series.interval_ms,
        initial_equity=deposit,
        trades=sorted(trades, key=lambda one: one.exit_ms),
        fills=sorted(fills, key=lambda one: one.time_ms),
        actions=(int(np.sum(decided == 0)), int(np.sum(decided == BUY)), int(np.sum(decided == SELL))),
        funding_usd=funding,
        slippage_usd=slippage,
        policy=policy,
        model=None,
        data_origin=origin,
        data_sha256=sha256,
    )
