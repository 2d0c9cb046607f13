"""P4 on devices: every way that is there trains and is read, the others are named as absent."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from aml100.bench.families import trials_of
from aml100.bench.learning_devices import (
    NETWORKS,
    RACE_HEADER,
    TRIAL,
    WAYS,
    devices,
    is_here,
    key_of,
    race_rows,
    settings_of,
    targets_per_second,
)
from aml100.bench.running import run_trial
from aml100.domain.clock import ManualClock
from aml100.learning.jobs import TrainingJob
from aml100.learning.trainer import Training
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings


@pytest.mark.parametrize("cores", [1, 2])
def test_ways_that_are_there_are_measured_and_others_absent_by_what_they_need(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    threads = torch.get_num_threads()
    rows = run_trial(replace(TRIAL, prepare=partial(devices, bars=20_000, least_s=0.0)), tmp_path, repetitions=1)
    assert [row.name for row in rows] == [f"P4 training targets, {key_of(n, way)}" for n in NETWORKS for way in WAYS]
    for row, way in zip(rows, WAYS * len(NETWORKS), strict=True):
        if is_here(way):
            assert row.state == "shown"
            assert row.ours is not None
            assert row.ours > 0
        else:
            assert (row.state, row.ours, row.note) == ("absent", None, f"needs {way.needs}")
    there = {way.name for way in WAYS if is_here(way)}
    assert ("one core" in there, "two members on two cores" in there) == (True, cores == 2)
    assert ("CUDA" in there) == torch.cuda.is_available()
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("members", [1, 2])
def test_all_members_train_and_are_counted(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes a second at each look: two looks of an update, and each member's targets in the rate."""
    data = (coin_data(mean_reverting(1600, 1)),)
    trainings = [
        Training(TrainingJob(data, tiny_settings(), seed=seed), ManualClock(wall_s=0.0), lambda: False)
        for seed in range(members)
    ]
    for training in trainings:
        next(training.run())
    looked = iter(range(1_000))
    monkeypatch.setattr("aml100.bench.learning_devices.time.perf_counter", lambda: float(next(looked)))
    rate = targets_per_second(trainings, 6.0)
    looks = next(looked) - 1
    updates = sum(training.updates for training in trainings)
    assert updates == looks - 1  # the first look begins, the last ends, each other follows an update
    assert rate == pytest.approx(updates * 4 * 24 * 4 * 3 / looks)
    assert all(training.updates >= 1 for training in trainings)


def test_the_second_network_is_the_default_one() -> None:
    usual = settings_of("LSTM 2 x 128")
    default = type(usual)()
    assert (usual.lstm_layers, usual.lstm_hidden, usual.head_hidden) == (
        default.lstm_layers, default.lstm_hidden, default.head_hidden,
    )  # fmt: skip
    assert TRIAL in [trial for _, trial in trials_of(["P4"])]


def test_a_race_has_a_row_for_each_network_and_single_core_or_gpu() -> None:
    rows = list(race_rows(0.3, bars=30_000, fresh_bars=5_000))
    alone = [way.name for way in WAYS if way.cores == 1 and is_here(way)]
    assert [row[1] for row in rows] == alone * 2
    for row in rows:
        assert len(row) == len(RACE_HEADER)
        assert float(row[RACE_HEADER.index("updates a second")]) > 0.0
        assert row[RACE_HEADER.index("to 0.95")] == "-"  # nobody learns it in so short a while
