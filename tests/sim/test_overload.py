"""A core that is busy while the market floods: bounded, the newest book, every account event, and said (B7)."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

from aml100.domain.events import MoneyReceived, TradingState
from aml100.domain.market import BookTop
from aml100.domain.units import Coin
from aml100.engine.inbox import LIMIT, Overload
from aml100.sim.scenario import Tape
from tests.sim.live import living, running, stand_alone, until, wandering

ELSEWHERE = Coin("ETH")
"""A coin that the venue is silent about, so that only the flood says anything of its book."""


async def test_a_flood_while_the_core_is_busy_is_bounded_and_said_and_entries_come_back(tmp_path: Path) -> None:
    async with (
        stand_alone(Tape([wandering(4_000)])) as server,
        living(server, tmp_path / "state.db", policy="flat") as (engine, desk, heard),
        running(engine, desk),
    ):
        engine.overload = Overload(calm_s=0.5)
        await until(lambda: engine.core.state.trading is TradingState.TRADING)
        before, longest = engine.core.ledger.book.deposits, 0
        last_ms = engine.core.state.book.last_money_ms

        def flood() -> None:
            nonlocal longest
            for number in range(1, 60_001):
                engine.inbox.put(BookTop(ELSEWHERE, number, Decimal(number), Decimal(number + 1)))
                if number % 2_000 == 0:
                    engine.inbox.put(MoneyReceived(Decimal(1), last_ms + number, f"gift {number}"))
                longest = max(longest, len(engine.inbox))

        await engine.on_consumer(flood)
        await until(lambda: any(risk.guard == "overload" and risk.state == "ok" for risk in heard.risks))
        newest = engine.core.book(ELSEWHERE)
        assert longest <= LIMIT
        assert newest is not None
        assert newest.bid == 60_000
        assert engine.core.ledger.book.deposits - before == 30, "no account event is left out"
        tripped = [risk for risk in heard.risks if risk.guard == "overload" and risk.state == "tripped"]
        assert [risk.reason.startswith("market data came faster") for risk in tripped] == [True]
        assert any(state.state is TradingState.MANAGE_ONLY and "faster" in state.reason for state in heard.states)
        opened = [bar.open_ms for bar in heard.bars]
        assert {b - a for a, b in itertools.pairwise(opened)} <= {60_000}, "no closed bar is lost"
