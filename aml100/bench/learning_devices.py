"""P4 on every device that is there, and on two cores: training targets a second of the wall.

Ways to train the same learner on the same bars take turns: one core, two threads of torch, two members side by side,
and a GPU where torch finds one. Wall seconds, because a second core and a GPU are there to save them; on a machine that
others use they say as much about the others. Every way runs as `train` runs it, with deterministic algorithms.

`race_rows` looks at the same in another way: how long until a policy is as good as asked (`learning_tables devices`).
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aml100.bench.frame import Figure, Readings, Sample, Trial

if TYPE_CHECKING:
    from aml100.bench.learning_measure import Fresh
    from aml100.learning.jobs import TrainingJob
    from aml100.learning.settings import TrainingSettings
    from aml100.learning.trainer import Training

BARS: Final = 200_000
LEAST_S: Final = 1.0
"""Wall seconds of one turn of one way."""
RACE_BARS: Final = 2_000_000
RACE_SHARES: Final = (0.9, 0.95)
NETWORKS: Final = {"LSTM 64": (1, 64), "LSTM 2 x 128": (2, 128)}
"""Layers and width; the second is the default of params.json."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to train: `members` networks at once, each with so many threads of torch, on a device."""

    name: str
    device: str = "cpu"
    members: int = 1
    threads: int = 1

    @property
    def cores(self) -> int:
        """How many are to be busy."""
        return self.members * self.threads

    @property
    def needs(self) -> str:
        """What a machine must have, "" for what every one has."""
        if self.device == "cuda":
            return "a CUDA device"
        return "two cores" if self.cores > 1 else ""


WAYS: Final = (
    Way("one core"),
    Way("two threads of torch", threads=2),
    Way("two members on two cores", members=2),
    Way("CUDA", "cuda"),
)


def is_here(way: Way) -> bool:
    """Whether this machine has the device and the cores."""
    import torch

    return way.cores <= (os.cpu_count() or 1) and (way.device == "cpu" or torch.cuda.is_available())


def settings_of(network: str) -> TrainingSettings:
    """P4's settings with a network of NETWORKS."""
    from aml100.learning.settings import TrainingSettings

    layers, hidden = NETWORKS[network]
    return TrainingSettings(lstm_layers=layers, lstm_hidden=hidden, head_hidden=64, acted_per_update=2, mirror=True)


@contextmanager
def devices(folder: Path, bars: int = BARS, least_s: float = LEAST_S) -> Iterator[Sample]:
    """Targets a wall second by `key_of` network and way; a way that is missing here has no reading."""
    import torch

    from aml100.bench.learning_markets import PLANTED_RULES, mean_reverting
    from aml100.bench.learning_measure import CpuClock
    from aml100.learning.dataset import CoinData
    from aml100.learning.jobs import TrainingJob
    from aml100.learning.trainer import Training, deterministic, lay_out

    job = TrainingJob((CoinData(mean_reverting(bars, 1), PLANTED_RULES),), settings_of("LSTM 64"), seed=1)
    dataset = lay_out(job)

    def begun(network: str, way: Way) -> list[Training]:
        """Trainings that have been warmed up by an update."""
        made = []
        with deterministic(way.threads):
            for seed in range(way.members):
                one = replace(job, settings=settings_of(network), seed=seed)
                made.append(Training(one, CpuClock(), lambda: False, dataset, torch.device(way.device)))
                next(made[-1].run())
            targets_per_second(made, 0.0)
        return made

    ways = itertools.product(NETWORKS, filter(is_here, WAYS))
    ready = [(network, way, begun(network, way)) for network, way in ways]

    def measure() -> Readings:
        readings = {}
        for network, way, trainings in ready:
            with deterministic(way.threads):
                readings[key_of(network, way)] = targets_per_second(trainings, least_s)
        return readings

    yield measure


def targets_per_second(trainings: Sequence[Training], least_s: float) -> float:
    """Of trainings that update side by side for `least_s` wall seconds or the first update that ends later."""
    before, began_s = sum(one.transitions for one in trainings), time.perf_counter()

    def update(training: Training) -> None:
        training.update()
        while time.perf_counter() - began_s < least_s:
            training.update()

    if len(trainings) == 1:
        update(trainings[0])
    else:
        import torch

        with ThreadPoolExecutor(len(trainings), "member", torch.set_num_threads, (1,)) as pool:
            list(pool.map(update, trainings))
    return (sum(one.transitions for one in trainings) - before) / (time.perf_counter() - began_s)


def key_of(network: str, way: Way) -> str:
    """Under which the readings hold a network trained in a way."""
    return f"{network}, {way.name}"


RACE_HEADER: Final = ("network", "way", *(f"to {share:g}" for share in RACE_SHARES), "updates a second", "best share")


def race_rows(limit_s: float, bars: int = RACE_BARS, fresh_bars: int = 400_000) -> Iterator[tuple[str, ...]]:
    """Rows under RACE_HEADER: wall seconds until the policy that validation chose earns a share of what the best earns
    on fresh bars of the mean-reverting market; a network and way is trained for `limit_s`, one seed."""
    from aml100.bench.learning_markets import PLANTED_RULES, mean_reverting
    from aml100.bench.learning_measure import Fresh, warm_up
    from aml100.learning.dataset import CoinData
    from aml100.learning.jobs import TrainingJob

    fresh = Fresh.of("mean-reverting", bars=fresh_bars)
    data = (CoinData(mean_reverting(bars, 1), PLANTED_RULES),)
    for network, settings in race_settings().items():
        for way in filter(is_here, WAYS):
            if way.cores == 1:
                warm_up(settings)
                job = TrainingJob(data, settings, seed=0, budget_s=limit_s)
                yield (network, way.name, *_race(job, way, fresh))


def race_settings() -> dict[str, TrainingSettings]:
    """P5's network and batch, and a network of the size that params.json has by default with batches to match."""
    from aml100.bench.learning_measure import LONG_RECIPE

    wide = replace(LONG_RECIPE, lstm_layers=2, lstm_hidden=128, head_hidden=64, batch_stretches=32, search_rate=1.0)
    return {"LSTM 32, 4 stretches": LONG_RECIPE, "LSTM 2 x 128, 32 stretches": wide}


def _race(job: TrainingJob, way: Way, fresh: Fresh) -> tuple[str, ...]:
    import torch

    from aml100.bench.learning_measure import PausableClock
    from aml100.learning.trainer import Training, deterministic

    clock, best, looked_at = PausableClock(time.perf_counter), 0.0, 0
    reached: dict[float, float] = {}
    with deterministic(way.threads):
        training = Training(job, clock, lambda: False, device=torch.device(way.device))
        training.began_s = clock.monotonic_s()
        for _ in training.run():
            if training.kept.epoch == looked_at:
                continue
            looked_at, seconds = training.kept.epoch, clock.monotonic_s() - training.began_s
            with clock.paused():
                walk = fresh.walk([training.kept.weights], training.dataset.scaler, job.settings)
                best = max(best, fresh.earned(walk) / fresh.reference)
            for share in RACE_SHARES:
                if best >= share:
                    reached.setdefault(share, seconds)
    times = [f"{reached[share]:.1f} s" if share in reached else "-" for share in RACE_SHARES]
    return *times, f"{training.updates / (clock.monotonic_s() - training.began_s):.1f}", f"{best:.3f}"


TRIAL: Final = Trial(
    "P4",
    devices,
    figures=tuple(
        Figure(f"training targets, {key_of(network, way)}", "targets/s", key=key_of(network, way), needs=way.needs)
        for network in NETWORKS
        for way in WAYS
    ),
    repetitions=3,
)
