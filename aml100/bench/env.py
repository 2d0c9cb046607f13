"""P1 and P2: steps of the trading environment, single and batched, one thread, against other projects' environments.

Ours plays all rules (fee, slippage, funding, TP/SL, time exit, drawdown) over a window of 60 rows of all features.
The peers get 24 feature columns and the rules they have. gym-anytrading hands out views of its window, so it is
compared with ours in the form that does too; the others copy, as ours does by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import drawn_actions, made_up_bars, per_second, save_actions, save_bars

STEPS = 50_000
BATCH = 256
BATCH_STEPS = 4_000
HOURLY_RATE = 0.0000125


@contextmanager
def one(folder: Path) -> Iterator[Sample]:
    """Steps a second of `PerpEnv`: handing out copies of the window, and views."""
    from aml100.learning.env import PerpEnv

    series, actions = made_up_bars(STEPS + 2_000), drawn_actions(STEPS)
    save_bars(folder, series)
    save_actions(folder, actions)
    copying = PerpEnv(series, constant_rate=HOURLY_RATE)
    viewing = PerpEnv(series, constant_rate=HOURLY_RATE, copy_windows=False)
    listed = actions.tolist()

    def play(env: PerpEnv) -> float:
        env.reset(options={"row": int(env.arena.starts[0])})
        return per_second(STEPS, lambda: _walk(env, listed))

    def measure() -> Readings:
        return {"copy": play(copying), "view": play(viewing)}

    measure()
    yield measure


@contextmanager
def batched(folder: Path) -> Iterator[Sample]:
    """Environment steps a second of `BatchedEnv` with 256 environments."""
    from aml100.learning.env import BatchedEnv

    series = made_up_bars(100_000)
    save_bars(folder, series)
    env = BatchedEnv(series, BATCH, constant_rate=HOURLY_RATE)
    env.reset()
    drawn = np.random.default_rng(3).integers(0, 3, (64, BATCH)).astype(np.int8)

    def walk() -> None:
        for step in range(BATCH_STEPS):
            env.step(drawn[step % 64])

    walk()
    yield lambda: per_second(BATCH * BATCH_STEPS, walk)


def _walk(env: object, actions: list[int]) -> None:
    step: Callable[[int], object] = env.step  # type: ignore[attr-defined]
    for action in actions:
        step(action)


TRIALS = (
    Trial(
        "P1",
        one,
        figures=(
            Figure("one environment, window as view", "steps/s", (Goal(3.5, "gym-anytrading"),), "view"),
            Figure(
                "one environment, window copied",
                "steps/s",
                (Goal(20, "gym-trading-env"), Goal(100, "FreqAI")),
                "copy",
            ),
        ),
        peers=(
            Peer("gym-anytrading", "env_anytrading.py", "gym-anytrading", ("view",)),
            Peer("gym-trading-env", "env_trading_env.py", "gym-trading-env", ("copy",)),
            Peer("FreqAI", "env_freqai.py", "freqtrade", ("copy",)),
        ),
    ),
    Trial(
        "P2",
        batched,
        figures=(Figure(f"batch of {BATCH} environments", "steps/s", (Goal(6, "ElegantRL"),)),),
        peers=(Peer("ElegantRL", "env_elegantrl.py", "elegantrl"),),
    ),
)
