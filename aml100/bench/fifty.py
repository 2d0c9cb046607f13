"""An engine with 50 coins on the embedded venue, from inside: `python -m aml100.bench.fifty FOLDER MODE [COINS]`.

`lag` runs at 60 times real speed with a training beside it and prints how late the event loop was, 200 times a second;
`hours` plays 6 hours of market time as fast as it goes and prints what memory it held after the first and at the end.
Venue and engine share the process, so the venue's work is in these figures. One JSON line on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from aml100.config.loading import load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.errors import AmlError
from aml100.domain.units import HOUR_MS, Coin
from aml100.engine.listener import Listeners
from aml100.engine.runtime import Engine
from aml100.wiring.embedded import embedded_engine
from aml100.wiring.engines import RunPlan

COINS: Final = 50
HISTORY_BARS: Final = {"lag": 2000, "hours": 600}
"""Of each coin; those of `lag` are enough to train on."""
SETTLING_S: Final = 5.0
LAG_S: Final = 30.0
LEAST_S: Final = 5.0
PATIENCE_S: Final = 120.0
HOURS: Final = (1, 6)
PROBE_S: Final = 0.005
MODES: Final = {"lag": ("model", 60.0), "hours": ("random", 1e6)}


async def measured(folder: Path, mode: str, coins: int = COINS) -> dict[str, float]:
    """Run until the mode has its figures."""
    policy, speed = MODES[mode]
    plan = RunPlan(
        settings=load_settings(None, {}),
        state=folder / f"{mode}.db",
        coins=tuple(Coin(f"COIN{number:02d}") for number in range(coins)),
        series=(),
        funding={},
        process="regimes",
        seed=1,
        speed=speed,
        warmup_bars=HISTORY_BARS[mode],
        policy=policy,
        bundle=None,
        duration_s=None,
        max_cycles=None,
    )
    clock = ManualClock()
    async with embedded_engine(plan, Listeners(), clock) as (engine, desk):
        run = asyncio.create_task(engine.run(desk))
        try:
            while not engine.is_consuming:
                await asyncio.sleep(0.1)
                if run.done():
                    run.result()
            return await (_lags(engine) if mode == "lag" else _hours(clock))
        finally:
            engine.request_stop("measured")
            await run


async def _lags(engine: Engine) -> dict[str, float]:
    """Milliseconds that a sleep of 5 ms came back late, and the share of a core that the process took.

    Only the time in which a training took its steps counts; AmlError where that is less than 5 seconds.
    """
    await asyncio.sleep(SETTLING_S)
    late: list[float] = []
    wall_s = cpu_s = 0.0
    deadline_s = time.monotonic() + PATIENCE_S
    while wall_s < LAG_S and time.monotonic() < deadline_s:
        if not _is_training(engine):
            await asyncio.sleep(0.5)
            if wall_s >= LEAST_S:
                break
            continue
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        while (now := time.monotonic()) < begun_s + 1.0:
            await asyncio.sleep(PROBE_S)
            late.append((time.monotonic() - now - PROBE_S) * 1000)
        wall_s += time.monotonic() - begun_s
        cpu_s += time.process_time() - begun_cpu_s
    if wall_s < LEAST_S:
        reason = "" if engine.desk is None else engine.desk.view().reason
        raise AmlError(f"a training ran beside the engine for {wall_s:.0f} s only {reason}".rstrip())
    shares = {f"lag p{percent}": float(np.percentile(late, percent)) for percent in (50, 99)}
    return {**shares, "core %": 100 * cpu_s / wall_s}


def _is_training(engine: Engine) -> bool:
    """Steps are taken: a process that only starts, or finds too little to train on, is no load."""
    seen = None if engine.desk is None else engine.desk.view()
    return seen is not None and seen.state == "running" and seen.loss is not None


async def _hours(clock: ManualClock) -> dict[str, float]:
    """Megabytes after 1 and after 6 hours of market time."""
    process, begin_ms, held = psutil.Process(), clock.now_ms(), []
    for hours in HOURS:
        while clock.now_ms() < begin_ms + hours * HOUR_MS:  # noqa: ASYNC110 -- market time is set by the venue
            await asyncio.sleep(0.05)
        held.append(process.memory_info().rss / 1e6)
    return {"MB": held[1], "growth": held[1] / held[0]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(measured(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:4])))) + "\n")
