"""The engine on a venue that nobody waits for: a stand-alone one at a URL, with real and with paper orders."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest

from aml100.control.attach import request_once
from aml100.domain.clock import SystemClock
from aml100.domain.errors import SafetyRefusal, UsageError, VenueUnavailable
from aml100.domain.events import Command, CommandName, TradingState
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import DAY_MS, Cloid, Coin
from aml100.sim.faults import Fault
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from aml100.storage.reader import StateReader
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from aml100.trading.policies import Random
from aml100.venue.clock import VenueClock
from aml100.venue.news import CandleUpdate
from aml100.venue.rest import VenueRest
from aml100.venue.signing import Signer
from tests.sim.live import QUICK, living, running, stand_alone, until, wandering
from tests.sim.stage import ACCOUNT_KEY

BTC = Coin("BTC")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Random, "every", 4)


def person(server: SimServer) -> VenueRest:
    """Somebody at the same account by hand."""
    return VenueRest(server.rest_url, "other", Signer(ACCOUNT_KEY, "other"), server.account, SystemClock())


def begun_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.db")]


def by_hand(side: Side, size: str, price: str) -> Order:
    cloid = Cloid("0x" + "f" * 32)
    return Order(
        cloid, BTC, side, OrderKind.ENTRY, Decimal(size), Decimal(price), reduce_only=False, tif=TimeInForce.IOC
    )


async def test_it_trades_to_the_end_of_the_market_and_agrees_with_the_venue(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with (
        stand_alone(Tape([wandering(320)]), speed=400.0) as server,
        living(server, state) as (engine, desk, heard),
    ):
        assert await engine.run(desk) == 0
        assert engine.stop_reason == "end of data"
        theirs = server.exchange.accounts[server.account]
        assert theirs.holdings == {}
        assert [d.fill.fill_id for d in heard.fills] == [one.fill.fill_id for one in theirs.fills]
        assert abs(engine.core.ledger.equity() - theirs.balance) < Decimal("1e-9")
        series = server.tape.series_of(BTC)
        first_ms = heard.bars[0].open_ms
        assert [bar.open_ms for bar in heard.bars] == [int(t) for t in series.open_ms if t >= first_ms]
        assert [float(bar.close) for bar in heard.bars] == list(series.close[-len(heard.bars) :])
        assert len(heard.bars) >= 20
    assert heard.fills
    assert "shared_account" not in {one.guard for one in heard.risks}
    assert all(check.ok for check in verify(state, apply_fill))


async def test_e5_money_that_comes_while_the_engine_runs_is_no_return(tmp_path: Path) -> None:
    async with (
        stand_alone(Tape([wandering(900)])) as server,
        living(server, tmp_path / "state.db", policy="flat") as (engine, desk, heard),
        running(engine, desk),
        aiohttp.ClientSession() as http,
    ):
        assert engine.live is not None
        engine.live.account.paces = replace(QUICK, money_s=0.1)
        await until(lambda: len(heard.bars) >= 3)
        before = engine.core.ledger.equity()
        paid = {"user": server.account, "usd": "5000"}
        async with http.post(f"{server.rest_url}/admin/deposit", json=paid) as answer:
            assert answer.status == 200
        await until(lambda: engine.core.ledger.equity() == before + 5_000)
        seen = len(heard.bars)
        await until(lambda: len(heard.bars) >= seen + 2)
        window = engine.cycles.ledger_window(heard.bars[-1].end_ms, DAY_MS)
        assert window.opening_equity == float(before)
        assert window.equity == pytest.approx(float(before), rel=1e-12)


async def test_e5_an_account_is_judged_by_what_it_was_worth_at_the_start_and_money_moved_is_no_result(
    tmp_path: Path,
) -> None:
    """Half of what back-tests begin with, then three times as much: neither is a loss or a gain of anybody's."""
    often = {"AML100_OBJECTIVES__CYCLE_HOURS": "0.05"}
    async with (
        stand_alone(Tape([wandering(900)]), deposit=Decimal(5_000)) as server,
        living(server, tmp_path / "state.db", policy="flat", environ=often) as (engine, desk, heard),
    ):
        assert engine.live is not None
        engine.live.account.paces = replace(QUICK, money_s=0.2)
        async with running(engine, desk):
            await until(lambda: len(engine.database.checks()) >= 2)
            server.exchange.deposit(server.account, Decimal(10_000))
            await until(lambda: engine.core.ledger.balance == 15_000)
            seen = len(engine.database.checks())
            await until(lambda: len(engine.database.checks()) >= seen + 2)
            found = [json.loads(check.figures) for check in engine.database.checks()]
    assert [(one["return"], one["max_drawdown"]) for one in found] == [(0.0, 0.0)] * len(found)
    assert TradingState.HALTED not in [one.state for one in heard.states]


