"""Paper and venue execution on one state.db, and a paper account put together again after a kill (SPEC section 12)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from aml100.domain.errors import SafetyRefusal
from aml100.domain.events import TradingState
from aml100.domain.orders import OrderStatus
from aml100.domain.units import Coin
from aml100.sim.paper import PaperAccount
from aml100.sim.scenario import Tape
from aml100.storage.reader import StateReader
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from aml100.trading.policies import Random
from tests.sim.live import living, running, stand_alone, until, wandering

BTC = Coin("BTC")
PATIENT = {"AML100_TRADING__STOP_LOSS_PCT": "20", "AML100_TRADING__TAKE_PROFIT_PCT": "50"}
PATIENT |= {"AML100_RISK__MIN_LIQUIDATION_DISTANCE_PCT": "0", "AML100_TRADING__LEVERAGE": "2"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Random, "every", 2)


async def test_each_execution_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    async with stand_alone(Tape([wandering(900)]), speed=300.0) as server:
        for execution in ("paper", "venue"):
            async with living(server, state, execution=execution) as (engine, desk, heard), running(engine, desk):
                assert engine.core.ledger.open_coins() == []
                await until(lambda seen=heard: len(seen.fills) >= 2, 20)  # type: ignore[misc]
        for book in ("paper", "venue"):
            with StateReader.read(state, book) as reader:
                assert reader.fills()
                assert [row.ref for row in reader.ledger_rows() if row.kind == "deposit"] == ["initial"]
        with pytest.raises(SafetyRefusal, match="belongs to account"):
            async with living(server, state, secrets={"AML100_ACCOUNT_ADDRESS": "0x" + "9" * 40}):
                pass
    assert all(check.ok for check in verify(state, apply_fill))


async def test_a_paper_position_and_its_stop_are_there_again_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    options = {"policy": "random", "environ": PATIENT, "execution": "paper"}
    async with stand_alone(Tape([wandering(900)]), speed=120.0) as server:
        async with living(server, state, **options) as (engine, desk, _), running(engine, desk):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 20)
            engine.core.state.trading = TradingState.PAUSED  # so that it stays as it is
            before = engine.core.ledger.position(BTC)
            stop = engine.core.protection.resting_stop(BTC)
            assert stop is not None
        async with living(server, state, **options) as (engine, desk, _):
            paper = engine.paper
            assert isinstance(paper, PaperAccount)
            assert paper.money.held[BTC].position == before
            assert paper.orders[stop.order.cloid].status is OrderStatus.RESTING
            assert abs(paper.money.balance - engine.core.ledger.balance) < Decimal("1e-9")
            async with running(engine, desk):
                await until(lambda: engine.core.coin(BTC).bars_seen > 0 and not engine.core.state.concerns, 10)
                assert engine.core.protection.resting_stop(BTC) is not None
    assert all(check.ok for check in verify(state, apply_fill))
