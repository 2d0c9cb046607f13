"""The dashboard: everything that matters in 80x24, and with more room the same in more detail."""

from __future__ import annotations

from textual.app import ComposeResult

from aml100.tui.screens.base import ConsoleScreen
from aml100.tui.view import View
from aml100.tui.widgets.board import Board
from aml100.tui.widgets.sheet import Sheet


class DashboardScreen(ConsoleScreen):
    """One sheet, which says itself what it needs where there is too little room.

    Args:
        view: stands in the first frame.
    """

    AUTO_FOCUS = ""

    def __init__(self, view: View) -> None:
        super().__init__()
        self._first = view

    def compose(self) -> ComposeResult:
        board = Sheet(Board().paint, id="board")
        board.show(self._first)
        yield board
