"""`main` sets the process's logging up; each test gets it back as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.untouched import untouched_logging


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    with untouched_logging():
        yield
