"""B11, D12: a halt acts at the venue, reads back what is left there, and outlives the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from aml100.control.attach import request_once
from aml100.control.protocol import Answer
from aml100.domain.clock import ManualClock
from aml100.domain.events import ConcernChanged, TradingState
from aml100.domain.units import Coin
from aml100.engine.listener import Listeners
from aml100.engine.operator import OperatorDesk
from aml100.engine.runtime import Engine
from aml100.sim.faults import Fault
from aml100.sim.scenario import Tape
from aml100.storage.database import clear_halt_latch
from aml100.wiring.embedded import embedded_engine
from tests.sim.live import Heard, living, plan_for, running, stand_alone, until, wandering

BTC = Coin("BTC")
WIDE = {"AML100_TRADING__STOP_LOSS_PCT": "5", "AML100_TRADING__TAKE_PROFIT_PCT": "20"}


async def ask(state: Path, command: str) -> Answer:
    return await asyncio.to_thread(request_once, state, "tester", command, {}, 30.0)


async def test_b11_d12_halt_closes_at_the_venue_proves_it_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with stand_alone(Tape([wandering(2000)]), speed=120.0) as server:
        async with (
            living(server, state, environ=WIDE, policy="buy-and-hold") as (engine, desk, _),
            running(engine, desk),
        ):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None or _held(server), 20)
            status = await ask(state, "status")
            (held,) = (status.data or {})["positions"]
            assert Decimal(held["entry_price"]) == round(engine.core.ledger.position(BTC).entry, 8)
            assert "positions 1 (" in status.text
            answer = await ask(state, "halt")
            assert (answer.ok, answer.exit_code) == (True, 0), answer.text
            assert "flat, 0 orders, verified at" in answer.text
            assert "HALTED (halted by tester)" in (await ask(state, "status")).text
            assert not _held(server)
            assert not server.exchange.accounts[server.account].open_oids
            assert engine.core.state.trading is TradingState.HALTED
        async with (
            living(server, state, environ=WIDE, policy="buy-and-hold") as (engine, desk, _),
            running(engine, desk),
        ):
            await until(lambda: engine.core.coin(BTC).bars_seen > 0, 20)
            assert engine.core.state.trading is TradingState.HALTED
            assert not _held(server)


async def test_b11_what_cannot_be_closed_is_said_with_exit_code_1(tmp_path: Path) -> None:
    """The venue refuses every exit: the answer names what is left, and the latch is there all the same."""
    state = tmp_path / "state.db"
    refused = Fault("reject", order="exit", text="Order has invalid size.")
    async with (
        stand_alone(Tape([wandering(2000)]), speed=120.0, faults=(refused,)) as server,
        living(server, state, environ=WIDE, policy="buy-and-hold") as (engine, desk, _),
        running(engine, desk),
    ):
        await until(lambda: _held(server), 20)
        answer = await ask(state, "halt")
        assert (answer.ok, answer.exit_code) == (False, 1)
        assert "BTC" in answer.text
        await until(lambda: bool(engine.database.commands()))  # the journal has a thread of its own
        (told,) = engine.database.commands()
        assert (told.name, told.ok) == ("halt", False)
        assert answer.text in told.result
        assert engine.core.state.trading is TradingState.HALTED


async def test_b11_an_entry_on_its_way_is_closed_by_the_halt_that_did_not_see_it(tmp_path: Path) -> None:
    """The fill comes after the halt: nothing else would ever close it."""
    state = tmp_path / "state.db"
    late = Fault("delay", channel="userFills", ms=1500)
    async with (
        stand_alone(Tape([wandering(2000)]), speed=120.0, faults=(late,)) as server,
        living(server, state, environ=WIDE, policy="buy-and-hold") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: _held(server) and not engine.core.ledger.open_coins(), 20)
        answer = await ask(state, "halt")
        assert (answer.ok, answer.exit_code) == (True, 0), answer.text
        await until(lambda: len(heard.fills) == 2)
        await asyncio.sleep(0.5)
        assert not _held(server)
        assert engine.core.ledger.open_coins() == []


async def test_an_exit_that_flattens_waits_for_the_fill_of_an_entry_on_its_way(tmp_path: Path) -> None:
    late = Fault("delay", channel="userFills", ms=1500)
    unread = Fault("http", request="userFillsByTime")
    flat = {**WIDE, "AML100_TRADING__ON_EXIT": "flatten"}
    async with (
        stand_alone(Tape([wandering(2000)]), speed=120.0) as server,
        living(server, tmp_path / "state.db", environ=flat, policy="buy-and-hold") as (engine, desk, _),
    ):
        task = asyncio.create_task(engine.run(desk))
        await until(lambda: engine.core.state.trading is TradingState.TRADING)
        server.faults.add([late, unread])
        await until(lambda: _held(server), 20)
        assert not engine.core.ledger.open_coins()
        engine.request_stop("told to")
        assert await asyncio.wait_for(task, 20) == 0
        assert not _held(server)


async def test_flatten_closes_the_coins_that_are_named_and_no_other(tmp_path: Path) -> None:
    state, eth = tmp_path / "state.db", Coin("ETH")
    tape = Tape([wandering(2000), wandering(2000, "ETH", 3, 3000.0)])
    async with (
        stand_alone(tape, speed=120.0) as server,
        living(server, state, environ=WIDE, policy="buy-and-hold", coins=(BTC, eth)) as (engine, desk, _),
        running(engine, desk),
    ):
        await until(lambda: set(engine.core.ledger.open_coins()) == {BTC, eth}, 20)
        answer = await asyncio.to_thread(request_once, state, "tester", "flatten", {"coins": ["SOL", "ETH"]}, 30.0)
        assert (answer.ok, answer.exit_code) == (False, 2)
        assert "no coin SOL here, nothing was closed; allowed: BTC, ETH" in answer.text
        answer = await asyncio.to_thread(request_once, state, "tester", "flatten", {"coins": ["ETH"]}, 30.0)
        assert (answer.ok, answer.text) == (True, "1 position of ETH closed")
        assert engine.core.ledger.open_coins() == [BTC]
        assert list(server.exchange.accounts[server.account].holdings) == [BTC]


@pytest.mark.parametrize("kind", ["live", "in step"])
async def test_b11_a_file_halt_that_lies_there_at_the_start_halts_and_stays(tmp_path: Path, kind: str) -> None:
    """Its latch is not on disk yet when the engine looks who has resumed since: that must not lift it."""
    state = tmp_path / "state.db"
    (tmp_path / "HALT").touch()
    async with _either(kind, state) as (engine, desk, heard), running(engine, desk):
        await until(lambda: engine.core.state.trading is TradingState.HALTED, 20)
        await asyncio.sleep(1.0)
        assert [one.state for one in heard.states] == [TradingState.HALTED]
    (tmp_path / "HALT").unlink()
    async with _either(kind, state) as (engine, desk, heard), running(engine, desk):
        await until(lambda: engine.core.coin(BTC).bars_seen > 0, 20)
        assert engine.core.state.trading is TradingState.HALTED
    assert clear_halt_latch(state, "tester", 1)
    async with _either(kind, state) as (engine, desk, heard), running(engine, desk):
        await until(lambda: engine.core.state.trading is TradingState.TRADING, 20)


async def test_a_doubt_of_the_process_that_ended_does_not_outlive_it(tmp_path: Path) -> None:
    """An engine killed while it was overloaded started without entries, and nothing ever ended that."""
    async with stand_alone(Tape([wandering(2000)]), speed=60.0) as server:
        async with (
            living(server, tmp_path / "state.db", policy="flat") as (engine, desk, _),
            running(engine, desk),
        ):
            await until(lambda: engine.core.state.trading is TradingState.TRADING)
            engine.post(ConcernChanged("overload", "market data came too fast"))
            await until(lambda: engine.core.state.trading is TradingState.MANAGE_ONLY)
        async with (
            living(server, tmp_path / "state.db", policy="flat") as (engine, desk, _),
            running(engine, desk),
        ):
            await until(lambda: engine.core.state.trading is TradingState.TRADING)


@asynccontextmanager
async def _either(kind: str, state: Path) -> AsyncIterator[tuple[Engine, OperatorDesk, Heard]]:
    """An engine on a venue of its own clock, or on the embedded one."""
    if kind == "live":
        async with stand_alone(Tape([wandering(2000)]), speed=120.0) as server, living(server, state) as three:
            yield three
    else:
        heard = Heard()
        plan = plan_for(state, "random", {}, series=(wandering(2000),), coins=(), warmup_bars=240, speed=600.0)
        async with embedded_engine(plan, Listeners(heard), ManualClock()) as (engine, desk):
            yield engine, desk, heard


def _held(server: object) -> bool:
    return bool(server.exchange.accounts[server.account].holdings)  # type: ignore[attr-defined]
