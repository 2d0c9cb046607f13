"""Lines of text whose parts have a role, such as `good` or `dim`; the theme decides how a role looks.

Painters are plain functions from a view to such lines. They know the width they have and choose the wording that
fits, so that a number is shown whole or not at all: only sentences are ever cut, and those between words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len, set_cell_size

Span: TypeAlias = tuple[str, str]
"""Text and its role."""

Line: TypeAlias = tuple[Span, ...]

ROLES: Final = (
    "text",
    "strong",
    "dim",
    "rule",
    "title",
    "key",
    "good",
    "bad",
    "warn",
    "accent",
    "curve",
    "chip",
    "chip-good",
    "chip-warn",
    "alarm",
    "mode-sim",
    "mode-paper",
    "mode-testnet",
    "mode-live",
)
"""Every role; `themes.inks_of` says how each looks."""

EMPHASIS: Final = "+"
"""Ends the name of a role that is underlined besides."""

ON_GROUND: Final = frozenset(ROLES[: ROLES.index("chip")]) - {"key"}
"""Roles without a background of their own: their blanks all look the same."""

EMPTY: Final[Line] = ()

_ASCII: Final = str.maketrans(
    {
        "─": "-",
        "│": "|",
        "┃": "|",
        "·": ".",
        "…": "~",
        "≥": ">",
        "≤": "<",
        "×": "x",
        "✓": "+",
        "✗": "!",
        "◐": "~",
        "▲": "^",
        "▼": "v",
        "●": "*",
        "○": "o",
        "█": "#",
        "░": ".",
        "±": "~",
        "→": ">",
        "←": "<",
        "›": ">",
        "↑": "^",
        "↓": "v",
        "╌": "-",
        "▁": "_",
        "◆": "o",
    }
)


def line(*parts: str | Span) -> Line:
    """A line from plain text and (text, role) pairs.

    >>> line("equity ", ("10,000", "strong"))
    (('equity ', 'text'), ('10,000', 'strong'))
    """
    return tuple((part, "text") if isinstance(part, str) else part for part in parts)


def emphasised(role: str) -> str:
    """The same look, underlined.

    >>> emphasised("good")
    'good+'
    """
    return role + EMPHASIS


def plain(spans: Line) -> str:
    """The text alone."""
    return "".join(text for text, _ in spans)


def cells(spans: Line) -> int:
    """Width in terminal cells."""
    return sum(cell_len(text) for text, _ in spans)


def to_ascii(spans: Line) -> Line:
    """The same line in 7 bits and of the same width: our signs by their stand-ins, anything else by `?`.

    >>> to_ascii(line("1.21 ≥ 2 %"))
    (('1.21 >=2 %', 'text'),)
    """
    return tuple((_in_7_bits(text), role) for text, role in spans)


def _in_7_bits(text: str) -> str:
    text = text.replace("≥ ", ">=").replace("≤ ", "<=").translate(_ASCII)
    return text.encode("ascii", "replace").decode("ascii")


def cut_words(text: str, width: int) -> str:
    """A sentence in at most `width` cells, cut between words so that no number loses digits.

    >>> cut_words("gap 0.0112 is under 0.0500", 12)
    'gap 0.0112 …'
    """
    if cell_len(text) <= width:
        return text
    kept = ""
    for word in text.split():
        longer = f"{kept} {word}" if kept else word
        if cell_len(longer) + 2 > width:
            break
        kept = longer
    if kept:
        return f"{kept} …"
    return "…" if width > 0 else ""


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in rows of at most `width` characters, broken between words.

    >>> wrapped("gap is under it", 8)
    ['gap is', 'under it']
    """
    return textwrap.wrap(text, max(width, 1), break_long_words=False) or [""]


def folded(spans: Line, width: int) -> list[Line]:
    """A line in rows of at most `width` cells; what follows its first part, a name, goes on beside it.

    >>> [plain(row) for row in folded(line(("why  ", "dim"), "gap is under it"), 13)]
    ['why  gap is', '     under it']
    """
    if cells(spans) <= width:
        return [spans]
    (head, role), *rest = spans
    if not rest:
        return [line((part, role)) for part in wrapped(head, width)]
    indent = " " * cell_len(head)
    parts = wrapped(plain(tuple(rest)), width - len(indent))
    return [line((indent if at else head, role), (part, rest[0][1])) for at, part in enumerate(parts)]


def fit(spans: Line, width: int) -> Line:
    """The line in exactly `width` cells: padded on the right, or cropped."""
    have = cells(spans)
    if have <= width:
        return spans if have == width else (*spans, (" " * (width - have), "text"))
    kept: list[Span] = []
    for text, role in spans:
        size = cell_len(text)
        if size >= width:
            kept.append((set_cell_size(text, width), role))
            break
        kept.append((text, role))
        width -= size
    return tuple(kept)


