"""The longer tables of docs/learning.md as markdown: `python -m aml100.bench.learning_tables NAME [NUMBER] [SET]`.

    seeds   the mean-reverting market, one network a seed, after 10 to 300 s of processor time
    sweep   all planted markets at three strengths
    devices wall seconds to a share of the best policy, on a core and on a GPU where there is one
    walks   random walks: how often the chosen policy trades there, and what it loses
    real    bars of real markets, walked forward: the learner beside simple rules; SET as `hyperliquid_perp 15m`
    earlier the same on the quarter of the bars before those that `real` tests on
    levers  what one change at a time does there; SET as above
    peers   stable-baselines3 and sb3-contrib on the bars, folds and processor seconds of `real`
    earlier-peers   and of `earlier`

NUMBER is of seeds, of `devices` the seconds. Each line is printed as soon as it is measured, with the load beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from aml100.bench.learning_devices import RACE_HEADER, race_rows
from aml100.bench.learning_levers import HEADER as LEVER_HEADER
from aml100.bench.learning_levers import lever_rows
from aml100.bench.learning_markets import MARKETS, PLANTED_RULES, random_walk
from aml100.bench.learning_measure import RECIPE, CpuClock, Fresh, follow
from aml100.bench.learning_peers import peer_rows
from aml100.bench.learning_real import EARLIER, HEADER, real_rows, sets_in
from aml100.bench.simple_rules import SimpleRule, best_rule, hindsight
from aml100.config.models import Objectives
from aml100.evaluation.objectives import PhaseTracker, account_phases, phase_rules
from aml100.evaluation.statistics import deflated_sharpe, moments_of
from aml100.evaluation.windows import PhaseRecord
from aml100.learning.acting import Walk
from aml100.learning.dataset import CoinData, Scaler
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from aml100.market.features import compute_features

MARKS: Final = (10.0, 30.0, 60.0, 300.0)
SWEPT: Final = (0.5, 1.0, 2.0)
SWEEP_MARKS: Final = (5.0, 15.0, 30.0)
SWEEP_BARS: Final = 500_000
WALK_S: Final = 6.0
WALK_BARS: Final = 100_000
CYCLE_DAYS: Final = 30.0
REAL_S: Final = 8.0
REAL_FOLDER: Final = Path("../shared/data/market")


def seeds(count: int) -> Iterator[tuple[str, ...]]:
    """Shares of the best policy by seed and seconds: of what validation chose, and of the latest weights."""
    yield ("seed", *(f"{mark:g} s chosen / latest" for mark in MARKS), "trades (best)", "load")
    fresh = Fresh.of("mean-reverting")
    for seed in range(count):
        found = follow("mean-reverting", seed, MARKS, fresh=fresh)
        shares = (f"{mark.chosen:.3f} / {mark.latest:.3f}" for mark in found)
        yield (str(seed), *shares, f"{found[-1].trades} ({fresh.reference_trades})", _load())


def sweep(count: int) -> Iterator[tuple[str, ...]]:
    """Each market at each strength: shares of the best policy, of the learner's `count` seeds median (worst), after
    SWEEP_MARKS seconds, and of the simple rule that earned most in training; and what hindsight would have earned."""
    yield (
        "market",
        "strength",
        "best earns a 1,000 bars",
        "of hindsight",
        "best simple rule",
        *(f"{mark:g} s" for mark in SWEEP_MARKS),
        "load",
    )
    for name in MARKETS:
        for strength in SWEPT:
            fresh = Fresh.of(name, strength)
            earned = fresh.reference / len(fresh.market) * 1000
            rule = _best_rule(name, strength)
            close = fresh.market.bars["close"][fresh.first :]
            moves = np.append(close[1:] / close[:-1] - 1.0, 0.0)
            scaled = rule.scaler.apply(fresh.frame.values[fresh.first :])
            ruled = rule.rule.earned(scaled, moves - fresh.luck, PLANTED_RULES.taker_fee) / fresh.reference
            ahead = fresh.reference / hindsight(moves, PLANTED_RULES.taker_fee)
            found = [
                follow(name, seed, SWEEP_MARKS, strength=strength, fresh=fresh, settings=RECIPE, bars=SWEEP_BARS)
                for seed in range(count)
            ]
            shares = []
            for marks in zip(*found, strict=True):
                chosen = sorted(mark.chosen for mark in marks)
                shares.append(f"{np.median(chosen):.3f} ({chosen[0]:.3f})")
            yield (
                name,
                f"{strength:g}",
                f"{earned:.2%}",
                f"{ahead:.1%}",
                f"{ruled:.3f} ({rule.rule})",
                *shares,
                _load(),
            )


class _Tuned(NamedTuple):
    rule: SimpleRule
    scaler: Scaler


def _best_rule(name: str, strength: float) -> _Tuned:
    """Tuned on the bars that the first seed trains on."""
    series = MARKETS[name](SWEEP_BARS, 1, strength)
    frame = compute_features(series)
    first = int(np.flatnonzero(frame.valid)[0])
    scaler = Scaler.fit([frame.values[first:]])
    moves = np.append(series.close[first + 1 :] / series.close[first:-1] - 1.0, 0.0)
    return _Tuned(best_rule(scaler.apply(frame.values[first:]), moves, PLANTED_RULES.taker_fee), scaler)


def devices(seconds: int) -> Iterator[tuple[str, ...]]:
    """One seed; `seconds` of the wall for each network and way."""
    yield (*RACE_HEADER, "load")
    for row in race_rows(float(seconds)):
        yield (*row, _load())


def walks(count: int) -> Iterator[tuple[str, ...]]:
    """Random walks, each with data of its own, and what judges a policy by: validation, statistics, health, gates.

    `edge` by validation is a score above 0, by the statistics a deflated Sharpe ratio of its days of at least 0.95 with
    all walks counted as trials. The gates of the first phase see the fresh bars as if the profit had been earned.
    """
    yield (
        "seed",
        "trades in 100,000 fresh bars",
        "net",
        "edge: validation / statistics",
        "refused by",
        "gates",
        "load",
    )
    phases = phase_rules(Objectives())
    for seed in range(count):
        fresh = Fresh.of("random-walk", bars=WALK_BARS, seed=5_000 + seed)
        data = (CoinData(random_walk(WALK_BARS, seed + 1), PLANTED_RULES),)
        *_, last = train(TrainingJob(data, RECIPE, seed, budget_s=WALK_S), CpuClock())
        assert isinstance(last, TrainingResult)
        walk = fresh.walk(last.members, last.dataset.scaler, RECIPE)
        refused = ", ".join(finding.name for finding in last.health if not finding.healthy)
        moments = moments_of(np.array(last.validation.daily))
        deflated = None if moments is None else deflated_sharpe(moments, count)
        edges = (last.validation.score > 0.0, deflated is not None and deflated >= 0.95)
        cycles = account_phases(_record(walk, fresh), CYCLE_DAYS, PhaseTracker(phases))
        verdicts = " ".join(cycle.verdict for cycle in cycles)
        edge = " / ".join("yes" if one else "no" for one in edges)
        yield (str(seed), str(len(walk.trade_nets)), f"{walk.net.sum():+.4f}", edge, refused or "-", verdicts, _load())


def _record(walk: Walk, fresh: Fresh) -> PhaseRecord:
    """A walk as the gates read it: one notional is the account's 10,000 USD."""
    open_ms = walk.close_ms - fresh.market.interval_ms
    left = np.flatnonzero((walk.sides[:-1] != 0) & (walk.sides[1:] == 0)) if len(walk.trade_nets) else np.zeros(0, int)
    exits = open_ms[np.append(left, len(open_ms) - 1)[: len(walk.trade_nets)]]
    equity = 10_000.0 * (1.0 + np.cumsum(walk.net))
    return PhaseRecord(open_ms, equity, fresh.market.interval_ms, 10_000.0, exits, 10_000.0 * walk.trade_nets)


