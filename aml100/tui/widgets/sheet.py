"""Sheets: widgets that show painted lines and repaint only the cells that changed.

A redraw compares the new lines with the ones on screen, so a dashboard where two figures moved sends two figures.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import zip_longest

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from aml100.tui.ink import EMPTY, Line, changed_cells, fit, joined, plain, to_ascii
from aml100.tui.themes import inks_of
from aml100.tui.view import Painter, View


class Inked(Widget):
    """Turns lines into strips with the theme's style of each role.

    The styles are not the stylesheet's component classes: nineteen of those a widget made up half of the console's
    start (GUARANTEES C5).
    """

    ALLOW_SELECT = False

    @abstractmethod
    def show(self, view: View) -> None:
        """Paint a view."""

    def strip(self, spans: Line, width: int, *, plain_text: bool) -> Strip:
        """A line in exactly `width` cells."""
        fitted = joined(fit(to_ascii(spans) if plain_text else spans, width))
        inks = inks_of(self.app.theme, no_colour=self.app.no_color)
        return Strip([Segment(text, inks[role]) for text, role in fitted], width)


class Sheet(Inked):
    """A fixed area of painted lines; its painter decides what they say.

    It is painted when it is first drawn, so a view that was shown before there was a layout is in the first frame.
    """

    def __init__(self, painter: Painter, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._painter = painter
        self._lines: list[Line] = []
        self._view: View | None = None
        self._painted_for: Size | None = None

    @property
    def text(self) -> str:
        """What it says, row by row, without styles."""
        return "\n".join(plain(spans) for spans in self._lines)

    def show(self, view: View) -> None:
        """Paint the view and refresh the cells that differ."""
        self._view = view
        if self._painted_for != self.content_size:
            return  # all of it is painted when it is drawn
        old, self._lines = self._lines, self._painted()
        width = self.content_size.width
        for at, (before, after) in enumerate(zip_longest(old, self._lines, fillvalue=EMPTY)):
            if before != after:
                begin, end = changed_cells(before, after, width)
                if end > begin:
                    self.refresh(Region(begin, at, end - begin, 1))

    def _painted(self) -> list[Line]:
        width, height = self._painted_for = self.content_size
        return self._painter(self._view, width, height)[:height] if self._view is not None else []

    def render_line(self, y: int) -> Strip:
        if self._painted_for != self.content_size:
            self._lines = self._painted()
        spans = self._lines[y] if y < len(self._lines) else EMPTY
        ascii_only = self._view is not None and self._view.ascii
        return self.strip(spans, self.content_size.width, plain_text=ascii_only)
