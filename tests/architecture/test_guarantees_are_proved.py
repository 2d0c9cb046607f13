"""Each guarantee has an id, and each id stands in the test that proves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
COUNTS = {"B": 20, "C": 44, "D": 25, "E": 12}
"""Sections of the guarantees and how many lines each has."""
OPTIONAL = {"C40"}
"""Changes *may* be highlighted."""


def named_ids() -> set[str]:
    """Ids in the code of the tests, in names (test_b10_...) and in words (B1, C1-C3 is only C1 and C3)."""
    found = set()
    for file in TESTS.rglob("*.py"):
        if file != Path(__file__):
            found |= {
                one.upper() for one in re.findall(r"(?i)(?<![a-z0-9])[bcde][1-9][0-9]?(?![0-9])", file.read_text())
            }
    return found


@pytest.mark.parametrize("section", COUNTS)
def test_every_guarantee_is_named_by_a_test(section: str) -> None:
    asked = [f"{section}{number}" for number in range(1, COUNTS[section] + 1)]
    assert [one for one in asked if one not in named_ids() | OPTIONAL] == []
