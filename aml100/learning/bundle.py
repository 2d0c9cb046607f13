"""A model version on disk: `models/ID/` with weights.safetensors and bundle.json, and the policy made from it.

The id is made of what the weights are and what they were learned from, so the same seed, data and settings give the
same id. A folder appears whole or not at all: it is written under another name, flushed, then renamed. Loading checks
every file against its recorded hash, and the feature schema against the running program's; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as render_tensors

from aml100.domain.errors import AmlError, UsageError
from aml100.domain.orders import Action
from aml100.domain.units import MINUTE_MS
from aml100.evaluation.seen import Seen
from aml100.learning.inference import CompiledNetwork, CompiledWeights, Floats32, greedy_action, scale_row
from aml100.learning.scores import HealthFinding, Validation
from aml100.learning.settings import TrainingSettings
from aml100.market.position import POSITION_FEATURES
from aml100.trading.policies import PolicyAnswer

FORMAT: Final = 2
"""2: the position's features are bounded; what format 1 learned of them is of another scale."""
WEIGHTS_FILE: Final = "weights.safetensors"
RECORD_FILE: Final = "bundle.json"
FULL_CONFIDENCE_GAP: Final = 0.1
"""Gap between the two best Q values, in reward units, from which confidence is 1 (SPEC section 6)."""


class BundleError(UsageError):
    """A model folder cannot be used: incomplete, altered, of another format or of other features."""


class BundleRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What stands in bundle.json; `files` names each file's SHA-256, fractions are fractions."""

    id: str
    format: int
    features: tuple[str, ...]
    position_features: tuple[str, ...]
    schema: str
    interval_ms: int
    coins: tuple[str, ...]
    scaler_mean: tuple[float, ...]
    scaler_inverse_sd: tuple[float, ...]
    reward_unit: float
    members: int
    settings: TrainingSettings
    data_sha256: str
    data_origin: str
    seed: int
    git_revision: str | None
    best_epoch: int
    epochs: int
    updates: int
    transitions: int
    device: str
    validation_curve: tuple[float, ...]
    validation: Validation
    health: tuple[HealthFinding, ...]
    files: dict[str, str]
    not_mirrored_for: str = ""
    """The unsigned feature that told up from down in the training part, where `mirror` is "auto" and there was one."""
    data_from_ms: int = 0
    data_to_ms: int = 0
    """The span of the bars that training and validation read, of all coins; 0 and 0 in a model that does not say."""
    settings_digest: str = ""
    """As it was when the model was made: a program that knows more settings would make another one of the same file."""

    @property
    def healthy(self) -> bool:
        """All named checks passed; a model that is not must not be promoted."""
        return all(finding.healthy for finding in self.health)

    @property
    def seen(self) -> Seen | None:
        """What it was made from; None where it does not say."""
        return Seen(self.data_from_ms, self.data_to_ms, self.data_origin) if self.data_to_ms else None


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A loaded model: its record and the weights of its members, in the order of their seeds."""

    record: BundleRecord
    members: tuple[Mapping[str, Floats32], ...]
    path: Path | None = None

    @property
    def id(self) -> str:
        """`m-` and 12 hex digits."""
        return self.record.id

    def policy(self) -> ModelPolicy:
        """A fresh policy with memory at zero."""
        return ModelPolicy(self)


def model_id(members: Sequence[Mapping[str, Floats32]], data_sha256: str, schema: str, settings_digest: str) -> str:
    """`m-` and 12 hex digits of a hash over weights, data, feature schema and settings."""
    digest = hashlib.sha256(f"{FORMAT}|{data_sha256}|{schema}|{settings_digest}|".encode())
    for weights in members:
        for name in sorted(weights):
            digest.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
    return f"m-{digest.hexdigest()[:12]}"


def digest_settings(settings: TrainingSettings) -> str:
    """SHA-256 of all settings that a model depends on, in a fixed order."""
    return hashlib.sha256(msgspec.json.encode(replace(settings, tensorboard=False))).hexdigest()


def save_bundle(folder: Path, record: BundleRecord, members: Sequence[Mapping[str, Floats32]]) -> Path:
    """Write `folder`/ID; where that model exists already it is left as it is. Returns the model's folder.

    Args:
        folder: the `models/` folder, made if absent.
        record: complete but for `files`, which is filled in here.
    """
    final = folder / record.id
    if (final / RECORD_FILE).exists():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"member{number}.{name}": np.ascontiguousarray(array)
        for number, weights in enumerate(members)
        for name, array in sorted(weights.items())
    }
    weights_bytes = render_tensors(tensors)
    complete = msgspec.structs.replace(record, files={WEIGHTS_FILE: hashlib.sha256(weights_bytes).hexdigest()})
    staging = folder / f".{record.id}.{os.getpid()}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    _write_durably(staging / WEIGHTS_FILE, weights_bytes)
    _write_durably(staging / RECORD_FILE, msgspec.json.format(msgspec.json.encode(complete), indent=1) + b"\n")
    _sync_folder(staging)
    try:
        staging.rename(final)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not (final / RECORD_FILE).exists():
            raise
    _sync_folder(folder)
    return final


def load_record(path: Path) -> BundleRecord:
    """Read and check bundle.json alone.

    Raises:
        BundleError: it is absent, does not parse, or is of another format.
    """
    try:
        record = msgspec.json.decode((path / RECORD_FILE).read_bytes(), type=BundleRecord)
    except FileNotFoundError:
        raise BundleError(f"{path}: no model here, {RECORD_FILE} is missing") from None
    except msgspec.MsgspecError as error:
        raise BundleError(f"{path / RECORD_FILE}: not a model's record: {error}") from None
    if record.format != FORMAT:
        raise BundleError(
            f"{path / RECORD_FILE}: format {record.format}, this program reads format {FORMAT}; train it anew"
        )
    return record


def load_bundle(path: Path, *, schema: str | None = None) -> Bundle:
    """Read a model folder and verify it.

    Args:
        schema: the running program's `schema_digest`; None leaves the features unchecked.

    Raises:
        BundleError: names the file and what differs (D24).
    """
    record = load_record(path)
    if schema is not None and record.schema != schema:
        raise BundleError(
            f"{path}: made for bars of {record.interval_ms / MINUTE_MS:g} min and feature schema {record.schema}; this "
            f"interval, these regime thresholds and this program have {schema}; train it anew"
        )
    if record.position_features != POSITION_FEATURES:
        raise BundleError(f"{path}: made for other position features: {', '.join(record.position_features)}")
    contents = _read_verified(path / WEIGHTS_FILE, record.files.get(WEIGHTS_FILE))
    try:
        tensors = parse_tensors(contents)
    except SafetensorError as error:
        raise BundleError(f"{path / WEIGHTS_FILE}: {error}") from None
    members = tuple(_member(tensors, number) for number in range(record.members))
    digest = record.settings_digest or digest_settings(record.settings)
    expected = model_id(members, record.data_sha256, record.schema, digest)
    if expected != record.id:
        raise BundleError(f"{path}: calls itself {record.id}, its contents make {expected}")
    if any(not np.isfinite(array).all() for weights in members for array in weights.values()):
        raise BundleError(f"{path / WEIGHTS_FILE}: a weight is not a finite number")
    return Bundle(record, members, path)


def _member(tensors: Mapping[str, Floats32], number: int) -> dict[str, Floats32]:
    prefix = f"member{number}."
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _read_verified(path: Path, expected: str | None) -> bytes:
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: missing, the model is incomplete") from None
    actual = hashlib.sha256(contents).hexdigest()
    if actual != expected:
        raise BundleError(
            f"{path}: SHA-256 {actual[:12]}... where {str(expected)[:12]}... is recorded; damaged or altered"
        )
    return contents


def _write_durably(path: Path, contents: bytes) -> None:
    with path.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _SavedState(msgspec.Struct, frozen=True):
    model: str
    shape: tuple[int, int, int]
    memory: bytes


class ModelPolicy:
    """A trained model as a `trading.policies.Policy`: one compiled LSTM step a bar, the same on every path.

    Q values are in reward units: one unit is the standard deviation of one bar's return in training. An ensemble
    averages its members' Q values, and their disagreement about the gap lowers the confidence.
    """

    def __init__(self, bundle: Bundle) -> None:
        record = bundle.record
        self.name = "model"
        self.model_id = record.id
        self.path = None if bundle.path is None else str(bundle.path)
        self._mean = np.array(record.scaler_mean, np.float64)
        self._inverse_sd = np.array(record.scaler_inverse_sd, np.float64)
        self._networks = [CompiledNetwork(CompiledWeights.from_arrays(weights)) for weights in bundle.members]
        self._scaled: Floats32 = np.zeros(len(self._mean), np.float32)
        self._q: npt.NDArray[np.float64] = np.zeros(3)

    def observe(self, row: npt.NDArray[np.float64]) -> None:
        """Take in the features of a closed bar, float64 [F], unscaled.

        Raises:
            AmlError: a feature is not a finite number or the row has another length; nothing was taken in.
        """
        if row.shape != self._mean.shape or not np.isfinite(row).all():
            raise AmlError(f"model {self.model_id}: a feature row of {len(row)} numbers is incomplete or not finite")
        scale_row(row, self._mean, self._inverse_sd, self._scaled)
        for network in self._networks:
            network.observe(self._scaled)

    def q(self, position: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        """(hold, buy, sell) for one position row [P] at the bar last observed, averaged over the members."""
        each = [network.q(position) for network in self._networks]
        if len(each) == 1:
            return each[0]
        hold, buy, sell = (math.fsum(values) / len(each) for values in zip(*each, strict=True))
        return hold, buy, sell

    def decide(self, position: npt.NDArray[np.float64], bar_ms: int = 0) -> PolicyAnswer:
        """The action with the best Q, HOLD on ties; confidence grows with the gap of the two best, up to 1."""
        q = self.q(position)
        self._q[:] = q
        action = greedy_action(self._q, float(position[0]), 0.0)
        best, second, _ = sorted(range(3), key=q.__getitem__, reverse=True)
        gap = q[best] - q[second]
        if len(self._networks) > 1:
            gaps = [values[best] - values[second] for values in (network.q(position) for network in self._networks)]
            mean = math.fsum(gaps) / len(gaps)
            gap -= math.sqrt(math.fsum((one - mean) ** 2 for one in gaps) / len(gaps))
        return PolicyAnswer(Action(action), q, min(1.0, max(0.0, gap) / FULL_CONFIDENCE_GAP))

    def reset(self) -> None:
        """A contiguous series begins: memory is zero."""
        for network in self._networks:
            network.reset()

    def export_state(self) -> bytes:
        """The memory of all members, for `restore` on the same model."""
        memory = np.stack([np.stack([network.h, network.c]) for network in self._networks])
        layers, hidden = self._networks[0].h.shape
        return msgspec.msgpack.encode(
            _SavedState(self.model_id, (len(self._networks), layers, hidden), memory.astype("<f4").tobytes())
        )

    def restore(self, state: bytes) -> None:
        """Go on from `export_state`.

        Raises:
            AmlError: the state is of another model or does not read.
        """
        try:
            saved = msgspec.msgpack.decode(state, type=_SavedState)
        except msgspec.MsgspecError as error:
            raise AmlError(f"model {self.model_id}: its saved memory does not read: {error}") from None
        members, layers, hidden = saved.shape
        if saved.model != self.model_id or len(saved.memory) != 8 * math.prod(saved.shape):
            raise AmlError(f"model {self.model_id}: the saved memory belongs to model {saved.model}")
        memory = np.frombuffer(saved.memory, "<f4").reshape(members, 2, layers, hidden)
        for network, (h, c) in zip(self._networks, memory, strict=True):
            network.restore(h, c)
