"""The exported graph answers what the model answers, and one that does not is not written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aml100.domain.clock import ManualClock
from aml100.domain.errors import AmlError, UsageError
from aml100.learning import onnx_export
from aml100.learning.bundle import Bundle, load_bundle
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two members of two layers."""
    job = TrainingJob((coin_data(mean_reverting(1600, 1)),), tiny_settings(members=2, lstm_layers=2, epochs=1), seed=1)
    *_, last = train(job, ManualClock(wall_s=0.0))
    assert isinstance(last, TrainingResult)
    return load_bundle(last.save(job, tmp_path_factory.mktemp("models")))


def test_the_graph_of_an_ensemble_is_equal_and_says_what_it_was_made_of(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert onnx_export.export_onnx(bundle, path) == path
    model = onnx.load(path)
    assert onnx_export.largest_difference(bundle, model) < 1e-5
    with pytest.raises(UsageError, match="cannot be written"):
        onnx_export.export_onnx(bundle, tmp_path / "nowhere" / "model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["model"] == bundle.id
    assert said["schema"] == bundle.record.schema
    assert said["features"].split(",") == list(bundle.record.features)
    assert [one.name for one in model.graph.output] == ["q", "h_out", "c_out"]


def test_a_graph_that_differs_is_found_and_not_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates in torch's order are wrong in ONNX: the check must see it."""
    monkeypatch.setattr(onnx_export, "_GATES", (0, 1, 2, 3))
    with pytest.raises(AmlError, match="differs from it by"):
        onnx_export.export_onnx(bundle, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert np.isfinite(onnx_export.largest_difference(bundle, onnx_export.build_graph(bundle)))