async def test_e5_whoever_takes_out_exactly_what_was_paid_in_keeps_the_profit_once(tmp_path: Path) -> None:
    """All deposits are zero in sum then; that is no ledger that has yet to begin."""
    state, closes = tmp_path / "state.db", (60_000 * 1.001 ** np.arange(900)).round(0)
    opens = np.concatenate([closes[:1], closes[:-1]])
    rising = replace(wandering(900), open=opens, high=np.maximum(opens, closes), low=opens, close=closes)
    async with (
        stand_alone(Tape([rising])) as server,
        person(server) as hand,
        living(server, state, policy="flat") as (engine, desk, heard),
        running(engine, desk),
    ):
        assert engine.live is not None
        engine.live.account.paces = replace(QUICK, money_s=0.1)
        theirs, ledger = server.exchange.accounts[server.account], engine.core.ledger
        await until(lambda: engine.core.state.trading is TradingState.TRADING)
        await hand.place([by_hand(Side.BUY, "0.02", "100000")])
        await until(lambda: theirs.balance > 10_010 and not theirs.holdings, 20)  # its target
        assert server.exchange.send_usd(server.account, "0x" + "4" * 40, "10000") is None
        await until(lambda: ledger.book.deposits == 0)
        seen = len(heard.bars)
        await until(lambda: len(heard.bars) >= seen + 5)
        assert ledger.balance == theirs.balance
        assert 10 < ledger.equity() < 100
    with StateReader.read(state) as reader:
        assert [row.amount for row in reader.ledger_rows() if row.kind == "deposit"] == [10_000, -10_000]
    assert [check for check in verify(state, apply_fill) if not check.ok] == []


async def test_d17_a_bar_is_not_closed_by_a_clock_that_runs_ahead_of_the_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = VenueClock.now_ms
    monkeypatch.setattr(VenueClock, "now_ms", lambda self: told(self) + 45_000)
    async with (
        stand_alone(Tape([wandering(900)]), speed=120.0) as server,
        living(server, tmp_path / "state.db", policy="flat", environ={"AML100_VENUE__BAR_GRACE_SECONDS": "0"}) as (
            engine,
            desk,
            heard,
        ),
        running(engine, desk),
    ):
        await until(lambda: len(heard.bars) >= 8)
        series = server.tape.series_of(BTC)
        closes = dict(zip(series.open_ms.tolist(), series.close.tolist(), strict=True))
        assert {bar.open_ms: float(bar.close) for bar in heard.bars} == {
            bar.open_ms: closes[bar.open_ms] for bar in heard.bars
        }


