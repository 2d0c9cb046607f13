"""P15: rows a second through the journal's writer, and what one row costs the event loop.

The rows are equity marks, as the engine keeps one a bar; the peer writes rows of the same columns with sqlmodel, a
commit each, which is what a bot does that wants to be sure of each. Ours is committed too when its time is taken: the
last future has resolved. Decisions with Q values and gates are shown beside them. The cost on the loop is the call
that journals one row, one that nobody waits for, while the writer thread works. (A row with an order wakes the thread:
that is part of P14.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import FIRST_MS, MINUTE_MS

if TYPE_CHECKING:
    from aml100.domain.events import Decision, EquityMarked
    from aml100.storage.database import Database
    from aml100.storage.store import Synchronous

ROWS = 40_000
PER_STEP = 40
CALLS = 20_000


@contextmanager
def written(folder: Path, synchronous: Synchronous) -> Iterator[Sample]:
    """Rows a second, committed; every repetition writes later bars into the same file."""
    from aml100.engine.collector import start_spared
    from aml100.storage.database import Database

    with Database.open(folder / "state.db", synchronous, "sim", "0x1", "venue") as database, start_spared():
        begin = 0

        def measure() -> Readings:
            nonlocal begin
            begin += ROWS
            marks, taken = _marks(begin, ROWS), _decisions(begin, ROWS)
            return {"equity": _rate(database, marks), "decisions": _rate(database, taken)}

        measure()
        yield measure


@contextmanager
def on_the_loop(folder: Path) -> Iterator[Sample]:
    """Microseconds of the call that journals one row: the median and the 99th percentile."""
    from aml100.storage.database import Database

    with Database.open(folder / "state.db", "NORMAL", "sim", "0x1", "venue") as database:
        begin = 0

        def measure() -> Readings:
            nonlocal begin
            begin += CALLS
            costs = np.empty(CALLS)
            for number, mark in enumerate(_marks(begin, CALLS)):
                started = time.perf_counter_ns()
                database.note((mark,))
                costs[number] = time.perf_counter_ns() - started
                if number % PER_STEP == 0:
                    time.sleep(0)
            database.flush()
            return {"p50": float(np.percentile(costs, 50)) / 1e3, "p99": float(np.percentile(costs, 99)) / 1e3}

        measure()
        yield measure


def _rate(database: Database, facts: Sequence[EquityMarked | Decision]) -> float:
    started = time.perf_counter()
    for at in range(0, len(facts), PER_STEP):
        last = database.journal(facts[at : at + PER_STEP])
    last.result()
    return len(facts) / (time.perf_counter() - started)


def _marks(begin: int, count: int) -> list[EquityMarked]:
    from aml100.domain.events import EquityMarked

    equity, balance, peak = Decimal("10123.456789"), Decimal("10100.25"), Decimal("10200.5")
    return [
        EquityMarked(FIRST_MS + row * MINUTE_MS, equity, balance, 0.0075, peak) for row in range(begin, begin + count)
    ]


def _decisions(begin: int, count: int) -> list[Decision]:
    from aml100.domain.events import Decision, Gate
    from aml100.domain.orders import Action
    from aml100.domain.units import Coin

    gates = (Gate("policy", True), Gate("position", True), Gate("stale", True), Gate("risk", False, "daily loss 2.1 %"))
    q = (0.012, 0.034, -0.02)
    coin = Coin("BTC")
    times = [FIRST_MS + row * MINUTE_MS for row in range(begin, begin + count)]
    return [
        Decision(coin, time_ms, time_ms + MINUTE_MS, Action.BUY, q, "range", 0.8, "none", gates) for time_ms in times
    ]


def _writing_trial(synchronous: Synchronous) -> Trial:
    peer = f"sqlmodel, commit a row, {synchronous}"
    return Trial(
        "P15",
        partial(written, synchronous=synchronous),
        figures=(
            Figure(f"equity rows written, synchronous {synchronous}", "rows/s", (Goal(100, peer),), "equity"),
            Figure(f"decisions written, synchronous {synchronous}", "rows/s", (), "decisions"),
        ),
        peers=(Peer(peer, "storage_sqlmodel.py", None, (synchronous, "equity")),),
    )


TRIALS = (
    _writing_trial("NORMAL"),
    _writing_trial("FULL"),
    Trial(
        "P15",
        on_the_loop,
        figures=(
            Figure("cost of a row on the event loop, p50", "us", (), "p50", less_is_better=True),
            Figure("cost of a row on the event loop, p99", "us", (Goal(1, limit=2.0),), "p99", less_is_better=True),
        ),
    ),
)
