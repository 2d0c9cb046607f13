"""What all screens share: banner above, keys below, and a notice instead of everything where there is no room."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Input

from aml100.tui.view import View
from aml100.tui.widgets.frame import MIN_HEIGHT, MIN_WIDTH, Banner, Beat, KeyBar, OperationLine, SizeNotice
from aml100.tui.widgets.listing import Listing, RowPainter
from aml100.tui.widgets.sheet import Sheet

ROOMY_HEIGHT = 36
LOFTY_HEIGHT = 52
WIDE_WIDTH = 110
BROAD_WIDTH = 170


class ConsoleScreen(Screen[None]):
    """Shows views. Subclasses say what stands in the body."""

    def __init__(self) -> None:
        super().__init__()
        self._sheets: list[Sheet | Listing] = []

    def compose(self) -> ComposeResult:
        with Horizontal(id="head"):
            yield Banner(id="banner")
            yield Beat(id="beat")
        yield from self.body()
        yield OperationLine(id="operations")
        yield KeyBar(id="keys")
        yield SizeNotice(id="size-notice")

    def body(self) -> ComposeResult:
        """The widgets between banner and keys."""
        yield from ()

    def on_mount(self) -> None:
        self._sheets = [widget for widget in self.walk_children() if isinstance(widget, Sheet | Listing)]
        self._size_classes(*self.app.size)

    def on_resize(self, event: events.Resize) -> None:
        self._size_classes(event.size.width, event.size.height)

    def _size_classes(self, width: int, height: int) -> None:
        self.set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "too-small")
        self.set_class(height >= ROOMY_HEIGHT, "roomy")
        self.set_class(height >= LOFTY_HEIGHT, "lofty")
        self.set_class(width >= WIDE_WIDTH, "wide")
        self.set_class(width >= BROAD_WIDTH, "broad")

    def show(self, view: View) -> None:
        """Paint a view on every sheet of this screen."""
        for sheet in self._sheets:
            sheet.show(view)


class ListScreen(ConsoleScreen):
    """A screen that is one list; `/` filters it."""

    AUTO_FOCUS = "Listing"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "end_filter", "Back", show=False)]

    rows: RowPainter
    follow_end = False
    orders: ClassVar[tuple[str, ...]] = ()
    """Names of the orders the rows may stand in, the first one at the start."""

    def body(self) -> ComposeResult:
        yield Listing(self.rows, follow_end=self.follow_end, id="list")
        yield Input(placeholder="only rows with this text; Enter keeps it, Esc clears it", id="filter")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#filter").display = False

    def begin_filter(self) -> None:
        """Open the filter line."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def next_order(self) -> str:
        """Show the rows in the next order; its name, empty where there is only one."""
        if not self.orders:
            return ""
        listing = self.query_one(Listing)
        listing.sort((listing.order + 1) % len(self.orders))
        return self.orders[listing.order]

    @property
    def chosen(self) -> object:
        """What the cursor is on."""
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
