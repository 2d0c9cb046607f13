"""A sheet longer than the screen: rows that scroll, with a cursor where rows can be chosen.

Only the visible rows are rendered. The list keeps its place when rows arrive (GUARANTEES C39): the cursor stays on
its row, else the row at the top stays at the top; a list that follows its end does so until somebody scrolls away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple, TypeAlias

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from aml100.tui.ink import EMPTY, Line, line, plain
from aml100.tui.view import View
from aml100.tui.widgets.sheet import Inked

SECTION: Final = "section "
"""What the key of a heading begins with."""


class Row(NamedTuple):
    """`key` stays the same as long as the row means the same thing. `item`: what is chosen; None for headings."""

    key: str
    line: Line
    item: object = None


RowPainter: TypeAlias = Callable[[View, int, int], list[Row]]
"""Rows for a view in a width of cells, in the order of a number (a screen says what its orders mean)."""


def narrowed(rows: Sequence[Row], wanted: str) -> list[Row]:
    """The rows that contain a text, each part under its heading."""
    found: list[Row] = []
    heading: Row | None = None
    for row in rows:
        if row.key.startswith(SECTION):
            heading = row
        if wanted.casefold() in plain(row.line).casefold():
            if heading is not None and heading is not row:
                found.append(heading)
            found.append(row)
            heading = None
    return found


def distinct(rows: list[Row]) -> list[Row]:
    """Rows of different keys: what is said twice is told apart by how often it was said before."""
    if len({row.key for row in rows}) == len(rows):
        return rows
    said: Counter[str] = Counter()
    found = []
    for row in rows:
        said[row.key] += 1
        found.append(row if said[row.key] == 1 else row._replace(key=f"{row.key} #{said[row.key]}"))
    return found


class Listing(ScrollView, Inked, can_focus=True):
    """Rows that scroll. `follow_end`: stays at the end while it is there, as a log does.

    The cursor's row is one pair of colours and a pointer in its first cell, which every row leaves blank: it reads
    without colour, and its contrast does not depend on what stands in it.
    """

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "move_page(-1)", "Page up", show=False),
        Binding("pagedown", "move_page(1)", "Page down", show=False),
        Binding("home", "move_to(0)", "First", show=False),
        Binding("end", "move_to(-1)", "Last", show=False),
        Binding("enter", "choose", "Details", show=False),
    ]

    class Chosen(Message):
        """Enter on a row."""

        def __init__(self, item: object) -> None:
            super().__init__()
            self.item = item

    def __init__(self, painter: RowPainter, *, follow_end: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.row_painter = painter
        self.order = 0
        self._follow_end = follow_end
        self._following = follow_end
        self.wanted = ""
        self._rows: Sequence[Row] = ()
        self._view: View | None = None
        self._cursor: str | None = None
        """Key of the row the cursor is on."""

    @property
    def text(self) -> str:
        return "\n".join(plain(row.line) for row in self._rows)

    @property
    def chosen(self) -> object:
        """The item under the cursor; None where rows cannot be chosen."""
        at = self._cursor_at()
        return None if at is None else self._rows[at].item

    # --- what is shown ---

    def show(self, view: View) -> None:
        """Paint the view; the row being read stays where it is unless it is gone."""
        self._view = view
        width = self.scrollable_content_region.width or self.app.size.width  # keys work before there is a layout
        rows = distinct(self.row_painter(view, width, self.order))
        if self.wanted:
            none = Row("nothing", line((f" no row with '{self.wanted}'; Esc shows all", "dim")))
            rows = narrowed(rows, self.wanted) or [none]
        if rows == self._rows:
            if self._following and self.scroll_offset.y < self.max_scroll_y:
                self._to_end()
            return
        top = self.scroll_offset.y
        anchor = self._rows[top].key if 0 < top < len(self._rows) else None
        self._rows = rows
        self.virtual_size = Size(width, len(rows))
        if self._following:
            self.call_after_refresh(self._to_end)
        elif anchor is not None:
            place = next((at for at, row in enumerate(rows) if row.key == anchor), None)
            if place is not None and place != top:
                self.scroll_to(y=place, animate=False, immediate=True)
        if self._following:
            self._cursor = next((row.key for row in reversed(rows) if row.item is not None), None)
        elif self._cursor_at() is None:
            self._cursor = next((row.key for row in rows if row.item is not None), None)
        self.refresh()

    def narrow(self, wanted: str) -> None:
        """Show only rows that contain the text, in any case."""
        self.wanted = wanted
        self._again()

    def sort(self, order: int) -> None:
        """Show the rows in another order."""
        self.order = order
        self._again()

    def _again(self) -> None:
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

    # --- the cursor ---

    def _cursor_at(self) -> int | None:
        return next((at for at, row in enumerate(self._rows) if row.key == self._cursor and row.item is not None), None)

    def action_move(self, by: int) -> None:
        """To the next row that can be chosen; without any, scroll."""
        at = self._cursor_at()
        if at is None:
            self.scroll_relative(y=by, animate=False)
            return
        step = 1 if by > 0 else -1
        places = [n for n in range(at + step, len(self._rows) if step > 0 else -1, step) if self._rows[n].item]
        if places:
            self._put_cursor(places[min(abs(by), len(places)) - 1])
        elif step < 0:
            self.scroll_to(y=0, animate=False)
        else:
            self.scroll_end(animate=False)

    def action_move_page(self, direction: int) -> None:
        self.action_move(direction * max(self.scrollable_content_region.height - 2, 1))

    def action_move_to(self, place: int) -> None:
        """The first row or, for -1, the last."""
        places = [at for at, row in enumerate(self._rows) if row.item is not None]
        if places:
            self._put_cursor(places[place])
        if place == 0:
            self.scroll_to(y=0, animate=False)
        else:
            self.scroll_end(animate=False)

    def action_choose(self) -> None:
        item = self.chosen
        if item is not None:
            self.post_message(self.Chosen(item))

    def _put_cursor(self, at: int) -> None:
        self._cursor = self._rows[at].key
        height = max(self.scrollable_content_region.height, 1)
        top = self.scroll_offset.y
        if at < top:
            self.scroll_to(y=at, animate=False, immediate=True)
        elif at >= top + height:
            self.scroll_to(y=at - height + 1, animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        row = self._rows[at] if at < len(self._rows) else Row("", EMPTY)
        ascii_only = self._view is not None and self._view.ascii
        width = self.scrollable_content_region.width
        if row.item is None or row.key != self._cursor:
            return self.strip(row.line, width, plain_text=ascii_only)
        text = plain(row.line)
        return self.strip((("›" + text[1:].ljust(width), "chip"),), width, plain_text=ascii_only)
