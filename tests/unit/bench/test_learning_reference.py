"""The yardstick itself: nothing that sees only prices earns more, and where there is nothing to earn it stays out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.bench.learning_markets import (
    MARKETS,
    PLANTED_RULES,
    PULLED,
    mean_reverting,
    random_walk,
    signalled,
    trending,
)
from aml100.bench.learning_measure import FRESH_SEED, Fresh
from aml100.bench.learning_reference import (
    BELIEFS,
    Belief,
    believe_mean_reverting,
    believe_signalled,
    believe_trending,
    luck_of,
    optimal_actions,
    walk_reference,
)
from aml100.evaluation.kernel import Market
from aml100.evaluation.oracle import best_in_hindsight
from aml100.learning.acting import Walk

FEE = PLANTED_RULES.taker_fee


@pytest.mark.parametrize("name", list(MARKETS))
def test_hindsight_earns_more_and_half_the_edge_earns_less(name: str) -> None:
    earned = []
    for strength in (0.5, 1.0):
        series = MARKETS[name](60_000, 7, strength)
        best = walk_reference(series, BELIEFS[name](series, strength), 300)
        assert best.total < best_in_hindsight(Market.from_series(series), PLANTED_RULES).profit
        earned.append(best.total)
    assert 0.0 < earned[0] < earned[1]


def test_no_threshold_on_the_same_estimate_does_better() -> None:
    """Enter beyond a threshold of the Kalman estimate, leave at another: the best of a grid, chosen with hindsight."""
    series = mean_reverting(200_000, 11)
    belief = believe_mean_reverting(series, 1.0)
    best = walk_reference(series, belief, 300)
    returns = np.append(np.diff(np.log(series.close[299:])), 0.0)[1:]
    found = []
    for enter in (0.002, 0.003, 0.004, 0.005):
        for leave in (-0.001, 0.0, 0.001):
            held = _thresholds(belief.values[300:], enter, leave)
            turns = np.abs(np.diff(held, prepend=0.0))
            found.append(float((held[: len(returns)] * returns).sum() - FEE * turns.sum()))
    assert best.total > 0.97 * max(found)


def _thresholds(estimate: np.ndarray, enter: float, leave: float) -> np.ndarray:
    held, side = np.empty(len(estimate)), 0
    for i, value in enumerate(estimate):
        if side == 0:
            side = -1 if value > enter else (1 if value < -enter else 0)
        elif side * value > -leave:
            side = 0
        held[i] = side
    return held


def test_the_estimate_is_unbiased_and_as_good_as_theory_says() -> None:
    """Regressing the next returns on what the belief expects of them gives a slope of 1."""
    for series, belief in (
        (s := mean_reverting(200_000, 3), believe_mean_reverting(s, 1.0)),
        (s := trending(200_000, 3), believe_trending(s, 1.0)),
        (s := signalled(200_000, 3), believe_signalled(s, 1.0)),
    ):
        expected = np.interp(belief.values[300:-1], belief.grid, belief.gain)
        came = np.expm1(np.diff(np.log(series.close))[300:])
        slope = float(np.cov(expected, came)[0, 1] / expected.var())
        assert slope == pytest.approx(1.0, abs=0.12), series.origin


@pytest.mark.parametrize("name", list(MARKETS))
def test_profit_without_luck_is_the_same_on_average_and_steadier(name: str) -> None:
    """On 16 parts of a tape: the luck taken out sums to nothing worth mention, and the parts differ far less."""
    series = MARKETS[name](320_300, 13, 1.0)
    belief = BELIEFS[name](series, 1.0)
    best, luck = walk_reference(series, belief, 300), luck_of(series, belief, 300)
    parts = np.array_split(best.net, 16), np.array_split(best.net - best.held * luck, 16)
    whole, steady = (np.array([part.sum() for part in side]) for side in parts)
    assert abs(whole.sum() - steady.sum()) < 4.0 * whole.std() * 4.0  # four standard errors of a sum of 16
    assert steady.std() < 0.9 * whole.std()  # what is left: there is more to earn in one part than in another
    assert (steady > 0.0).all()


def test_without_an_edge_the_best_policy_never_trades() -> None:
    grid = np.linspace(-1.0, 1.0, 11)
    nothing = Belief(np.zeros(1), grid, np.full((11, 11), 1 / 11), np.zeros(11), np.zeros(11))
    table = optimal_actions(nothing, FEE)
    assert (table == 0).all()
    sure = replace(nothing, gain=np.full(11, 0.01), loss=np.full(11, -0.01))
    assert (optimal_actions(sure, FEE)[0] == 1).all()  # flat: buy
    assert (optimal_actions(sure, FEE)[2] == 1).all()  # short: buy back


def test_markets_are_the_same_for_the_same_seed_and_have_the_edge_that_they_name() -> None:
    assert (mean_reverting(500, 1).close == mean_reverting(500, 1).close).all()
    assert (mean_reverting(500, 1).close != mean_reverting(500, 2).close).any()
    returns = np.diff(np.log(mean_reverting(400_000, 5).close))
    # one bar's variance: the pulled part moves by 2 (1 - keep) sd^2, the walk adds its own
    expected = 2.0 * (1.0 - PULLED.keep) * PULLED.pulled_sd**2 + PULLED.walk_sd**2
    assert returns.var() == pytest.approx(expected, rel=0.02)
    walk = np.diff(np.log(random_walk(100_000, 5).close))
    assert abs(np.corrcoef(walk[1:], walk[:-1])[0, 1]) < 0.01
    volume = np.log(signalled(100_000, 5).volume)
    assert np.corrcoef(volume[1:], volume[:-1])[0, 1] == pytest.approx(0.5 ** (1 / 20), abs=0.01)


def test_fresh_bars_of_a_walk_have_nothing_to_earn() -> None:
    assert np.isnan(Fresh.of("random-walk", bars=2_000).reference)
    assert Fresh.of("trending", bars=20_000).reference > 0.0


def test_a_share_of_one_is_the_best_policys_own_sides_and_holding_for_good_is_worth_little() -> None:
    """However far the price has grown: a long that is never left earns what its side is worth a bar, not a fortune."""
    fresh = Fresh.of("trending", 2.0, bars=120_000)
    series = trending(120_000, FRESH_SEED, 2.0)
    best = walk_reference(series, BELIEFS["trending"](series, 2.0), fresh.first)
    before = np.append(np.int8(0), best.held[:-1])
    nothing = np.zeros(len(before))
    walk = Walk(nothing, before, np.zeros((len(before), 3)), nothing, nothing, before.astype(np.int64), before)
    assert fresh.earned(walk) == pytest.approx(fresh.reference, rel=1e-3)
    for side in (1, -1):
        for_good = replace(walk, sides=np.full(len(before), side, np.int8))
        assert abs(fresh.earned(for_good)) < 0.1 * fresh.reference
    assert fresh.earned(replace(walk, sides=np.zeros(len(before), np.int8))) == 0.0
