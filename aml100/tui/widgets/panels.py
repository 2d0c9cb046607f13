"""What is shared by all panels.

Each panel opens with a rule that carries its name and, when the snapshot is old, STALE or OFFLINE with the age. Good
and bad are said by sign and glyph first; colour repeats it.
"""

from __future__ import annotations

from aml100.tui.ink import Line, line, rule
from aml100.tui.view import View

VERDICTS = {
    "PASS": ("✓", "good"),
    "PROVISIONAL": ("◐", "warn"),
    "FAIL": ("✗", "bad"),
    "UNKNOWN": ("○", "dim"),
}


def headed(title: str, view: View, width: int, body: list[Line], note: Line = ()) -> list[Line]:
    """A body under its rule; an old snapshot's age takes the place of the note."""
    return [rule(title, view.age_note or note, width), *body]


def waiting(title: str, view: View, width: int) -> list[Line]:
    """A panel before the first snapshot."""
    return headed(title, view, width, [line((" waiting for the engine", "dim"))])
