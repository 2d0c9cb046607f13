"""The hindsight optimum is reached by its own actions in the kernel, and no action sequence beats it."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml100.domain.units import Coin
from aml100.evaluation.kernel import STEP_DTYPE, KernelRules, Market, flat_positions, step_batch
from aml100.evaluation.oracle import best_in_hindsight
from aml100.market.features import FEATURES
from aml100.market.series import BarSeries


def tape(seed: int, n: int, width: float, *, knows_atr: bool = False) -> Market:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, width, n)))
    opening = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0.0, width / 4, n))
    open_ms = 3_600_000 * np.cumsum(rng.choice([1, 3], n, p=[0.85, 0.15])).astype(np.int64)
    high, low = np.maximum(opening, close), np.minimum(opening, close)
    series = BarSeries(Coin("X"), 3_600_000, "synthetic:test", open_ms, opening, high, low, close, np.ones(n))
    features = np.zeros((n, len(FEATURES)))
    features[:, FEATURES.index("atr_14")] = np.abs(rng.normal(0.0, width, n))
    market = Market.from_series(series, features=features if knows_atr else None)
    market.bars["funding"] = rng.normal(0.0, 0.002, n)
    return market


def earned(market: Market, rules: KernelRules, actions: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Net profit of many action sequences [N, T], each over the whole market."""
    states = flat_positions(len(actions))
    steps = np.empty(len(actions), STEP_DTYPE)
    total = np.zeros(len(actions))
    record = rules.as_record()
    for t in range(len(market)):
        column = np.ascontiguousarray(actions[:, t])
        total += step_batch(market, record, np.full(len(actions), t), states, column, steps)["net"]
    return total


def bare(reverse: bool, decision_bars: int = 1, fee: float = 0.002) -> KernelRules:
    return KernelRules(
        take_profit=0.0,
        stop_loss=0.0,
        max_hold=0,
        taker_fee=fee,
        slippage=0.001,
        reverse_on_opposite=reverse,
        decision_bars=decision_bars,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([1, 1, 2]), st.sampled_from([0.002, 0.01, 0.3]))
def test_no_sequence_of_actions_beats_the_oracle_and_its_own_reaches_it(
    seed: int, reverse: bool, decision_bars: int, width: float
) -> None:
    market, rules = tape(seed, 8, width), bare(reverse, decision_bars)
    every = np.array(list(itertools.product(range(3), repeat=7)), np.int8)
    every = np.concatenate([every, np.zeros((len(every), 1), np.int8)], axis=1)
    answer = best_in_hindsight(market, rules)
    assert answer.profit == pytest.approx(earned(market, rules, every).max(), rel=1e-9, abs=1e-12)
    assert earned(market, rules, answer.actions[None])[0] == pytest.approx(answer.profit, rel=1e-9, abs=1e-12)


def test_a_long_path_is_solved_and_its_actions_earn_what_it_says() -> None:
    market, rules = tape(7, 20_000, 0.01), bare(reverse=True)
    answer = best_in_hindsight(market, rules)
    assert answer.trades > 1_000
    assert earned(market, rules, answer.actions[None])[0] == pytest.approx(answer.profit, rel=1e-9)


def test_it_holds_still_where_costs_exceed_every_move() -> None:
    answer = best_in_hindsight(tape(3, 500, 1e-5), bare(reverse=True, fee=0.2))
    assert (answer.profit, answer.trades) == (0.0, 0)
    assert not answer.actions.any()


protected = st.builds(
    KernelRules,
    take_profit=st.sampled_from([0.0, 0.01, 0.03]),
    stop_loss=st.sampled_from([0.0, 0.006, 0.02]),
    max_hold=st.sampled_from([1, 2, 4]),
    taker_fee=st.sampled_from([0.0, 0.002]),
    slippage=st.sampled_from([0.0, 0.001]),
    reverse_on_opposite=st.booleans(),
    decision_bars=st.sampled_from([1, 1, 2]),
)


def ranging(market: Market, seed: int, width: float) -> Market:
    """The same bars with ranges beyond open and close."""
    spread = np.abs(np.random.default_rng(seed).normal(0.0, width / 2, (2, len(market))))
    market.bars["high"] *= 1.0 + spread[0]
    market.bars["low"] *= 1.0 - spread[1]
    return market


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), protected, st.sampled_from([0.005, 0.02]))
def test_under_stop_target_and_time_exit_too_no_sequence_beats_it_and_its_own_reaches_it(
    seed: int, rules: KernelRules, width: float
) -> None:
    market = ranging(tape(seed, 8, width), seed, width)
    every = np.array(list(itertools.product(range(3), repeat=7)), np.int8)
    every = np.concatenate([every, np.zeros((len(every), 1), np.int8)], axis=1)
    answer = best_in_hindsight(market, rules)
    assert answer.profit == pytest.approx(earned(market, rules, every).max(), rel=1e-9, abs=1e-12)
    assert earned(market, rules, answer.actions[None])[0] == pytest.approx(answer.profit, rel=1e-9, abs=1e-12)


optional = st.builds(
    KernelRules,
    take_profit=st.sampled_from([0.0, 0.03]),
    stop_loss=st.sampled_from([0.0, 0.006, 0.02]),
    max_hold=st.sampled_from([0, 2, 4]),
    taker_fee=st.sampled_from([0.0, 0.002]),
    maker_fee=st.sampled_from([0.0, 0.001]),
    slippage=st.sampled_from([0.0, 0.001]),
    reverse_on_opposite=st.booleans(),
    decision_bars=st.sampled_from([1, 1, 2]),
    entry_style=st.sampled_from(["taker", "maker", "maker_then_taker"]),
    maker_timeout_bars=st.sampled_from([1, 2]),
    atr_stop=st.sampled_from([0.0, 0.8]),
    trailing_stop=st.sampled_from([0.0, 0.01]),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), optional, st.sampled_from([0.005, 0.02]))
def test_under_resting_entries_and_moving_stops_no_sequence_beats_it_and_its_own_reaches_it(
    seed: int, rules: KernelRules, width: float
) -> None:
    market = ranging(tape(seed, 8, width, knows_atr=True), seed, width)
    every = np.array(list(itertools.product(range(3), repeat=7)), np.int8)
    every = np.concatenate([every, np.zeros((len(every), 1), np.int8)], axis=1)
    answer = best_in_hindsight(market, rules)
    best = earned(market, rules, every).max()
    if rules.entry_style == "taker" or not rules.reverse_on_opposite:
        assert answer.profit == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert answer.profit <= best + 1e-12  # turning into an entry that never fills, only to get out, is not looked at
    assert earned(market, rules, answer.actions[None])[0] == pytest.approx(answer.profit, rel=1e-9, abs=1e-12)


def test_only_bars_that_decide_are_used() -> None:
    market = tape(9, 400, 0.01)
    decides = np.arange(400) % 7 == 3
    for rules in (KernelRules(), bare(reverse=False)):
        answer = best_in_hindsight(market, rules, decides)
        assert answer.trades > 5
        assert not answer.actions[~decides].any()
        assert answer.profit <= best_in_hindsight(market, rules).profit
