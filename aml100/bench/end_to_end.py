"""P18: 50 coins at once on the simulated venue, in a process of its own (fifty.py): loop lag, processor, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aml100.bench.frame import Figure, Goal, Readings, Sample, Trial
from aml100.domain.errors import AmlError

PATIENCE_S = 900.0


@contextmanager
def fifty(folder: Path, mode: str) -> Iterator[Sample]:
    """One run of the mode, each in a fresh process and folder."""

    def measure() -> Readings:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            command = [sys.executable, "-m", "aml100.bench.fifty", home, mode]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=home
                )
            except subprocess.TimeoutExpired:
                raise AmlError(f"50 coins: no figures within {PATIENCE_S:g} s") from None
            if done.returncode:
                raise AmlError(f"50 coins: {done.stderr.strip().splitlines()[-1]}")
            figures: dict[str, float] = json.loads(done.stdout)
            return figures

    yield measure


TRIALS = (
    Trial(
        "P18",
        partial(fifty, mode="lag"),
        figures=(
            Figure(
                "50 coins and a training, lag of the loop, p99",
                "ms",
                (Goal(1, limit=50.0),),
                "lag p99",
                less_is_better=True,
            ),
            Figure("50 coins and a training, lag of the loop, p50", "ms", (), "lag p50", less_is_better=True),
            Figure("50 coins at 60 times real speed, venue included", "% of a core", (), "core %", less_is_better=True),
        ),
        repetitions=1,
    ),
    Trial(
        "P18",
        partial(fifty, mode="hours"),
        figures=(
            Figure(
                "50 coins, memory at hour 6 over hour 1", "ratio", (Goal(1, limit=1.1),), "growth", less_is_better=True
            ),
            Figure("50 coins, memory at hour 6", "MB", (), "MB", less_is_better=True),
        ),
        repetitions=1,
    ),
)