def joined(spans: Line) -> Line:
    """The same look in fewer spans: blanks join the span before them, and equal roles join. Fewer bytes on the line.

    >>> joined(line(("HOLD", "dim"), " ", ("+0.1", "dim"), ("  ", "text"), ("!", "alarm")))
    (('HOLD +0.1  ', 'dim'), ('!', 'alarm'))
    """
    found: list[Span] = []
    for text, role in spans:
        if found:
            before, role_before = found[-1]
            blank = text.isspace() and role in ON_GROUND and role_before in ON_GROUND
            if blank or role == role_before:
                found[-1] = (before + text, role_before)
                continue
        found.append((text, role))
    return tuple(found)


def changed_cells(old: Line, new: Line, width: int) -> tuple[int, int]:
    """The cells [from, to) in which two lines differ; the whole width where a character takes two cells.

    >>> changed_cells(line("lag 3 ms"), line("lag 4 ms"), 80), changed_cells(line("same"), line("same"), 80)
    ((4, 5), (0, 0))
    """
    if cells(old) != len(plain(old)) or cells(new) != len(plain(new)):
        return 0, width
    before = [(character, role) for text, role in old for character in text]
    after = [(character, role) for text, role in new for character in text]
    blank = (" ", "text")
    size = max(len(before), len(after))
    before += [blank] * (size - len(before))
    after += [blank] * (size - len(after))
    different = [at for at in range(size) if before[at] != after[at]]
    return (different[0], min(different[-1] + 1, width)) if different else (0, 0)


def first_fit(width: int, *choices: Line) -> Line:
    """The first wording that has room; the last one where none has."""
    for choice in choices:
        if cells(choice) <= width:
            return choice
    return choices[-1]


def pack(width: int, parts: Sequence[Line], gap: str = "  ") -> Line:
    """Parts side by side, the most important first; one that has no room is left out whole."""
    packed: list[Span] = []
    used = 0
    for part in parts:
        size = cells(part)
        if size == 0:
            continue
        need = size + (len(gap) if packed else 0)
        if used + need > width:
            continue
        if packed:
            packed.append((gap, "text"))
        packed.extend(part)
        used += need
    return tuple(packed)


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge and `right` at the right one; without room for both, `left` alone."""
    room = width - cells(left) - cells(right)
    if room < 1:
        return left
    return (*left, (" " * room, "text"), *right)


def rule(title: str, note: Line, width: int) -> Line:
    """A heading drawn as a line with its title on the left and a note on the right."""
    head: Line = (("─ ", "rule"), (title, "title"), (" ", "rule"))
    tail: Line = ((" ", "rule"), *note, (" ─", "rule")) if note else ()
    fill = width - cells(head) - cells(tail)
    if fill < 1:
        head_only = width - cells(head)
        return fit((*head, ("─" * max(head_only, 0), "rule")), width)
    return (*head, ("─" * fill, "rule"), *tail)


def gauge(share: float, width: int, role: str = "accent") -> Line:
    """A horizontal bar, `share` from 0 to 1 of it filled."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return (("█" * filled, role), ("░" * (width - filled), "dim"))


class Column:
    """A column of a table: its heading, how it is aligned, and which columns go first where room is short.

    Args:
        title: the heading.
        numeric: aligned right.
        rank: the column of the highest rank is left out first; a column of rank 0 stays.
        elastic: takes the room that is left; its sentences are cut between words.
    """

    __slots__ = ("elastic", "numeric", "rank", "title")

    def __init__(self, title: str, *, numeric: bool = False, rank: int = 0, elastic: bool = False) -> None:
        self.title = title
        self.numeric = numeric
        self.rank = rank
        self.elastic = elastic


def table(columns: Sequence[Column], rows: Sequence[Sequence[Span]], width: int) -> list[Line]:
    """Heading and rows, aligned; columns that do not fit are left out whole, the highest rank first."""
    sizes = [
        max([cell_len(column.title), *(cell_len(row[at][0]) for row in rows)]) if not column.elastic else 8
        for at, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while sum(sizes[at] for at in kept) + 2 * (len(kept) - 1) > width and any(columns[at].rank for at in kept):
        kept.remove(max(kept, key=lambda at: columns[at].rank))
    spare = width - sum(sizes[at] for at in kept) - 2 * (len(kept) - 1)
    for at in kept:
        if columns[at].elastic:
            sizes[at] += max(spare, 0)
    heading = [(column.title, "dim") for column in columns]
    return [_row(columns, row, kept, sizes) for row in [heading, *rows]]


def _row(columns: Sequence[Column], row: Sequence[Span], kept: Sequence[int], sizes: Sequence[int]) -> Line:
    spans: list[Span] = []
    for place, at in enumerate(kept):
        text, role = row[at]
        if columns[at].elastic:
            text = cut_words(text, sizes[at])
        padding = " " * max(sizes[at] - cell_len(text), 0)
        if place:
            spans.append(("  ", "text"))
        spans.append((padding + text if columns[at].numeric else text + padding, role))
    return tuple(spans)
