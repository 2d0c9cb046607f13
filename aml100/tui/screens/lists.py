"""The screens that are one long list each."""

from __future__ import annotations

from aml100.tui.screens.base import ListScreen
from aml100.tui.widgets.rows import log_rows, risk_rows, trade_rows, why_rows


class WhyScreen(ListScreen):
    """Why it traded or did not."""

    rows = staticmethod(why_rows)


class TradesScreen(ListScreen):
    """Positions, open orders, closed trades."""

    rows = staticmethod(trade_rows)


class RiskScreen(ListScreen):
    """Guards and budgets."""

    rows = staticmethod(risk_rows)


class LogScreen(ListScreen):
    """The engine's log, newest last."""

    rows = staticmethod(log_rows)
    follow_end = True
