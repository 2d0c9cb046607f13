"""B10, D24: an autonomous engine killed in the middle of what it decides, its trainer and console killed beside it.

Two rounds of the lab on short cycles; docs/autonomy.md says what a long run of it found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROUNDS, SEED, CYCLES, CYCLE_DAYS, BARS_A_SECOND = 2, 665, 1, 5, 30


def test_b10_d24_cycles_phases_and_models_count_up_whatever_is_killed(tmp_path: Path) -> None:
    """None lost, none counted twice, every trained model judged, and `verify` passes after each kill."""
    numbers = map(str, (ROUNDS, SEED, CYCLES, CYCLE_DAYS, BARS_A_SECOND))
    command = [sys.executable, "-m", "tests.sim.autonomy_lab", str(tmp_path), *numbers]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert (told["wrong"], told["sound"], told["last"]) == ([], True, 0)
    assert {"trainer", "console"} <= told["killed"].keys()
    assert sum(count for name, count in told["killed"].items() if name not in ("trainer", "console")) == ROUNDS
    assert told["cycles"] >= CYCLES
    assert told["trainings"], "the training that was killed is not forgotten"
