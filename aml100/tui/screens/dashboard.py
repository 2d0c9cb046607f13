"""The dashboard: everything that matters in 80x24, and with more room the same in more detail."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from aml100.tui.screens.base import ConsoleScreen
from aml100.tui.widgets.account import DecisionPanel, FeedPanel, PerformancePanel, PositionPanel, TrainingPanel
from aml100.tui.widgets.curves import ActionPanel, EquityPanel, PricePanel
from aml100.tui.widgets.phase import PhasePanel


class DashboardScreen(ConsoleScreen):
    AUTO_FOCUS = ""

    def body(self) -> ComposeResult:
        with Vertical(id="panels"):
            with Horizontal(id="top"):
                yield PhasePanel(id="phase")
                yield EquityPanel(id="equity")
                yield PricePanel(id="price")
            with Horizontal(id="middle"):
                yield PositionPanel(id="position")
                yield PerformancePanel(id="performance")
                yield ActionPanel(id="actions")
            yield DecisionPanel(id="decisions")
            with Horizontal(id="bottom"):
                yield FeedPanel(id="feed")
                yield TrainingPanel(id="training")
