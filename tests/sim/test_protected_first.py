"""D11: what is open is protected before history is loaded, however long that takes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from aml100.domain.orders import Side
from aml100.sim.faults import Fault
from aml100.sim.scenario import Tape
from tests.sim.live import living, running, stand_alone, until, wandering
from tests.sim.test_live_engine import BTC, by_hand, person


async def test_d11_the_stop_rests_while_the_history_does_not_come(tmp_path: Path) -> None:
    """The venue answers everything but candles: the position that is there gets its stop, no bar was taken in yet."""
    slow = Fault("http", request="candleSnapshot", status=503)
    async with (
        stand_alone(Tape([wandering(900)]), speed=60.0, faults=(slow,)) as server,
        person(server) as hand,
    ):
        await hand.place([by_hand(Side.BUY, "0.02", "70000")])
        async with (
            living(server, tmp_path / "state.db", policy="flat") as (engine, desk, _),
            running(engine, desk),
        ):
            await until(lambda: engine.core.protection.resting_stop(BTC) is not None, 10)
            stop = engine.core.protection.resting_stop(BTC)
            assert stop is not None
            assert stop.order.size == Decimal("0.02")
            assert engine.core.coin(BTC).bars_seen == 0