async def test_d21_paper_trades_on_the_same_market_with_nothing_that_could_sign(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with (
        stand_alone(Tape([wandering(320)]), speed=400.0) as server,
        living(server, state, execution="paper") as (engine, desk, heard),
    ):
        assert await engine.run(desk) == 0
        with pytest.raises(SafetyRefusal, match="no signer"):
            await engine.rest.cancel([(BTC, Cloid("0x" + "1" * 32))])
        assert server.exchange.accounts[server.account].all_oids == []
        assert heard.fills
        assert engine.options.mode == "PAPER"
        stops = [one for one in heard.orders if one.order.kind is OrderKind.STOP_LOSS]
        assert any("not at the venue" in one.reason for one in stops if one.status is OrderStatus.RESTING)
    assert all(check.ok for check in verify(state, apply_fill))


async def test_d5_a_position_that_was_there_is_taken_over_and_gets_a_stop(tmp_path: Path) -> None:
    async with stand_alone(Tape([wandering(900)]), speed=60.0) as server, person(server) as hand:
        await hand.place([by_hand(Side.BUY, "0.02", "70000")])
        async with (
            living(server, tmp_path / "state.db", policy="flat") as (engine, desk, heard),
            running(engine, desk),
        ):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 5)
            stop = engine.core.protection.resting_stop(BTC)
            assert stop is not None
            there = server.exchange.orders[stop.oid or 0]
            assert there.is_armed_trigger
            assert (there.order.side, there.order.size, there.order.reduce_only) == (Side.SELL, Decimal("0.02"), True)
            assert any(risk.guard == "adopted" for risk in heard.risks)
            assert engine.core.state.trading is not TradingState.MANAGE_ONLY
            assert engine.core.ledger.equity() > 9_900


async def test_b1_a_stop_that_vanishes_without_a_word_is_placed_again(tmp_path: Path) -> None:
    async with (
        stand_alone(Tape([wandering(900)]), speed=60.0) as server,
        living(server, tmp_path / "state.db", policy="buy-and-hold", environ={}) as (engine, desk, _),
    ):
        engine.core.rules = replace(engine.core.rules, stop_loss=Decimal("0.02"))
        async with running(engine, desk):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 10)
            stop = engine.core.protection.resting_stop(BTC)
            assert stop is not None
            assert stop.oid is not None
            server.exchange.cancel(server.account, BTC, stop.oid)  # nobody is told
            await until(
                lambda: (now := engine.core.protection.resting_stop(BTC)) is not None and now.oid != stop.oid, 10
            )


async def test_d19_where_the_account_cannot_be_read_it_manages_only_until_it_can(tmp_path: Path) -> None:
    unread = Fault("http", request="frontendOpenOrders", times=10)
    async with (
        stand_alone(Tape([wandering(900)]), speed=60.0, faults=(unread,)) as server,
        living(server, tmp_path / "state.db", policy="flat") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: engine.core.state.trading is TradingState.MANAGE_ONLY, 20)
        assert "not reconciled" in engine.core.state.reason
        await until(lambda: engine.core.state.trading is TradingState.TRADING, 20)
        assert heard.bars or engine.core.coin(BTC).bars_seen > 100


