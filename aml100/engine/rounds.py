"""What nothing reports by itself: bars that do not come, a late loop, an allowance nearly used up, a run cut short.

Looked at every few seconds; what is found becomes an alert, what is over is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aml100.engine.alerts import AlertListener

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

ROUND_S: Final = 5.0
BAR_PATIENCE_MS: Final = 60_000
LATE_ROUNDS: Final = 3
LOW_SHARE: Final = 0.1


class Rounds:
    """One engine's rounds.

    Args:
        engine: only read.
        listener: whose book the alerts go to; it knows when the last bar closed.
        wall_ms: wall time.
    """

    def __init__(self, engine: Engine, listener: AlertListener, wall_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._listener = listener
        self._book = listener.book
        self._wall_ms = wall_ms
        self._late = 0

    def begin(self) -> None:
        """Before this run is known to the journal: how did the one before it end?"""
        runs = self._engine.database.runs()
        if runs and runs[-1].stopped_ms is None:
            now_ms = self._wall_ms()
            self._book.raise_("unclean_restart", f"run {runs[-1].run_id}, pid {runs[-1].pid}", now_ms)
            self._book.clear("unclean_restart", now_ms)

    def look(self) -> None:
        """One round."""
        now_ms = self._wall_ms()
        self._look_for_bars(now_ms)
        self._look_at_lag(now_ms)
        self._look_at_budget(now_ms)

    def _look_for_bars(self, now_ms: int) -> None:
        options = self._engine.options
        interval_ms = self._engine.core.rules.interval_ms / max(options.speed, 1.0)
        silent_ms = now_ms - self._listener.bar_ms
        if silent_ms > interval_ms + BAR_PATIENCE_MS:
            self._book.raise_("no_bars", "no bar has closed for too long", now_ms, level="alarm")

    def _look_at_lag(self, now_ms: int) -> None:
        limit_ms = self._engine.core.rules.risk.max_loop_lag_ms
        late = bool(limit_ms) and self._engine.loop_lag_ms > limit_ms
        self._late = self._late + 1 if late else 0
        if self._late >= LATE_ROUNDS:
            self._book.raise_("loop_lag", f"late by more than {limit_ms:.0f} ms", now_ms)
        elif not late:
            self._book.clear("loop_lag", now_ms)

    def _look_at_budget(self, now_ms: int) -> None:
        rest = self._engine.rest
        actions, weight = rest.action_budget, rest.ip_budget
        used = weight.used(self._engine.clock.monotonic_s())
        low = [
            name
            for name, left, all_ in (
                ("address actions", actions.cap - actions.used, actions.cap),
                ("request weight", weight.limit - used, weight.limit),
            )
            if all_ and left < LOW_SHARE * all_
        ]
        if low:
            self._book.raise_("budget_low", f"under a tenth left of {', '.join(low)}", now_ms)
        else:
            self._book.clear("budget_low", now_ms)
