"""The console on made-up days of which each differs everywhere from the last: `python -m ... ANSWER`.

Run on a terminal by `bench console`; ANSWER gets the processor milliseconds of one redraw, painting included.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from aml100.bench.console import NOON_MS, made_up_day
from aml100.control.protocol import PerformanceView, Snapshot, TrainingView
from aml100.domain.clock import ManualClock
from aml100.tui.app import ConsoleApp
from aml100.tui.source import FakeSource

WARM: Final = 5
REDRAWS: Final = 30


class Redrawing(ConsoleApp):
    """Shows the next day as soon as the last one is painted, then leaves. `milliseconds` is what a redraw took."""

    def __init__(self) -> None:
        self._time = ManualClock(NOON_MS, wall_s=1000.0)
        self._days = FakeSource(day_after(0))
        self._done = 0
        self.milliseconds = 0.0
        super().__init__(self._days, fps=0.001, clock=self._time)

    def on_mount(self) -> None:
        """Beside that of the console, which Textual calls as well."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        if self._done == WARM:
            self._began_s = time.process_time()
        if self._done == WARM + REDRAWS:
            self.milliseconds = (time.process_time() - self._began_s) / REDRAWS * 1000
            self.exit(0)
            return
        self._done += 1
        self._time.wall_s = 1000.0 + self._done * 5000.0  # past the second that charts are kept for
        self._days.latest = day_after(self._done)
        self.tick()
        self.call_after_refresh(self._again)


def day_after(n: int) -> Snapshot:
    """The made-up day with every figure, curve and row moved on by `n`."""
    day = made_up_day()
    phase = msgspec.structs.replace(
        day.phase,
        objectives=tuple(msgspec.structs.replace(one, value=n * 0.1) for one in day.phase.objectives),
        cycle_number=2,
        cycle_progress=n / 100,
        luck=n / 100,
    )
    position = msgspec.structs.replace(day.positions[0], mark=str(65_100 + n), unrealised=f"{n}.34", stop_age_s=n / 10)
    return msgspec.structs.replace(
        day,
        time_ms=day.time_ms + n * 60_000,
        loop_lag_ms=float(n),
        phase=phase,
        equity=str(10_123 + n),
        drawdown_pct=n / 10,
        equity_curve=tuple((at, value + n * 3 * (at % 7)) for at, value in day.equity_curve),
        price_curve=tuple((at, value + n * 9 * (at % 7)) for at, value in day.price_curve),
        action_curve=tuple(
            msgspec.structs.replace(one, hold=(at + n) % 12, buy=(at * n) % 5 + 1)
            for at, one in enumerate(day.action_curve)
        ),
        positions=(position,),
        decisions=tuple(
            msgspec.structs.replace(one, bar_ms=one.bar_ms + n * 60_000, q=(n / 1000, 0.0, -n / 900), why=f"gap {n}")
            for one in day.decisions
        ),
        feeds=tuple(msgspec.structs.replace(one, age_ms=n * 7) for one in day.feeds),
        performance=PerformanceView(n, 38 + n / 10, 1.1, 0.8 + n / 100, 0.1, 1.4, actions=(n * 10, n, n)),
        training=TrainingView("running", n, 500, 0.01 + n / 1e4, n / 10, 180.0 + n, 7, "cpu"),
    )


def main(answer: Path) -> int:
    app = Redrawing()
    code = app.run(mouse=False)
    if code == 0:
        answer.write_text(str(app.milliseconds))
    return 1 if code is None else code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
