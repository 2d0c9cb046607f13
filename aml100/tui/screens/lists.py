"""The screens that are one long list each."""

from __future__ import annotations

from aml100.tui.screens.listed import ListScreen
from aml100.tui.widgets.guards import feed_rows, risk_rows
from aml100.tui.widgets.objectives import phase_rows
from aml100.tui.widgets.rows import LOG_ORDERS, alert_rows, log_rows, why_rows
from aml100.tui.widgets.trading import SORTS, trade_rows


class WhyScreen(ListScreen):
    """Why it traded or did not."""

    rows = staticmethod(why_rows)


class TradesScreen(ListScreen):
    """Positions, orders, closed trades."""

    rows = staticmethod(trade_rows)
    orders = tuple(name for name, _, _ in SORTS)


class PhaseScreen(ListScreen):
    """Objectives, evidence, luck, feasibility."""

    rows = staticmethod(phase_rows)


class RiskScreen(ListScreen):
    """Guards and budgets."""

    rows = staticmethod(risk_rows)


class FeedScreen(ListScreen):
    """Streams and latency."""

    rows = staticmethod(feed_rows)


class AlertScreen(ListScreen):
    """What is wrong, and what was."""

    rows = staticmethod(alert_rows)


class LogScreen(ListScreen):
    """The engine's log, newest last."""

    rows = staticmethod(log_rows)
    follow_end = True
    orders = LOG_ORDERS
