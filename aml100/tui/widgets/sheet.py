"""Sheets: widgets that show painted lines and repaint only the cells that changed.

A redraw compares the new lines with the ones on screen, so a dashboard where two figures moved sends two figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from aml100.tui.ink import EMPTY, Line, changed_cells, fit, joined, plain, to_ascii
from aml100.tui.themes import inks_of
from aml100.tui.view import View

Painter: TypeAlias = Callable[[View, int, int], list[Line]]
"""Lines for a view in a width and a height of cells."""


class Inked(Widget):
    """Turns lines into strips with the theme's style of each role.

    The styles are not the stylesheet's component classes: nineteen of those a widget made up half of the console's
    start (GUARANTEES C5).
    """

    ALLOW_SELECT = False

    def show(self, view: View) -> None:
        """Paint a view."""
        raise NotImplementedError

    def strip(self, spans: Line, width: int, *, plain_text: bool) -> Strip:
        """A line in exactly `width` cells."""
        fitted = joined(fit(to_ascii(spans) if plain_text else spans, width))
        inks = inks_of(self.app.theme)
        return Strip([Segment(text, inks[role]) for text, role in fitted], width)


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
