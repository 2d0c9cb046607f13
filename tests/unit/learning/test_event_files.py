"""Event files are what TensorBoard itself reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml100.learning.event_files import EventFile, frame, scalars_event


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
