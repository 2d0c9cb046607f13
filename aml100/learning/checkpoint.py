"""The whole state of a training between two updates: what `--resume` goes on from, equal to never having stopped.

One safetensors file: arrays by name, and the few counters and histories as JSON in its header. Replaced as a whole, so
a kill leaves the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as render_tensors

from aml100.domain.errors import UsageError
from aml100.learning.checkpoint_files import CHECKPOINT_FILE
from aml100.learning.learner import Learner
from aml100.learning.memory import StretchMemory, weights_of
from aml100.learning.scores import Validation
from aml100.learning.selection import Selection
from aml100.storage.files import replace_file

_HEADER: Final = "training"

Arrays = dict[str, npt.NDArray[np.generic]]


class CheckpointError(UsageError):
    """There is no checkpoint to go on from, or not one of this training; a training from the start is not affected."""


class Progress(msgspec.Struct, frozen=True):
    """Counters and histories after `epoch` whole epochs and the updates of the next that brought `losses`.

    `key` ties it to data, settings and seed. `best` is the validation of the checkpoint that is kept, of `best_epoch`.
    """

    key: str
    epoch: int
    updates: int
    transitions: int
    best_epoch: int
    best: Validation
    top_epoch: int
    latest: Validation
    curve: tuple[float, ...]
    seconds: float
    random_state: str
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """`progress` and every array: networks, optimiser, memory, what is kept."""

    progress: Progress
    arrays: Arrays


def capture(learner: Learner, memory: StretchMemory, kept: Selection) -> Arrays:
    """Copy all arrays of a training in progress."""
    arrays: Arrays = {}
    arrays |= {f"online.{name}": array for name, array in weights_of(learner.online).items()}
    arrays |= {f"average.{name}": array for name, array in weights_of(learner.average).items()}
    arrays |= {f"target.{name}": array for name, array in weights_of(learner.target).items()}
    arrays |= {f"best.{name}": array for name, array in kept.weights.items()} | {"top_net": kept.top_net}
    for number, slots in learner.optimizer.state_dict()["state"].items():
        for name, tensor in slots.items():
            arrays[f"optimizer.{number}.{name}"] = tensor.detach().cpu().numpy().copy()
    arrays |= {f"memory.{name}": array for name, array in memory.export_state().items()}
    return arrays


def reinstate(checkpoint: Checkpoint, learner: Learner, memory: StretchMemory) -> Selection:
    """Put captured arrays back; returns what was kept."""
    progress, arrays = checkpoint.progress, checkpoint.arrays
    learner.online.load_state_dict(_tensors(arrays, "online."))
    learner.target.load_state_dict(_tensors(arrays, "target."))
    learner.average.load_state_dict(_tensors(arrays, "average."))
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _tensors(arrays, "optimizer.").items():
        number, _, slot = name.partition(".")
        slots.setdefault(int(number), {})[slot] = tensor
    state = learner.optimizer.state_dict()
    state["state"] = slots
    learner.optimizer.load_state_dict(state)
    memory.restore(_under(arrays, "memory."))
    return Selection(
        progress.best_epoch,
        progress.best,
        {name: np.asarray(array, np.float32) for name, array in _under(arrays, "best.").items()},
        progress.top_epoch,
        max(progress.curve),
        np.asarray(arrays["top_net"], np.float32),
    )


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _tensors(arrays: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in _under(arrays, prefix).items()}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Replace the folder's checkpoint atomically; returns its path. DataFileError where it cannot be written."""
    header = {_HEADER: msgspec.json.encode(checkpoint.progress).decode()}
    contents = render_tensors({name: np.ascontiguousarray(a) for name, a in checkpoint.arrays.items()}, header)
    path = folder / CHECKPOINT_FILE
    replace_file(path, lambda file: file.write(contents))
    return path


def load_checkpoint(folder: Path, key: str) -> Checkpoint:
    """Read the folder's checkpoint.

    Raises:
        CheckpointError: there is none, it does not read, another version wrote it, or `key` stands for other data,
            settings or seed.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        raise CheckpointError(f"{path}: there is no checkpoint to resume from")
    try:
        with safe_open(path, framework="numpy") as file:
            progress = msgspec.json.decode((file.metadata() or {}).get(_HEADER, ""), type=Progress)
            arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{path}: of another version ({error}); train without --resume") from None
    except (SafetensorError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"{path}: not a checkpoint: {error}") from None
    if progress.key != key:
        raise CheckpointError(
            f"{path}: made with other data, settings, seed or version; train without --resume, or as before"
        )
    return Checkpoint(progress, arrays)
