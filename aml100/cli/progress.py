"""Progress of long work on stderr: a bar with ETA on a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

BAR_CELLS = 30
TERMINAL_EVERY_S = 0.1
PIPE_EVERY_S = 10.0


class Progress:
    """`with Progress("back-test", bars) as progress: ... progress.update(done)`."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, max(total, 1)
        self._started = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def update_of(self, done: int, total: int) -> None:
        """So much is done, of a total that has only now become known."""
        self._total = max(total, 1)
        self.update(done)

    def update(self, done: int, note: str = "") -> None:
        """So much of the total is done; drawn only when it is time."""
        now = time.monotonic()
        if now - self._shown < (TERMINAL_EVERY_S if self._terminal else PIPE_EVERY_S):
            return
        self._shown = now
        share = min(done / self._total, 1.0)
        left_s = (now - self._started) * (1 - share) / share if share > 0 else 0.0
        words = f"{self._what} {done}/{self._total} {share:.0%}, {left_s:.0f} s left {note}".rstrip()
        if self._terminal:
            full = round(share * BAR_CELLS)
            sys.stderr.write(f"\r\x1b[K[{'#' * full}{'-' * (BAR_CELLS - full)}] {words}")
        else:
            sys.stderr.write(words + "\n")
        sys.stderr.flush()
