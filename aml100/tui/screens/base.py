"""What all screens have in common: they show views, and say what an operator may do with their rows."""

from __future__ import annotations

from textual.screen import Screen

from aml100.tui.view import View
from aml100.tui.widgets.sheet import Inked


class ConsoleScreen(Screen[None]):
    """Shows views on every inked widget it has."""

    def show(self, view: View) -> None:
        """Paint a view on every sheet of this screen."""
        for widget in self.walk_children():
            if isinstance(widget, Inked):
                widget.show(view)

    # What a screen without rows answers; `listed.ListScreen` has more to say.

    chosen: object = None
    """What the cursor is on."""

    def begin_filter(self) -> bool:
        """Open the filter line; answers whether there is one."""
        return False

    def next_order(self) -> str:
        """Show the rows in the next order; its name, empty where there is only one."""
        return ""
