"""Engines on a stand-alone venue, and on the embedded one with faults, in the process of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aml100.config.loading import load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.events import FillRecorded, OrderRecorded, PositionChanged, RiskChanged, StateChanged
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.account_watch import Paces
from aml100.engine.listener import Listeners
from aml100.engine.operator import OperatorDesk
from aml100.engine.runtime import Engine
from aml100.market.series import BarSeries
from aml100.sim.faults import Fault
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from aml100.venue.clock import VenueClock
from aml100.wiring.embedded import embedded_engine
from aml100.wiring.engines import RunPlan, live_engine
from tests.contract import Contract
from tests.sim.stage import AGENT_KEY, START, venue

QUICK = Paces(clock_s=0.2, quick_s=0.3, full_s=1.0, idle_s=1.0, retry_s=0.3)
CALM = {"AML100_RISK__MAX_LOOP_LAG_MS": "0", "AML100_RISK__CIRCUIT_BREAKER_DD_PCT": "0"}
CALM |= {"AML100_RISK__HARD_STOP_DD_PCT": "0", "AML100_TRADING__STOP_LOSS_PCT": "0.3"}
CALM |= {"AML100_VENUE__IP_WEIGHT_PER_MINUTE": "1000000"}


def wandering(bars: int, coin: str = "BTC", seed: int = 2, price: float = 60_000.0) -> BarSeries:
    """A market that moves enough for entries, stops and targets."""
    rng = np.random.default_rng(seed)
    closes = price * np.exp(np.cumsum(rng.standard_t(4, bars) * 0.001))
    opens = np.concatenate([[price], closes[:-1]])
    spread = np.abs(rng.normal(0, 0.0005, (2, bars)))
    opens, closes = opens.round(0), closes.round(0)
    high = (np.maximum(opens, closes) * (1 + spread[0])).round(0)
    low = (np.minimum(opens, closes) * (1 - spread[1])).round(0)
    times = START + np.arange(bars, dtype=np.int64) * 60_000
    return BarSeries(Coin(coin), 60_000, "file:test", times, opens, high, low, closes, rng.gamma(2.0, 5.0, bars))


@dataclass
class Heard:
    """What an engine said."""

    bars: list[Bar] = field(default_factory=list)
    fills: list[FillRecorded] = field(default_factory=list)
    orders: list[OrderRecorded] = field(default_factory=list)
    risks: list[RiskChanged] = field(default_factory=list)
    states: list[StateChanged] = field(default_factory=list)
    positions: list[PositionChanged] = field(default_factory=list)
    contract: Contract = field(default_factory=Contract)

    def on_record(self, record: object) -> None:
        kinds = {
            FillRecorded: self.fills, OrderRecorded: self.orders, RiskChanged: self.risks, StateChanged: self.states,
            PositionChanged: self.positions,
        }  # fmt: skip
        kept: list[object] | None = kinds.get(type(record))  # type: ignore[call-overload]
        if kept is not None:
            kept.append(record)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        self.contract.on_event(kind, fields)
        if isinstance(fields.get("bar"), Bar):
            self.bars.append(fields["bar"])  # type: ignore[arg-type]


def plan_for(state: Path, policy: str, environ: Mapping[str, str], **changes: object) -> RunPlan:
    values: dict[str, object] = {
        "settings": load_settings(None, {**CALM, **environ}), "state": state, "coins": (Coin("BTC"),), "series": (),
        "funding": {}, "process": "", "seed": 7, "speed": 1e6, "warmup_bars": None, "policy": policy, "bundle": None,
        "duration_s": None, "max_cycles": None,
    }  # fmt: skip
    return RunPlan(**(values | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def stand_alone(tape: Tape, **options: object) -> AsyncIterator[SimServer]:
    """A venue of its own clock, without rate limits unless asked for."""
    settings = {"embedded": False, "speed": 600.0, "warmup_bars": 250, "limited": False} | options
    async with venue(tape, **settings) as server:
        yield server


@asynccontextmanager
async def living(
    server: SimServer,
    state: Path,
    *,
    policy: str = "random",
    environ: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    **changes: object,
) -> AsyncIterator[tuple[Engine, OperatorDesk, Heard]]:
    """An engine on that venue, its watches quick; not yet running."""
    heard, clock = Heard(), VenueClock()
    urls = {"venue": "url", "rest_url": server.rest_url, "ws_url": server.ws_url}
    plan = plan_for(state, policy, environ or {}, **(urls | changes))
    known = {"AML100_PRIVATE_KEY": AGENT_KEY, "AML100_ACCOUNT_ADDRESS": server.account, **(secrets or {})}
    async with live_engine(plan, Listeners(heard), clock, known) as (engine, desk):
        assert engine.live is not None
        engine.live.paces = engine.live.account.paces = QUICK
        yield engine, desk, heard


@asynccontextmanager
async def running(engine: Engine, desk: OperatorDesk) -> AsyncIterator[asyncio.Task[int]]:
    """The engine at work; stopped cleanly at the end."""
    task = asyncio.create_task(engine.run(desk))
    try:
        yield task
    finally:
        engine.request_stop("test over")
        await asyncio.wait_for(task, 30)


async def until(condition: object, wait_s: float = 15.0) -> None:
    """Wait for something that a test expects; fails where it does not come."""
    assert callable(condition)
    async with asyncio.timeout(wait_s):
        while not condition():  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(0.02)


async def embedded(
    series: Sequence[BarSeries], state: Path, faults: Sequence[Fault] = (), policy: str = "random"
) -> Heard:
    """A whole run on the embedded venue."""
    heard = Heard()
    plan = plan_for(state, policy, {}, series=tuple(series), coins=(), warmup_bars=240, faults=tuple(faults))
    async with embedded_engine(plan, Listeners(heard), ManualClock()) as (engine, desk):
        assert await asyncio.wait_for(engine.run(desk), 60) == 0
    return heard
