"""A screen that is one list: `/` filters it, `s` orders it, a cursor chooses in it."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from aml100.tui.screens.base import ConsoleScreen
from aml100.tui.view import View
from aml100.tui.widgets.frame import MIN_HEIGHT, MIN_WIDTH, banner_lines, key_lines, notice_lines, operation_lines
from aml100.tui.widgets.listing import Listing, RowPainter
from aml100.tui.widgets.sheet import Sheet


class OperationLine(Sheet):
    """Takes a row only while there is something to say."""

    def show(self, view: View) -> None:
        self.display = bool(view.notice or view.operations) and not self.screen.has_class("too-small")
        super().show(view)


class ListScreen(ConsoleScreen):
    """A screen that is one list; `/` filters it."""

    AUTO_FOCUS = "Listing"
    CSS_PATH = "../lists.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "end_filter", "Back", show=False)]

    rows: RowPainter
    follow_end = False
    orders: ClassVar[tuple[str, ...]] = ()
    """Names of the orders the rows may stand in, the first one at the start."""

    def compose(self) -> ComposeResult:
        yield Sheet(banner_lines, id="banner")
        yield from self.above()
        yield Listing(self.rows, follow_end=self.follow_end, id="list")
        yield Input(placeholder="only rows with this text; Enter keeps it, Esc clears it", id="filter")
        yield OperationLine(operation_lines, id="operations")
        yield Sheet(key_lines, id="keys")
        yield Sheet(notice_lines, id="notice")

    def above(self) -> ComposeResult:
        """What stands over the list."""
        yield from ()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < MIN_WIDTH or event.size.height < MIN_HEIGHT, "too-small")

    def begin_filter(self) -> bool:
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()
        return True

    def next_order(self) -> str:
        if not self.orders:
            return ""
        listing = self.query_one(Listing)
        listing.sort((listing.order + 1) % len(self.orders))
        return self.orders[listing.order]

    @property
    def chosen(self) -> object:  # type: ignore[override]
        return self.query_one(Listing).chosen

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one(Listing).narrow(event.value)

    def on_input_submitted(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = bool(box.value)
        self.query_one(Listing).focus()

    async def action_end_filter(self) -> None:
        """Clear the filter; without one, back as everywhere."""
        box = self.query_one("#filter", Input)
        if box.display:
            box.value = ""
            box.display = False
            self.query_one(Listing).focus()
        else:
            await self.run_action("app.back")
