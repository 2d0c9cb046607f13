"""Learning on a device that is not the CPU, where there is none: what a GPU would refuse or be waited for shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aml100.domain.clock import ManualClock
from aml100.learning.inference import Floats32
from aml100.learning.jobs import Ended, TrainingJob, TrainingResult
from aml100.learning.learner import Batch, Learner, StepResult
from aml100.learning.memory import weights_of
from aml100.learning.scores import HealthFinding
from aml100.learning.trainer import Training, deterministic
from aml100.learning.validation import LANES, WARM_BARS, encode_chunked
from tests.unit.learning import far_device
from tests.unit.learning.far_device import far_process
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings
from tests.unit.learning.test_learner import make_batch

SETTINGS = tiny_settings(n_step=3, bias_weight=0.5, lstm_layers=2)
DATA = (coin_data(mean_reverting(1600, 1)), coin_data(mean_reverting(1400, 2)))

Weights = dict[str, Floats32]


@pytest.fixture(scope="module")
def far() -> Iterator[ProcessPoolExecutor]:
    with far_process() as pool:
        yield pool


def on(device: str, batch: Batch) -> Batch:
    return Batch(**{field.name: getattr(batch, field.name).to(device) for field in fields(batch)})


def learner_on(device: str) -> Learner:
    return Learner(5, SETTINGS, seed=1, device=torch.device(device))


def steps(device: str) -> tuple[list[StepResult], Weights]:
    learner = learner_on(device)
    return [learner.step(on(device, make_batch(seed % 3))) for seed in range(20)], weights_of(learner.average)


def test_steps_on_a_device_go_where_those_on_the_cpu_go(far: ProcessPoolExecutor) -> None:
    ours, weights = steps("cpu")
    theirs, far_weights = far.submit(steps, far_device.NAME).result()
    for here, there in zip(ours, theirs, strict=True):
        assert there.loss == pytest.approx(here.loss, rel=1e-5)
        assert there.gradient_norm == pytest.approx(here.gradient_norm, rel=1e-4)
        np.testing.assert_allclose(there.td_errors, here.td_errors, rtol=1e-5)
    for name, array in weights.items():
        np.testing.assert_allclose(far_weights[name], array, rtol=0, atol=1e-5, err_msg=name)


def reads_of_a_step() -> tuple[list[str], list[str]]:
    learner, batch = learner_on(far_device.NAME), on(far_device.NAME, make_batch(0))
    far_device.reads.clear()
    learner.step_on_device(batch)
    before = list(far_device.reads)
    learner.step(batch)
    return before, list(far_device.reads)


def test_a_step_waits_for_the_device_once_at_its_end(far: ProcessPoolExecutor) -> None:
    before, all_reads = far.submit(reads_of_a_step).result()
    assert before == []
    assert len(all_reads) == 1


def mixed_and_misread() -> tuple[str, str]:
    """What the device says to a batch that was half left behind, and to one who takes it for the CPU."""
    learner, batch = learner_on(far_device.NAME), make_batch(0)
    with pytest.raises(RuntimeError) as mixed:
        learner.step_on_device(replace(on(far_device.NAME, batch), position=batch.position))
    with pytest.raises(RuntimeError) as misread:
        batch.reward.to(far_device.NAME).numpy()
    return str(mixed.value), str(misread.value)


def test_the_device_refuses_what_a_gpu_refuses(far: ProcessPoolExecutor) -> None:
    mixed, misread = far.submit(mixed_and_misread).result()
    assert "expected all tensors to be on the same device" in mixed
    assert "numpy() is not supported" in misread


def encoded(device: str) -> Floats32:
    """More bars than are read in one lane, and a rest."""
    bars = np.random.default_rng(0).standard_normal((2 * WARM_BARS * LANES + 7, 5)).astype(np.float32)
    return encode_chunked(learner_on(device).online, bars, torch.device(device))


def test_bars_are_encoded_on_a_device_as_on_the_cpu(far: ProcessPoolExecutor) -> None:
    np.testing.assert_allclose(far.submit(encoded, far_device.NAME).result(), encoded("cpu"), rtol=0, atol=1e-5)


def training(
    job: TrainingJob, device: str, stop_after: int | None = None
) -> tuple[Ended, list[float], Weights, str, list[HealthFinding]]:
    asked = itertools.count()
    stop = lambda: stop_after is not None and next(asked) >= stop_after  # noqa: E731
    with deterministic(1):
        *_, last = Training(job, ManualClock(wall_s=0.0), stop, device=torch.device(device)).run()
    assert isinstance(last, TrainingResult)
    return last.ended, list(last.curve), dict(last.weights), last.device, list(last.health)


def trainings(folder: Path) -> list[tuple[Ended, list[float], Weights, str, list[HealthFinding]]]:
    """Straight through; stopped in its second epoch; resumed."""
    job, name = TrainingJob(DATA, tiny_settings(), seed=3), far_device.NAME
    stopped = replace(job, folder=folder)
    return [training(job, name), training(stopped, name, 5), training(replace(stopped, resume=True), name)]


def test_a_training_on_a_device_is_that_of_the_cpu_and_resumes_to_the_same_bits(
    far: ProcessPoolExecutor, tmp_path: Path
) -> None:
    _, curve, weights, _, health = training(TrainingJob(DATA, tiny_settings(), seed=3), "cpu")
    straight, stopped, resumed = far.submit(trainings, tmp_path).result()
    assert [one[0] for one in (straight, stopped, resumed)] == ["finished", "stopped", "finished"]
    assert straight[3] == far_device.NAME
    assert straight[1] == pytest.approx(curve, rel=1e-3)
    assert [finding.name for finding in straight[4]] == [finding.name for finding in health]
    for name, array in weights.items():
        np.testing.assert_allclose(straight[2][name], array, rtol=0, atol=1e-4, err_msg=name)
        assert resumed[2][name].tobytes() == straight[2][name].tobytes(), name
    assert resumed[1] == straight[1]
