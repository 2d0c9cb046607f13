"""P6: prioritised replay, and what a transition costs in memory.

A cycle adds four transitions, samples 64 with their importance weights and contents, and sets 64 new priorities. A
transition holds, here and in the peers, a row number of the market, a few numbers of the position, action, reward and
discount; nobody copies windows. For the memory the usual way is the measure: 50,000 transitions whose observation and
next observation are windows of 60 x 36. Ours counts what the trainer holds instead: the features of as many bars, once,
and its memory of 250 stretches of 200 bars.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Sample, Trial
from aml100.bench.inputs import made_up_bars, per_second

CYCLES = 5_000
ADDED, DRAWN = 4, 64
POSITION = 9
MEMORY_OF = 50_000


@contextmanager
def cycles(folder: Path, capacity: int) -> Iterator[Sample]:
    """Cycles a second on a full buffer."""
    from aml100.learning.replay import PrioritizedReplay

    del folder
    rng = np.random.default_rng(7)
    replay = PrioritizedReplay(capacity, alpha=0.6)
    fields = np.dtype(
        [("row", "i8"), ("position", "f4", POSITION), ("action", "i1"), ("reward", "f4"), ("discount", "f4")]
    )
    kept = np.zeros(capacity, fields)
    new = np.zeros(ADDED, fields)
    for start in range(0, capacity, 10_000):
        slots = replay.add(min(10_000, capacity - start))
        replay.update(slots, rng.random(len(slots)))
    errors = rng.random((64, DRAWN))

    def work() -> None:
        for number in range(CYCLES):
            kept[replay.add(ADDED)] = new
            sample = replay.sample(DRAWN, 0.4, rng)
            kept.take(sample.slots)
            replay.update(sample.slots, errors[number % 64])

    work()
    yield lambda: per_second(CYCLES, work)


@contextmanager
def memory(folder: Path) -> Iterator[Sample]:
    """Megabytes for 50,000 transitions, as the trainer keeps them: in stretches of bars."""
    from aml100.evaluation.kernel import KernelRules
    from aml100.learning.dataset import CoinData, build_dataset
    from aml100.learning.memory import StretchMemory
    from aml100.learning.settings import TrainingSettings

    del folder
    settings = TrainingSettings(stretch_bars=200, capacity=MEMORY_OF)
    dataset = build_dataset(
        (CoinData(made_up_bars(MEMORY_OF), KernelRules()),),
        validation_fraction=settings.validation_fraction,
        embargo_bars=settings.n_step,
        warm_bars=0,
        shortest=settings.burn_in_bars + settings.stretch_bars + 1,
    )

    def measure() -> float:
        kept = StretchMemory(dataset, settings, np.random.default_rng(0))
        return (dataset.coins[0].scaled.nbytes + kept.nbytes) / 1e6

    yield measure


def _cycle_trial(capacity: int, words: str, *peers: Peer) -> Trial:
    goals = tuple(Goal({"cpprb": 4, "torchrl": 40}[peer.name], peer.name) for peer in peers)
    figure = Figure(f"prioritised replay of {words}: add 4, draw 64, update 64", "cycles/s", goals)
    return Trial("P6", partial(cycles, capacity=capacity), (figure,), peers)


TRIALS = (
    _cycle_trial(
        50_000,
        "50,000",
        Peer("cpprb", "replay_cpprb.py", "cpprb", ("cycles", "50000")),
        Peer("torchrl", "replay_torchrl.py", "torchrl", ("50000",)),
    ),
    _cycle_trial(
        1_000_000,
        "1,000,000",
        Peer("cpprb", "replay_cpprb.py", "cpprb", ("cycles", "1000000")),
        Peer("torchrl", "replay_torchrl.py", "torchrl", ("1000000",)),
    ),
    Trial(
        "P6",
        memory,
        figures=(Figure("memory of 50,000 transitions", "MB", (Goal(50, "cpprb with windows"),), less_is_better=True),),
        peers=(Peer("cpprb with windows", "replay_cpprb.py", "cpprb", ("memory", "50000")),),
        repetitions=1,
    ),
)
