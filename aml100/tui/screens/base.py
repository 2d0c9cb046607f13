"""What all screens share: banner above, keys below, and a notice instead of everything where there is no room."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen

from aml100.tui.view import View
from aml100.tui.widgets.frame import MIN_HEIGHT, MIN_WIDTH, Banner, Beat, KeyBar, OperationLine, SizeNotice
from aml100.tui.widgets.sheet import Inked

ROOMY_HEIGHT = 36
LOFTY_HEIGHT = 52
WIDE_WIDTH = 110
BROAD_WIDTH = 170


class ConsoleScreen(Screen[None]):
    """Shows views. Subclasses say what stands in the body."""

    def __init__(self) -> None:
        super().__init__()
        self._sheets: list[Inked] = []

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
        self._sheets = [widget for widget in self.walk_children() if isinstance(widget, Inked)]
        self._size_classes(*self.app.size)

    def on_resize(self, event: events.Resize) -> None:
        self._size_classes(event.size.width, event.size.height)

    def _size_classes(self, width: int, height: int) -> None:
        """One change of styles at most, since each goes through every widget."""
        wanted = {
            "too-small": width < MIN_WIDTH or height < MIN_HEIGHT,
            "roomy": height >= ROOMY_HEIGHT,
            "lofty": height >= LOFTY_HEIGHT,
            "wide": width >= WIDE_WIDTH,
            "broad": width >= BROAD_WIDTH,
        }
        if any(self.has_class(name) is not on for name, on in wanted.items()):
            kept = self.classes - wanted.keys()
            self.set_classes([*kept, *(name for name, on in wanted.items() if on)])

    def show(self, view: View) -> None:
        """Paint a view on every sheet of this screen."""
        for sheet in self._sheets:
            sheet.show(view)

    # What a screen without rows answers; `listed.ListScreen` has more to say.

    chosen: object = None
    """What the cursor is on."""

    def begin_filter(self) -> bool:
        """Open the filter line; answers whether there is one."""
        return False

    def next_order(self) -> str:
        """Show the rows in the next order; its name, empty where there is only one."""
        return ""
