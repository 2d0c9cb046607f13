"""Learning on a GPU, where there is one: it does what a CPU does, waits once a step, and repeats itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest
import torch

from aml100.domain.clock import ManualClock
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.learner import Batch, Learner
from aml100.learning.trainer import train
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings
from tests.unit.learning.test_learner import make_batch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def whole_float32() -> Iterator[None]:
    """cuDNN rounds factors to TF32 unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Whoever waits for the GPU fails; setting that warns once that the mode is a prototype."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def on_gpu(batch: Batch) -> Batch:
    return Batch(**{field.name: getattr(batch, field.name).to(GPU) for field in fields(batch)})


@pytest.mark.usefixtures("whole_float32")
def test_steps_on_a_gpu_go_where_those_on_a_cpu_go() -> None:
    settings = tiny_settings(n_step=3, bias_weight=0.5, lstm_layers=2)
    here, there = (Learner(5, settings, seed=1, device=device) for device in (CPU, GPU))
    for seed in range(20):
        ours, theirs = here.step(make_batch(seed % 3)), there.step(on_gpu(make_batch(seed % 3)))
        assert theirs.loss == pytest.approx(ours.loss, rel=1e-3)
        assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-2)
        np.testing.assert_allclose(theirs.td_errors, ours.td_errors, rtol=1e-3)
    for one, other in zip(here.average.parameters(), there.average.parameters(), strict=True):
        np.testing.assert_allclose(one, other.cpu(), rtol=0, atol=2e-3)


def test_a_step_does_not_wait_before_its_end() -> None:
    learner = Learner(5, tiny_settings(n_step=3, bias_weight=0.5), seed=1, device=GPU)
    batch = on_gpu(make_batch(0))
    learner.step(batch)
    with waiting_refused():
        learner.step_on_device(batch)
    with waiting_refused(), pytest.raises(RuntimeError, match="synchronizing"):
        learner.step(batch)


def test_a_training_repeats_itself_bit_for_bit() -> None:
    job = TrainingJob((coin_data(mean_reverting(1600, 1)),), tiny_settings(), seed=3)
    results = []
    for _ in range(2):
        *_, last = train(job, ManualClock(wall_s=0.0))
        assert isinstance(last, TrainingResult)
        assert last.device == "cuda"
        results.append(last)
    for name, array in results[0].weights.items():
        assert array.tobytes() == results[1].weights[name].tobytes(), name
