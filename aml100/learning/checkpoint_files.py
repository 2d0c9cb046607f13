"""Where a training leaves its checkpoints, for whoever resumes or clears them. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CHECKPOINT_FILE: Final = "checkpoint.safetensors"
CHECKPOINT_S: Final = 20.0
"""Wall seconds between two checkpoints; writing one of the default size takes some 20 ms."""


def has_checkpoint(folder: Path) -> bool:
    """Whether a training left one here, or one of its members in a folder of its own below."""
    return any(folder.rglob(CHECKPOINT_FILE))


def drop_checkpoints(folder: Path) -> None:
    """Remove them, and what a kill left of one that was being written."""
    for path in folder.rglob(f"*{CHECKPOINT_FILE}*"):
        path.unlink(missing_ok=True)
