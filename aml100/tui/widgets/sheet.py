"""Sheets: widgets that show painted lines and repaint only the cells that changed.

A redraw compares the new lines with the ones on screen, so a dashboard where two figures moved sends two figures. A
`Listing` is a sheet longer than the screen: it renders the visible rows only and keeps its place when rows arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from aml100.tui.ink import EMPTY, ROLES, Line, changed_cells, fit, joined, plain, to_ascii
from aml100.tui.view import View

Painter: TypeAlias = Callable[[View, int, int], list[Line]]
"""Lines for a view in a width and a height of cells."""

Row: TypeAlias = tuple[str, Line]
"""A key that stays the same as long as the row means the same thing, and its line."""

RowPainter: TypeAlias = Callable[[View, int], list[Row]]


class Inked(Widget):
    """Turns lines into strips with the stylesheet's `.ink--ROLE`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"ink--{role}" for role in ROLES}
    ALLOW_SELECT = False

    _inks: dict[str, Style] | None = None

    def notify_style_update(self) -> None:
        self._inks = None
        super().notify_style_update()

    def ink(self, role: str) -> Style:
        """The style of a role on this widget's background."""
        if self._inks is None:
            self._inks = {name: self.get_component_rich_style(f"ink--{name}") for name in ROLES}
        return self._inks[role]

    def strip(self, spans: Line, width: int, *, plain_text: bool) -> Strip:
        """A line in exactly `width` cells."""
        fitted = joined(fit(to_ascii(spans) if plain_text else spans, width))
        return Strip([Segment(text, self.ink(role)) for text, role in fitted], width)


class Sheet(Inked):
    """A fixed area of painted lines; its painter decides what they say."""

    painter: Painter
    """Set by a subclass, or given."""

    def __init__(self, painter: Painter | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        if painter is not None:
            self.painter = painter
        self._lines: list[Line] = []
        self._view: View | None = None

    @property
    def text(self) -> str:
        """What it says, row by row, without styles."""
        return "\n".join(plain(spans) for spans in self._lines)

    def show(self, view: View) -> None:
        """Paint the view and refresh the cells that differ."""
        self._view = view
        width, height = self.content_size
        if not width or not height:
            return
        lines = self.painter(view, width, height)[:height]
        old = self._lines
        self._lines = lines
        for at in range(max(len(lines), len(old))):
            new_line = lines[at] if at < len(lines) else EMPTY
            old_line = old[at] if at < len(old) else EMPTY
            if new_line != old_line:
                begin, end = changed_cells(old_line, new_line, width)
                if end > begin:
                    self.refresh(Region(begin, at, end - begin, 1))

    def on_resize(self) -> None:
        if self._view is not None:
            self._lines = []
            self.show(self._view)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        spans = self._lines[y] if y < len(self._lines) else EMPTY
        ascii_only = self._view is not None and self._view.ascii
        return self.strip(spans, self.content_size.width, plain_text=ascii_only)


class Listing(ScrollView, Inked, can_focus=True):
    """Rows that scroll. `follow_end`: stays at the end while it is there, as a log does."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"ink--{role}" for role in ROLES}
    ALLOW_SELECT = False

    def __init__(self, painter: RowPainter, *, follow_end: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.row_painter = painter
        self._follow_end = follow_end
        self._following = follow_end
        self.wanted = ""
        self._rows: Sequence[Row] = ()
        self._view: View | None = None

    @property
    def text(self) -> str:
        return "\n".join(plain(spans) for _, spans in self._rows)

    def show(self, view: View) -> None:
        """Paint the view; the row at the top of the window stays there unless it is gone."""
        self._view = view
        width = self.scrollable_content_region.width
        if not width:
            return
        rows = self.row_painter(view, width)
        if self.wanted:
            lowered = self.wanted.casefold()
            rows = [row for row in rows if lowered in plain(row[1]).casefold()]
        if rows == self._rows:
            if self._following and self.scroll_offset.y < self.max_scroll_y:
                self._to_end()
            return
        top = self.scroll_offset.y
        anchor = self._rows[top][0] if 0 < top < len(self._rows) else None
        self._rows = rows
        self.virtual_size = Size(width, len(rows))
        if self._following:
            self.call_after_refresh(self._to_end)
        elif anchor is not None:
            place = next((at for at, (key, _) in enumerate(rows) if key == anchor), None)
            if place is not None and place != top:
                self.scroll_to(y=place, animate=False, immediate=True)
        self.refresh()

    def narrow(self, wanted: str) -> None:
        """Show only rows that contain the text, in any case."""
        self.wanted = wanted
        if self._view is not None:
            self.show(self._view)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls away from the end stops following it; whoever returns follows again."""
        super().watch_scroll_y(old_value, new_value)
        self._following = self._follow_end and round(new_value) >= self.max_scroll_y

    def on_resize(self) -> None:
        if self._view is not None:
            self.show(self._view)
            if self._following:
                self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        """Once the layout knows the new length; at a first paint that is a frame later."""
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        spans = self._rows[at][1] if at < len(self._rows) else EMPTY
        ascii_only = self._view is not None and self._view.ascii
        return self.strip(spans, self.scrollable_content_region.width, plain_text=ascii_only)
