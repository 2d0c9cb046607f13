"""The Gymnasium environment, single and batched."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium.utils.env_checker import check_env

from aml100.domain.units import Coin
from aml100.evaluation.kernel import KernelRules, Market, flat_positions, position_rows, step_batch
from aml100.learning.arena import Arena, series_from_frame
from aml100.learning.env import BatchedEnv, PerpEnv
from aml100.learning.reward import RewardConfig, Shaping
from aml100.market.features import FEATURES, compute_features
from aml100.market.position import POSITION_SIZE

PURE = RewardConfig(shaping=Shaping.PURE, pnl_scale=1.0)
WINDOW = 8
OPTIONS = KernelRules(
    entry_style="maker_then_taker",
    maker_timeout_bars=2,
    atr_stop=1.5,
    trailing_stop=0.004,
    scaling_floor=0.5,
    breaker_dd=0.01,
    hard_dd=0.04,
    breaker_pause_bars=5,
)


def frame(n: int = 260, gap_at: int | None = None, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.004, n)))
    opening = np.concatenate([[100.0], close[:-1]])
    time = 1_700_000_100_000 // 900_000 * 900_000 + 900_000 * np.arange(n, dtype=np.int64)
    if gap_at is not None:
        time[gap_at:] += 900_000 * 10
    return pd.DataFrame(
        {
            "time": time,
            "open": opening,
            "high": np.maximum(opening, close) * 1.001,
            "low": np.minimum(opening, close) * 0.999,
            "close": close,
            "volume": rng.uniform(1.0, 5.0, n),
        }
    )


@pytest.mark.parametrize("rules", [KernelRules(), OPTIONS], ids=["plain", "options"])
def test_it_passes_the_environment_checker_made_by_name(rules: KernelRules) -> None:
    made = gymnasium.make("AML100/Perp-v0", bars=frame(), window=WINDOW, rules=rules)
    check_env(made.unwrapped)
    observation, _ = made.reset(seed=1)
    assert observation["market"].shape == (WINDOW, len(FEATURES))
    assert observation["position"].shape == (POSITION_SIZE,)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_trains_under_stable_baselines_unchanged() -> None:
    """Its own checker, a value learner, and a recurrent one over several environments."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_checker import check_env as check_for_baselines
    from stable_baselines3.common.env_util import make_vec_env

    bars = frame()

    def made() -> gymnasium.Env[Any, Any]:
        return gymnasium.make("AML100/Perp-v0", bars=bars, window=WINDOW, episode_bars=40)

    check_for_baselines(made())
    small: dict[str, Any] = {"net_arch": [8]}
    learner = DQN("MultiInputPolicy", made(), learning_starts=20, buffer_size=200, policy_kwargs=small, seed=1)
    before = [weight.clone() for weight in learner.policy.parameters()]
    learner.learn(120)
    assert any((old != new).any() for old, new in zip(before, learner.policy.parameters(), strict=True))
    several = make_vec_env(made, n_envs=3, seed=2)
    recurrent = RecurrentPPO(
        "MultiInputLstmPolicy", several, n_steps=16, batch_size=24, n_epochs=1, seed=1,
        policy_kwargs=small | {"lstm_hidden_size": 8},
    )  # fmt: skip
    recurrent.learn(96)
    action, _ = recurrent.predict(several.reset(), deterministic=True)
    assert set(action.tolist()) <= {0, 1, 2}


