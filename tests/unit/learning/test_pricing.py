"""The compiled passes of training are what their parts say: kernel, reward and torch, put together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from aml100.evaluation.kernel import KernelRules, Market, counterfactual, flat_positions, position_rows, step_batch
from aml100.evaluation.transition import ACTIONS, POSITION_DTYPE, Records
from aml100.learning.learner import Learner
from aml100.learning.mirror import ACTION_ORDER, SIDE
from aml100.learning.pricing import DRAWN_SIDES, Priced, RewardSight, price_stretches, random_positions
from aml100.learning.reward import RewardConfig, Shaping, calm_factor, rewards
from aml100.market.features import compute_features
from aml100.market.position import BARS_COUNTED, DRAWDOWN_COUNTED, PERCENT_LIMIT, POSITION_FEATURES
from tests.unit.learning.planted import mean_reverting, tiny_settings
from tests.unit.learning.test_learner import make_batch


@pytest.mark.parametrize("shaping", list(Shaping))
@pytest.mark.parametrize(
    "rules",
    [
        KernelRules(),
        KernelRules(max_hold=5, decision_bars=3, reverse_on_opposite=True),
        KernelRules(entry_style="maker", maker_timeout_bars=3),
        KernelRules(entry_style="maker_then_taker", atr_stop=1.5, trailing_stop=0.004),
    ],
    ids=["plain", "reverse", "maker", "options"],
)
def test_a_priced_batch_equals_kernel_reward_and_position_by_themselves(shaping: Shaping, rules: KernelRules) -> None:
    series, random = mean_reverting(400, 3), np.random.default_rng(1)
    features = compute_features(series).values if rules.atr_stop else None
    market = Market.from_series(series, constant_rate=1e-5, features=features)
    market.bars["low"] = np.minimum(series.open, series.close)
    market.bars["high"] = np.maximum(series.open, series.close)
    volatility, trend = 0.001 * (1.0 + random.random(400)), random.integers(-1, 2, 400).astype(np.float64)
    weights = RewardConfig(shaping=shaping, reference_volatility=0.0015, discount=0.99).as_record()
    sight = RewardSight(weights, calm_factor(weights, volatility), trend, 40.0, 0.99, 0.001)
    first, record = np.array([20, 250, 100]), rules.as_record()
    t = (first[:, None] + np.arange(30)).reshape(-1)
    met = random_positions(market, record, t, random.integers(-1, 2, 90).astype(np.int8), 0.001, random).reshape(3, 30)
    if rules.entry_style != "taker":  # among what the policy meets are entries that rest in the book
        waiting = flat_positions(90)
        step_batch(market, record, t - 1, waiting, np.tile(np.array([1, 2], np.int8), 45))
        assert 20 < np.count_nonzero(waiting["resting"]) < 90
        met = waiting.reshape(3, 30)
    priced = price(market, record, sight, first, met)
    assert_mirrored(price(market, record, sight, first, met, turned=[True, False, True]), priced, [0, 2])

    again = np.random.default_rng(2).random((3, 30, len(DRAWN_SIDES), 5))
    close = market.bars["close"]
    for k in range(1 + len(DRAWN_SIDES)):
        if k == 0:
            states = met.reshape(-1)
        else:
            fed = _Fed(again[:, :, k - 1].reshape(90, 5))
            sides = np.full(90, DRAWN_SIDES[k - 1], np.int8)
            states = random_positions(market, record, t, sides, 0.001, fed)  # type: ignore[arg-type]
        following, steps = counterfactual(market, record, t, states)
        gains, _ = rewards(weights, steps, states, following, volatility[t], trend[t], trend[t + 1])
        seen = position_rows(following.reshape(-1), np.repeat(close[t + 1], ACTIONS)).reshape(90, ACTIONS, -1)
        np.testing.assert_array_equal(priced.position[:, :, k].reshape(90, -1), position_rows(states, close[t]))
        np.testing.assert_array_equal(priced.following[:, :, k].reshape(90, ACTIONS, -1), seen)
        np.testing.assert_array_equal(priced.reward[:, :, k].reshape(90, ACTIONS), (gains * 40.0).astype(np.float32))
        goes_on = np.where(steps["terminated"] == 1, 0.0, 0.99).astype(np.float32)
        np.testing.assert_array_equal(priced.discount[:, :, k].reshape(90, ACTIONS), goes_on)


def price(
    market: Market,
    rules: Records,
    sight: RewardSight,
    first: np.ndarray,
    met: Records,
    turned: Sequence[bool] | None = None,
) -> Priced:
    """The stretches as a batch of their own."""
    out = Priced.empty(*met.shape, 1 + len(DRAWN_SIDES))
    mirrored = np.zeros(len(met), np.bool_) if turned is None else np.array(turned)
    price_stretches(out, np.arange(len(met)), mirrored, market, rules, sight, first, met, np.random.default_rng(2))
    return out


def assert_mirrored(seen: Priced, upright: Priced, which: list[int]) -> None:
    """The named stretches are those of the mirrored market, the others as they are."""
    position, following, reward, discount = (
        getattr(upright, name).copy() for name in ("position", "following", "reward", "discount")
    )
    position[which, ..., SIDE] *= -1.0
    following[which, ..., SIDE] *= -1.0
    np.testing.assert_array_equal(seen.position, position)
    for values, found, axis in (
        (following, seen.following, -2),
        (reward, seen.reward, -1),
        (discount, seen.discount, -1),
    ):
        values[which] = np.take(values[which], ACTION_ORDER, axis=axis)
        np.testing.assert_array_equal(found, values)


class _Fed:
    """A generator that hands out numbers drawn before."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def random(self, shape: tuple[int, int]) -> np.ndarray:
        assert self.numbers.shape == shape
        return self.numbers


