"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from aml100.learning.threads import sleep_at_barriers
from tests import postgres

sleep_at_barriers(os.environ)  # before torch is loaded, as in every process that trains

SHARED = Path(__file__).resolve().parents[2] / "shared"

settings.register_profile("untimed", deadline=None)  # a first call may compile for seconds; no test is about time
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real bars and recorded venue messages; tests that need it skip by name where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A real PostgreSQL server; tests that need it skip by name where it is not installed."""
    binaries = postgres.find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql, or brew install postgresql")
    pytest.importorskip("psycopg")
    made = postgres.Server(binaries)
    try:
        made.start()
        yield made
    finally:
        made.close()