def test_the_module_s_name_in_make_registers_it_and_the_package_alone_loads_nothing() -> None:
    program = (
        "import sys, aml100\n"
        "assert not {'numpy', 'numba', 'gymnasium', 'torch'} & set(sys.modules)\n"
        "import gymnasium, numpy as np, pandas as pd\n"
        "bars = pd.DataFrame({name: np.ones(200) for name in ('open', 'high', 'low', 'close', 'volume')})\n"
        "bars['time'] = 900_000 * np.arange(200)\n"
        "gymnasium.make('aml100.learning.env:AML100/Perp-v0', bars=bars).reset(seed=1)\n"
        "assert 'AML100/Perp-v0' in gymnasium.registry and 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_seed_begins_at_the_same_row_and_another_one_elsewhere() -> None:
    env = PerpEnv(frame(), window=WINDOW)
    rows = [env.reset(seed=seed)[1]["row"] for seed in (3, 3, 4)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("rules", [KernelRules(), OPTIONS], ids=["plain", "options"])
def test_the_window_ends_with_the_decision_bar_and_the_reward_is_the_kernel_s(rules: KernelRules) -> None:
    bars = frame()
    env = PerpEnv(bars, window=WINDOW, reward=PURE, rules=rules)
    rng = np.random.default_rng(2)
    observation, info = env.reset(seed=9)
    t = info["row"]
    series = series_from_frame(bars)
    features = compute_features(series).values if rules.atr_stop else None
    market, states = Market.from_series(series, features=features), flat_positions(1)
    total = 0.0
    for _ in range(60):
        np.testing.assert_array_equal(observation["market"], env.arena.features[t - WINDOW + 1 : t + 1])
        action = int(rng.integers(3))
        wanted = step_batch(market, rules.as_record(), np.array([t]), states, np.array([action], np.int8))
        observation, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(wanted["net"][0])
        total += reward
        if truncated:
            break
        t += 1
        seen = position_rows(states, market.bars["close"][t : t + 1].copy())
        np.testing.assert_array_equal(observation["position"], seen[0])
        assert not terminated
    assert env.summary()["profit"] == pytest.approx(total)
    assert env.summary()["terms"]["pnl"] == pytest.approx(total)


def test_an_episode_is_truncated_where_the_bars_stop_and_its_position_closed_at_its_costs() -> None:
    bars = frame(gap_at=200)
    env = PerpEnv(bars, window=WINDOW, reward=PURE, rules=KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0))
    env.reset(seed=0, options={"row": 195})
    outcomes = [env.step(1) for _ in range(5)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in outcomes] == [(False, False)] * 4 + [
        (False, True)
    ]
    close = bars["close"][199]
    entry = bars["open"][196] * 1.0001
    assert outcomes[-1][1] == pytest.approx(-(0.0001 * close + 0.00045 * close * 0.9999) / entry)
    np.testing.assert_array_equal(outcomes[-1][0]["market"], env.arena.features[192:200])
    assert outcomes[-1][0]["position"][0] == 0.0


def test_no_episode_begins_without_a_whole_window_on_its_side_of_a_gap() -> None:
    arena = Arena.build(frame(n=400, gap_at=200), window=WINDOW)
    assert set(range(199, 200 + WINDOW)).isdisjoint(arena.starts.tolist())
    assert 198 in arena.starts
    assert arena.starts.max() == 398
    with pytest.raises(ValueError, match="row 199"):
        PerpEnv(frame(n=400, gap_at=200), window=WINDOW).reset(options={"row": 199})


def test_an_episode_of_given_length_is_truncated_with_its_position_open() -> None:
    env = PerpEnv(frame(), window=WINDOW, episode_bars=3, rules=KernelRules(take_profit=0.0, stop_loss=0.0))
    env.reset(seed=0, options={"row": 100})
    flags = [env.step(1)[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    assert env.step(0)[0]["position"][0] == 1.0


def test_a_ruined_account_terminates_the_episode() -> None:
    bars = frame()
    bars.loc[151:, ["open", "high", "low", "close"]] /= 2.0
    wild = KernelRules(take_profit=0.0, stop_loss=0.0, notional_frac=10.0)
    env = PerpEnv(bars, window=WINDOW, rules=wild)
    env.reset(options={"row": 149})
    assert env.step(1)[2] is False
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (True, False)
    assert info["equity"] <= 0.0


@pytest.mark.parametrize(
    ("action", "error"), [(3, "ValueError: .* 0, 1 and 2"), (-1, "ValueError: .* 0, 1 and 2"), (None, "TypeError: int")]
)
def test_another_action_than_the_three_is_refused_and_changes_nothing(action: Any, error: str) -> None:
    env, twin = PerpEnv(frame(), window=WINDOW), PerpEnv(frame(), window=WINDOW)
    for each in (env, twin):
        each.reset(seed=0)
        each.step(1)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)) as refused:
            env.step(action)
        assert re.match(error, refused.exconly())
    assert_same_steps(env, twin, [0, 2, 1])


def assert_same_steps(env: PerpEnv, twin: PerpEnv, actions: list[int]) -> None:
    for action in actions:
        ours, theirs = env.step(action), twin.step(action)
        assert ours[1:] == theirs[1:]
        np.testing.assert_array_equal(ours[0]["market"], theirs[0]["market"])
        np.testing.assert_array_equal(ours[0]["position"], theirs[0]["position"])


@pytest.mark.parametrize("copies", [True, False], ids=["copies", "views"])
def test_no_later_step_changes_what_was_seen(copies: bool) -> None:
    env = PerpEnv(frame(), window=WINDOW, copy_windows=copies)
    rng = np.random.default_rng(6)
    seen = [env.reset(options={"row": 100})[0]]
    seen += [env.step(int(rng.integers(3)))[0] for _ in range(150)]
    kept = [{name: array.copy() for name, array in each.items()} for each in seen]
    for _ in range(5):
        env.reset(seed=1)
        for _ in range(40):
            env.step(int(rng.integers(3)))
    for row, (now, then) in enumerate(zip(seen, kept, strict=True), 100):
        np.testing.assert_array_equal(now["market"], then["market"])
        np.testing.assert_array_equal(now["market"], env.arena.features[row - WINDOW + 1 : row + 1])
        np.testing.assert_array_equal(now["position"], then["position"])
        assert now["market"].flags.writeable == copies


def test_what_is_written_into_an_observation_shows_in_no_other() -> None:
    env, twin = PerpEnv(frame(), window=WINDOW), PerpEnv(frame(), window=WINDOW)
    for each in (env, twin):
        each.reset(options={"row": 100})
    for step in range(150):
        ours, theirs = env.step(step % 3), twin.step(step % 3)
        for name in ("market", "position"):
            np.testing.assert_array_equal(ours[0][name], theirs[0][name])
            ours[0][name][:] = np.nan
        assert ours[1:4] == theirs[1:4]


def test_steps_beyond_the_last_bar_stay_there() -> None:
    bars = frame()
    env = PerpEnv(bars, window=WINDOW, rules=KernelRules(take_profit=0.0, stop_loss=0.0, max_hold=0))
    env.reset(options={"row": len(bars) - 2})
    outcomes = [env.step(1) for _ in range(4)]
    assert [truncated for _, _, _, truncated, _ in outcomes] == [False, True, True, True]
    for observation, _, _, _, _ in outcomes:
        np.testing.assert_array_equal(observation["market"], env.arena.features[-WINDOW:])
    assert [observation["position"][0] for observation, _, _, _, _ in outcomes] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("rules", [KernelRules(), OPTIONS], ids=["plain", "options"])
def test_the_batch_takes_the_steps_of_single_environments(rules: KernelRules) -> None:
    bars = frame(n=500)
    arena = Arena.build(bars, window=WINDOW, rules=rules)
    batch = BatchedEnv(arena, 16, seed=1, episode_bars=12)
    singles = [PerpEnv(bars, window=WINDOW, episode_bars=12, rules=rules) for _ in range(16)]
    rng = np.random.default_rng(3)
    observation = batch.reset()
    for env, row in zip(singles, observation["market_index"], strict=True):
        env.reset(options={"row": int(row)})
    ended = 0
    for _ in range(40):
        actions = rng.integers(0, 3, 16).astype(np.int8)
        observation, reward, terminated, truncated = batch.step(actions)
        windows = batch.windows(observation["market_index"])
        for k, env in enumerate(singles):
            seen, alone, ruined, cut, _ = env.step(int(actions[k]))
            assert (alone, ruined, cut) == (pytest.approx(reward[k]), terminated[k], truncated[k])
            if cut:
                ended += 1
                seen, _ = env.reset(options={"row": int(observation["market_index"][k])})
            np.testing.assert_array_equal(seen["position"], observation["position"][k])
            np.testing.assert_array_equal(seen["market"], windows[k])
    assert ended >= 16 * 3


def test_batches_repeat_by_seed_and_keep_what_they_handed_out() -> None:
    arena = Arena.build(frame(), window=WINDOW)
    runs = []
    for seed in (4, 4, 5):
        batch = BatchedEnv(arena, 8, seed=seed)
        first = batch.reset()
        kept = first["market_index"].copy()
        second = batch.step(np.ones(8, np.int8))[0]
        batch.step(np.zeros(8, np.int8))
        np.testing.assert_array_equal(first["market_index"], kept)
        runs.append((kept.tolist(), second["position"].tolist()))
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("rules", [KernelRules(), OPTIONS], ids=["plain", "options"])
@pytest.mark.parametrize("duplicate", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy, copy.copy])
def test_a_copy_goes_on_where_it_was_made_and_by_itself(
    duplicate: Callable[[PerpEnv], PerpEnv], rules: KernelRules
) -> None:
    env, reference = (PerpEnv(frame(), window=WINDOW, rules=rules) for _ in range(2))
    for each in (env, reference):
        each.reset(options={"row": 100})
        each.step(1)
    twin, other = duplicate(env), duplicate(env)
    assert_same_steps(env, twin, [0, 2, 1, 1] * 20)
    del env, twin
    assert_same_steps(other, reference, [2, 2, 1, 0] * 20)


