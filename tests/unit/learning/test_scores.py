"""A walk's figures by hand, and health checks that name what is wrong (B15)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.domain.units import HOUR_MS
from aml100.evaluation.kernel import KernelRules, Market
from aml100.learning.acting import Walk, greedy_walk
from aml100.learning.inference import CompiledWeights
from aml100.learning.pricing import random_positions
from aml100.learning.probing import Letting
from aml100.learning.scores import Validation, daily_returns, policy_health, summarise
from tests.unit.learning.planted import series_of
from tests.unit.learning.test_bundle import constant_network


def walk_of(net: list[float], actions: list[int], trade_nets: list[float], step_ms: int = HOUR_MS) -> Walk:
    """One step each `step_ms` from 2023-11-15 00:00 UTC on; the reward is 25 times the money."""
    n = len(net)
    return Walk(
        net=np.array(net),
        actions=np.array(actions, np.int8),
        q=np.array([[0.0, 1.0, -3.0]] * n).reshape(n, 3),
        trade_nets=np.array(trade_nets),
        reward=25.0 * np.array(net),
        close_ms=DAY_START_MS + step_ms * np.arange(1, n + 1),
        sides=np.zeros(n, np.int8),
    )


DAY_START_MS = 1_700_006_400_000
WALK = walk_of([0.01, -0.02, 0.03, 0.0], [1, 0, 0, 2], [-0.01, 0.03])
SOUND = summarise([WALK], 1.0)
LETS_GO = Letting(asked=1_000, young=(400, 500), ahead=(390, 510))


def test_figures_of_a_walk_by_hand() -> None:
    assert SOUND.net_return == pytest.approx(0.02)
    # mean 0.005; squared deviations 0.25, 6.25, 6.25, 0.25 e-4: variance 3.25e-4; times 4 bars
    assert SOUND.net_stderr == pytest.approx((4 * 3.25e-4) ** 0.5)
    assert SOUND.score == pytest.approx(0.02 - (13e-4) ** 0.5)
    assert (SOUND.trades, SOUND.win_rate_frac, SOUND.largest_q) == (2, 0.5, 3.0)
    assert SOUND.profit_factor == pytest.approx(3.0)
    assert (SOUND.hold_share, SOUND.buy_share, SOUND.sell_share) == (0.5, 0.25, 0.25)


def test_never_trading_scores_nothing_and_has_no_ratios() -> None:
    idle = summarise([walk_of([0.0] * 5, [0] * 5, [])], 1.0)
    assert (idle.score, idle.trades, idle.win_rate_frac, idle.profit_factor) == (0.0, 0, None, None)
    assert (idle.entropy, idle.reward_correlation, idle.daily) == (0.0, None, ())


def test_one_long_trade_is_one_bet_and_no_edge_whatever_it_earned() -> None:
    """A hundred bars of a rise, held in one trade, in four, in five, and in one a bar."""
    rise = [0.01] * 100
    scores = [summarise([walk_of(rise, [1] * 100, [1.0 / parts] * parts)], 2.0).score for parts in (1, 4, 5, 100)]
    assert scores[0] == pytest.approx(1.0 - 2.0)
    assert scores[1] == pytest.approx(0.0)
    assert scores[2] > 0.0
    assert scores[3] == pytest.approx(1.0 - 2.0 * 0.1)


def test_days_count_whole_and_in_utc() -> None:
    """Steps of 8 hours from midnight: the first and the last day are not known to be whole."""
    walk = walk_of([0.1, 0.2, 0.3, 1.0, 2.0, 3.0, 0.5], [0] * 7, [], step_ms=8 * HOUR_MS)
    assert daily_returns([walk]).tolist() == pytest.approx([6.0])
    assert daily_returns([walk, walk]).tolist() == pytest.approx([12.0])


def test_a_reward_that_pays_a_loser_is_flagged() -> None:
    """B16: reward up, money down; or the two move apart."""
    net = np.tile([0.01, -0.02], 100)
    bonus = replace(walk_of(net.tolist(), [1, 2] * 100, [-0.01]), reward=25.0 * net + 0.5)
    paid = summarise([bonus], 1.0)
    assert paid.reward > 0.0 > paid.net_return
    finding = next(f for f in policy_health(paid, 0.0, True, 0.99, LETS_GO) if f.name == "reward_parts_from_money")
    assert not finding.healthy
    assert "beside a net return of -1.0000" in finding.detail
    random = np.random.default_rng(0)
    drawn = 0.001 + 0.01 * random.standard_normal(500)
    for reward, healthy in ((25.0 * drawn, True), (random.standard_normal(500), False)):
        seen = summarise([replace(walk_of(drawn.tolist(), [1] * 500, [0.1]), reward=reward)], 1.0)
        finding = next(f for f in policy_health(seen, 0.0, True, 0.99, LETS_GO) if f.name == "reward_parts_from_money")
        assert finding.healthy == healthy


def test_turns_and_entropy_of_actions() -> None:
    """B15: BUY, SELL, HOLD, BUY in three hours are two turns; shares 1/2, 1/4, 1/4 are 1.5 bits."""
    seen = summarise([walk_of([0.0] * 4, [1, 2, 0, 1], [])], 1.0)
    assert seen.flips_per_hour == pytest.approx(2 / 3)
    assert seen.entropy == pytest.approx(1.5)
    assert not summarise([walk_of([0.0] * 4, [1, 1, 1, 1], [])], 1.0).sees_market


@pytest.mark.parametrize(
    ("changes", "best", "name"),
    [
        ({"buy_share": 0.99}, 0.1, "constant_action"),
        ({"trades": 0}, 0.1, "never_trades"),
        ({"largest_q": 11_000.0}, 0.1, "exploding_q"),
        ({"largest_q": float("nan")}, 0.1, "not_finite"),
        ({"score": -0.1}, 0.0, "no_edge"),
        ({"sees_market": False}, 0.1, "ignores_market"),
        ({"flips_per_hour": 30.0}, 0.1, "flips"),
        ({"reward_correlation": 0.1}, 0.1, "reward_parts_from_money"),
    ],
)
def test_unhealthy_policies_are_refused_by_name(changes: dict[str, float], best: float, name: str) -> None:
    """B15."""
    sound = replace(SOUND, score=0.1)
    assert all(finding.healthy for finding in policy_health(sound, 0.1, True, 0.999, LETS_GO))
    chosen: Validation = replace(sound, **changes)  # type: ignore[arg-type]
    findings = policy_health(chosen, best, True, 0.999, LETS_GO)
    assert name in [finding.name for finding in findings if not finding.healthy]


@pytest.mark.parametrize(
    ("young", "ahead", "caught"),
    [
        ((400, 500), (19, 500), "a long that is far ahead is left on 19 of 1000 bars, a young one on 400"),
        ((400, 500), (400, 0), "a short that is far ahead is left on 0 of 1000 bars, a young one on 500"),
        ((400, 500), (20, 25), ""),
        ((39, 0), (0, 0), ""),
    ],
)
def test_a_policy_that_never_leaves_what_is_far_ahead_is_refused(
    young: tuple[int, int], ahead: tuple[int, int], caught: str
) -> None:
    """B15: a twentieth as often as young ones at least; on few bars nothing is known."""
    health = policy_health(replace(SOUND, score=0.1), 0.1, True, 0.999, Letting(1_000, young, ahead))
    assert [(one.name, one.detail) for one in health if not one.healthy] == (
        [("never_leaves", caught)] if caught else []
    )


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