def real(count: int, only: str = "") -> Iterator[tuple[str, ...]]:
    """Real bars, pooled coins, walked forward."""
    yield (*HEADER, "load")
    for row in real_rows(REAL_FOLDER, count, REAL_S, only):
        yield (*row, _load())


def earlier(count: int, only: str = "") -> Iterator[tuple[str, ...]]:
    """The same on the bars before those."""
    yield (*HEADER, "load")
    for row in real_rows(REAL_FOLDER, count, REAL_S, only, edges=EARLIER):
        yield (*row, _load())


def levers(count: int, only: str = "") -> Iterator[tuple[str, ...]]:
    """One change at a time on the same."""
    yield (*LEVER_HEADER, "load")
    for row in lever_rows(REAL_FOLDER, count, REAL_S, only):
        yield (*row, _load())


def peers(count: int, only: str = "") -> Iterator[tuple[str, ...]]:
    """Others on the same."""
    yield (*HEADER, "load")
    for row in peer_rows(REAL_FOLDER, count, REAL_S, only):
        yield (*row, _load())


def earlier_peers(count: int, only: str = "") -> Iterator[tuple[str, ...]]:
    """Others on the bars before those."""
    yield (*HEADER, "load")
    for row in peer_rows(REAL_FOLDER, count, REAL_S, only, EARLIER):
        yield (*row, _load())


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


TABLES: Final = {"seeds": (seeds, 5), "sweep": (sweep, 5), "walks": (walks, 20), "devices": (devices, 60)}
REAL_TABLES: Final = {
    "real": (real, 5),
    "earlier": (earlier, 5),
    "levers": (levers, 5),
    "peers": (peers, 5),
    "earlier-peers": (earlier_peers, 5),
}


def main(arguments: Sequence[str]) -> int:
    """Print one table; 2 for bad usage, with one line that says what is allowed."""
    name, most = (arguments[0] if arguments else ""), 3 if arguments and arguments[0] in REAL_TABLES else 2
    if name not in {**TABLES, **REAL_TABLES} or len(arguments) > most:
        sys.stderr.write(
            f"learning_tables: usage: {'|'.join(TABLES)} [NUMBER], {'|'.join(REAL_TABLES)} [NUMBER] [SET]\n"
        )
        return 2
    asked = arguments[1] if len(arguments) > 1 else None
    if asked is not None and not (asked.isascii() and asked.isdigit() and int(asked)):
        sys.stderr.write(f"learning_tables: NUMBER {asked!r} is refused; allowed: a whole number of at least 1\n")
        return 2
    if name in TABLES:
        table, usual = TABLES[name]
        rows = table(usual if asked is None else int(asked))
    else:
        real_table, usual = REAL_TABLES[name]
        only, known = arguments[2] if len(arguments) > 2 else "", sets_in(REAL_FOLDER)
        if not any(title.startswith(only) for title in known):
            allowed = f"the start of one of: {', '.join(known)}" if known else f"none, {REAL_FOLDER} holds no bars"
            sys.stderr.write(f"learning_tables: SET {only!r} is refused; allowed: {allowed}\n")
            return 2
        rows = real_table(usual if asked is None else int(asked), only)
    for number, row in enumerate(rows):
        sys.stdout.write("| " + " | ".join(row) + " |\n" + ("|--" * len(row) + "|\n" if number == 0 else ""))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
