"""Looking back: a place in the recorded past that keys move through, and the frame that stood there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aml100.control.flight import FlightReader
from aml100.control.protocol import Snapshot
from aml100.tui.view import Replay

STEPS: Final = {
    "left": -1,
    "right": 1,
    "shift+left": -60_000,
    "shift+right": 60_000,
    "ctrl+left": -3_600_000,
    "ctrl+right": 3_600_000,
}
"""Frames for steps under a thousand, milliseconds above."""


class Scrubber:
    """A recording and a place in it.

    Args:
        folder: of the flight recorder.
    """

    def __init__(self, folder: Path) -> None:
        self._reader = FlightReader(folder)
        self._frame: Snapshot | None = None
        self.at_ms = 0

    @property
    def frame(self) -> Snapshot | None:
        """What was on screen at this place; None while the present is watched."""
        return self._frame

    def enter(self) -> bool:
        """Go to the newest frame; False where nothing was recorded."""
        span = self._reader.span()
        return span is not None and self.go(span[1])

    def go(self, at_ms: int) -> bool:
        """Go to a moment, or the nearest one there is."""
        span = self._reader.span()
        if span is None:
            return False
        self._frame = self._reader.at(min(max(at_ms, span[0]), span[1]))
        if self._frame is not None:
            self.at_ms = self._frame.wall_ms
        return self._frame is not None

    def move(self, key: str) -> None:
        """By one of `STEPS`."""
        step = STEPS[key]
        self.go(self._reader.step(self.at_ms, step) if abs(step) < 1000 else self.at_ms + step)

    def leave(self) -> None:
        """Back to the present."""
        self._frame = None

    def where(self) -> Replay | None:
        """For the screen; None while the present is watched."""
        span = self._reader.span()
        return None if self._frame is None or span is None else Replay(self.at_ms, *span)