def test_the_scaler_knows_the_fitted_rows_only() -> None:
    bars = frame(n=400)
    changed = bars.copy()
    changed.loc[300:, "volume"] *= 50.0
    ours, theirs = (Arena.build(each, window=WINDOW, fit_rows=300).features for each in (bars, changed))
    np.testing.assert_array_equal(ours[:300], theirs[:300])
    assert not np.array_equal(ours[300:], theirs[300:])


@pytest.mark.parametrize("unit", ["s", "ms", "datetime", "zone"])
def test_times_may_be_seconds_milliseconds_or_datetimes(unit: str) -> None:
    bars = frame(n=10)
    wanted = bars["time"].to_numpy().copy()
    stamps = pd.to_datetime(bars["time"], unit="ms")
    bars["time"] = {
        "s": bars["time"] // 1000,
        "ms": bars["time"],
        "datetime": stamps,
        "zone": stamps.dt.tz_localize("UTC"),
    }[unit]
    series = series_from_frame(bars, "BTC")
    np.testing.assert_array_equal(series.open_ms, wanted)
    assert (series.coin, series.interval_ms) == (Coin("BTC"), 900_000)


def test_bars_that_cannot_be_are_refused_with_their_row() -> None:
    bars = frame(n=10)
    bars.loc[4, "low"] = bars.loc[4, "high"] * 2
    with pytest.raises(ValueError, match="row 4"):
        series_from_frame(bars)
    with pytest.raises(ValueError, match="volume"):
        series_from_frame(bars.drop(columns="volume"))
    with pytest.raises(ValueError, match="ascend"):
        series_from_frame(frame(n=10).iloc[::-1])


