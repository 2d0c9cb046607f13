"""Model folders: whole or refused with a reason (D24); the policy made from one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from aml100.domain.clock import ManualClock
from aml100.domain.errors import AmlError
from aml100.domain.orders import Action
from aml100.learning.acting import greedy_walk
from aml100.learning.bundle import Bundle, BundleError, load_bundle, model_id, save_bundle
from aml100.learning.inference import CompiledWeights
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.network import QNetwork
from aml100.learning.trainer import train
from aml100.learning.validation import encode_chunked
from aml100.market.features import compute_features, schema_digest
from aml100.market.position import POSITION_SIZE
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings

JOB = TrainingJob((coin_data(mean_reverting(1500, 1)),), tiny_settings(epochs=2), seed=1)


@pytest.fixture(scope="module")
def result() -> TrainingResult:
    last = list(train(JOB, ManualClock(wall_s=0.0)))[-1]
    assert isinstance(last, TrainingResult)
    return last


@pytest.fixture
def saved(result: TrainingResult, tmp_path: Path) -> Path:
    return result.save(JOB, tmp_path / "models")


def test_a_saved_model_comes_back_as_it_was(saved: Path, result: TrainingResult) -> None:
    bundle = load_bundle(saved, schema=schema_digest(60_000))
    assert bundle.id == saved.name
    assert bundle.id.startswith("m-")
    assert len(bundle.id) == 14
    assert all(np.array_equal(bundle.members[0][name], array) for name, array in result.weights.items())
    assert bundle.record.data_sha256 == result.dataset.fingerprint
    assert bundle.record.validation == result.validation
    assert bundle.record.settings == JOB.settings
    assert sorted(path.name for path in saved.parent.iterdir()) == [saved.name]  # nothing half written left


def _flip_a_byte(folder: Path) -> None:
    file = folder / "weights.safetensors"
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(bytes(contents))


def _rewrite(folder: Path, **changes: object) -> None:
    file = folder / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip_a_byte, "damaged or altered"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "incomplete"),
        (lambda folder: (folder / "bundle.json").unlink(), "no model here"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "not a model's record"),
        (lambda folder: _rewrite(folder, format=99), "format 99"),
        (lambda folder: _rewrite(folder, schema="0123"), "feature schema 0123"),
        (lambda folder: _rewrite(folder, data_sha256="00"), "its contents make"),
        (lambda folder: _rewrite(folder, position_features=["side"]), "other position features"),
    ],
)
def test_a_damaged_or_unfitting_model_is_refused_by_name(
    saved: Path, damage: Callable[[Path], object], message: str
) -> None:
    """D24."""
    damage(saved)
    with pytest.raises(BundleError, match=message):
        load_bundle(saved, schema=schema_digest(60_000))


def test_a_model_of_an_earlier_program_with_fewer_settings_still_loads(saved: Path) -> None:
    """D24: a setting that came later has its default; the model is the one that it was."""
    document = json.loads((saved / "bundle.json").read_text())
    for name in ("mirror", "members", "search_rate"):
        del document["settings"][name]
    (saved / "bundle.json").write_text(json.dumps(document))
    assert load_bundle(saved).id == saved.name


def test_a_model_of_an_earlier_program_with_a_setting_that_is_gone_still_loads(
    result: TrainingResult, tmp_path: Path
) -> None:
    """D24: its id was made with that setting; what the model is does not depend on who reads it."""
    settings = json.loads(msgspec.json.encode(JOB.settings)) | {"mixed_precision": True}
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    name = model_id(result.members, result.dataset.fingerprint, result.dataset.schema, digest)
    folder = result.save(JOB, tmp_path).rename(tmp_path / name)
    _rewrite(folder, id=name, settings=settings, settings_digest=digest)
    bundle = load_bundle(folder)
    assert (bundle.id, bundle.record.settings) == (name, JOB.settings)


def test_saving_the_same_model_twice_changes_nothing(saved: Path, result: TrainingResult) -> None:
    before = (saved / "bundle.json").stat().st_mtime_ns
    assert result.save(JOB, saved.parent) == saved
    assert (saved / "bundle.json").stat().st_mtime_ns == before


def test_policy_decides_like_the_validation_walk_bar_for_bar(saved: Path, result: TrainingResult) -> None:
    """One kernel for every path: what validation priced is what the policy answers."""
    series = mean_reverting(900, 9)
    frame = compute_features(series)
    rows = np.flatnonzero(frame.valid)
    policy = load_bundle(saved).policy()
    for row in rows[:400]:
        policy.observe(frame.values[row])
    network = QNetwork(36, 8, 1, 8, seed=0)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in result.weights.items()})
    share = encode_chunked(network, result.dataset.scaler.apply(frame.values[rows[:400]]), torch.device("cpu"))
    walk = greedy_walk(
        result.dataset.coins[0].market, JOB.data[0].rules.as_record(), 500, np.ascontiguousarray(share[-1:]),
        CompiledWeights.from_arrays(result.weights), 0.0,
    )  # fmt: skip
    np.testing.assert_allclose(policy.q(np.zeros(POSITION_SIZE)), walk.q[0], atol=1e-5)


def test_policy_goes_on_from_its_saved_memory_bit_for_bit(saved: Path) -> None:
    frame = compute_features(mean_reverting(700, 9))
    rows = frame.values[frame.valid]
    straight, before, after = (load_bundle(saved).policy() for _ in range(3))
    position = np.zeros(POSITION_SIZE)
    for row in rows[:100]:
        straight.observe(row)
        before.observe(row)
    after.restore(before.export_state())
    for row in rows[100:120]:
        straight.observe(row)
        after.observe(row)
        assert straight.q(position) == after.q(position)
    after.reset()
    assert after.q(position) == load_bundle(saved).policy().q(position)


def test_memory_of_another_model_is_refused(saved: Path) -> None:
    policy = load_bundle(saved).policy()
    with pytest.raises(AmlError, match="does not read"):
        policy.restore(b"nonsense")
    state = policy.export_state().replace(saved.name.encode(), b"m-000000000000")
    with pytest.raises(AmlError, match="belongs to model m-000000000000"):
        policy.restore(state)


def test_incomplete_features_are_refused_and_leave_the_memory_alone(saved: Path) -> None:
    """D9: a number that is none never reaches a decision."""
    policy = load_bundle(saved).policy()
    before = policy.export_state()
    with pytest.raises(AmlError, match="not finite"):
        policy.observe(np.full(36, np.nan))
    assert policy.export_state() == before


def constant_network(hold: float, buy: float, sell: float) -> dict[str, np.ndarray]:
    """Weights that give the same Q values whatever is seen."""
    weights = {name: np.zeros(tuple(t.shape), np.float32) for name, t in QNetwork(36, 4, 1, 4, 0).state_dict().items()}
    mean = (hold + buy + sell) / 3
    weights["duel.bias"] = np.array([mean, hold, buy, sell], np.float32)
    return weights


def ensemble(result: TrainingResult, *members: dict[str, np.ndarray]) -> Bundle:
    record = load_record_of(result)
    return Bundle(record, members)


def load_record_of(result: TrainingResult):  # type: ignore[no-untyped-def]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return load_bundle(result.save(JOB, Path(folder))).record


def test_confidence_grows_with_the_gap_up_to_one(result: TrainingResult) -> None:
    for buy, confidence in ((0.05, 0.5), (0.3, 1.0)):
        answer = ensemble(result, constant_network(0.0, buy, -1.0)).policy().decide(np.zeros(POSITION_SIZE), 0)
        assert answer.action == Action.BUY
        assert answer.confidence == pytest.approx(confidence, rel=1e-5)
        assert answer.q == pytest.approx((0.0, buy, -1.0), abs=1e-6)


def test_ties_hold_and_disagreeing_members_lower_the_confidence(result: TrainingResult) -> None:
    flat = np.zeros(POSITION_SIZE)
    assert ensemble(result, constant_network(0.1, 0.1, 0.1)).policy().decide(flat, 0).action == Action.HOLD
    assert ensemble(result, constant_network(0.0, 0.1, 0.1)).policy().decide(flat, 0).action == Action.HOLD
    agreed = ensemble(result, *[constant_network(0.0, 0.06, -1.0)] * 2).policy().decide(flat, 0)
    torn = ensemble(result, constant_network(0.0, 0.1, -1.0), constant_network(0.0, 0.02, -1.0)).policy()
    answer = torn.decide(flat, 0)
    assert answer.q == pytest.approx((0.0, 0.06, -1.0), abs=1e-6)
    assert agreed.confidence == pytest.approx(0.6, rel=1e-4)
    assert answer.confidence == pytest.approx(0.2, rel=1e-3)  # gap 0.06 less a spread of 0.04


def test_an_ensemble_survives_the_disk(result: TrainingResult, tmp_path: Path) -> None:
    from msgspec.structs import replace

    from aml100.learning.bundle import digest_settings, model_id

    members = (constant_network(0.0, 0.1, 0.0), constant_network(0.0, 0.3, 0.0))
    record = load_record_of(result)
    name = model_id(members, record.data_sha256, record.schema, digest_settings(record.settings))
    path = save_bundle(tmp_path, replace(record, id=name, members=2), members)
    assert load_bundle(path).policy().q(np.zeros(POSITION_SIZE)) == pytest.approx((0.0, 0.2, 0.0), abs=1e-6)
