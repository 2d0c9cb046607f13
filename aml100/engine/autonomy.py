"""The autonomous loop around trading: cycles, operational checks, trainings and succession, kept in step.

    bars close -> the walks without orders go on -> a window that ended is judged -> a check that is due is made
               -> a trigger begins a training -> what it made is judged, tried, promoted or refused

The engine calls `on_bars` with the bars' own transaction, `after_bars` once they are journalled, and `poll` between
events. What must reach the decision core comes back as its events.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aml100.control.protocol import PhaseView
from aml100.domain.events import Command, CommandName, CoreEvent, SizeFactorSet
from aml100.domain.market import Bar
from aml100.engine.cycle import CycleKeeper
from aml100.engine.desk import TrainingDesk
from aml100.engine.watch import Watch
from aml100.storage.entries import Entry
from aml100.trading.core import TradingCore


class Autonomy:
    """One engine's loop; `desk` is None for a policy that is not trained."""

    def __init__(self, core: TradingCore, cycles: CycleKeeper, watch: Watch, desk: TrainingDesk | None) -> None:
        self._core = core
        self.cycles = cycles
        self.watch = watch
        self.desk = desk
        if desk is not None:
            cycles.trials = desk.tried
            cycles.out_of_sample = desk.out_of_sample
            cycles.in_sample_until_ms = lambda: desk.in_sample.until_ms
            cycles.model = lambda: "" if desk.champion is None else desk.champion.id

    def on_bars(self, bars: Sequence[Bar]) -> list[Entry]:
        """The core has taken these bars in; answers what belongs into their transaction."""
        return [] if self.desk is None else self.desk.on_bars(bars, self._core)

    def after_bars(self, end_ms: int) -> list[CoreEvent]:
        """They are journalled: judge, check, begin what is due; answers what the core is to be told."""
        self.cycles.on_time(end_ms)
        return self._check(end_ms) if self.watch.is_due(end_ms) else []

    def poll(self, now_ms: int) -> None:
        """Between two events: take in what trainer and back-test brought."""
        self.cycles.poll()
        if self.desk is not None:
            self.desk.poll(self._core, now_ms)

    def phase_view(self, now_ms: int) -> PhaseView:
        """The phase with the status of the system."""
        status, reason = self.watch.status
        return msgspec.structs.replace(self.cycles.view(now_ms), status=status, status_reason=reason)

    async def close(self) -> None:
        """Leave no child behind."""
        await self.cycles.close()
        if self.desk is not None:
            await self.desk.close()

    def _check(self, now_ms: int) -> list[CoreEvent]:
        desk, core = self.desk, self._core
        self.cycles.refresh_bounds()
        succession = None if desk is None else desk.succession
        trained_ms = None if desk is None else desk.trained_ms
        checked = self.watch.check(now_ms, core, succession, self.cycles, trained_ms)
        if desk is not None and checked.triggers and not desk.is_busy:
            desk.start(checked.triggers[0].cause)
        told: list[CoreEvent] = []
        # Replayed and made markets are traded by the back-test's rules, so that both end with the same trades: there
        # breaker and hard stop guard, and the status is shown and retrains.
        if checked.halts and core.rules.is_live:
            told.append(Command(CommandName.HALT, f"status CRITICAL: {checked.standing.reason}", now_ms))
        if core.state.size_factor != checked.size_factor:
            told.append(SizeFactorSet(checked.size_factor, now_ms))
        return told
