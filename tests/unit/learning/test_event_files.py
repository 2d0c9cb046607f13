"""Event files are what TensorBoard itself reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aml100.domain.clock import ManualClock
from aml100.learning.event_files import EventFile, frame, scalars_event
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings


def test_a_record_is_framed_and_encoded_as_written_down_in_the_formats() -> None:
    """By hand: wall_time 1.0, step 300 (two bytes), one value `a` = 0.5."""
    event = scalars_event(1.0, 300, {"a": 0.5})
    assert event == bytes.fromhex("09 000000000000f03f 10 ac02 2a 0a 0a 08 0a 01 61 15 0000003f".replace(" ", ""))
    framed = frame(b"")
    assert framed[:8] == bytes(8)
    assert len(frame(event)) == len(event) + 16


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    with EventFile(tmp_path, "seed-1") as events:
        events.add(1, {"loss": 0.25, "validation/net_return": None})
        events.add(2, {"loss": 0.125, "validation/net_return": -0.5})
    (path,) = tmp_path.iterdir()
    found = [
        (event.step, value.tag, value.tensor.float_val[0] if value.HasField("tensor") else value.simple_value)
        for event in loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert found == [(1, "loss", 0.25), (2, "loss", 0.125), (2, "validation/net_return", -0.5)]


def test_a_training_writes_its_epochs_and_makes_the_same_model(tmp_path: Path) -> None:
    job = TrainingJob((coin_data(mean_reverting(1600, 1)),), tiny_settings(epochs=2), seed=1, folder=tmp_path)
    told = replace(job, settings=replace(job.settings, tensorboard=True))
    names = []
    for one in (job, told):
        *_, last = train(one, ManualClock(wall_s=0.0))
        assert isinstance(last, TrainingResult)
        names.append(last.save(one, tmp_path / "models").name)
    assert names[0] == names[1]
    (path,) = tmp_path.glob("events.out.tfevents.*")
    written = path.read_bytes()
    for tag in (b"loss", b"validation/net_return", b"epsilon", b"validation/buy_share"):
        assert tag in written
    assert written.count(b"learning_rate") == 3  # before the first epoch, and after each
