"""Cycles are judged once, in order, by what they say they are judged by; a restart goes on from the journal."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import numpy as np

from aml100.config.models import Objectives
from aml100.domain.events import EquityMarked, LedgerPosted, TradeClosed
from aml100.domain.orders import Side
from aml100.domain.units import DAY_MS, HOUR_MS, Coin
from aml100.engine.connecting import earned_phase
from aml100.engine.cycle import CycleKeeper, write_state
from aml100.engine.listener import Listeners
from aml100.evaluation.objectives import PhaseState
from aml100.evaluation.windows import Window
from aml100.storage.database import Database
from aml100.storage.entries import Cycle
from tests.contract import Contract

START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
DAYS = 30


def keeper(
    database: Database, network: str = "sim", listener: Contract | None = None, **changes: object
) -> CycleKeeper:
    """Hourly bars, cycles of 30 days, one lenient phase after another unless told otherwise."""
    listeners = Listeners(listener or Contract())
    made = CycleKeeper(Objectives().model_copy(update=changes), database, listeners, HOUR_MS, network)
    made.restore()
    return made


def pay(cycles: CycleKeeper, database: Database, day: int, amount: float) -> None:
    """Money moves at the venue, and the engine learns it after the next bar has closed already."""
    posted = LedgerPosted(START_MS + day * DAY_MS - HOUR_MS // 2, "deposit", None, Decimal(amount), f"day {day}")
    database.journal([posted])
    cycles.on_record(posted)


def live(
    cycles: CycleKeeper,
    database: Database,
    first_day: int,
    days: int,
    daily: float,
    trades: int = 4,
    factor: float = 1.0,
) -> None:
    """So many days of growth with a little noise, `trades` closed a day; journalled as the engine does.

    `factor`: of the equity, where money was paid in before.
    """
    if first_day == 0:
        pay(cycles, database, 0, 10_000.0)
    random = np.random.default_rng(first_day)
    equity = 10_000.0 * (1 + daily) ** first_day * factor
    for hour in range(first_day * 24, (first_day + days) * 24):
        equity *= 1 + daily / 24 + random.normal(0, abs(daily) / 40 + 1e-9)
        end_ms = START_MS + (hour + 1) * HOUR_MS
        money = Decimal(str(round(equity, 6)))
        records: list[object] = [EquityMarked(end_ms, money, money, 0.0, money)]
        if trades and hour % (24 // trades) == 0:
            profit = Decimal("25") if hour % 5 else Decimal("-10")
            one = Decimal(1)
            closed_ms = end_ms - HOUR_MS // 2
            records.append(
                TradeClosed(
                    Coin("BTC"), Side.BUY, closed_ms - 1, one, closed_ms, one, one, profit, one, one, "signal", 1
                )
            )
        database.journal(records)  # type: ignore[arg-type]
        for record in records:
            cycles.on_record(record)  # type: ignore[arg-type]
        cycles.on_time(end_ms)
    database.flush()


def test_a_finished_window_is_journalled_with_its_accounting_and_a_restart_goes_on(database: Database) -> None:
    first = keeper(database)
    live(first, database, 0, 2 * DAYS + 3, 0.002)
    stored = database.cycles()
    assert [(c.number, c.source, (c.to_ms - c.from_ms) // DAY_MS) for c in stored] == [
        (1, "realised", 30),
        (2, "realised", 30),
    ]
    assert stored[0].to_ms == stored[1].from_ms
    figures = json.loads(stored[0].metrics)
    assert figures["trades"] == DAYS * 4
    assert {"sharpe_bound", "trades", "drawdown_probability"} <= {one["name"] for one in figures["evidence"]}
    again = keeper(database)
    assert again.view(START_MS + 63 * DAY_MS).cycles_done == first.view(START_MS + 63 * DAY_MS).cycles_done
    live(again, database, 2 * DAYS + 3, DAYS - 3, 0.002)
    assert [c.number for c in database.cycles()] == [1, 2, 3]
    assert again.completed == 1


def test_a_strong_record_advances_and_the_step_is_journalled_with_its_cycle(database: Database) -> None:
    told = Contract()
    cycles = keeper(database, listener=told)
    live(cycles, database, 0, 3 * DAYS, 0.004)
    assert told.kinds == {"cycle", "phase"}
    (step,) = database.phases()
    assert (step.from_phase, step.to_phase) == ("Foundation", "Growth")
    assert cycles.phase == "Growth"
    assert [c.phase for c in database.cycles()] == ["Foundation"] * 3


def test_a_deposit_earns_no_cycle_and_a_withdrawal_loses_none_e5(database: Database) -> None:
    cycles = keeper(database)
    live(cycles, database, 0, 10, 0.0)
    pay(cycles, database, 10, 10_000.0)
    live(cycles, database, 10, 10, 0.0, factor=2.0)
    again = keeper(database)  # a restart knows which close held the money first
    pay(again, database, 20, -15_000.0)
    live(again, database, 20, DAYS - 20, 0.0, factor=0.5)
    (cycle,) = database.cycles()
    figures = json.loads(cycle.metrics)["figures"]
    assert cycle.verdict == "FAIL"
    assert abs(figures["monthly_return_pct"]) < 0.01
    assert figures["max_drawdown_pct"] < 0.01
    seen = again.ledger_window(START_MS + DAYS * DAY_MS, DAYS * DAY_MS)
    assert abs(seen.equity[-1] / seen.opening_equity - 1) < 1e-4


def test_failures_in_a_row_step_back(database: Database) -> None:
    cycles = keeper(database, step_back_after_failures=2)
    live(cycles, database, 0, 3 * DAYS, 0.004)
    live(cycles, database, 3 * DAYS, 2 * DAYS, -0.001)
    assert [(s.from_phase, s.to_phase) for s in database.phases()] == [
        ("Foundation", "Growth"),
        ("Growth", "Foundation"),
    ]


async def test_a_window_with_too_few_trades_is_judged_by_a_labelled_back_test_and_is_provisional(
    database: Database,
) -> None:
    cycles = keeper(database)
    asked: list[tuple[int, int]] = []

    async def computed(from_ms: int, to_ms: int) -> Window:
        asked.append((from_ms, to_ms))
        random = np.random.default_rng(3)
        returns = 0.004 + random.normal(0, 0.0005, DAYS)
        equity = 10_000 * np.cumprod(1 + returns)
        return Window(from_ms, to_ms, 10_000.0, equity, returns, np.array([30.0, 30.0, -10.0] * 50))

    cycles.out_of_sample = computed
    live(cycles, database, 0, DAYS, 0.0, trades=0)
    assert database.cycles() == ()
    await asyncio.sleep(0)
    assert cycles.poll() is not None
    database.flush()
    (cycle,) = database.cycles()
    assert asked == [(START_MS, START_MS + DAYS * DAY_MS)]
    assert (cycle.source, cycle.verdict) == ("backtest", "PROVISIONAL")
    assert json.loads(cycle.state)["returns"] == []  # what was computed is no evidence
    assert cycles.view(START_MS + DAYS * DAY_MS).last_source == "backtest"


def test_what_was_earned_on_bars_that_the_model_was_made_from_is_no_evidence(database: Database) -> None:
    cycles = keeper(database)
    cycles.in_sample_until_ms = lambda: START_MS + DAY_MS
    live(cycles, database, 0, 4 * DAYS, 0.004)
    first, second, *_ = stored = database.cycles()
    assert [(one.source, one.verdict) for one in stored] == [("realised", "PROVISIONAL"), *[("realised", "PASS")] * 3]
    assert json.loads(first.state)["returns"] == []
    assert len(json.loads(second.state)["returns"]) == DAYS
    assert cycles.phase == "Growth"


def test_the_console_is_told_that_a_cycle_was_in_sample(database: Database) -> None:
    cycles = keeper(database)
    cycles.in_sample_until_ms = lambda: START_MS + DAY_MS
    live(cycles, database, 0, DAYS, 0.004)
    assert cycles.view(START_MS + DAYS * DAY_MS).last_source == "realised, in sample"
    database.flush()
    again = keeper(database)
    again.restore()
    assert again.view(START_MS + DAYS * DAY_MS).last_source == "realised, in sample"


def test_only_honest_pass_phases_on_real_data_unlock_live_orders(tmp_path: Path) -> None:
    """SPEC 12: paper on mainnet data counts, the simulated venue and mode document do not."""
    objectives = Objectives()

    def earned(network: str, phases: int, gates: str = "honest") -> str:
        path = tmp_path / f"{network}{phases}{gates}.db"
        with Database.open(path, "NORMAL", network, "0x" + "cd" * 20, "paper") as database:
            state = write_state(PhaseState(index=2, number=9, earned=phases), gates)
            database.journal([Cycle(9, "Growth", 0, 1, "realised", "PASS", True, network=network, state=state)])
            database.flush()
        return earned_phase(path, objectives)

    assert earned("mainnet", 2) == "Production"
    assert earned("mainnet", 1) == "Growth"
    assert earned("sim", 2) == "Foundation"
    assert earned("mainnet", 2, "document") == "Foundation"
    assert earned("testnet", 2) == "Production"
    assert earned_phase(tmp_path / "none.db", objectives) == "Foundation"
