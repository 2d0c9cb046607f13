"""What commands leave behind: one JSON document, or a table for people; and the exit code of what Ctrl-C stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Final

INTERRUPTED: Final = 130


def write_json(document: object) -> None:
    """One JSON document on stdout; a number that is not finite is a defect and raises ValueError."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def write_line(text: str) -> None:
    sys.stdout.write(text + "\n")


def write_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; nothing but spaces between them."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