@pytest.mark.parametrize("bar_sd", [0.0003, 0.001, 0.01])
def test_drawn_positions_reach_as_far_as_a_position_can_be_seen(bar_sd: float) -> None:
    """Beyond what training shows, what a policy does is chance: the ends of every bounded feature must be drawn."""
    series, random = mean_reverting(400, 3), np.random.default_rng(1)
    market, rows = Market.from_series(series), np.full(20_000, 200)
    sides = random.integers(-1, 2, len(rows)).astype(np.int8)
    rules = KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0).as_record()
    drawn = position_rows(random_positions(market, rules, rows, sides, bar_sd, random), series.close[rows])
    low, high = (dict(zip(POSITION_FEATURES, end.tolist(), strict=True)) for end in (drawn.min(0), drawn.max(0)))
    assert (low["side"], high["side"]) == (-1.0, 1.0)
    assert high["bars_held"] > 0.99 * np.log1p(BARS_COUNTED) / 7.0
    assert high["drawdown"] > 0.99 * 20.0 * DRAWDOWN_COUNTED
    assert (high["wins_in_row"], high["holds_in_row"]) == (1.0, 1.0)
    assert low["unrealised_return"] < -0.9 * PERCENT_LIMIT
    assert high["unrealised_return"] > 0.9 * PERCENT_LIMIT


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("bars", [100, 400])
def test_a_drawn_position_may_have_had_a_trend_for_or_against_it_all_the_time(side: int, bars: int) -> None:
    """The price has moved by a standard deviation a bar, in one direction: far from what chance alone brings."""
    series, random = mean_reverting(400, 3), np.random.default_rng(1)
    market, rows = Market.from_series(series), np.full(40_000, 200)
    sides = np.full(len(rows), side, np.int8)
    rules = KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0).as_record()
    states = random_positions(market, rules, rows, sides, 0.001, random)
    assert (states["entry"] > 0.0).all()
    gains = side * np.log(series.close[200] / states["entry"])
    of_that_age = gains[states["bars_held"] <= bars]
    assert of_that_age.max() > 0.001 * bars
    assert of_that_age.min() < -0.001 * bars
    usual = np.abs(gains) <= 0.002 * np.sqrt(states["bars_held"])
    assert 0.85 < usual.mean() < 0.92


def test_stretches_that_leave_the_market_are_refused() -> None:
    market = Market.from_series(mean_reverting(50, 3))
    weights = RewardConfig(shaping=Shaping.PURE).as_record()
    sight = RewardSight(weights, np.ones(50), np.zeros(50), 1.0, 0.9, 0.001)
    with pytest.raises(IndexError, match="leave the market"):
        price(market, KernelRules().as_record(), sight, np.array([41]), np.zeros((1, 10), POSITION_DTYPE))


@pytest.mark.parametrize(("n_step", "threshold"), [(1, 0.9), (4, 0.34)])
def test_the_compiled_step_has_the_gradient_of_the_torch_step(n_step: int, threshold: float) -> None:
    """Same loss, TD errors and gradients, with and without the penalty on one-sided batches."""
    settings = tiny_settings(n_step=n_step, bias_threshold=threshold, bias_weight=0.5)
    found = []
    for compiled in (True, False):
        learner = Learner(5, settings, seed=1, device=torch.device("cpu"))
        with torch.no_grad():
            for weight in learner.target.parameters():
                weight.add_(0.05)
            learner.online.duel.weight.mul_(10.0)
        step = learner._backward_compiled if compiled else learner._backward_torch
        result = step(make_batch(3, ends=False))
        gradients = {name: weight.grad for name, weight in learner.online.named_parameters()}
        found.append((result, gradients))
    ((loss, errors, largest), ours), ((loss_torch, errors_torch, largest_torch), theirs) = found
    assert float(loss) == pytest.approx(float(loss_torch), rel=1e-5)
    assert float(largest) == pytest.approx(float(largest_torch), rel=1e-5)
    np.testing.assert_allclose(errors, errors_torch, rtol=1e-5)
    for name, gradient in theirs.items():
        assert gradient is not None
        own = ours[name]
        assert own is not None
        np.testing.assert_allclose(own.numpy(), gradient.numpy(), rtol=2e-4, atol=1e-6, err_msg=name)
