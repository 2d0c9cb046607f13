"""A walk's figures by hand, and health checks that name what is wrong (B15)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.evaluation.kernel import KernelRules, Market
from aml100.learning.acting import Walk, greedy_walk, random_positions
from aml100.learning.inference import CompiledWeights
from aml100.learning.scores import Validation, policy_health, summarise
from tests.unit.learning.planted import series_of
from tests.unit.learning.test_bundle import constant_network

WALK = Walk(
    net=np.array([0.01, -0.02, 0.03, 0.0]),
    actions=np.array([1, 0, 0, 2], np.int8),
    q=np.array([[0.0, 1.0, -3.0]] * 4),
    trade_nets=np.array([-0.01, 0.03]),
)
SOUND = summarise([WALK], 1.0)


def test_figures_of_a_walk_by_hand() -> None:
    assert SOUND.net_return == pytest.approx(0.02)
    # mean 0.005; squared deviations 0.25, 6.25, 6.25, 0.25 e-4: variance 3.25e-4; times 4 bars
    assert SOUND.net_stderr == pytest.approx((4 * 3.25e-4) ** 0.5)
    assert SOUND.score == pytest.approx(0.02 - (13e-4) ** 0.5)
    assert (SOUND.trades, SOUND.win_rate_frac, SOUND.largest_q) == (2, 0.5, 3.0)
    assert SOUND.profit_factor == pytest.approx(3.0)
    assert (SOUND.hold_share, SOUND.buy_share, SOUND.sell_share) == (0.5, 0.25, 0.25)


def test_never_trading_scores_nothing_and_has_no_ratios() -> None:
    idle = summarise([Walk(np.zeros(5), np.zeros(5, np.int8), np.zeros((5, 3)), np.zeros(0))], 1.0)
    assert (idle.score, idle.trades, idle.win_rate_frac, idle.profit_factor) == (0.0, 0, None, None)


@pytest.mark.parametrize(
    ("changes", "best", "name"),
    [
        ({"buy_share": 0.99}, 0.1, "constant_action"),
        ({"trades": 0}, 0.1, "never_trades"),
        ({"largest_q": 11_000.0}, 0.1, "exploding_q"),
        ({"largest_q": float("nan")}, 0.1, "not_finite"),
        ({"score": -0.1}, 0.0, "no_edge"),
    ],
)
def test_unhealthy_policies_are_refused_by_name(changes: dict[str, float], best: float, name: str) -> None:
    """B15."""
    sound = replace(SOUND, score=0.1)
    assert all(finding.healthy for finding in policy_health(sound, 0.1, weights_finite=True, gamma=0.999))
    chosen: Validation = replace(sound, **changes)  # type: ignore[arg-type]
    findings = policy_health(chosen, best, weights_finite=True, gamma=0.999)
    assert name in [finding.name for finding in findings if not finding.healthy]


def test_a_walk_is_charged_fees_and_closed_at_its_last_close() -> None:
    """A policy that always buys: in at the second open, out at the last close, a fee each way."""
    close = np.array([100.0, 100.0, 110.0, 121.0, 121.0])
    rules = KernelRules(take_profit=0.0, stop_loss=0.0, taker_fee=0.001, slippage=0.0, max_hold=0)
    weights = CompiledWeights.from_arrays(constant_network(0.0, 1.0, 0.0))
    share = np.zeros((4, 4), np.float32)
    walk = greedy_walk(Market.from_series(series_of(close)), rules.as_record(), 0, share, weights, 0.0)
    # entered at the open of bar 1 (100), last decision row 3: closed at its close (121); fees on 100 and 121
    assert walk.net.sum() == pytest.approx(0.21 - 0.001 - 0.00121)
    assert walk.trade_nets == pytest.approx([0.21 - 0.001 - 0.00121])


def test_drawn_positions_lie_between_stop_and_target() -> None:
    market = Market.from_series(series_of(np.full(300, 100.0)))
    rules = KernelRules(take_profit=0.018, stop_loss=0.006).as_record()
    rows = np.arange(300)
    for side in (1, -1):
        drawn = random_positions(market, rules, rows, np.full(300, side, np.int8), 0.01, np.random.default_rng(0))
        assert (side * (100.0 - drawn["stop"]) > 0).all()
        assert (side * (drawn["target"] - 100.0) > 0).all()
        assert drawn["bars_held"].min() >= 1
        assert drawn["bars_held"].max() <= 720
