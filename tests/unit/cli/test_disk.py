"""`doctor` sees a disk that will be full before the month is over."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from aml100.cli.main import main
from aml100.domain.clock import wall_ms
from aml100.domain.units import DAY_MS, Coin
from aml100.storage.database import Database
from aml100.storage.entries import Run, RunStopped


def state_after(folder: Path, days: float, kept_bytes: int) -> Path:
    """A state file that engines ran on for so long, with so many bytes of recorded inputs beside it (a sparse file)."""
    state = folder / "state.db"
    start_ms = wall_ms() - int(days * DAY_MS)
    with Database.open(state, "NORMAL", "sim", "0xabc", "venue") as database:
        database.start_run(Run("r", start_ms, "sim", "venue", (Coin("BTC"),), "made", "flat", 1, 1))
        database.stop_run(RunStopped("r", start_ms + int(days * DAY_MS), "done", 0, None)).result()
    archive = folder / "state.db.inputs" / "2025-06-30.parquet"
    archive.parent.mkdir()
    archive.touch()
    os.truncate(archive, kept_bytes)
    return state


def disk(state: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    main(["doctor", "--state", str(state), "--json"])
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    return dict(found["disk"])


def test_a_disk_that_fills_within_a_month_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < 2 << 30:
        pytest.skip("the disk is nearly full already")
    found = disk(state_after(tmp_path, 2.0, free // 5), capsys)
    assert found["state"] == "WARN"
    assert "full in 10 days" in found["detail"] or "full in 9 days" in found["detail"]
    assert "storage.retain_days" in found["advice"]


@pytest.mark.parametrize(("days", "share"), [(2.0, 1_000), (0.01, 5)])
def test_slow_growth_and_too_short_a_run_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: float, share: int
) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < 2 << 30:
        pytest.skip("the disk is nearly full already")
    found = disk(state_after(tmp_path, days, free // share), capsys)
    assert found["state"] == "OK"
    assert "MiB used" in found["detail"]
