"""Models whose behaviour is known by construction: one trained network's record around weights made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from aml100.domain.clock import SystemClock
from aml100.learning.bundle import Bundle, digest_settings, load_bundle, model_id, save_bundle
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from aml100.storage.database import Database
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings

MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that has been trained for a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    job = TrainingJob((coin_data(mean_reverting(1500, 1)),), tiny_settings(epochs=1), seed=1)
    last = list(train(job, SystemClock()))[-1]
    torch.set_num_threads(threads)
    assert isinstance(last, TrainingResult)
    return load_bundle(last.save(job, tmp_path_factory.mktemp("models")))


@pytest.fixture
def make_bundle(trained: Bundle, tmp_path: Path) -> MakeBundle:
    """A healthy model that always wants the given action: `make_bundle(hold, buy, sell)` are its Q values."""

    def make(hold: float, buy: float, sell: float, *, healthy: bool = True) -> Bundle:
        weights = {name: np.zeros_like(array) for name, array in trained.members[0].items()}
        weights["duel.bias"] = np.array([0.0, hold, buy, sell], np.float32)
        health = tuple(replace(one, healthy=healthy or one.name != "constant_action") for one in trained.record.health)
        record = trained.record
        name = model_id([weights], record.data_sha256, record.schema, digest_settings(record.settings))
        record = msgspec.structs.replace(record, id=name, members=1, health=health)
        return load_bundle(save_bundle(tmp_path / "models", record, [weights]))

    return make


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "state.db", "NORMAL", "sim", "0x" + "ab" * 20, "venue") as opened:
        yield opened