async def test_d1_an_engine_that_is_to_stop_ends_while_the_venue_is_away_and_the_next_one_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of an exit is unknown and nobody answers: that must not keep the process for ever."""
    monkeypatch.setattr("aml100.engine.execution.CLOSE_GRACE_S", 0.3, raising=False)
    state, wide = tmp_path / "state.db", {"AML100_TRADING__STOP_LOSS_PCT": "9", "AML100_TRADING__TAKE_PROFIT_PCT": "20"}
    wide |= {"AML100_VENUE__ORDER_EXPIRY_SECONDS": "5"}
    async with stand_alone(Tape([wandering(2000)]), speed=120.0) as server:
        async with living(server, state, environ=wide) as (engine, desk, _):
            task = asyncio.create_task(engine.run(desk))
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 20)
            server.faults.add([Fault("http", request="*", status=503)])
            engine.post(Command(CommandName.FLATTEN, "tester", engine.clock.now_ms()))
            await until(lambda: any(one.status is OrderStatus.UNKNOWN for one in engine.core.blotter.live_all()))
            engine.request_stop("told to")
            assert await asyncio.wait_for(task, 15) == 0
            assert engine.core.ledger.open_coins() == [BTC]
        server.faults.clear()
        async with living(server, state, policy="flat", environ=wide) as (engine, desk, _), running(engine, desk):
            await until(lambda: not engine.core.ledger.open_coins())
            assert server.exchange.accounts[server.account].holdings == {}
            await until(lambda: engine.core.blotter.live_all() == [])
    assert all(check.ok for check in verify(state, apply_fill))


async def test_leverage_is_set_once_and_read_back(tmp_path: Path) -> None:
    async with (
        stand_alone(Tape([wandering(900)]), speed=60.0) as server,
        living(server, tmp_path / "state.db", policy="flat") as (engine, desk, _),
        running(engine, desk),
    ):
        await until(lambda: engine.core.state.trading is TradingState.TRADING)
        leverage = server.exchange.accounts[server.account].leverage[BTC]
        assert (leverage.value, leverage.is_cross) == (10, True)


async def test_what_cannot_be_traded_is_refused_with_its_code(tmp_path: Path) -> None:
    async with stand_alone(Tape([wandering(600)])) as server:
        with pytest.raises(UsageError, match=r"--coin BTX: not listed on http.*nearest: BTC"):
            async with living(server, tmp_path / "a.db", coins=(Coin("BTX"),)):
                pass
        stranger = {"AML100_PRIVATE_KEY": "0x" + "3" * 64}
        with pytest.raises(SafetyRefusal, match="wrong network or key"):  # a key of the other network is nobody here
            async with living(server, tmp_path / "b.db", secrets=stranger):
                pass
        here = {"AML100_VENUE__MAINNET__REST_URL": server.rest_url, "AML100_VENUE__MAINNET__WS_URL": server.ws_url}
        armed = {"venue": "mainnet", "armed": True, "override_phase": "OVERRIDE"}
        with pytest.raises(SafetyRefusal, match=r"wrong network: http.* is a simulated venue, not mainnet"):
            async with living(server, tmp_path / "d.db", environ=here, **armed):
                pass
    with pytest.raises(VenueUnavailable, match="not reachable within 1 s"):
        async with living(server, tmp_path / "c.db", environ={"AML100_VENUE__START_RETRY_SECONDS": "1"}):
            pass
    assert begun_in(tmp_path) == []


async def test_d19_a_position_in_a_coin_that_is_no_longer_traded_is_managed_and_nothing_is_opened(
    tmp_path: Path,
) -> None:
    """An engine started for fewer coins than it left positions in keeps their stops, and closes them when told."""
    state, eth = tmp_path / "state.db", Coin("ETH")
    wide = {"AML100_TRADING__STOP_LOSS_PCT": "9", "AML100_TRADING__TAKE_PROFIT_PCT": "20"}
    tape = Tape([wandering(2000), wandering(2000, "ETH", 3, 3000.0)])
    async with stand_alone(tape, speed=120.0) as server:
        async with living(server, state, environ=wide, coins=(BTC, eth)) as (engine, desk, _), running(engine, desk):
            await until(lambda: engine.core.protection.resting_stop(eth) is not None, 20)
        async with living(server, state, environ=wide, coins=(BTC,)) as (engine, desk, heard), running(engine, desk):
            await until(lambda: (found := engine.core.protection.resting_stop(eth)) is not None and found.oid)
            stop = engine.core.protection.resting_stop(eth)
            assert stop is not None
            server.exchange.cancel(server.account, eth, stop.oid or 0)  # nobody is told
            await until(
                lambda: (now := engine.core.protection.resting_stop(eth)) is not None and now.oid != stop.oid, 10
            )
            engine.post(Command(CommandName.FLATTEN, "tester", engine.clock.now_ms()))
            await until(lambda: eth not in engine.core.ledger.open_coins())
            assert eth not in server.exchange.accounts[server.account].holdings
            closed = len(heard.fills)
            await until(lambda: len([bar for bar in heard.bars if bar.coin == eth]) >= 25)
            assert all(one.fill.coin == BTC for one in heard.fills[closed:])
        with StateReader.read(state) as reader:
            gates = [gate for one in reader.decisions() if one.coin == eth for gate in one.gates if not gate.ok]
        assert "not a coin of this run" in next(gate.reason for gate in gates if gate.name == "coin")
    assert all(check.ok for check in verify(state, apply_fill))


async def test_d2_orders_that_could_not_be_journalled_share_no_client_id_with_later_ones(tmp_path: Path) -> None:
    """Exits and stops go out while the journal fails; an engine that then ends has forgotten their ids."""
    state, kept = tmp_path / "state.db", tmp_path / "kept.db"
    async with stand_alone(Tape([wandering(3000)]), speed=120.0) as server:

        async def trade(fills: int) -> None:
            async with living(server, state) as (engine, desk, heard), running(engine, desk):
                await until(lambda: len(heard.fills) >= fills, 30)
            assert "shared_account" not in {one.guard for one in heard.risks}

        await trade(2)
        shutil.copy(state, kept)
        await trade(2)
        shutil.copy(kept, state)  # all that the second run did is known to the venue alone
        await trade(3)
        sent = [one.order.cloid for one in server.exchange.orders.values()]
        assert len(sent) > 4
        assert len(set(sent)) == len(sent)
    assert [check for check in verify(state, apply_fill) if not check.ok] == []


async def test_verify_takes_what_another_program_traded_on_the_account(tmp_path: Path) -> None:
    """A foreign fill carries a client id where that program gives one: it is no lost order of ours."""
    state = tmp_path / "state.db"
    async with (
        stand_alone(Tape([wandering(900)]), speed=60.0) as server,
        person(server) as hand,
        living(server, state, policy="flat") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: engine.core.state.trading is TradingState.TRADING)
        await hand.place([by_hand(Side.BUY, "0.02", "70000")])
        await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 10)
        assert [one.fill.cloid for one in heard.fills] == ["0x" + "f" * 32]
    assert [check for check in verify(state, apply_fill) if not check.ok] == []


async def test_without_a_stream_positions_count_at_the_mark_that_the_account_tells(tmp_path: Path) -> None:
    """The breaker must see a fall, and an exit its price, also while the venue answers requests only."""
    slow = {"AML100_TRADING__INTERVAL": "1h", "AML100_TRADING__STOP_LOSS_PCT": "9"}
    async with stand_alone(Tape([wandering(4000)]), speed=120.0) as server, person(server) as hand:
        await hand.place([by_hand(Side.BUY, "0.02", "70000")])
        async with (
            living(server, tmp_path / "state.db", policy="flat", environ=slow) as (engine, desk, heard),
            running(engine, desk),
        ):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 10)
            server.faults.add([Fault("disconnect")])
            await until(lambda: not engine.feeds.connected)
            marks = engine.core.ledger.book.marks
            stale, seen, bars = marks[BTC], set[Decimal](), len(heard.bars)
            await until(lambda: not seen.add(marks[BTC]) and len(seen - {stale}) >= 2, 20)
            assert len(heard.bars) == bars  # whose closes would have told it, an hour later


async def test_d17_a_bar_that_is_told_otherwise_after_it_was_decided_on_is_counted(tmp_path: Path) -> None:
    """What was decided stands; the operator sees how often."""
    state = tmp_path / "state.db"
    async with (
        stand_alone(Tape([wandering(2000)]), speed=120.0) as server,
        living(server, state, policy="flat") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: heard.bars)
        last = heard.bars[-1]
        engine.inbox.put(CandleUpdate(msgspec.structs.replace(last, volume=last.volume + 1, trades=last.trades + 1)))
        engine.inbox.put(CandleUpdate(last))
        await until(lambda: engine.bars.revised(BTC))
        answer = await asyncio.to_thread(request_once, state, "tester", "status", {}, 30.0)
        feeds = {one["channel"]: one["revised"] for one in (answer.data or {})["feeds"]}
        assert feeds == {"candle": 1, "bbo": 0, "activeAssetCtx": 0, "trades": 0}
        assert [bar for bar in heard.bars if bar.open_ms == last.open_ms] == [last]