def test_on_a_random_walk_holding_still_earns_the_most_reward() -> None:
    """D25: neither always buying, nor going with the trend, nor cashing small wins is paid for by the shaping."""
    rng = np.random.default_rng(8)
    n, inside = 20_000, 16  # bars, and moves inside each, so that stops are met on the way and not jumped over
    moves = rng.normal(0.0, 0.002 / inside**0.5, n * inside // 2)
    path = 100.0 * np.exp(np.cumsum(np.concatenate([[0.0], moves, -moves])))  # every move comes back: no drift
    within = np.lib.stride_tricks.sliding_window_view(path, inside + 1)[::inside]
    bars = frame(n=n)
    bars["open"], bars["close"] = within[:, 0], within[:, -1]
    bars["high"], bars["low"] = within.max(axis=1), within.min(axis=1)
    arena = Arena.build(bars, window=WINDOW)

    def mean_reward(policy: str) -> float:
        batch = BatchedEnv(arena, 256, seed=2)
        seen, total = batch.reset(), 0.0
        for _ in range(1_500):
            position, trend = seen["position"], arena.signals[seen["market_index"], 1]
            side, gain = position[:, 0], position[:, 1]
            actions = {
                "hold": np.zeros(256),
                "buy": np.ones(256),
                "trend": np.where(trend > 0, 1, np.where(trend < 0, 2, 0)),
                "small wins": np.where(side == 0, 1, np.where(gain > 0.15, 2, 0)),
            }[policy]
            seen, reward, _, _ = batch.step(actions.astype(np.int8))
            total += float(reward.mean())
        return total / 1_500

    still = mean_reward("hold")
    assert still == pytest.approx(0.0, abs=1e-3)
    for policy in ("buy", "trend", "small wins"):
        assert mean_reward(policy) < still - 0.0001
