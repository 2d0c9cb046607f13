"""How far luck gets through the gates of the phases, and how far skill does: the table in docs/evaluation.md (B3).

    python docs/experiments/gates_and_luck.py [RUNS]

Each run is 400 days of 6-hour bars: an equity curve without skill (or with a known Sharpe ratio) and four trades a day
that look fine by themselves. It is judged as `phases` judges a record: every 30 days, each look counted, until the end.
Prints a Markdown table; the same seed gives the same table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aml100.config.models import GatesMode, Objectives
from aml100.domain.units import HOUR_MS
from aml100.evaluation.objectives import PhaseRecord, PhaseTracker, account_phases, phase_rules

DAYS, PER_DAY, SEED = 400, 4, 20260101
RULES = phase_rules(Objectives())
Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def normal(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal(count)


def fat_tails(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_t(3, count) / np.sqrt(3.0)


def pennies(rng: np.random.Generator, count: int) -> Floats:
    """Small gains nearly always, and once in forty a loss that takes them back."""
    lost = rng.random(count) < 1 / 40
    return np.where(lost, -39.0, 1.0) / np.sqrt(39.0)


def clustered(rng: np.random.Generator, count: int) -> Floats:
    """Calm and wild stretches: the log of the volatility is a slow first-order process."""
    level, logs = 0.0, np.empty(count)
    for row, shock in enumerate(rng.standard_normal(count) * 0.1):
        level = 0.985 * level + shock
        logs[row] = level
    return rng.standard_normal(count) * np.exp(logs) / np.sqrt(np.mean(np.exp(2.0 * logs)))


def record(rng: np.random.Generator, draw: Draw, sd: float, sharpe: float) -> PhaseRecord:
    """`sd` of a day, `sharpe` a year; independent of the trades, of which just over half win."""
    count = DAYS * PER_DAY
    moves = draw(rng, count) * sd / np.sqrt(PER_DAY) + sharpe * sd / np.sqrt(365.0) / PER_DAY
    opens = np.arange(count, dtype=np.int64) * (24 // PER_DAY) * HOUR_MS
    profits = np.where(rng.random(count) < 0.52, 1.1, -1.0)
    equity = 10_000.0 * np.cumprod(1.0 + moves)
    return PhaseRecord(opens, equity, 24 // PER_DAY * HOUR_MS, 10_000.0, opens, profits)


def reached(draw: Draw, sd: float, sharpe: float, mode: GatesMode, runs: int) -> tuple[float, float]:
    """Shares of runs that got to Growth and to Production."""
    rng = np.random.default_rng(SEED)
    ends = []
    for _ in range(runs):
        tracker = PhaseTracker(RULES, mode)
        account_phases(record(rng, draw, sd, sharpe), 30.0, tracker)
        ends.append(tracker.state.index)
    return float(np.mean(np.array(ends) >= 1)), float(np.mean(np.array(ends) >= 2))


STREAMS: tuple[tuple[str, Draw, float, float], ...] = (
    ("no skill, normal, 0.4 % a day", normal, 0.004, 0.0),
    ("no skill, normal, 0.55 % a day (where luck gets farthest)", normal, 0.0055, 0.0),
    ("no skill, normal, 0.8 % a day", normal, 0.008, 0.0),
    ("no skill, fat tails (t, 3), 0.55 % a day", fat_tails, 0.0055, 0.0),
    ("no skill, clustered volatility, 0.55 % a day", clustered, 0.0055, 0.0),
    ("no skill, pennies before the roller, 0.55 % a day", pennies, 0.0055, 0.0),
    ("true Sharpe 2, 0.6 % a day", normal, 0.006, 2.0),
    ("true Sharpe 4, 0.6 % a day", normal, 0.006, 4.0),
    ("true Sharpe 8, 0.8 % a day", normal, 0.008, 8.0),
    ("true Sharpe 12, 0.8 % a day", normal, 0.008, 12.0),
)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"| stream, {runs} runs of {DAYS} days | honest: Growth | Production | document: Growth | Production |")
    print("|--|--|--|--|--|")
    for name, draw, sd, sharpe in STREAMS:
        honest = reached(draw, sd, sharpe, "honest", runs)
        plain = reached(draw, sd, sharpe, "document", runs)
        cells = " | ".join(f"{share:.1%}" for share in (*honest, *plain))
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
