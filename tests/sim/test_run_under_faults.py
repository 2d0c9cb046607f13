"""The real engine on a venue that misbehaves: protected, single orders, the same series (B1, D1, D4, D16)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml100.config.loading import load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.events import Record
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.listener import Listeners
from aml100.headless import EventWriter, bar_event
from aml100.market.series import BarSeries
from aml100.sim.faults import Fault
from aml100.sim.server import SimServer
from aml100.storage.verifying import verify
from aml100.trading.ledger import apply_fill
from aml100.wiring import embedded, engines
from tests.sim.stage import START

WARMUP, BARS = 215, 430
CUTS, EVERY_THIRD = 10, 3


def made(coin: str = "BTC") -> BarSeries:
    """A market with moves large enough for stops and targets."""
    rng = np.random.default_rng(11)
    close = np.round(30_000 * np.exp(np.cumsum(rng.standard_t(4, BARS) * 0.0015)))
    open_ = np.concatenate([[30_000.0], close[:-1]])
    high, low = np.maximum(open_, close) + 8, np.minimum(open_, close) - 8
    times = START + np.arange(BARS, dtype=np.int64) * 60_000
    return BarSeries(Coin(coin), 60_000, "made:test", times, open_, high, low, close, np.full(BARS, 8.0))


class _Lines:
    """Everything the engine tells, as its lines of JSON."""

    def __init__(self, clock: ManualClock) -> None:
        self.text = io.StringIO()
        self._writer = EventWriter(self.text, True, clock)

    def on_record(self, record: Record) -> None:
        self._writer.write_record(record)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        bar = fields.get("bar")
        self._writer.write(bar_event(bar) if isinstance(bar, Bar) else {"type": kind, **fields})


class Outcome:
    def __init__(self, lines: str, struck: int, venue_orders: list[str]) -> None:
        self.events: list[dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]
        self.struck, self.venue_orders = struck, venue_orders

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["type"] == kind]

    @property
    def bars(self) -> list[tuple[int, str]]:
        return [(one["open_ms"], one["close"]) for one in self.of("bar")]

    @property
    def fills(self) -> list[tuple[str, str, str, str]]:
        return [(one["fill_id"], one["side"], one["price"], one["size"]) for one in self.of("fill")]

    def naked_bars(self) -> list[int]:
        """Bars that were played while a position had no stop seen resting."""
        protected, naked = True, []
        for one in self.events:
            if one["type"] == "position":
                protected = one["size"] == "0" or bool(one["protected"])
            elif one["type"] == "bar" and not protected:
                naked.append(one["open_ms"])
        return naked


async def run(state: Path, monkeypatch: pytest.MonkeyPatch, *faults: Fault, coin: str = "BTC") -> Outcome:
    """One run over the made market, to its end."""
    venues: list[SimServer] = []
    entered = SimServer.__aenter__

    async def enter(server: SimServer) -> SimServer:
        venues.append(server)
        return await entered(server)

    monkeypatch.setattr(SimServer, "__aenter__", enter)
    plan = engines.RunPlan(
        settings=load_settings(None, {}),
        state=state,
        coins=(),
        series=(made(coin),),
        funding={},
        process="regimes",
        seed=5,
        speed=1e6,
        warmup_bars=WARMUP,
        policy="random",
        bundle=None,
        duration_s=None,
        max_cycles=None,
        faults=faults,
    )
    clock = ManualClock()
    lines = _Lines(clock)
    async with embedded.embedded_engine(plan, Listeners(lines), clock) as (engine, desk):
        assert await engine.run(desk) == 0
    assert all(check.ok for check in verify(state, apply_fill))
    (server,) = venues
    struck = sum(int(str(one["struck"])) for one in server.faults.report())
    cloids = [one.order.cloid for one in server.exchange.orders.values() if one.word != "rejected"]
    return Outcome(lines.text.getvalue(), struck, cloids)


_plain: list[Outcome] = []


@pytest.fixture
async def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The run without faults, made once."""
    if not _plain:
        _plain.append(await run(tmp_path / "plain.db", monkeypatch))
    return _plain[0]


async def test_d16_ten_cuts_leave_the_series_and_the_fills_as_they_were(
    plain: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = await run(tmp_path / "cut.db", monkeypatch, Fault("disconnect", channel="candle", every=15, times=CUTS))
    assert cut.struck == CUTS
    assert len(plain.bars) == BARS - WARMUP
    assert (cut.bars, cut.fills) == (plain.bars, plain.fills)
    assert len(plain.fills) > 6


async def test_d1_a_lost_reply_leaves_exactly_one_order(
    plain: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await run(tmp_path / "lost.db", monkeypatch, Fault("no_answer", request="order", every=EVERY_THIRD))
    assert lost.struck > 3
    assert "unknown" in {one["status"] for one in lost.of("order")}
    assert len(lost.venue_orders) == len(set(lost.venue_orders)) > 0
    assert lost.fills == plain.fills


@pytest.mark.parametrize("kind", ["lose", "reject"])
async def test_b1_a_stop_that_the_venue_drops_or_rejects_is_placed_again_or_the_position_closed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill = await run(tmp_path / f"{kind}.db", monkeypatch, Fault(kind, order="stop_loss", every=2))
    assert ill.struck > 3
    assert ill.naked_bars() == []
    assert len(ill.fills) > 6


async def test_b1_a_partial_fill_is_protected_at_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = await run(tmp_path / "part.db", monkeypatch, Fault("partial", order="entry", share=Decimal("0.4")))
    assert part.struck > 2
    assert part.naked_bars() == []
    entries = [one for one in part.of("fill") if one["cloid"] in _of_kind(part, "entry")]
    asked = {one["cloid"]: float(one["size"]) for one in part.of("order") if one["kind"] == "entry"}
    assert all(float(one["size"]) < 0.41 * asked[one["cloid"]] for one in entries)
    stops = [one for one in part.of("order") if (one["kind"], one["status"]) == ("stop_loss", "resting")]
    assert {float(one["size"]) for one in entries} <= {float(one["size"]) for one in stops}


def _of_kind(outcome: Outcome, kind: str) -> set[str]:
    return {one["cloid"] for one in outcome.of("order") if one["kind"] == kind}


async def test_a_builders_coin_trades_like_any_other(
    plain: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await run(tmp_path / "xyz.db", monkeypatch, coin="xyz:XYZ100")
    assert {one["coin"] for one in there.of("fill")} == {"xyz:XYZ100"}
    assert [one["side"] for one in there.of("fill")] == [one["side"] for one in plain.of("fill")]
    assert there.naked_bars() == []
