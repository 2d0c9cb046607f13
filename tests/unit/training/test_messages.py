"""Lines between trainer and parent, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from aml100.domain.errors import ConfigError
from aml100.evaluation.kernel import KernelRules
from aml100.learning.settings import TrainingSettings
from aml100.training.messages import (
    DataSource,
    Failed,
    Progress,
    Stopped,
    TrainingSpec,
    decode_message,
    decode_spec,
    encode_line,
)

SPEC = TrainingSpec(
    data=(DataSource("bars.csv", KernelRules(stop_loss=0.01), coin="BTC"),),
    settings=TrainingSettings(epochs=3),
    seed=7,
    models="models",
    folder="job",
    budget_s=60.0,
)


def test_a_job_survives_the_pipe() -> None:
    line = encode_line(SPEC)
    assert line.count(b"\n") == 1
    assert decode_spec(line) == SPEC


@pytest.mark.parametrize(
    "message",
    [
        Progress(1, 3, 6, 600, 0.25, None, 0, 0.0, 1e-3, 0.9, 7, 1.5, None),
        Stopped("job", 2),
        Failed("the reason"),
    ],
)
def test_messages_survive_the_pipe(message: Progress | Stopped | Failed) -> None:
    assert decode_message(encode_line(message)) == message


def test_a_setting_out_of_range_names_itself() -> None:
    line = encode_line(SPEC).replace(b'"gamma":0.998', b'"gamma":1.5')
    with pytest.raises(ConfigError, match=r"gamma: 1\.5 is not allowed"):
        decode_spec(line)


def test_a_mistyped_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="sed"):
        decode_spec(encode_line(SPEC).replace(b'"seed":7', b'"seed":7,"sed":8'))


def test_the_parent_side_loads_no_torch() -> None:
    code = "import sys, aml100.training.process, aml100.training.messages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
