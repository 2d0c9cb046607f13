"""P3, P4 and P5: how fast the learner trains, and what it learns of a planted edge, against stable-baselines3.

P3 and P4 train LSTM 64 on one thread of a CPU; learning_devices.py has P4 on two cores and on a GPU. P3 counts
environment steps, of which each is trained on 16 times, as in the peer (batch 64, one gradient step every 4 steps); the
states that ours draws beside the path come on top. P4 counts what enters the loss: exact targets of all actions, not
one of which the peer knows but of the action that it took.

P5 trains on the mean-reverting market of learning_markets.py, in seconds of processor time, one repetition a seed. A
share is of what the best policy earns that sees only prices, on bars that nobody has seen. Our figures are an ensemble
on two cores within the seconds named, and one network on one core. Longer tables:
`python -m aml100.bench.learning_tables`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import per_second
from aml100.bench.learning_devices import TRIAL as DEVICES

UPDATES = 12
MARKS = (10.0, 30.0, 60.0)
SEEDS = 5
PEER_TRAINING_BARS = 200_000


@contextmanager
def speed(folder: Path) -> Iterator[Sample]:
    """Environment steps and training targets a second, LSTM 64, one thread."""
    import torch

    from aml100.bench.learning_markets import PLANTED_RULES, mean_reverting
    from aml100.bench.learning_measure import CpuClock
    from aml100.learning.dataset import CoinData
    from aml100.learning.jobs import TrainingJob
    from aml100.learning.memory import POSITIONS
    from aml100.learning.network import ACTIONS
    from aml100.learning.settings import TrainingSettings
    from aml100.learning.trainer import Training, deterministic

    settings = TrainingSettings(lstm_layers=1, lstm_hidden=64, head_hidden=64, acted_per_update=2, mirror=True)
    job = TrainingJob((CoinData(mean_reverting(PEER_TRAINING_BARS, 1), PLANTED_RULES),), settings, seed=1)
    training = Training(job, CpuClock(), lambda: False, device=torch.device("cpu"))
    _save(folder, "train", training)
    bars = settings.batch_stretches * settings.stretch_bars

    def update() -> None:
        for _ in range(UPDATES):
            training.update()

    def measure() -> Readings:
        rate = per_second(UPDATES, update)
        return {
            "steps": rate * settings.acted_per_update * settings.stretch_bars,
            "trained": rate * bars * POSITIONS * ACTIONS,
        }

    with deterministic(1):
        next(training.run())
        measure()
        yield measure


def _save(folder: Path, part: str, training: object) -> None:
    """Scaled features and log returns of a training's rows, for the peers."""
    (coin,) = training.dataset.coins  # type: ignore[attr-defined]
    start, stop = coin.train[0]
    np.save(folder / f"{part}_features.npy", coin.scaled[start:stop])
    np.save(folder / f"{part}_returns.npy", np.diff(np.log(coin.close[start - 1 : stop])))


@contextmanager
def planted(folder: Path) -> Iterator[Sample]:
    """Shares of the best policy, a seed each time: ensemble on two cores, one network on one."""
    from aml100.bench.learning_markets import PLANTED_RULES, mean_reverting
    from aml100.bench.learning_measure import LONG_RECIPE, TRAINING_BARS, CpuClock, Fresh, ensemble, follow
    from aml100.learning.dataset import CoinData
    from aml100.learning.jobs import TrainingJob
    from aml100.learning.trainer import Training

    fresh = Fresh.of("mean-reverting")
    job = TrainingJob((CoinData(mean_reverting(TRAINING_BARS, 1), PLANTED_RULES),), LONG_RECIPE, seed=0)
    training = Training(job, CpuClock(), lambda: False)
    _save(folder, "train", training)
    scaled = training.dataset.scaler.apply(fresh.frame.values[fresh.first :])
    np.save(folder / "fresh_features.npy", scaled)
    np.save(folder / "fresh_returns.npy", fresh.known_returns())
    np.save(folder / "reference.npy", np.array([fresh.reference, fresh.reference_of_first(60_000)]))
    del training
    seeds = itertools.count()
    cores = min(2, os.cpu_count() or 1)

    def measure() -> Readings:
        seed = next(seeds)
        readings = {}
        for mark, seen in zip(MARKS, follow("mean-reverting", seed, MARKS, fresh=fresh), strict=True):
            readings[f"share_{mark:g}"] = seen.chosen
        seen, _ = ensemble("mean-reverting", seed, MARKS[-1], fresh=fresh, cores=cores)
        readings["ensemble"] = seen.chosen
        return readings

    yield measure


TRIALS = (
    Trial(
        "P3",
        speed,
        figures=(
            Figure(
                "training, LSTM 64, environment steps",
                "steps/s",
                (Goal(30, "SB3 DQN-LSTM"), Goal(8, "RecurrentPPO")),
                "steps",
            ),
        ),
        peers=(
            Peer("SB3 DQN-LSTM", "learn_sb3.py", "sb3", ("speed-dqn",)),
            Peer("RecurrentPPO", "learn_sb3.py", "sb3", ("speed-ppo",)),
        ),
        repetitions=3,
    ),
    Trial(
        "P4",
        speed,
        figures=(Figure("training targets, LSTM 64", "targets/s", (Goal(300, "SB3 DQN-LSTM"),), "trained"),),
        peers=(Peer("SB3 DQN-LSTM", "learn_sb3.py", "sb3", ("speed-dqn",)),),
        repetitions=3,
    ),
    DEVICES,
    Trial(
        "P5",
        planted,
        figures=(
            Figure("planted edge, ensemble in 60 s on 2 cores", "share of best", (Goal(1, limit=0.95),), "ensemble"),
            *(
                Figure(
                    f"planted edge, one network after {mark:g} s",
                    "share of best",
                    (Goal(1, "SB3 DQN"), Goal(1, "RecurrentPPO")),
                    f"share_{mark:g}",
                )
                for mark in MARKS
            ),
        ),
        peers=(
            Peer("SB3 DQN", "learn_sb3.py", "sb3", ("planted-dqn", *(f"{mark:g}" for mark in MARKS)), timeout_s=1200),
            Peer("RecurrentPPO", "learn_sb3.py", "sb3", ("planted-ppo", *(f"{m:g}" for m in MARKS)), timeout_s=1200),
        ),
        repetitions=SEEDS,
    ),
)
