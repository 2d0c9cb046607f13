"""What the benchmarks measure is the real thing, in small: frames become decisions, rows are on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from aml100.bench import storage, venue
from aml100.bench.inputs import drawn_actions, made_up_bars


def test_frames_of_another_process_become_decisions_of_the_whole_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venue, "BARS", 2)
    with venue.decisions(tmp_path) as measure:
        readings = measure()
    assert isinstance(readings, Mapping)
    assert set(readings) == {"rate", "p50", "p99"}
    with sqlite3.connect(tmp_path / "state-NORMAL.db") as database:
        kept = database.execute("SELECT bar_ms, action, outcome, q_hold IS NOT NULL FROM decisions ORDER BY bar_ms")
        first = int(made_up_bars(venue.WARM_BARS + 1).open_ms[-1])
        assert kept.fetchall() == [(first, 0, "none", 1), (first + 60_000, 0, "none", 1)]


def test_the_rows_that_are_counted_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ROWS", 400)
    with storage.written(tmp_path, "NORMAL") as measure:
        measure()
    with sqlite3.connect(tmp_path / "state.db") as database:
        counts = [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("equity", "decisions")]
    assert counts == [800, 800]  # the warm-up and one measurement


def test_made_up_bars_are_bars() -> None:
    series = made_up_bars(5_000)
    assert ((series.low <= series.open) & (series.open <= series.high)).all()
    assert ((series.low <= series.close) & (series.close <= series.high) & (series.low > 0)).all()
    assert series.origin.startswith("synthetic:")
    busy = drawn_actions(100_000, busy=0.1)
    assert 0.04 < (busy == 1).mean() < 0.06
    assert 0.04 < (busy == 2).mean() < 0.06
