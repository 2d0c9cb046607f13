"""Each term of the reward, by hand, and what makes it impossible to farm."""

from __future__ import annotations

import numpy as np
import pytest

from aml100.evaluation.kernel import POSITION_DTYPE, STEP_DTYPE, Records
from aml100.learning.reward import REWARD_TERMS, RewardConfig, Shaping, rewards


def step(net: float, closed_net: float = 0.0) -> Records:
    made = np.zeros((1, 1), STEP_DTYPE)
    made["net"], made["closed_net"] = net, closed_net
    return made


def position(side: int = 0, wins: int = 0, holds: int = 0) -> Records:
    made = np.zeros(1, POSITION_DTYPE)
    made["side"], made["wins"], made["holds"] = side, wins, holds
    return made


def terms(
    config: RewardConfig,
    made: Records,
    before: Records,
    after: Records,
    volatility: float = 0.001,
    trends: tuple[float, float] = (0.0, 0.0),
) -> dict[str, float]:
    arrays = [np.array([value]) for value in (volatility, *trends)]
    totals, parts = rewards(config.as_record(), made, before, after[:, None], *arrays)
    assert totals[0, 0] == pytest.approx(parts.sum())
    return dict(zip(REWARD_TERMS, parts[0, 0].tolist(), strict=True))


def test_profit_is_net_return_times_25() -> None:
    found = terms(RewardConfig(), step(0.002), position(1), position(1))
    assert found == {"pnl": pytest.approx(0.05), "win": 0, "streak": 0, "trend": 0, "hold": 0}


def test_profit_counts_less_in_volatility_above_the_reference_and_in_full_where_it_is_unknown() -> None:
    config = RewardConfig(reference_volatility=0.001)
    for volatility, share in ((0.0005, 1.0), (0.001, 1.0), (0.004, 0.25), (float("nan"), 1.0)):
        found = terms(config, step(0.002), position(1), position(1), volatility)
        assert found["pnl"] == pytest.approx(0.05 * share)


def test_the_step_that_closes_a_winner_with_a_profit_counts_half_as_much_again() -> None:
    assert terms(RewardConfig(), step(0.002, 0.01), position(1), position())["win"] == pytest.approx(0.025)
    assert terms(RewardConfig(), step(-0.002, 0.01), position(1), position())["win"] == 0
    assert terms(RewardConfig(), step(0.002, -0.01), position(1), position())["win"] == 0


@pytest.mark.parametrize(("wins", "paid"), [(0, 0.1), (1, 0.1), (2, 0.1), (3, 0.0), (9, 0.0)])
def test_each_win_in_a_row_adds_a_tenth_until_three_tenths_stand(wins: int, paid: float) -> None:
    found = terms(RewardConfig(), step(0.0, 0.01), position(1, wins=wins), position(wins=wins + 1))
    assert found["streak"] == pytest.approx(paid)


def test_a_loss_takes_the_streak_s_bonus_back() -> None:
    assert terms(RewardConfig(), step(-0.01, -0.01), position(1, wins=5), position())["streak"] == pytest.approx(-0.3)


def test_the_trend_s_bonus_is_paid_once_and_taken_back() -> None:
    config = RewardConfig()
    entering = terms(config, step(0.0), position(), position(1), trends=(1.0, 1.0))
    holding = terms(config, step(0.0), position(1), position(1), trends=(1.0, 1.0))
    turning = terms(config, step(0.0), position(1), position(1), trends=(1.0, -1.0))
    against = terms(config, step(0.0), position(), position(-1), trends=(1.0, 1.0))
    assert [found["trend"] for found in (entering, holding, turning, against)] == pytest.approx([0.05, 0, -0.05, 0])


def test_the_penalty_of_holds_stops_growing_after_three_and_never_falls_under_its_floor() -> None:
    config = RewardConfig()
    paid = [terms(config, step(0.0), position(holds=holds), position(holds=holds + 1))["hold"] for holds in range(6)]
    assert paid == pytest.approx([-0.05, -0.05, -0.05, 0, 0, 0])
    assert np.cumsum(paid).min() == pytest.approx(-0.15)
    acted = terms(config, step(0.0), position(holds=4), position(holds=0))
    assert acted["hold"] == pytest.approx(0.15)


def test_pure_is_profit_alone() -> None:
    config = RewardConfig(shaping=Shaping.PURE, reference_volatility=1e-9)
    found = terms(config, step(0.002, 0.01), position(1, wins=1, holds=1), position(wins=2, holds=2), trends=(1.0, 1.0))
    assert found == {"pnl": pytest.approx(0.05), "win": 0, "streak": 0, "trend": 0, "hold": 0}


def test_standing_terms_cancel_over_any_round_trip() -> None:
    """D25: whatever path leads back to the same state, shaping has paid nothing."""
    rng = np.random.default_rng(11)
    config, total = RewardConfig(), 0.0
    path = [position(*(int(rng.integers(low, high)) for low, high in ((-1, 2), (0, 6), (0, 6)))) for _ in range(200)]
    trends = rng.choice([-1.0, 0.0, 1.0], len(path))
    for row in range(len(path)):
        after = (row + 1) % len(path)
        found = terms(config, step(0.0), path[row], path[after], trends=(trends[row], trends[after]))
        total += sum(found.values())
    assert total == pytest.approx(0.0, abs=1e-9)
