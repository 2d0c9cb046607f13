"""B10, D2, B9: killed at more than fifty distinct points, an engine loses nothing, doubles nothing, is never naked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.harness import restless, write_bars

KILLS = 52
WARMUP_BARS = 300
BARS = 900


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("lab")
    times = 1_700_006_400_000 + np.arange(BARS) * 60_000
    tape = write_bars(folder / "BTC_made.parquet", restless(times, 3))
    lab = Path(__file__).with_name("crash_lab.py")
    command = [sys.executable, str(lab), str(tape), str(WARMUP_BARS), str(folder), str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_b10_the_kills_fell_on_distinct_points(told: dict[str, list[list[object]]]) -> None:
    assert len({(point, at_ms) for point, at_ms, _ in told["kills"]}) >= 50
    assert all(code == 137 for _, _, code in told["kills"])


def test_b10_verify_passes_after_every_kill(told: dict[str, object]) -> None:
    assert told["unsound_after"] == []
    assert (told["last_exit_code"], told["sound_at_the_end"]) == (0, True)


def test_b9_no_position_was_without_its_stop_at_the_venue(told: dict[str, object]) -> None:
    assert told["naked_after"] == []


def test_b10_every_bar_was_decided_once(told: dict[str, list[object]]) -> None:
    undisturbed, killed = told["decided"]
    assert killed == undisturbed


def test_d2_no_order_is_double_or_lost(told: dict[str, list[list[str]]]) -> None:
    """What was journalled and not sent is settled as such and not sent again; every other order has its end."""
    orders = told["orders"]
    assert len({cloid for cloid, *_ in orders}) == len(orders)
    assert {status for _, status, *_ in orders} <= {"filled", "canceled", "rejected"}
    rejected = {reason for _, status, _, reason in orders if status == "rejected"}
    assert rejected <= {"never reached the venue"}


def test_d2_fills_fold_to_a_flat_account(told: dict[str, list[list[list[str]]]]) -> None:
    _, fills = told["fills"]
    assert sum((1 if side == "buy" else -1) * Decimal(size) for _, side, size in fills) == 0
    assert max(Counter(cloid for cloid, *_ in fills).values()) == 1
