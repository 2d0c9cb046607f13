"""Progress of long work on stderr: a bar with ETA on a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aml100.learning.jobs import TrainingProgress

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
            sys.stderr.write("\r\x1b[J")
            sys.stderr.flush()

    def announce(self, words: str) -> None:
        """What is being done before anything can be counted; drawn at once."""
        self._draw([words])

    def update_of(self, done: int, total: int) -> None:
        """So much is done, of a total that has only now become known."""
        self._total = max(total, 1)
        self.update(done)

    def update(self, done: int, note: str = "") -> None:
        """So much of the total is done; drawn only when it is time."""
        share = min(done / self._total, 1.0)
        spent_s = time.monotonic() - self._started
        self.show(done, spent_s * (1 - share) / share if share > 0 else None, (note,) if note else ())

    def show(self, done: int, left_s: float | None, notes: Sequence[str] = ()) -> None:
        """The same with the time left as the work itself knows it; on a terminal each note has a row of its own."""
        now = time.monotonic()
        if now - self._shown < (TERMINAL_EVERY_S if self._terminal else PIPE_EVERY_S):
            return
        self._shown = now
        share = min(done / self._total, 1.0)
        left = "" if left_s is None else f", {left_s:.0f} s left"
        words = f"{self._what} {done}/{self._total} {share:.0%}{left}"
        full = round(share * BAR_CELLS)
        self._draw([f"[{'#' * full}{'-' * (BAR_CELLS - full)}] {words}" if self._terminal else words, *notes])

    def _draw(self, rows: Sequence[str]) -> None:
        """Over what was drawn before, no row wider than the terminal: a row that wraps could not be drawn over."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
            sys.stderr.write("\r\x1b[J" + "\r\n".join(row[:width] for row in rows) + up + "\r")
        else:
            sys.stderr.write("; ".join(rows) + "\n")
        sys.stderr.flush()


def training_notes(seen: TrainingProgress) -> tuple[str, str]:
    """Two rows of at most 79 characters: what is learned and earned, and with what it learns.

    `loss` is of the epoch so far, validation of the last whole one, score and epoch of the checkpoint that is kept;
    actions are the greedy policy's.
    """
    found = seen.validation
    loss = "n/a" if seen.loss is None else f"{seen.loss:.4f}"
    earned = f"loss {loss}  kept score {seen.best_score:+.4f} (epoch {seen.best_epoch})"
    rates = f"learning rate {seen.learning_rate:.1e}  epsilon {seen.epsilon:.2f}"
    if found is not None:
        earned += f"  validation {found.net_return:+.2%}, {found.trades} trades"
        shares = (found.hold_share, found.buy_share, found.sell_share)
        rates += "  HOLD {:.0%} BUY {:.0%} SELL {:.0%}".format(*shares)
    if seen.members > 1:
        rates += f"  member {seen.member + 1}/{seen.members}"
    return earned, rates
